"""Files on disk as a source: which are listed, and how they are read."""

import os
import pathlib
from collections.abc import Sequence
from typing import NoReturn

from tlkeras import errors
from tlkeras import files as regular_files
from tlkeras.data.sources.source import Example
from tlkeras.data.sources.source import Source
from tlkeras.data.sources.source import Stamp

# By what a file in the place of a class is taken for a picture.
_PICTURES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif"),
    *(".webp", ".tif", ".tiff", ".heic", ".heif", ".avif"),
)
# What systems leave behind, in lower case. Hidden ones are left out, too.
_SYSTEM_FILES = ("thumbs.db", "desktop.ini")
_SYSTEM_FOLDERS = (
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    ".trashes",
    "@eadir",
    "@recycle",
    "__macosx",
    "found.000",
    "lost+found",
    "system volume information",
)


def path(place: str) -> pathlib.Path:
    """Returns an absolute path, with ~ expanded where there is such a user."""
    # Path.expanduser raises where there is no such user.
    return pathlib.Path(os.path.expanduser(place)).absolute()


def files(
    folder: str | os.PathLike, left_out: set[str] | None = None
) -> list[pathlib.Path]:
    """Returns all files below `folder`, in order, but hidden and system ones.

    left_out: gets the names of folders that systems make.

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
        folders[:] = _visible(folders, left_out)
        paths += [
            pathlib.Path(place, name) for name in _visible(names, left_out)
        ]
    return paths


def entries(
    folder: pathlib.Path, left_out: set[str] | None = None
) -> list[pathlib.Path]:
    """Returns what `folder` holds, in order, but hidden and system files.

    left_out: as for `files`.

    Raises `UserError` where it cannot be read.
    """
    try:
        names = _visible(os.listdir(folder), left_out)
    except OSError as error:
        _refuse(error)
    return [folder / name for name in names]


def folders(
    folder: pathlib.Path, left_out: set[str] | None = None
) -> list[pathlib.Path]:
    """Returns the folders among `entries`."""
    return [path for path in entries(folder, left_out) if os.path.isdir(path)]


def pictures(folder: pathlib.Path) -> list[str]:
    """Returns the files right in `folder` whose name is that of a picture."""
    return [
        str(path)
        for path in entries(folder)
        if path.suffix.lower() in _PICTURES and not os.path.isdir(path)
    ]


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
        lambda index: regular_files.read(examples[index].path),
        stamp,
    )


def _visible(names: Sequence[str], left_out: set[str] | None) -> list[str]:
    visible = []
    for name in sorted(names):
        if name.lower() in _SYSTEM_FOLDERS:
            if left_out is not None:
                left_out.add(name)
        elif not name.startswith(".") and name.lower() not in _SYSTEM_FILES:
            visible.append(name)
    return visible


def _refuse(error: OSError) -> NoReturn:
    raise errors.UserError(
        f"{error.filename} cannot be read: {error.strerror}."
    ) from None
