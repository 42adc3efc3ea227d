"""Tests of the image store: the same images, stored or decoded anew."""

import concurrent.futures
import errno
import os
import pathlib
import types

import numpy as np
import pytest
import tensorflow as tf

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.data import decode
from tlkeras.data import images
from tlkeras.data import sources

SIZE = 12


def noise(seed: int, height: int = 9, width: int = 14) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), np.uint8)


def encoded(seed: int) -> bytes:
    """Returns an image of a shape of its own, JPEG or PNG."""
    encode = tf.io.encode_jpeg if seed % 2 else tf.io.encode_png
    return encode(noise(seed, 5 + seed % 9, 20 - seed % 7)).numpy()


def source_of(contents: list[bytes | OSError]) -> sources.Source:
    def read(index: int) -> bytes:
        if isinstance(contents[index], OSError):
            raise contents[index]
        return contents[index]

    examples = tuple(
        sources.Example(f"{index}.png", "a") for index in range(len(contents))
    )
    return sources.Source("folder:/x", ("a",), examples, read)


def scan(source: sources.Source, directory, *, store: bool, resize="pad"):
    return images.scan(
        source,
        size=SIZE,
        resize=resize,
        store_bytes=1e9 if store else 0,
        directory=directory,
        progress=progresses.Progress(quiet=True),
    )


@pytest.fixture(scope="module")
def readable() -> list[bytes]:
    return [encoded(seed) for seed in range(30)]


@pytest.mark.parametrize("resize", decode.RESIZE_POLICIES)
def test_stored_and_live_images_are_what_decode_gives(
    readable, tmp_path, resize
):
    source = source_of(readable)
    stored = scan(source, tmp_path, store=True, resize=resize)
    live = scan(source, tmp_path, store=False, resize=resize)
    assert stored.images.array is not None
    assert live.images.array is None
    assert stored.hashes == live.hashes
    order = np.random.default_rng(0).permutation(30)[:17]
    expected = [
        decode.load(readable[index], SIZE, resize).numpy() for index in order
    ]
    for each in (stored.images, live.images):
        rows = each.rows(order)
        assert rows.dtype == np.uint8
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(each.load(3), each.rows(np.array([3]))[0])


def test_two_scans_agree(readable, tmp_path):
    first = scan(source_of(readable), tmp_path, store=True)
    second = scan(source_of(readable), tmp_path, store=True)
    assert first.hashes == second.hashes
    np.testing.assert_array_equal(first.images.array, second.images.array)


@pytest.mark.parametrize("block", [1, 7, 30])
def test_blocks_do_not_matter(readable, tmp_path, monkeypatch, block):
    expected = scan(source_of(readable), tmp_path, store=True)
    monkeypatch.setattr(images, "_BLOCK", block)
    result = scan(source_of(readable), tmp_path, store=True)
    assert result.hashes == expected.hashes
    np.testing.assert_array_equal(result.images.array, expected.images.array)


def test_the_limit_of_the_store(readable, tmp_path):
    source = source_of(readable)
    for extra, stored in ((0, True), (-1, False)):
        result = images.scan(
            source,
            size=SIZE,
            resize="pad",
            store_bytes=30 * SIZE * SIZE * 3 + extra,
            directory=tmp_path,
            progress=progresses.Progress(quiet=True),
        )
        assert (result.images.array is not None) is stored


