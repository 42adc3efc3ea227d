"""What is known of a file once it has been read, and kept between runs."""

import contextlib
import dataclasses
import operator
import os
import pathlib
import sqlite3
import time
import zlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping

# Another number where facts are found another way, so that old ones are not
# believed.
_VERSION = 5
_FILE = "scans.sqlite"
# A standard deviation of under two grey levels is the noise of a camera or of
# JPEG.
_CONSTANT = 2.0
_TWELVE_BITS = 1 / 16
# SQLite's own limit on the question marks of a statement was 999 for long.
_AT_ONCE = 500
# Rows of some 1,400 bytes; beyond them those not used for longest go.
_MOST = 1_000_000


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a file is, by its content and not by its name.

    kind: the format, or what else it is. width, height: as stored, before the
      orientation is applied [pixels]; 0 where the header does not say.
      orientation: EXIF's, 1 to 8.
    reason: why it cannot be used, '' where it can; what follows is then empty.
    pixels: hash of the decoded pixels.
    contrast: standard deviation of the pixels, in grey levels [0, 127.5].
    thumbnail: the image in 32 x 32 grey values, row by row.
    opacity: the least alpha, in [0, 1]; below 1 it was composed onto white.
    used_range: of a file of 16 bits, the difference of the largest and the
      smallest value, as a share of all; 1 for others.
    """

    kind: str = ""
    width: int = 0
    height: int = 0
    orientation: int = 1
    reason: str = ""
    pixels: str = ""
    contrast: float = 0.0
    thumbnail: bytes = b""
    opacity: float = 1.0
    used_range: float = 1.0

    @property
    def is_constant(self) -> bool:
        """Whether it can be used, but there is nothing to see in it."""
        return not self.reason and self.contrast < _CONSTANT

    @property
    def is_dark(self) -> bool:
        """Whether it has 16 bits and uses less than a sixteenth of them.

        Such are 12 bits in a file of 16, from scanners and microscopes.
        """
        return 0 < self.used_range < _TWELVE_BITS


# What SQLite says of a place that cannot be used, but of no damage.
_UNAVAILABLE = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
)
# What becomes of a damaged row: a path that nobody asked for, a number that
# is a text.
_WRONG_TYPES = (KeyError, TypeError, ValueError, OverflowError)
_NAMES = tuple(field.name for field in dataclasses.fields(Facts))
# As `dataclasses.astuple`, which copies deeply and takes 40 times as long.
_values = operator.attrgetter(*_NAMES)


def kept(directory: str | os.PathLike) -> tuple[int, int]:
    """Returns of how many files facts are kept, and in how many bytes."""
    path = pathlib.Path(directory, _FILE)
    count = [0]

    def work(database: sqlite3.Connection) -> None:
        count[:] = database.execute("SELECT COUNT(*) FROM facts").fetchone()

    if not path.exists():
        return 0, 0
    _use(directory, work)
    return count[0], path.stat().st_size if path.exists() else 0


def clear(directory: str | os.PathLike) -> None:
    """Forgets the facts of all files."""
    pathlib.Path(directory, _FILE).unlink(missing_ok=True)


def load(
    directory: str | os.PathLike, stamps: Mapping[str, str]
) -> dict[str, Facts]:
    """Returns what is known of files whose stamps are still the same.

    stamps: path -> what changes when the file does. Nothing is known where
    the database in `directory` is absent or cannot be used.
    """
    known: dict[str, Facts] = {}
    encoded = {os.fsencode(path): path for path in stamps}
    keys = list(encoded)

    def work(database: sqlite3.Connection) -> None:
        for start in range(0, len(keys), _AT_ONCE):
            block = keys[start : start + _AT_ONCE]
            rows = database.execute(
                f"SELECT path, stamp, {', '.join(_NAMES)} FROM facts "
                f"WHERE path IN ({', '.join('?' * len(block))})",
                block,
            )
            for key, stamp, *values in rows:
                facts = Facts(*values)
                if stamp == _stamp(stamps[encoded[key]], facts):
                    known[encoded[key]] = facts
        # Last, because a place that cannot be written to can still be read.
        now = int(time.time())
        database.executemany(
            "UPDATE facts SET used = ? WHERE path = ?",
            [(now, os.fsencode(path)) for path in known],
        )

    _use(directory, work)
    return known


def save(
    directory: str | os.PathLike, rows: Iterable[tuple[str, str, Facts]]
) -> None:
    """Keeps (path, stamp, facts) of files in `directory`, if that is possible.

    Several processes may do so at once.
    """
    marks = ", ".join("?" * (3 + len(_NAMES)))
    now = int(time.time())
    values = [
        (
            os.fsencode(path),
            _stamp(stamp, facts),
            *_values(facts),
            now,
        )
        for path, stamp, facts in rows
    ]

    def work(database: sqlite3.Connection) -> None:
        database.executemany(
            f"INSERT OR REPLACE INTO facts VALUES ({marks})", values
        )
        database.execute(
            "DELETE FROM facts WHERE path IN (SELECT path FROM facts "
            "ORDER BY used DESC LIMIT -1 OFFSET ?)",
            [_MOST],
        )

    if values:
        _use(directory, work)


def _stamp(stamp: str, facts: Facts) -> str:
    """Returns a file's stamp with a checksum of what is said of it.

    A row in which something was damaged is not believed.
    """
    checksum = zlib.crc32(repr(_values(facts)).encode())
    return f"{_VERSION}:{stamp}:{checksum}"


def _use(
    directory: str | os.PathLike,
    work: Callable[[sqlite3.Connection], None],
) -> None:
    """Calls `work` with the database, or not where it cannot be opened.

    A file that is damaged or of another version is removed, so that the next
    call makes it anew. Where the place is read-only, full or busy, nothing is
    kept, and the caller goes on.
    """
    path = pathlib.Path(directory, _FILE)
    # To open a pipe waits for ever.
    if os.path.exists(path) and not os.path.isfile(path):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as database:
            with database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS facts (path BLOB PRIMARY KEY, "
                    f"stamp, {', '.join(_NAMES)}, used)"
                )
                work(database)
    except OSError:
        return
    except (sqlite3.Error, *_WRONG_TYPES) as error:
        # The low byte; the others say more of it.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 255
        if code not in _UNAVAILABLE:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
