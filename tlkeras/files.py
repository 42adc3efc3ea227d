"""Files that are whole or absent: a killed run leaves no half file."""

import contextlib
import csv
import difflib
import errno
import fcntl
import itertools
import json
import os
import pathlib
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable
from collections.abc import Iterator
from typing import IO
from typing import Any

from tlkeras import errors

# File names need not be UTF-8; Python reads such bytes as surrogates, and this
# writes the same bytes back.
_ERRORS = "surrogateescape"

# Of a file's name, on the file systems in use [bytes].
_LONGEST = 255
# Of what is being written: nothing else is ever removed unasked.
_TEMPORARY = re.compile(r"\.tlkeras-unfinished-[0-9]+-.+")

# What a spreadsheet takes for a formula, or for what has been made text.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_QUOTED_FORMULA = re.compile(r"'+[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# Of what is read whole: RGB of 16 bits for each of the most pixels that an
# image may have, and a table of ten million images [bytes].
LARGEST = 1 << 30
# Of settings, and of what a model or a run says of itself [bytes].
LARGEST_SETTINGS = 1 << 24
# Of a directory's path; Linux takes 4,096 with the files in it [bytes].
_LONGEST_PATH = 3800

# HDF5 and TensorFlow raise errors of their own with these words in them.
_FULL = tuple(os.strerror(each) for each in (errno.ENOSPC, errno.EDQUOT))


def expand(text: str | os.PathLike) -> pathlib.Path:
    """Returns the path that a person wrote, `~` as the user's own directory.

    Raises `UserError` where it is no path, or a part of it is longer than file
    systems allow.
    """
    if not isinstance(text, str | os.PathLike):
        raise errors.UserError(
            f"a path must be text. Received: {errors.shown(text)}."
        )
    # Of pathlib, expanduser fails where there is no such user.
    found = pathlib.Path(os.path.expanduser(text))
    longest = max(
        (os.fsencode(part) for part in found.parts), key=len, default=b""
    )
    if len(longest) > _LONGEST:
        raise errors.UserError(
            f"the name of a file must have at most {_LONGEST} bytes. Received: "
            f"{len(longest)} of them, {os.fsdecode(longest[:40])}..."
        )
    return found


def read(path: str | os.PathLike, *, most: int = LARGEST) -> bytes:
    """Returns the content of a regular file of at most `most` bytes.

    Raises `OSError` where there is none: to open a pipe waits for ever, a
    device has no end, and a file with holes may be larger than any memory.
    """

    def at_once(path: str | os.PathLike, flags: int) -> int:
        return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))

    with open(path, "rb", buffering=0, opener=at_once) as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        if found.st_size > most:
            raise OSError(errno.EFBIG, f"larger than {most:,} bytes", path)
        return stream.read()


def read_json(path: str | os.PathLike) -> Any:
    """Returns what `write_json` wrote to `path`.

    Raises `UserError` where it is something else by now.
    """
    try:
        return json.loads(read(path, most=LARGEST_SETTINGS))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", "") or "it is no JSON"
        raise errors.UserError(
            f"{path} is damaged: {reason}. Choose another directory, or remove "
            "it."
        ) from None


