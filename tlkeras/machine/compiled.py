"""What XLA has compiled for JAX, kept for later processes.

MobileNetV2's step takes 6 s of a CPU to compile, and larger networks on a GPU
minutes. On TensorFlow nothing can be kept.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
from collections.abc import Iterator

from tlkeras.machine import processes

_FOLDER = "compiled"
# As JAX names its files: what was compiled, and when it was last used.
_NAMES = ("*-cache", "*-atime")
# What is compiled sooner is not kept [s].
_SHORTEST = 0.3


def keep(directory: str | os.PathLike) -> None:
    """Lets JAX, if Keras computes on it, read and write below `directory`.

    Another place that the user has named to JAX stays.
    """
    if processes.backend() != "jax":
        return
    import jax

    named = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if named is not None:
        return
    # What runs on one kind of processor may not run on another that reads the
    # same directory.
    kind = hashlib.sha256(_processor().encode()).hexdigest()[:16]
    jax.config.update(
        "jax_compilation_cache_dir", os.path.join(directory, _FOLDER, kind)
    )
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _SHORTEST)


def kept(directory: str | os.PathLike) -> tuple[int, int]:
    """Returns how many files are kept below `directory`, and their bytes."""
    sizes = [path.stat().st_size for path in _files(directory)]
    return len(sizes), sum(sizes)


def clear(directory: str | os.PathLike) -> None:
    """Removes what is kept below `directory`."""
    for path in _files(directory):
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def _files(directory: str | os.PathLike) -> Iterator[pathlib.Path]:
    for name in _NAMES:
        yield from pathlib.Path(directory, _FOLDER).glob(f"*/{name}")


def _processor() -> str:
    """Returns what tells one kind of processor from others."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith(("flags", "Features")):
                return line
    return platform.platform()
