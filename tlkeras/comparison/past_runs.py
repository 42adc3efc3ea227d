"""The runs below a directory: a list of them, and two side by side."""

import csv
import dataclasses
import datetime
import io
import os
import pathlib
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import numpy as np

from tlkeras import errors
from tlkeras import files
from tlkeras.comparison import significance
from tlkeras.data import sources
from tlkeras.settings import config as configs


@dataclasses.dataclass(frozen=True)
class PastRun:
    """A run that somebody made.

    config: its settings. when: its report, or what it wrote last, was written.
    report: as report.json has it; None where it is not finished.
    """

    directory: pathlib.Path
    config: configs.Config
    when: datetime.datetime
    report: Mapping[str, Any] | None

    @property
    def data(self) -> str:
        """The last part of the name of its data."""
        place = sources.file_place(self.config.data)
        return os.path.basename(os.path.normpath(place)) or self.config.data

    @property
    def strategy(self) -> str:
        """The name of its strategy."""
        return self.config.strategy_phases().name

    @property
    def accuracy(self) -> float:
        """On its test images; -1 where it is not finished."""
        return self.report["test"]["accuracy"]["value"] if self.report else -1.0

    @property
    def seconds(self) -> float:
        """That it took in all; 0 where it is not finished."""
        return self.report["seconds"] if self.report else 0.0


# What a list can be ordered by: the key, and whether the largest comes first.
ORDERS: Mapping[str, tuple[Any, bool]] = {
    "when": (lambda run: run.when, True),
    "accuracy": (lambda run: run.accuracy, True),
    "seconds": (lambda run: run.seconds, False),
    "data": (lambda run: run.data, False),
    "network": (lambda run: run.config.backbone, False),
    "strategy": (lambda run: run.strategy, False),
}


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two runs side by side.

    settings: those that differ, with the value of each. compared: how the first
    stands against the second on the test images, None where these are others.
    shared: test images of both. images: test images of each.
    """

    settings: Mapping[str, tuple[Any, Any]]
    compared: significance.Comparison | None
    shared: int
    images: tuple[int, int]


def find(folder: str | os.PathLike, order: str = "when") -> list[PastRun]:
    """Returns the runs right below `folder`, in one of `ORDERS`.

    Raises `UserError` where there is no such folder.
    """
    place = files.expand(folder)
    if not place.is_dir():
        raise errors.UserError(
            f"there are no runs in {place}, which is no directory. Give the "
            "directory that holds them."
        )
    found = []
    for directory in sorted(place.iterdir()):
        if (directory / "config.toml").is_file():
            try:
                found.append(load(directory))
            except errors.UserError:
                # Something else, or of another version.
                continue
    key, largest_first = ORDERS[order]
    return sorted(found, key=key, reverse=largest_first)


def load(directory: str | os.PathLike) -> PastRun:
    """Returns the run of a directory.

    Raises `UserError` where there is none.
    """
    place = files.expand(directory)
    settings = place / "config.toml"
    comparison = any(
        (place / name).exists()
        for name in ("compare.json", "compare_settings.json")
    )
    if comparison or not settings.is_file():
        raise errors.UserError(
            f"{place} is not the directory of a run, which has a config.toml "
            "and a report.json."
        )
    report = place / "report.json"
    written = report if report.exists() else settings
    return PastRun(
        place,
        configs.build(configs.read(settings), str(settings)),
        datetime.datetime.fromtimestamp(written.stat().st_mtime),
        files.read_json(report) if report.exists() else None,
    )


def compare(one: PastRun, other: PastRun) -> Pair:
    """Returns what differs between two runs, settings and answers.

    Raises `UserError` where one of them is not finished.
    """
    for run in (one, other):
        if run.report is None:
            raise errors.UserError(
                f"{run.directory} is not finished: it has no report.json."
            )
    names = (*configs.settings(), "phases")
    values = {
        name: (getattr(one.config, name), getattr(other.config, name))
        for name in names
    }
    right, others = _right(one.directory), _right(other.directory)
    compared = None
    if right and right.keys() == others.keys():
        order = sorted(right)
        compared = significance.compare(
            np.array([right[key] for key in order]),
            np.array([others[key] for key in order]),
            # Pictures with equal pixels are one observation.
            groups=[pixels for pixels, _, _ in order],
        )
    return Pair(
        {name: each for name, each in values.items() if each[0] != each[1]},
        compared,
        len(right.keys() & others.keys()),
        (len(right), len(others)),
    )


def _right(directory: pathlib.Path) -> dict[tuple[str, str, int], bool]:
    """Returns whether each test image was answered right.

    By its pixels, its label, and which of equal ones it is, so that images that
    were moved are known again.
    """
    pixels = {
        row["path"]: row["pixels"] for row in _rows(directory / "images.csv")
    }
    found: dict[tuple[str, str, int], bool] = {}
    for row in _rows(directory / "predictions.csv"):
        if row["split"] != "test":
            continue
        content = pixels.get(row["path"], row["path"])
        number = 0
        while (content, row["true_label"], number) in found:
            number += 1
        key = (content, row["true_label"], number)
        found[key] = row["label"] == row["true_label"]
    return found


def _rows(path: pathlib.Path) -> Iterable[dict[str, str]]:
    try:
        text = files.read(path).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise errors.UserError(
            f"{path} cannot be read: {error.strerror}."
        ) from None
    return csv.DictReader(io.StringIO(text, newline=""))
