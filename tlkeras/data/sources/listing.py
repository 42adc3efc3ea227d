"""Files on disk as a source: which are listed, and how they are read."""

import os
import pathlib
from collections.abc import Sequence
from typing import NoReturn

from tlkeras import errors
from tlkeras.data.sources.source import Example
from tlkeras.data.sources.source import Source
from tlkeras.data.sources.source import Stamp

# Files and folders that systems leave behind. Hidden ones are left out, too.
_SYSTEM = ("thumbs.db", "desktop.ini", "__macosx")


def path(place: str) -> pathlib.Path:
    """Returns an absolute path, with ~ expanded where there is such a user."""
    # Path.expanduser raises where there is no such user.
    return pathlib.Path(os.path.expanduser(place)).absolute()


def files(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Returns all files below `folder`, in order, but hidden and system ones.

    Raises `UserError` where a folder cannot be read.
    """
    paths = []
    # Links to folders are followed, but never twice: they may form a ring.
    visited = set()
    for place, folders, names in os.walk(
        os.fspath(folder), onerror=_refuse, followlinks=True
    ):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = _visible(folders)
        paths += [pathlib.Path(place, name) for name in _visible(names)]
    return paths


def entries(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns what `folder` holds, in order, but hidden and system files.

    Raises `UserError` where it cannot be read.
    """
    try:
        return [folder / name for name in _visible(os.listdir(folder))]
    except OSError as error:
        _refuse(error)


def folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders among `entries`."""
    return [path for path in entries(folder) if os.path.isdir(path)]


def source(name: str, examples: Sequence[Example]) -> Source:
    """Returns the source of examples whose paths are files."""

    def stamp(index: int) -> Stamp | None:
        try:
            status = os.stat(examples[index].path)
        except (OSError, ValueError):
            return None
        return Stamp(
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
        )

    return Source(
        name,
        tuple(sorted({example.label for example in examples})),
        tuple(examples),
        lambda index: pathlib.Path(examples[index].path).read_bytes(),
        stamp,
    )


def _visible(names: Sequence[str]) -> list[str]:
    return sorted(
        name
        for name in names
        if not name.startswith(".") and name.lower() not in _SYSTEM
    )


def _refuse(error: OSError) -> NoReturn:
    raise errors.UserError(
        f"{error.filename} cannot be read: {error.strerror}."
    ) from None
