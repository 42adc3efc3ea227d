"""Exports by a process of its own that computes on TensorFlow.

Keras chooses its backend once, when it is imported.
"""

import os
import pathlib
import subprocess
import sys

_WRITE = (
    "import sys; from tlkeras.export import saved_model; "
    "saved_model.write_unchecked(*sys.argv[1:])"
)


def export(*words: str) -> subprocess.CompletedProcess:
    """Runs `tlkeras export` with these words; its output is captured."""
    return _run("-m", "tlkeras", "export", *words)


def write_saved_model(
    model: pathlib.Path, directory: pathlib.Path
) -> subprocess.CompletedProcess:
    """Has the SavedModel of a saved model written, and not proved."""
    return _run("-c", _WRITE, str(model), str(directory))


def _run(*words: str) -> subprocess.CompletedProcess:
    """Runs Python; its TensorFlow sees no GPU, whose memory is taken."""
    package = str(pathlib.Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, *words],
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
