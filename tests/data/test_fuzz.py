"""Damaged files in processes of their own: no crash, no chance in pixels.

Two processes decode the same files: one as the scan does, one with the graph
of a SavedModel and without tlkeras. What they take from the heap is filled
with other bytes in each, so pixels that were never written would differ.
"""

import collections
import os
import pathlib
import subprocess
import sys

import fuzz
import pytest
import samples
import tensorflow as tf
import test_decode

import tlkeras
from tlkeras.data import header

_PACKAGE = pathlib.Path(tlkeras.__file__).parents[1]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved")
    tf.saved_model.save(test_decode.Module(), str(directory))
    return directory


def decoded(
    files: list[bytes], saved: pathlib.Path, place: pathlib.Path
) -> list[list[str]]:
    """Returns what each file came to, and the memory [MB], of each process."""
    (place / "files").write_bytes(fuzz.write(files))
    answers = []
    for which, filling in (("live", "165"), (str(saved), "90")):
        path = str(_PACKAGE) if which == "live" else ""
        with open(place / "files", "rb") as source:
            process = subprocess.run(
                [sys.executable, fuzz.__file__, which],
                stdin=source,
                capture_output=True,
                text=True,
                timeout=120 + len(files) / 10,
                env={
                    **os.environ,
                    "PYTHONPATH": path,
                    "MALLOC_PERTURB_": filling,
                    "CUDA_VISIBLE_DEVICES": "",
                },
            )
        lines = [line.split() for line in process.stdout.splitlines()]
        if process.returncode:
            broken = place / "broken"
            broken.write_bytes(files[min(len(lines), len(files) - 1)])
            pytest.fail(
                f"{which}: status {process.returncode} at file {len(lines)}, "
                f"kept as {broken}: {process.stderr[-2000:]}"
            )
        *lines, (_, peak) = lines
        assert len(lines) == len(files)
        slowest = max(float(seconds) for _, seconds in lines[1:])
        print(f"{which}: slowest {slowest:.2f} s, memory {peak} MB")
        assert slowest < 30
        answers.append([found for found, _ in lines] + [peak])
    return answers


@pytest.mark.parametrize(
    "number", [300, pytest.param(10_000, marks=pytest.mark.slow)]
)
def test_damaged_files(number, saved, tmp_path):
    files = list(fuzz.files(number, seed=number))
    live, exported = decoded(files, saved, tmp_path)
    *live, live_memory = live
    *exported, exported_memory = exported
    for file, *answers in zip(files, live, exported, strict=True):
        assert len(set(answers)) == 1, header.read(file)
    readable = collections.Counter(
        header.kind(file)
        for file, found in zip(files, live, strict=True)
        if found != fuzz.REFUSED
    )
    # The damage is of a degree that leaves some of each kind.
    assert set(readable) == set(header.READABLE)
    # A WebP with alpha at the limit of pixels takes 2 GB.
    assert max(int(live_memory), int(exported_memory)) < 3000


def test_bombs(saved, tmp_path):
    """Small files that claim to be large take no memory."""
    files = [
        test_decode.sized(kind, side, side)
        for kind in (*("jpeg", "png", "gif", "bmp"), *("webp", "webp lossless"))
        for side in (13_378, 16_383)
    ]
    files += [
        test_decode.sized("png", 2**31 - 1, 2**31 - 1),
        test_decode.sized("gif", 65_535, 65_535),
        test_decode.sized("webp alpha", 2**24, 2**24),
    ]
    for found, *answers, memory in decoded(
        [samples.JPEG, *files], saved, tmp_path
    ):
        assert found != fuzz.REFUSED
        assert set(answers) == {fuzz.REFUSED}
        assert int(memory) < 50