def test_hash_is_of_the_pixels_alone(tmp_path):
    pixels = noise(0, 6, 8)
    contents = [
        tf.io.encode_png(pixels).numpy(),
        tf.io.encode_png(pixels, compression=0).numpy(),
        # The same values in another shape.
        tf.io.encode_png(pixels.reshape(8, 6, 3)).numpy(),
        tf.io.encode_png(pixels ^ 1).numpy(),
    ]
    hashes = scan(source_of(contents), tmp_path, store=False).hashes
    assert contents[0] != contents[1]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_what_cannot_be_read_is_told_with_its_reason(tmp_path):
    good = tf.io.encode_jpeg(noise(0, 40, 40)).numpy()
    bomb = bytearray(tf.io.encode_png(noise(0)).numpy())
    bomb[16:24] = (30_000).to_bytes(4) * 2
    contents = [
        good,
        b"",
        b"hello",
        good[: len(good) // 2],
        b"II*\0" + bytes(100),
        bytes(bomb),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        OSError("strange"),
        good,
    ]
    for store in (True, False):
        result = scan(source_of(contents), tmp_path, store=store)
        assert result.reasons == (
            "",
            "empty file",
            "not an image",
            "damaged JPEG",
            "TIFF",
            f"PNG of more than {decode.MAX_PIXELS:,} pixels",
            "cannot be read: No such file or directory",
            "cannot be read: strange",
            "",
        )
        assert [bool(each) for each in result.hashes] == [
            not each for each in result.reasons
        ]
        rows = result.images.rows(np.array([8, 0]))
        np.testing.assert_array_equal(rows[0], rows[1])


def test_a_file_that_vanishes_between_the_scan_and_an_epoch(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tf.io.encode_png(noise(len(name))).numpy())
    source = sources.open(
        f"folder:{tmp_path}", progress=progresses.Progress(quiet=True)
    )
    stored = scan(source, tmp_path / "store", store=True)
    live = scan(source, tmp_path / "store", store=False)
    (tmp_path / "a/2.png").unlink()
    (tmp_path / "b/3.png").write_bytes(b"now a text")
    stored.images.rows(np.arange(3))
    live.images.rows(np.array([0]))
    for index, why in ((1, "No such file"), (2, "not an image")):
        with pytest.raises(errors.UserError, match=why) as caught:
            live.images.rows(np.array([0, index]))
        assert source.examples[index].path in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_the_file_of_the_store_is_gone(readable, tmp_path):
    directory = tmp_path / "new"
    result = scan(source_of(readable), directory, store=True)
    assert list(directory.iterdir()) == []
    os.rmdir(directory)
    # It can be used all the same.
    assert result.images.rows(np.arange(30)).any()
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists():
        assert f"{directory}" in maps.read_text()
        del result
        assert f"{directory}" not in maps.read_text()


@pytest.mark.parametrize("fallocate", [True, False])
def test_a_full_disk(readable, tmp_path, monkeypatch, fallocate):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if fallocate:
        monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    else:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
        monkeypatch.setattr(
            images.shutil,
            "disk_usage",
            lambda path: types.SimpleNamespace(free=10),
        )
    with pytest.raises(errors.UserError) as caught:
        scan(source_of(readable), tmp_path, store=True)
    line = str(caught.value)
    assert f"{tmp_path} has no room" in line
    assert "No space left on device" in line
    assert "--image_store_gb=0" in line
    assert len(line.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_without_posix_fallocate(readable, tmp_path, monkeypatch):
    expected = scan(source_of(readable), tmp_path, store=True).images.array
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    result = scan(source_of(readable), tmp_path, store=True)
    np.testing.assert_array_equal(result.images.array, expected)


def test_a_directory_that_cannot_be(readable, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(errors.UserError, match="file has no room .*exists"):
        scan(source_of(readable), tmp_path / "file", store=True)


@pytest.mark.parametrize("store", [True, False])
def test_rows_from_many_threads(readable, tmp_path, store):
    result = scan(source_of(readable), tmp_path, store=store)
    expected = result.images.rows(np.arange(30))
    random = np.random.default_rng(0)
    orders = [random.permutation(30)[:8] for _ in range(40)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for order, rows in zip(
            orders, pool.map(result.images.rows, orders), strict=True
        ):
            np.testing.assert_array_equal(rows, expected[order])


def test_an_error_in_the_source_ends_the_bar(readable, tmp_path):
    ended = []

    class Watched(progresses.Progress):
        def end(self):
            ended.append(True)
            super().end()

    def read(index):
        raise RuntimeError("a mistake of ours")

    source = sources.Source(
        "folder:/x", ("a",), (sources.Example("x", "a"),), read
    )
    progress = Watched(quiet=True)
    with pytest.raises(RuntimeError, match="of ours"):
        images.scan(
            source,
            size=SIZE,
            resize="pad",
            store_bytes=0,
            directory=tmp_path,
            progress=progress,
        )
    assert ended[-1] and progress.bar is None
