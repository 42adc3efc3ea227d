"""What JAX has compiled is kept, in our folder, and only that is removed."""

import subprocess
import sys

import pytest
from conftest import environment

from tlkeras.machine import compiled

PROGRAM = """
import sys
import jax
from tlkeras.machine import compiled
compiled.keep(sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: x * 3 + 1)(2.0)
"""


def keep(directory, **variables):
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory)],
        env=environment(KERAS_BACKEND="jax", **variables),
        check=True,
    )


def test_kept_counted_and_removed(tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    keep(tmp_path)
    count, size = compiled.kept(tmp_path)
    assert count and size
    (folder,) = (tmp_path / "compiled").iterdir()
    foreign = folder / "notes.txt"
    foreign.touch()
    compiled.clear(tmp_path)
    assert compiled.kept(tmp_path) == (0, 0)
    assert list(folder.iterdir()) == [foreign]


def test_a_place_that_the_user_named_stays(tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    keep(tmp_path / "ours", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "theirs"))
    assert not (tmp_path / "ours").exists()
    assert list((tmp_path / "theirs").iterdir())


def test_on_tensorflow_nothing_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled.processes, "backend", lambda: "tensorflow")
    monkeypatch.setitem(sys.modules, "jax", None)
    compiled.keep(tmp_path)
    assert compiled.kept(tmp_path) == (0, 0)
