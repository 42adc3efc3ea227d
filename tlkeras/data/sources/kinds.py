"""The kinds of sources: to add one is to add a module and a row here.

A source only lists and reads; whether a file is an image that can be used is
seen when it is decoded. Nothing here imports TensorFlow before it must, so
that a mistake in a path is told at once.
"""

import dataclasses
from collections.abc import Callable

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.data.sources import builtin
from tlkeras.data.sources import csv_file
from tlkeras.data.sources import folder
from tlkeras.data.sources import listing
from tlkeras.data.sources import tfds
from tlkeras.data.sources.source import Source


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of source.

    name: what stands before the colon. syntax: for help and errors. open:
    (place, data_dir, progress) -> source. are_files: whether the images are
    files on disk, and the place is a path. means: whether a path without a
    kind before it means this one.
    """

    name: str
    syntax: str
    open: Callable[..., Source]
    are_files: bool = False
    means: Callable[[str], bool] = lambda path: False


def _is_table(path: str) -> bool:
    place = listing.path(path)
    return place.is_file() or (path.endswith(".csv") and not place.is_dir())


KINDS = (
    Kind(
        "folder",
        "folder:PATH",
        folder.open,
        True,
        lambda path: not _is_table(path),
    ),
    Kind("csv", "csv:PATH", csv_file.open, True, _is_table),
    Kind("tfds", "tfds:NAME[/CONFIG]", tfds.open),
    Kind("builtin", "builtin:digits[CLASSES]", builtin.open),
)


def open(
    name: str,
    *,
    data_dir: str = "",
    nested: bool = False,
    progress: progresses.Progress,
) -> Source:
    """Returns the source of this name; `tfds:` may download.

    data_dir: where TFDS finds and keeps its data; '' is TFDS' own place.
    nested: whether a class may have its images in folders alone.

    Raises `UserError` where there is no such source, or nothing to learn in
    it.
    """
    kind, place = _find(name)
    if kind is not None:
        source = kind.open(place, data_dir=data_dir, progress=progress)
        if not nested:
            folder.check_nested(source)
        return source
    guess = errors.nearest(
        name.partition(":")[0], [kind.name for kind in KINDS]
    )
    *first, last = [kind.syntax for kind in KINDS]
    raise errors.UserError(
        f"`data` must be {', '.join(first)} or {last}; of a PATH, folder: and "
        f"csv: may be left out. Received: {name or 'nothing'}.{guess}"
    )


def absolute(name: str) -> str:
    """Returns the name of a source with its kind, and an absolute path."""
    kind, place = _find(name)
    if kind is None or not kind.are_files:
        return name
    return f"{kind.name}:{listing.path(place)}"


def file_place(name: str) -> str:
    """Returns the path in the name of a source; '' if its images are no files.

    It is that of the folder, or of the table that lists them.
    """
    kind, place = _find(name)
    return place if kind is not None and kind.are_files else ""


def _find(name: str) -> tuple[Kind | None, str]:
    """Returns the kind of a source, and the place behind it."""
    word, colon, place = name.partition(":")
    for kind in KINDS:
        if colon and kind.name == word and place:
            return kind, place
        if name and not colon and kind.means(name):
            return kind, name
    return None, ""
