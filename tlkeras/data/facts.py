"""What is known of a file once it has been read, and kept between runs."""

import contextlib
import dataclasses
import os
import pathlib
import sqlite3
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping

# Another number where facts are found another way, so that old ones are not
# believed.
_VERSION = 1
_FILE = "scans.sqlite"
# A standard deviation of under two grey levels is the noise of a camera or of
# JPEG.
_CONSTANT = 2.0
# SQLite's own limit on the question marks of a statement was 999 for long.
_AT_ONCE = 500
# Rows of some 600 bytes; beyond them those not used for longest go.
_MOST = 2_000_000


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a file is, by its content and not by its name.

    kind: the format, or what else it is. width, height: as stored, before the
      orientation is applied [pixels]; 0 where the header does not say. mode:
      as in Pillow: L, P, RGB, CMYK and so on. orientation: EXIF's, 1 to 8.
    reason: why it cannot be used, '' where it can; what follows is then empty.
    pixels: hash of the decoded pixels.
    contrast: standard deviation of the pixels, in grey levels [0, 127.5].
    thumbnail: the image in 16 x 16 grey values, row by row.
    """

    kind: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    orientation: int = 1
    reason: str = ""
    pixels: str = ""
    contrast: float = 0.0
    thumbnail: bytes = b""

    @property
    def is_constant(self) -> bool:
        """Whether it can be used, but there is nothing to see in it."""
        return not self.reason and self.contrast < _CONSTANT


_NAMES = tuple(field.name for field in dataclasses.fields(Facts))


def kept(directory: str | os.PathLike) -> tuple[int, int]:
    """Returns of how many files facts are kept, and in how many bytes."""
    path = pathlib.Path(directory, _FILE)
    found = [0]

    def count(database: sqlite3.Connection) -> None:
        found[:] = database.execute("SELECT COUNT(*) FROM facts").fetchone()

    if not path.exists():
        return 0, 0
    _use(directory, count)
    return found[0], path.stat().st_size if path.exists() else 0


def clear(directory: str | os.PathLike) -> None:
    """Forgets the facts of all files."""
    pathlib.Path(directory, _FILE).unlink(missing_ok=True)


def load(
    directory: str | os.PathLike, stamps: Mapping[str, str]
) -> dict[str, Facts]:
    """Returns what is known of files whose stamps are still the same.

    stamps: path -> what changes when the file does. Nothing is known where
    the file in `directory` is absent or cannot be used.
    """
    known: dict[str, Facts] = {}
    paths = list(stamps)

    used: list[tuple[int, bytes]] = []

    def find(database: sqlite3.Connection) -> None:
        for start in range(0, len(paths), _AT_ONCE):
            some = {
                os.fsencode(each): each for each in paths[start:][:_AT_ONCE]
            }
            found = database.execute(
                f"SELECT path, stamp, {', '.join(_NAMES)} FROM facts "
                f"WHERE path IN ({', '.join('?' * len(some))})",
                list(some),
            ).fetchall()
            for path, stamp, *values in found:
                if stamp == _stamp(stamps[some[path]]):
                    known[some[path]] = Facts(*values)
            used.extend((int(time.time()), path) for path, *_ in found)
        # Last, because a place that cannot be written to can still be read.
        database.executemany("UPDATE facts SET used = ? WHERE path = ?", used)

    _use(directory, find)
    return known


def save(
    directory: str | os.PathLike, rows: Iterable[tuple[str, str, Facts]]
) -> None:
    """Keeps (path, stamp, facts) of files in `directory`, if that is possible.

    Several processes may do so at once.
    """
    marks = ", ".join("?" * (3 + len(_NAMES)))

    def add(database: sqlite3.Connection) -> None:
        database.executemany(
            f"INSERT OR REPLACE INTO facts VALUES ({marks})",
            [
                (
                    os.fsencode(path),
                    _stamp(stamp),
                    *(getattr(facts, name) for name in _NAMES),
                    int(time.time()),
                )
                for path, stamp, facts in rows
            ],
        )
        database.execute(
            "DELETE FROM facts WHERE path IN (SELECT path FROM facts "
            "ORDER BY used DESC LIMIT -1 OFFSET ?)",
            [_MOST],
        )

    _use(directory, add)


def _stamp(stamp: str) -> str:
    return f"{_VERSION}:{stamp}"


def _use(
    directory: str | os.PathLike,
    work: Callable[[sqlite3.Connection], None],
) -> None:
    """Calls `work` with the database, or not where it cannot be opened.

    A file that is damaged or of another version is removed, and so made anew
    the next time. Where the place
    is read-only, full or busy, nothing is kept, and the work goes on.
    """
    path = pathlib.Path(directory, _FILE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as database:
            with database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS facts (path BLOB PRIMARY KEY, "
                    f"stamp, {', '.join(_NAMES)}, used)"
                )
                work(database)
    except (sqlite3.DatabaseError, OSError) as error:
        busy = isinstance(error, sqlite3.OperationalError | OSError)
        # The plain error is that of a table with other columns.
        other = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR
        if other or not busy:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
