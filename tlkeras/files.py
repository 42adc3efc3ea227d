"""Files that are whole or absent: a killed run leaves no half file."""

import contextlib
import csv
import json
import os
import pathlib
import shutil
from collections.abc import Iterable
from collections.abc import Iterator

from tlkeras import errors

# File names need not be UTF-8; Python reads such bytes as surrogates, and this
# writes the same bytes back.
_ERRORS = "surrogateescape"


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a path beside `path` to write to; moves it there at the end.

    The temporary name keeps the suffix, because Keras chooses the format by
    it. If the block raises, `path` stays as it was and nothing is left over.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` to `path` in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=_ERRORS)


def write_json(path: str | os.PathLike, value: object) -> None:
    """Writes `value` as JSON to `path`; NaN and infinity raise ValueError."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_csv(
    path: str | os.PathLike,
    header: Iterable[str],
    rows: Iterable[Iterable[object]],
) -> None:
    """Writes `header` and `rows` to `path` as CSV, whole or not at all."""
    with replacing(path) as temporary:
        with temporary.open(
            "w", encoding="utf-8", errors=_ERRORS, newline=""
        ) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)


def check_directory(path: str | os.PathLike, setting: str) -> pathlib.Path:
    """Returns `path` as a directory that can be made and written to.

    Raises `UserError` that names `setting` where a file is in the way or the
    place does not permit writing. It makes nothing.
    """
    path = pathlib.Path(path).expanduser().absolute()
    existing = path
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise errors.UserError(
            f"`{setting}` must be a directory. Received: {path}, where "
            f"{existing} is no directory. Choose another place."
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise errors.UserError(
            f"`{setting}` cannot be written: no permission for {existing}. "
            "Choose another place."
        )
    return path
