"""What C libraries write to stderr, without the lines that tell nothing."""

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

# Warnings of libjpeg (its jerror.h) and libpng. They name no file; what cannot
# be decoded is told by us, with its name.
_USELESS = (
    "^(Corrupt JPEG data|Premature end of JPEG|Invalid SOS parameters|"
    "Inconsistent progression sequence|Unknown Adobe color transform|"
    "Warning: unknown JFIF revision|Application transferred too many|"
    "libpng (warning|error):)"
)


def ask_for_errors_only() -> None:
    """Lets TensorFlow say errors only, where the environment asks for nothing.

    TensorFlow reads this when it is imported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # In a notebook TensorFlow gives its logger the level INFO when it is
    # imported, whatever it had.
    logging.getLogger("tensorflow").addFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


@contextlib.contextmanager
def filtered() -> Iterator[None]:
    """Leaves out libjpeg's and libpng's lines while the block runs.

    They are written to the descriptor, from any thread. A process of its own
    reads along, so that what is said of a crash is still seen after it.
    Python's own messages go on to where they went.
    """
    if not _is_descriptor_2(sys.stderr):
        yield
        return
    sys.stderr.flush()
    original = os.dup(2)
    reading, writing = os.pipe()
    try:
        grep = subprocess.Popen(
            ["grep", "--text", "--line-buffered", "-Ev", _USELESS],
            stdin=reading,
            stdout=original,
            # Ctrl-C is not for it.
            start_new_session=True,
        )
    except OSError:
        # There is no grep, and the lines are seen.
        for descriptor in (original, reading, writing):
            os.close(descriptor)
        yield
        return
    os.close(reading)
    python_stderr = sys.stderr
    # It stays open: the loggers made meanwhile go on writing to it.
    sys.stderr = os.fdopen(
        original, "w", buffering=1, errors="backslashreplace"
    )
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)
        sys.stderr = python_stderr
        # A process that was started meanwhile may keep the pipe open.
        with contextlib.suppress(subprocess.TimeoutExpired):
            grep.wait(timeout=1)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keeps what C libraries write while they load from stderr.

    They write to the descriptor, before any setting of theirs is read.
    """
    try:
        kept = os.dup(2)
    except OSError:
        # Nobody reads it.
        yield
        return
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    python_stderr = sys.stderr
    os.dup2(null, 2)
    if _is_descriptor_2(python_stderr):
        # It stays open, too.
        sys.stderr = os.fdopen(os.dup(kept), "w", buffering=1)
    try:
        yield
    finally:
        sys.stderr = python_stderr
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _is_descriptor_2(stream: Any) -> bool:
    try:
        return stream.fileno() == 2
    except (AttributeError, OSError, ValueError):
        return False
