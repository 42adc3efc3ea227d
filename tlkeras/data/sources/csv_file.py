"""`csv:PATH`: a table of paths, labels and, if wanted, splits and groups."""

import csv
import io
import os
import pathlib
import textwrap

from tlkeras import errors
from tlkeras import files
from tlkeras import progress as progresses
from tlkeras.data.sources import listing
from tlkeras.data.sources.source import SPLIT_NAMES
from tlkeras.data.sources.source import Example
from tlkeras.data.sources.source import Source
from tlkeras.data.sources.source import normal_form
from tlkeras.data.sources.source import say_ways


def open(
    place: str, *, data_dir: str = "", progress: progresses.Progress
) -> Source:
    """Returns the source of the images that the table `place` lists."""
    table = listing.path(place)
    try:
        lines = _lines(table)
    except OSError as error:
        raise errors.UserError(
            f"`data` csv:PATH must be a file that can be read. Received: "
            f"{table}: {error.strerror}."
        ) from None
    except UnicodeDecodeError:
        raise errors.UserError(
            f"`data` {table} must be CSV in UTF-8, and is something else."
        ) from None
    if not lines:
        raise errors.UserError(f"`data` {table} has a header and no row.")
    examples = _examples(table, lines)
    say_ways((_text(row, "label") for _, row in lines), progress)
    return listing.source(f"csv:{table}", examples)


def column(data: str, name: str) -> dict[str, str]:
    """Returns what a column says of each image, by its path.

    data: the source's name. Raises `UserError` where that is no table, or has
    no such column.
    """
    kind, _, place = data.partition(":")
    if kind != "csv":
        raise errors.UserError(
            f"`slices` names a column of a table, csv:PATH. Received: data = "
            f"{data}."
        )
    table = pathlib.Path(place)
    lines = _lines(table)
    names = [each for each in lines[0][1] if each is not None] if lines else []
    if name not in names:
        raise errors.UserError(
            f"`slices` must be a column of {table}: {', '.join(names)}. "
            f"Received: {name!r}.{errors.nearest(name, names)}"
        )
    return {
        str(table.parent / files.cell_text(row["path"] or "")): _text(row, name)
        for _, row in lines
    }


def _lines(table: pathlib.Path) -> list[tuple[int, dict]]:
    """Returns the rows of the table, by column, with their line numbers."""
    text = io.StringIO(files.read(table).decode("utf-8-sig"), newline="")
    reader = csv.DictReader(text, strict=True, skipinitialspace=True)
    try:
        columns = [column.strip() for column in reader.fieldnames or ()]
        _check_header(columns, table)
        reader.fieldnames = columns
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise errors.UserError(
            f"`data` {table}, line {reader.line_num + 1}, is no CSV: {error}."
        ) from None


def _check_header(columns: list[str], table: pathlib.Path) -> None:
    for column in ("path", "label", "split", "group"):
        least = 1 if column in ("path", "label") else 0
        if not least <= columns.count(column) <= 1:
            received = textwrap.shorten(", ".join(columns), 100)
            raise errors.UserError(
                f"`data` {table} must begin with a line that names the "
                "columns path and label, and split and group if wanted, each "
                f"once, with commas between. Received: {received or 'none'}."
            )


def _examples(
    table: pathlib.Path, lines: list[tuple[int, dict]]
) -> list[Example]:
    examples: dict[str, Example] = {}
    line_of: dict[str, int] = {}
    for line, row in lines:
        where = f"`data` {table}, line {line}"
        example = _example(row, table, where)
        if example.path in examples:
            raise errors.UserError(
                f"{where}: {example.path} stands in line "
                f"{line_of[example.path]} already."
            )
        examples[example.path] = example
        line_of[example.path] = line
        if bool(example.split) != bool(next(iter(examples.values())).split):
            raise errors.UserError(
                f"{where}: `split` must be filled in every row or in none."
            )
    missing = [path for path in examples if not os.path.isfile(path)]
    if missing:
        hint = "Paths are relative to the CSV file."
        if "\\" in missing[0]:
            hint += " Between folders stands /, not \\ as on Windows."
        raise errors.UserError(
            f"`data` {table} lists {errors.count(len(missing), 'file')} that "
            f"cannot be found, first {missing[0]} (line "
            f"{line_of[missing[0]]}). {hint}"
        )
    return list(examples.values())


def _text(row: dict[str | None, str | None], column: str) -> str:
    """Returns what a row says; white space may stand before an apostrophe."""
    return files.cell_text((row.get(column) or "").lstrip())


def _example(
    row: dict[str | None, str | None], table: pathlib.Path, where: str
) -> Example:
    path = files.cell_text(row["path"] or "")
    label, split, group = (
        normal_form(_text(row, column))
        for column in ("label", "split", "group")
    )
    # The fields beyond the header's stand under None.
    if not path or not label or None in row:
        raise errors.UserError(
            f"{where}: a row needs a path and a label, and no more fields "
            "than the header."
        )
    if split and split.lower() not in SPLIT_NAMES:
        raise errors.UserError(
            f"{where}: `split` must be train, validation, test or empty. "
            f"Received: {split!r}."
        )
    return Example(
        str(table.parent / path),
        label,
        SPLIT_NAMES.get(split.lower(), ""),
        group,
    )
