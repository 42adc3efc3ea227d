"""`tlkeras export` in a process of its own that computes on TensorFlow.

Keras chooses its backend once, when it is imported.
"""

import os
import pathlib
import subprocess
import sys


def export(*words: str) -> subprocess.CompletedProcess:
    """Runs the command with these words; its output is captured.

    Its TensorFlow sees no GPU either: the memory of that is taken.
    """
    package = str(pathlib.Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-m", "tlkeras", "export", *words],
        env={
            **os.environ,
            "KERAS_BACKEND": "tensorflow",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": os.pathsep.join(paths),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="backslashreplace",
    )


def last_line(done: subprocess.CompletedProcess) -> str:
    """Returns what the process said last of what went wrong."""
    lines = done.stderr.strip().splitlines() or ["it said nothing"]
    return lines[-1].removeprefix("tlkeras: ")
