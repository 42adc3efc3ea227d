"""Pictures with the maps of a model on them, as files and as a page."""

import io
import os
import pathlib
import re
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

from tlkeras import files
from tlkeras.report import templates
from tlkeras.scoring import explaining

PAGE = "index.html"
_HEADER = ("path", "label", "score", "explained_label", "picture")
# How many pictures the page holds itself.
_SHOWN = 200
# Side of a picture on a page at most [pixels].
_SIDE = 192


def write(
    directory: str | os.PathLike,
    explanations: Iterable[explaining.Explanation],
    paths: Sequence[str],
    *,
    model: str,
) -> int:
    """Writes pictures, explained.csv and a page; returns how many pictures.

    Whole or not at all. paths: of the images by
    the index of an explanation. model: what the page is headed with.
    """
    rows: list[tuple[str, str, float, str, str]] = []
    shown: list[dict[str, Any]] = []
    method, places = "", ""
    with files.replacing(directory) as temporary:
        temporary.mkdir()
        for each in explanations:
            path = paths[each.index]
            name = f"{each.index + 1:04}-{_stem(path)}.png"
            picture = pair(each.square, each.values)
            picture.save(temporary / name)
            rows.append((path, each.label, each.score, each.explained, name))
            method = each.method
            places = " × ".join(map(str, each.values.shape))
            if len(shown) < _SHOWN:
                shown.append(
                    {
                        "path": path,
                        "label": each.label,
                        "score": each.score,
                        "explained": each.explained,
                        "jpeg": jpeg(picture, 2 * _SIDE),
                    }
                )
        files.write_csv(temporary / "explained.csv", _HEADER, rows)
        text = templates.load("explained.html").render(
            model=model,
            images=len(rows),
            shown=shown,
            method=method,
            places=places,
        )
        files.write_text(temporary / PAGE, templates.writable(text))
    return len(rows)


def pair(square: np.ndarray, *maps: np.ndarray) -> PIL.Image.Image:
    """Returns a picture [s, s, 3], and beside it one for each map [h, w]."""
    drawn = [explaining.overlay(square, values) for values in maps]
    return PIL.Image.fromarray(np.concatenate([square, *drawn], axis=1))


def jpeg(picture: PIL.Image.Image, width: int) -> bytes:
    """Returns a picture as a JPEG file of at most `width` pixels."""
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def _stem(path: str) -> str:
    """Returns the name of a file as a part of that of another."""
    stem = pathlib.Path(path).stem.encode("utf-8", "replace").decode()
    return re.sub(r"[^\w.-]+", "-", stem)[:60]
