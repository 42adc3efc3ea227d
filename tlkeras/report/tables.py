"""Tables in letters, no wider than the terminal."""

import shutil
import sys
import textwrap
from collections.abc import Iterable
from collections.abc import Sequence

from rich import cells as rich_cells

from tlkeras import errors

_GAP = "  "
_INDENT = "    "


def show(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> None:
    """Prints a table; where the output is no terminal it is as wide as it is.

    right, drop: as for `lines`.
    """
    columns = None
    if sys.stdout.isatty():
        columns = shutil.get_terminal_size().columns
    for line in lines(header, rows, right=right, drop=drop, columns=columns):
        print(line)


def lines(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    drop: Sequence[str] = (),
    columns: int | None = None,
) -> list[str]:
    """Returns the lines of a table that is at most `columns` wide.

    right: columns that are aligned to the right. drop: columns that are left
    out, in this order, where it is too wide. Where it still is, columns stand
    below their row with their names, the last ones first, those in `right`
    after all others. No word is cut, so that a single one may be wider.

    Example:
        >>> from tlkeras.report import tables
        >>> rows = [("first", "87.5 %", "the best of all"), ("second", "9 %")]
        >>> for line in tables.lines(
        ...     ("run", "accuracy", "verdict"),
        ...     [rows[0], (*rows[1], "")],
        ...     right=["accuracy"],
        ...     columns=24,
        ... ):
        ...     print(line)
        run     accuracy
        first     87.5 %
            verdict: the best of
            all
        second       9 %
    """
    texts = [[errors.printable(str(cell)) for cell in row] for row in rows]
    table = [list(header), *texts]
    widths = [
        max(map(rich_cells.cell_len, column))
        for column in zip(*table, strict=True)
    ]
    kept = list(range(len(header)))
    below: list[int] = []

    def too_wide() -> bool:
        wide = sum(widths[each] + len(_GAP) for each in kept) - len(_GAP)
        return columns is not None and wide > columns

    for name in drop:
        if too_wide():
            kept.remove(header.index(name))
    backwards = kept[:0:-1]
    for aligned in (False, True):
        for each in backwards:
            if too_wide() and (header[each] in right) == aligned:
                kept.remove(each)
                below.insert(0, each)
    found = []
    for number, row in enumerate(table):
        found.append(
            _GAP.join(
                _padded(row[each], widths[each], header[each] in right)
                for each in kept
            ).rstrip()
        )
        more = [
            f"{header[each]}: {row[each]}" if header[each] else row[each]
            for each in below
            if row[each]
        ]
        if number and more:
            found += textwrap.wrap(
                "; ".join(more),
                columns or sys.maxsize,
                initial_indent=_INDENT,
                subsequent_indent=_INDENT,
                break_long_words=False,
                break_on_hyphens=False,
            )
    return found


def _padded(text: str, width: int, right: bool) -> str:
    blanks = " " * (width - rich_cells.cell_len(text))
    return blanks + text if right else text + blanks
