"""Images whose label is contradicted, as one page to look through."""

import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

from tlkeras.advisor import suspects as labels
from tlkeras.data import dataset as datasets
from tlkeras.report import explained
from tlkeras.report import templates

# How many are shown, and the side of their pictures at most [pixels].
_SHOWN = 100
_SIDE, _SMALL = 200, 96


def render(
    data: datasets.Dataset,
    found: Sequence[labels.Suspect],
    *,
    table: pathlib.Path,
) -> str:
    """Returns the page of `found`, first the least probable labels.

    table: the file that lists all of them, to be marked.
    """
    text = templates.load("suspects.html").render(
        title=templates.title(data.name),
        name=data.name,
        images=len(data.paths),
        count=len(found),
        shown=[_shown(data, each) for each in found[:_SHOWN]],
        table=str(table),
        command=(
            f"tlkeras check {shlex.quote(data.name)} "
            f"--marked={shlex.quote(str(table))} --fix=clean.csv"
        ),
    )
    return templates.writable(text)


def _shown(data: datasets.Dataset, suspect: labels.Suspect) -> dict[str, Any]:
    return {
        "path": templates.short(data.name, data.paths[suspect.position]),
        "label": data.labels[data.targets[suspect.position]],
        "answer": data.labels[suspect.answer],
        "own": f"{100 * suspect.own:.1f} %",
        "score": f"{100 * suspect.score:.1f} %",
        "jpeg": _pictures(data, [suspect.position], _SIDE)[0],
        "like_label": _pictures(data, suspect.like_label, _SMALL),
        "like_answer": _pictures(data, suspect.like_answer, _SMALL),
    }


def _pictures(
    data: datasets.Dataset, positions: Sequence[int], side: int
) -> list[bytes]:
    """Returns images as JPEG files of at most `side` pixels."""
    if not positions:
        return []
    squares = data.images.rows(data.rows[np.array(positions)])
    return [
        explained.jpeg(PIL.Image.fromarray(square), side) for square in squares
    ]
