"""The kinds of sources: to add one is to add a module and a row here.

A source only lists and reads; whether a file is an image that can be used is
seen when it is decoded. Nothing here imports TensorFlow before it must, so
that a mistake in a path is told at once.
"""

import dataclasses
import os
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
    files on disk, and the place is a path. fits: whether a name without a
    kind may have meant this one.
    """

    name: str
    syntax: str
    open: Callable[..., Source]
    are_files: bool = False
    fits: Callable[[str], bool] = lambda path: False


KINDS = (
    Kind("folder", "folder:PATH", folder.open, True, os.path.isdir),
    Kind("csv", "csv:PATH", csv_file.open, True, os.path.isfile),
    Kind("tfds", "tfds:NAME[/CONFIG]", tfds.open),
    Kind("builtin", "builtin:digits[CLASSES]", builtin.open),
)


def open(
    name: str, *, data_dir: str = "", progress: progresses.Progress
) -> Source:
    """Returns the source of this name; `tfds:` may download.

    data_dir: where TFDS finds and keeps its data; '' is TFDS' own place.

    Raises `UserError` where there is no such source, or nothing to learn in
    it.
    """
    kind, place = _find(name)
    if kind is not None:
        return kind.open(place, data_dir=data_dir, progress=progress)
    guess = errors.nearest(
        name.partition(":")[0], [kind.name for kind in KINDS]
    )
    for kind in KINDS:
        if kind.fits(os.path.expanduser(name)):
            guess = f" Did you mean {kind.name}:{name}?"
    *first, last = [kind.syntax for kind in KINDS]
    raise errors.UserError(
        f"`data` must be {', '.join(first)} or {last}. Received: "
        f"{name or 'nothing'}.{guess}"
    )


def absolute(name: str) -> str:
    """Returns the name of a source with its path made absolute."""
    place = file_place(name)
    if not place:
        return name
    return f"{name.partition(':')[0]}:{listing.path(place)}"


def file_place(name: str) -> str:
    """Returns the path in the name of a source; '' if its images are no files.

    It is that of the folder, or of the table that lists them.
    """
    kind, place = _find(name)
    return place if kind is not None and kind.are_files else ""


def _find(name: str) -> tuple[Kind | None, str]:
    """Returns the kind of a source and what stands behind the colon."""
    word, _, place = name.partition(":")
    for kind in KINDS:
        if kind.name == word and place:
            return kind, place
    return None, ""
