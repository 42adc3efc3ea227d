"""What C libraries write to stderr, in a process of its own."""

import subprocess
import sys

import pytest
from conftest import environment

START = """
import logging, os, sys
from tlkeras.machine import native_messages
def native(text):
    os.write(2, text.encode())
"""


def run(program: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", START + program],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
    )


def test_lines_that_name_no_file_are_left_out_and_others_are_not():
    done = run(
        """
with native_messages.filtered():
    native("Corrupt JPEG data: 34 extraneous bytes before marker 0xd9\\n")
    native("libpng warning: iCCP: known incorrect sRGB profile\\n")
    with native_messages.silenced():
        native("what is written while a library loads\\n")
        handler = logging.StreamHandler()
        print("of Python", file=sys.stderr)
    native("of another library\\n")
    handler.emit(logging.makeLogRecord({"msg": "of a logger"}))
native("afterwards\\n")
handler.emit(logging.makeLogRecord({"msg": "of a logger, later"}))
"""
    )
    assert done.returncode == 0
    assert sorted(done.stderr.splitlines()) == [
        "afterwards",
        "of Python",
        "of a logger",
        "of a logger, later",
        "of another library",
    ]


def test_what_is_said_of_a_crash_is_seen():
    done = run(
        """
with native_messages.filtered():
    native("Check failed: the reason\\n")
    os.abort()
"""
    )
    assert done.returncode == -6
    assert done.stderr == "Check failed: the reason\n"


def test_a_process_that_goes_on_does_not_hold_up_the_end():
    done = run(
        """
import subprocess
with native_messages.filtered():
    other = subprocess.Popen(["sleep", "30"])
other.kill()
print("said", file=sys.stderr)
"""
    )
    assert done.stderr == "said\n"


def test_where_there_is_no_grep_all_is_seen():
    done = run(
        """
os.environ["PATH"] = "/nowhere"
with native_messages.filtered():
    native("Corrupt JPEG data\\n")
"""
    )
    assert done.stderr == "Corrupt JPEG data\n"


@pytest.mark.slow
def test_python_hears_nothing_of_tensorflow():
    """A program and a notebook that import nothing but tlkeras."""
    program = """
import tlkeras
model = tlkeras.build_classifier(
    2, backbone="SmallResNet", weights="none", image_size=32
)
print(model.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=300,
    )
    assert (done.stdout, done.stderr) == ("classifier\n", "")


def test_tensorflow_tells_a_notebook_errors_only():
    done = run(
        """
sys.ps1 = ">>> "
native_messages.ask_for_errors_only()
import tensorflow as tf
tf.get_logger().info("Assets written")
tf.get_logger().warning("5 out of the last 5 calls")
tf.get_logger().error("an error")
"""
    )
    told = done.stdout + done.stderr
    assert "an error" in told
    assert "Assets" not in told and "calls" not in told
