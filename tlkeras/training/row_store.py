"""Rows of numbers that took time to compute, kept on disk between runs.

A table is a directory of parts. A part is a file that is written under another
name, then gets its own, and is never changed: a killed process leaves none, and
several may add to one table at once. Its name is the hash of its content, which
tells a damaged one; the rows of that are computed again.

Rows are read by calls and not by a memory map, whose pages would count as
memory of the process.
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import time
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np

from tlkeras import files

# Another number where parts are written in another form, or rows computed in
# another way, so that old ones are not believed.
_VERSION = 2
FOLDER = "activations"
_SUFFIX = ".rows"
_KEY = 16
# A part is closed at this size, and a killed run loses no more [bytes].
_LARGEST = 256_000_000
_AT_ONCE = 1 << 22
# A part that is being written and has not grown for so long never will [s].
_STALE = 3600.0
# Paths and sizes of files whose content has been checked: each once only.
_sound: set[tuple[pathlib.Path, int]] = set()


@dataclasses.dataclass(frozen=True)
class Storage:
    """Where rows are kept, and how many bytes of them.

    mode: `off` nowhere; `memory` while they are used; `disk` and `auto` in
      `directory`, between runs.
    memory_bytes: if those of a phase fit, `auto` reads them into memory.
    disk_bytes: beyond it the rows that were not used for longest are removed.
    """

    mode: str = "off"
    directory: pathlib.Path = pathlib.Path()
    memory_bytes: float = 0.0
    disk_bytes: float = 0.0


NOWHERE = Storage()


@dataclasses.dataclass(frozen=True)
class _Part:
    """A file: the number of its rows (8 bytes), their keys, then the rows."""

    path: pathlib.Path
    file: int
    keys: tuple[bytes, ...]

    def row(self, index: int, size: int) -> bytes:
        start = 8 + _KEY * len(self.keys) + index * size
        return os.pread(self.file, size, start)


def key(*words: str) -> bytes:
    """Returns the key of what `words` describe, 16 bytes."""
    text = "\0".join(words).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=_KEY).digest()


class Table:
    """Rows [size], float32, by key.

    description: all that a row depends on, but for the image and its view.
    """

    def __init__(self, directory: pathlib.Path, description: str, size: int):
        self.size = size
        name = key(f"{_VERSION}", description, f"{size}").hex()
        self.directory = directory / name
        self.parts: dict[pathlib.Path, _Part] = {}
        self.places: dict[bytes, tuple[_Part, int]] = {}

    def missing(self, keys: Iterable[bytes]) -> list[bytes]:
        """Returns those of `keys` that have no row yet, each once."""
        self._open()
        wanted = dict.fromkeys(keys)
        used = {self.places[each][0] for each in wanted if each in self.places}
        for part in used:
            with contextlib.suppress(OSError):
                os.utime(part.path)
        return [each for each in wanted if each not in self.places]

    def add(self, keys: Sequence[bytes], batches: Iterable[np.ndarray]) -> None:
        """Keeps the rows of `keys` as they come in `batches` [n, size].

        Raises `UserError` where they cannot be written; what was finished
        before stays.
        """
        rows = _Rows(batches)
        most = max(1, _LARGEST // (4 * self.size))
        for start in range(0, len(keys), most):
            self._write(keys[start : start + most], rows)
        self._open()

    def read(self, keys: Sequence[bytes]) -> np.ndarray:
        """Returns the rows [n, size] of `keys`, which must all have one."""
        found = np.empty([len(keys), self.size], np.float32)
        for row, each in zip(found, keys, strict=True):
            part, index = self.places[each]
            row[:] = np.frombuffer(part.row(index, 4 * self.size), np.float32)
        return found

    def close(self) -> None:
        """Gives the files back; nothing can be read then."""
        for part in self.parts.values():
            os.close(part.file)
        self.parts.clear()
        self.places.clear()

    def _open(self) -> None:
        """Takes in the parts that are there and sound; removes damaged ones."""
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(self.directory.glob(f"*{_SUFFIX}")):
                # To open a pipe waits for ever.
                if path in self.parts or not path.is_file():
                    continue
                with contextlib.suppress(FileNotFoundError):
                    part = _part(path)
                    if part is None:
                        path.unlink(missing_ok=True)
                        continue
                    self.parts[path] = part
                    for index, each in enumerate(part.keys):
                        self.places[each] = part, index

    def _write(self, keys: Sequence[bytes], rows: "_Rows") -> None:
        digest = hashlib.blake2b(digest_size=16)
        # Under the suffix of a part another process would take it for one.
        with files.temporary_file(self.directory, ".new") as (
            temporary,
            stream,
        ):

            def write(data: bytes) -> None:
                digest.update(data)
                stream.write(data)

            write(len(keys).to_bytes(8, "little"))
            write(b"".join(keys))
            for block in rows.take(len(keys)):
                write(block.tobytes())
            stream.flush()
            name = f"{digest.hexdigest()}{_SUFFIX}"
            os.replace(temporary, self.directory / name)


class _Rows:
    """Rows that come in batches, taken in other numbers."""

    def __init__(self, batches: Iterable[np.ndarray]):
        self.batches = iter(batches)
        self.rest: np.ndarray | None = None

    def take(self, count: int) -> Iterator[np.ndarray]:
        """Yields the next `count` rows, float32, in blocks."""
        while count:
            if self.rest is None or not len(self.rest):
                self.rest = np.ascontiguousarray(next(self.batches), np.float32)
            block, self.rest = self.rest[:count], self.rest[count:]
            count -= len(block)
            yield block


def _part(path: pathlib.Path) -> _Part | None:
    """Returns the part in a file, None if the file is damaged."""
    file = os.open(path, os.O_RDONLY)
    if (path, os.fstat(file).st_size) not in _sound:
        if not _is_sound(path):
            os.close(file)
            return None
        _sound.add((path, os.fstat(file).st_size))
    count = int.from_bytes(os.pread(file, 8, 0), "little")
    keys = os.pread(file, _KEY * count, 8)
    return _Part(
        path,
        file,
        tuple(keys[at : at + _KEY] for at in range(0, len(keys), _KEY)),
    )


def _is_sound(path: pathlib.Path) -> bool:
    """Tells whether a file has the content that its name says."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        while block := stream.read(_AT_ONCE):
            digest.update(block)
    return digest.hexdigest() == path.name.removesuffix(_SUFFIX)


def kept(directory: pathlib.Path) -> tuple[int, int]:
    """Returns how many files are kept in `directory`, and their bytes."""
    sizes = [found.st_size for _, found in _kept(directory)]
    return len(sizes), sum(sizes)


def trim(directory: pathlib.Path, most: float) -> int:
    """Removes what was not used for longest until `most` bytes are left.

    Returns the bytes removed. What a process has open it can read on.
    """
    for path in directory.glob("*/.tlkeras-unfinished-*.new"):
        # Of a killed process; one at work writes without such a pause.
        with contextlib.suppress(OSError):
            if not most or time.time() - path.stat().st_mtime > _STALE:
                path.unlink()
    kept = sorted(_kept(directory), key=lambda each: each[1].st_mtime_ns)
    total = sum(found.st_size for _, found in kept)
    removed = 0
    for path, found in kept:
        if total - removed <= most:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            removed += found.st_size
            path.parent.rmdir()
    return removed


def _kept(
    directory: pathlib.Path,
) -> Iterator[tuple[pathlib.Path, os.stat_result]]:
    for path in directory.glob(f"*/*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            yield path, path.stat()
