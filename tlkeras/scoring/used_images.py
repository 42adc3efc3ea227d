"""Which pictures a run has used, and for what.

A picture is known by its pixels, whatever its file is called and wherever it
stands; and by its thumbnail, where it was saved anew, resized, cropped or
turned.
"""

import csv
import dataclasses
import io
import os
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from tlkeras import errors
from tlkeras import files
from tlkeras import records
from tlkeras.data import dataset as datasets
from tlkeras.data import scan as scans

_FILE = "images.csv"
# The thumbnails of pictures that a model has learned from, or was chosen by:
# 1 kB each; none where there are more of them.
_THUMBNAILS = "thumbnails.npy"
_MOST = 50_000
_HEADER = ("path", "label", "split", "pixels", "learned")
# The last column came later: without it a model learned from its training
# split alone.
_EARLIER = _HEADER[:-1]
# Of equal pictures in several given splits the first counts: what was learned
# from is known, whatever else was done with it.
_ORDER = ("train", "validation", "test", "unused")


@dataclasses.dataclass(frozen=True)
class UsedImages:
    """The pictures of a run.

    splits: train, validation, test or unused, by the hash of the pixels.
    paths: the same by the image's path. learned: the hashes of those that
    taught the model. thumbnails: of those and of validation [n, 32, 32].
    """

    splits: Mapping[str, str]
    paths: Mapping[str, str]
    learned: frozenset[str]
    thumbnails: np.ndarray

    def known(self, pixels: str) -> bool:
        """Tells whether a picture taught the model, or chose its epochs."""
        chose = self.splits.get(pixels) == "validation"
        return chose or pixels in self.learned


def learned_splits(final: records.FinalFit | None) -> tuple[str, ...]:
    """Returns the splits that the delivered model has learned from."""
    return ("train",) if final is None or final.kept else final.splits


def write(
    directory: pathlib.Path, data: datasets.Dataset, learned: Sequence[str]
) -> None:
    """Writes which image of `data` stood in which split.

    learned: the splits that the model has learned from.
    """
    rows = zip(
        data.paths,
        (data.labels[target] for target in data.targets),
        data.splits,
        data.hashes,
        ("yes" if split in learned else "no" for split in data.splits),
        strict=True,
    )
    files.write_csv(directory / _FILE, _HEADER, rows)
    known = np.isin(data.splits, [*learned, "validation"])
    thumbnails = data.thumbnails[known if known.sum() <= _MOST else []]
    content = io.BytesIO()
    np.save(content, thumbnails, allow_pickle=False)
    files.write_bytes(directory / _THUMBNAILS, content.getvalue())


def read(model: str | os.PathLike) -> UsedImages | None:
    """Returns the pictures of the run that `model` is from.

    model: the directory of a run, or its model.keras; None where the list is
    not beside it. Raises `UserError` where the list is damaged.
    """
    path = files.expand(model)
    path = (path if path.is_dir() else path.parent) / _FILE
    if not path.exists():
        return None
    try:
        text = files.read(path).decode("utf-8", "surrogateescape")
        rows = [
            [files.cell_text(cell) for cell in row]
            for row in csv.reader(io.StringIO(text, newline=""))
        ]
    except (OSError, csv.Error):
        rows = []
    header = tuple(rows[0]) if rows else ()
    known = all(
        len(row) == len(header) and row[2] in _ORDER for row in rows[1:]
    )
    if not known or header not in (_HEADER, _EARLIER):
        raise errors.UserError(
            f"{path} is damaged: it must hold the columns "
            f"{', '.join(_HEADER)}. Without it the model works, but which "
            "images it has seen is not known: remove it to go on."
        )
    splits: dict[str, str] = {}
    for row in sorted(rows[1:], key=lambda row: _ORDER.index(row[2])):
        splits.setdefault(row[3], row[2])
    learned = [
        row
        for row in rows[1:]
        if (row[2] == "train" if header == _EARLIER else row[4] == "yes")
    ]
    return UsedImages(
        splits,
        {row[0]: row[2] for row in rows[1:]},
        frozenset(row[3] for row in learned),
        _read_thumbnails(path.with_name(_THUMBNAILS)),
    )


def _read_thumbnails(path: pathlib.Path) -> np.ndarray:
    """Returns thumbnails [n, 32, 32], none where an earlier run kept none."""
    shape = (scans.THUMBNAIL, scans.THUMBNAIL)
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        found = None
    if found is None or found.shape[1:] != shape or found.dtype != np.uint8:
        return np.zeros([0, *shape], np.uint8)
    return found
