"""Every way on many data sets and sizes, with the evidence beside each cell.

A cell is a data set, a number of training images, a base and a seed. The seed
draws the images to learn from, a quarter of them for validation, and is that of
the training; all other images are test images. Each way gets the same steps.
One line a result goes to a CSV file at once; what stands there already is not
run again, so it may be stopped and started.

  python benchmarks/grid.py --output=benchmarks/grid.csv \\
      --data=hymenoptera=folder:PHOTOS --data=digits=builtin:digits \\
      --bases=MobileNetV2-0.35=FILE
"""

import csv
import dataclasses
import datetime
import pathlib
import platform
import tempfile
import time
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import keras
import measuring
import numpy as np
import sklearn.model_selection
import tensorflow as tf
from absl import app
from absl import flags

import tlkeras
from tlkeras.advisor import evidence as evidences
from tlkeras.data import sources
from tlkeras.settings import strategies

_DATA = flags.DEFINE_multi_string(
    "data", ["digits=builtin:digits"], "NAME=SOURCE, several times"
)
_BASES = flags.DEFINE_multi_string(
    "bases", None, "BACKBONE=WEIGHTS, several times", required=True
)
_SIZES = flags.DEFINE_list(
    "sizes", ["50", "100", "250", "1000", "all"], "training images"
)
_WAYS = flags.DEFINE_list("ways", list(strategies.NAMES), "which to train")
_SEEDS = flags.DEFINE_integer("seeds", 3, "of each cell")
_STEPS = flags.DEFINE_integer("steps", 200, "of each way")
# The distance to the source depends on it: below 160 photographs look strange.
_SIDE = flags.DEFINE_integer("image_size", 160, "pixels")
_OUTPUT = flags.DEFINE_string("output", "grid.csv", "one line a result")

_VALIDATION = 0.25
# Of all images, for testing, where the training size is `all`.
_TEST = 0.25
_FIRST = ("data", "size", "base", "way", "seed")
_RESULT = (
    "images",
    "classes",
    "test_images",
    "accuracy",
    "validation_accuracy",
    "balanced_accuracy",
    "cross_entropy",
    "majority",
    "seconds",
    "epochs",
    "rolled_back",
)
_WHERE = ("date", "machine", "versions")


@dataclasses.dataclass(frozen=True)
class Cell:
    """A data set, a number of training images (or `all`), a base, a seed."""

    data: str
    size: str
    base: str
    seed: int


def main(arguments: list[str]) -> None:
    """Runs what the CSV file lacks."""
    del arguments
    data = dict(each.split("=", 1) for each in _DATA.value)
    bases = dict(each.split("=", 1) for each in _BASES.value)
    output = pathlib.Path(_OUTPUT.value)
    done = _done(output)
    cells = list(_cells(data, bases))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        files = {name: _files(data[name], place / name) for name in data}
        for number, cell in enumerate(cells):
            missing = [
                way
                for way in _WAYS.value
                if (
                    *map(str, dataclasses.astuple(cell)[:3]),
                    way,
                    str(cell.seed),
                )
                not in done
            ]
            if not missing:
                continue
            table = _split(files[cell.data], cell, place / "images.csv")
            if table is None:
                continue
            weights = bases[cell.base]
            evidence = _evidence(cell, weights, table, place)
            for result in _results(cell, missing, weights, table, place):
                row = {**result, **evidence, **_circumstances()}
                _append(output, {**dataclasses.asdict(cell), **row})
            passed = time.perf_counter() - began
            measuring.say(
                f"cell {number + 1} of {len(cells)} done: {cell}, "
                f"{passed / 60:.0f} min"
            )


def _cells(data: Mapping[str, str], bases: Mapping[str, str]) -> Iterator[Cell]:
    # Seeds last, so that all data sets are there before any is complete.
    for seed in range(_SEEDS.value):
        for size in _SIZES.value:
            for name in data:
                for base in bases:
                    yield Cell(name, size, base, seed)


def _done(output: pathlib.Path) -> set[tuple[str, ...]]:
    if not output.exists():
        return set()
    with output.open(newline="") as stream:
        return {
            tuple(row[name] for name in _FIRST)
            for row in csv.DictReader(stream)
        }