def temporary_prefix() -> str:
    """Returns how the names begin of what this process has not finished yet.

    `remove_unfinished` knows by it what a killed process left, so no file of a
    user's may be called so by chance.
    """
    return f".tlkeras-unfinished-{os.getpid()}-"


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a path beside `path` to write to; moves it there at the end.

    The temporary name keeps the suffix, because Keras chooses the format by
    it. If the block raises, `path` stays as it was and nothing is left over.
    A link stays one. Raises `UserError` where the place cannot be written to.
    """
    path = pathlib.Path(path).resolve()
    temporary = path.with_name(f"{temporary_prefix()}{path.name}")
    with directory(path.parent), _writing(path):
        try:
            yield temporary
            if temporary.is_dir() and path.is_dir():
                # Nobody else's file goes, though it came there meanwhile.
                if strange := {each.name for each in entries(path)} - {
                    each.name for each in temporary.iterdir()
                }:
                    raise errors.UserError(
                        f"{path} holds {errors.few(sorted(strange))}, which is "
                        "not of this program, and nothing is removed. Choose "
                        "another place."
                    )
                # A directory is replaced only where it is empty.
                old = path.with_name(f"{temporary_prefix()}old-{path.name}")
                os.replace(path, old)
                os.replace(temporary, path)
                shutil.rmtree(old)
            else:
                os.replace(temporary, path)
        finally:
            remove(temporary)


@contextlib.contextmanager
def directory(path: str | os.PathLike) -> Iterator[None]:
    """Makes the directory `path` and those above it that do not exist.

    If the block raises, those that it made are removed where they are empty.
    Raises `UserError` where a directory cannot be made.
    """
    path = pathlib.Path(path)
    made = [each for each in (path, *path.parents) if not each.exists()]
    try:
        with _writing(path):
            path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for each in made:
                each.rmdir()
        raise


@contextlib.contextmanager
def alone(path: pathlib.Path) -> Iterator[None]:
    """Keeps other processes out of the directory `path` while the block runs.

    Raises `UserError` where one is in it already. It leaves no file, and ends
    with the process, however that ends. File systems without locks let all in.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.UserError(
                f"another process is working in {path}. Wait for it, or give "
                "--workdir another directory."
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def temporary_file(
    path: str | os.PathLike, suffix: str
) -> Iterator[tuple[pathlib.Path, IO[bytes]]]:
    """Yields a new file in the directory `path`, to be moved to its name.

    What has not been moved when the block ends is removed. Raises `UserError`
    where the place cannot be written to.
    """
    path = pathlib.Path(path)
    with directory(path), _writing(path):
        handle, name = tempfile.mkstemp(suffix, temporary_prefix(), path)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield pathlib.Path(name), stream
        finally:
            remove(pathlib.Path(name))


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` to `path` in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=_ERRORS)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes `content` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | os.PathLike, value: object) -> None:
    """Writes `value` as JSON to `path`; NaN and infinity raise ValueError."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_csv(
    path: str | os.PathLike,
    header: Iterable[str],
    rows: Iterable[Iterable[object]],
) -> None:
    """Writes `header` and `rows` to `path` as CSV, whole or not at all.

    Text that a spreadsheet would compute gets an apostrophe before it, which
    `cell_text` takes off again; numbers are as they are.
    """
    with replacing(path) as temporary:
        with temporary.open(
            "w", encoding="utf-8", errors=_ERRORS, newline=""
        ) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            quoting = csv.writer(
                stream, lineterminator="\n", quoting=csv.QUOTE_ALL
            )
            for row in itertools.chain([header], rows):
                cells = [_cell(value) for value in row]
                # Of itself it does not quote what a reader takes for an end.
                returns = any("\r" in str(cell) for cell in cells)
                (quoting if returns else writer).writerow(cells)


def cell_text(cell: str) -> str:
    """Returns the text that `write_csv` wrote as `cell`."""
    return cell[1:] if _QUOTED_FORMULA.match(cell) else cell


def _cell(value: object) -> object:
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}" if _FORMULA.match(value) else value


def nearest(path: str | os.PathLike) -> str:
    """Returns ' Did you mean ...?' for what lies beside an unfit path."""
    given = pathlib.Path(path)
    try:
        names = [x for x in os.listdir(given.parent) if x != given.name]
    except (OSError, ValueError):
        return ""
    close = difflib.get_close_matches(given.name, names, 1)
    return f" Did you mean {given.parent / close[0]}?" if close else ""


def entries(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns what a directory holds, but what a killed run left unfinished."""
    return sorted(
        each for each in path.iterdir() if not _TEMPORARY.fullmatch(each.name)
    )


def remove_unfinished(path: pathlib.Path) -> None:
    """Removes what killed runs left unfinished in `path` and below."""
    for place, folders, names in os.walk(path):
        for name in filter(_TEMPORARY.fullmatch, folders + names):
            remove(pathlib.Path(place, name))


def remove(path: pathlib.Path) -> None:
    """Removes a file or a directory with all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def cache_directory(path: str | os.PathLike = "") -> pathlib.Path:
    """Returns where results are kept between runs; makes nothing.

    path: '' is the user's own place for such files, which the environment
    variable XDG_CACHE_HOME moves. Raises `UserError` where a place that was
    named cannot be written to.
    """
    if path:
        return check_directory(path, "cache_dir")
    place = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(os.path.expanduser(place), "tlkeras").absolute()


def check_directory(path: str | os.PathLike, setting: str) -> pathlib.Path:
    """Returns `path` as a directory that can be made and written to.

    Raises `UserError` that names `setting` where a file is in the way or the
    place does not permit it. It makes nothing.
    """
    place = expand(path).absolute()
    if len(os.fsencode(place)) > _LONGEST_PATH:
        raise errors.UserError(
            f"`{setting}` must be a path of at most {_LONGEST_PATH} bytes, so "
            "that there is room for the names of files. Received: "
            f"{len(os.fsencode(place))} of them, {errors.shown(str(place))}"
        )
    existing = place
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise errors.UserError(
            f"`{setting}` must be a directory. Received: {place}, where "
            f"{existing} is no directory. Choose another place."
        )
    if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        raise errors.UserError(
            f"`{setting}` cannot be written: no permission for {existing}. "
            "Choose another place."
        )
    # Some places, such as /proc, have permissions and take nothing.
    try:
        os.rmdir(tempfile.mkdtemp("", temporary_prefix(), existing))
    except OSError as error:
        raise errors.UserError(
            f"`{setting}` cannot be written: {existing}: {error.strerror}. "
            "Choose another place."
        ) from None
    return place


def check_utf8(path: pathlib.Path, setting: str) -> None:
    """Raises `UserError` for a path that TensorFlow cannot write to."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise errors.UserError(
            f"`{setting}` must be a path in UTF-8, because TensorFlow writes "
            f"the SavedModel there. Received: {errors.shown(str(path))}."
        ) from None


def check_file(path: str | os.PathLike, setting: str) -> pathlib.Path:
    """Returns `path` as a file that can be written or written anew.

    Raises `UserError` that names `setting` where something else is there or
    the place does not permit it. It writes nothing.
    """
    place = expand(path).resolve()
    if place.exists() and not place.is_file():
        raise errors.UserError(
            f"`{setting}` must be a file. Received: {place}, which is none. "
            "Choose another place."
        )
    check_directory(place.parent, setting)
    return place


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[None]:
    """Says in one line that `path` cannot be written, and why."""
    try:
        yield
    except Exception as error:
        reasons = [words for words in _FULL if words in str(error)]
        if isinstance(error, OSError):
            reasons.append(error.strerror or str(error))
        if not reasons:
            raise
        raise errors.UserError(
            f"{path} cannot be written: {reasons[0]}."
        ) from error
