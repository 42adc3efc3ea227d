"""How much memory the commands take for large images."""

import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import samples
from conftest import environment

# Runs a command, and says the most memory that it had [kB]. What `getrusage`
# tells includes that of the process which started this one.
_MEASURED = """
import sys
from tlkeras import cli
try:
    sys.exit(cli.main())
finally:
    with open("/proc/self/status") as lines:
        print(*(line for line in lines if line.startswith("VmHWM")))
"""


def most_memory(*words: str, cwd: pathlib.Path) -> float:
    """Returns the most memory [MB] of a command."""
    process = subprocess.run(
        [sys.executable, "-c", _MEASURED, *map(str, words)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
    )
    # `check` ends with 1 on what must be decided.
    assert process.returncode in (0, 1), process.stderr
    return int(process.stdout.rpartition("VmHWM:")[2].split()[0]) / 1e3


def jpeg(path: pathlib.Path) -> None:
    PIL.Image.new("RGB", (13_000, 13_000), (90, 120, 30)).save(path, "JPEG")


def png(path: pathlib.Path) -> None:
    values = np.full([9_000, 9_000, 3], 30_000, np.uint16)
    path.write_bytes(samples.png(values, 16, 2))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("write", [jpeg, png])
@pytest.mark.parametrize("command", ["check", "predict"])
def test_eight_large_images_take_the_memory_of_one(
    trained, tmp_path, command, write
):
    write(tmp_path / "large")
    found = {}
    for count in (1, 8):
        root = tmp_path / str(count)
        for index in range(count):
            path = root / "ab"[index % 2] / f"{index}.img"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(tmp_path / "large")
        words = ["check", f"--data=folder:{root}"]
        if command == "predict":
            words = ["predict", f"--model={trained.directory}", root]
        found[count] = most_memory(*words, cwd=tmp_path)
    print(command, write.__name__, found)
    assert found[8] < found[1] + 150