def _append(output: pathlib.Path, row: Mapping[str, Any]) -> None:
    new = not output.exists()
    columns = [*_FIRST, *_RESULT, *_WHERE]
    columns += [name for name in row if name.startswith("evidence_")]
    with output.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def _files(name: str, folder: pathlib.Path) -> list[tuple[str, str]]:
    """Returns (path, label) of all images; writes those that are no files."""
    source = sources.open(sources.absolute(name), progress=measuring.QUIET)
    if name.partition(":")[0] in ("folder", "csv"):
        return [(each.path, each.label) for each in source.examples]
    rows = []
    folder.mkdir()
    for index, example in enumerate(source.examples):
        path = folder / f"{index}.png"
        path.write_bytes(source.read(index))
        rows.append((str(path), example.label))
    return rows


def _split(
    files: list[tuple[str, str]], cell: Cell, table: pathlib.Path
) -> pathlib.Path | None:
    """Writes the cell's images as a CSV source; None if there are too few.

    Classes keep their shares.
    """
    labels = [label for _, label in files]
    order = np.arange(len(files))
    count = round((1 - _TEST) * len(files))
    if cell.size != "all":
        # A size that is nearly all there is would be no cell of its own.
        if int(cell.size) > 0.9 * count:
            return None
        count = int(cell.size)
    known, test = sklearn.model_selection.train_test_split(
        order, train_size=count, stratify=labels, random_state=cell.seed
    )
    train, validation = sklearn.model_selection.train_test_split(
        known,
        test_size=_VALIDATION,
        stratify=[labels[each] for each in known],
        random_state=cell.seed,
    )
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "split"))
        for split, rows in (
            ("train", train),
            ("validation", validation),
            ("test", test),
        ):
            writer.writerows((*files[each], split) for each in rows)
    return table


def _evidence(
    cell: Cell, weights: str, table: pathlib.Path, place: pathlib.Path
) -> dict[str, Any]:
    found = tlkeras.advise(
        f"csv:{table}",
        backbone=cell.base,
        weights=weights,
        image_size=_SIDE.value,
        cache_dir=str(place / "cache"),
        seed=cell.seed,
        quiet=True,
    ).evidence
    return {
        f"evidence_{name}": _short(value)
        for name, value in evidences.flat(found).items()
    }


def _results(
    cell: Cell,
    missing: list[str],
    weights: str,
    table: pathlib.Path,
    place: pathlib.Path,
) -> list[dict[str, Any]]:
    """Returns what each of the ways came to."""
    # One alone cannot be compared; the solved head costs next to nothing.
    more = [
        each for each in ("converged_head", "scratch") if each != missing[0]
    ]
    with tempfile.TemporaryDirectory(dir=place) as folder:
        report = tlkeras.compare(
            f"csv:{table}",
            strategies=missing if len(missing) > 1 else [*missing, more[0]],
            seeds=1,
            budget=_STEPS.value,
            workdir=pathlib.Path(folder, "compare"),
            cache_dir=str(place / "cache"),
            backbone=cell.base,
            weights=weights,
            image_size=_SIDE.value,
            seed=cell.seed,
            quiet=True,
        ).report
    images = report["data"]["images"]
    return [
        {
            "way": row["strategy"],
            "images": sum(images["train"].values()),
            "classes": len(report["data"]["classes"]),
            "test_images": row["accuracy"]["n"],
            "accuracy": _short(row["accuracy"]["value"]),
            "validation_accuracy": _short(row["validation_accuracy"]),
            "balanced_accuracy": _short(row["balanced_accuracy"]),
            "cross_entropy": _short(row["cross_entropy"]),
            "majority": _short(row["majority"]),
            "seconds": _short(row["seconds"]),
            "epochs": sum(row["epochs"]),
            "rolled_back": row["rolled_back"],
        }
        for row in report["strategies"]
        if row["strategy"] in missing
    ]


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _circumstances() -> dict[str, str]:
    return {
        "date": datetime.date.today().isoformat(),
        "machine": measuring.processor(),
        "versions": f"Python {platform.python_version()}, Keras "
        f"{keras.__version__}, TensorFlow {tf.__version__}, tlkeras "
        f"{tlkeras.__version__}",
    }


if __name__ == "__main__":
    app.run(main)
