"""How often a way is claimed to differ from itself under other seeds.

Each way is trained with many seeds on one data set. Two disjoint groups of
these are drawn, thousands of times, and compared as `tlkeras compare` compares
two ways: every claim is a false one. What the images alone would claim stands
beside it.

  python benchmarks/claims.py --data=folder:PHOTOS --backbone=MobileNet-0.25 \\
      --weights=FILE --image_size=96 --seeds=24 --budget=60
"""

import csv
import pathlib
import tempfile
from collections.abc import Mapping
from collections.abc import Sequence

import measuring
import numpy as np
from absl import app
from absl import flags

import tlkeras
from tlkeras import paired

_DATA = flags.DEFINE_string("data", "builtin:digits", "as of tlkeras train")
_BACKBONE = flags.DEFINE_string("backbone", None, "network", required=True)
_WEIGHTS = flags.DEFINE_string("weights", None, "their file", required=True)
_SIDE = flags.DEFINE_integer("image_size", 96, "pixels")
_WAYS = flags.DEFINE_list("ways", ["feature_extraction", "scratch"], "which")
_SEEDS = flags.DEFINE_integer("seeds", 24, "trainings of each way")
_BUDGET = flags.DEFINE_integer("budget", 60, "steps of each training")
_GROUPS = flags.DEFINE_list("groups", ["2", "3", "5"], "seeds compared")
_DRAWS = flags.DEFINE_integer("draws", 2000, "pairs of groups")
_WORKDIR = flags.DEFINE_string("workdir", None, "keeps the trainings")

# As `tlkeras compare` has it.
_CLAIMED = 0.05


def main(arguments: list[str]) -> None:
    """Trains, draws and prints the table."""
    del arguments
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(_WORKDIR.value or pathlib.Path(folder, "claims"))
        if not (place / "compare.json").exists():
            tlkeras.compare(
                _DATA.value,
                strategies=_WAYS.value,
                seeds=_SEEDS.value,
                budget=_BUDGET.value,
                workdir=place,
                # Beside it, so that one that was stopped finds it again.
                cache_dir=str(place.with_name(f"{place.name}-cache")),
                backbone=_BACKBONE.value,
                weights=_WEIGHTS.value,
                image_size=_SIDE.value,
            )
        answers = {way: _answers(place, way) for way in _WAYS.value}
    _show(answers)


def _answers(place: pathlib.Path, way: str) -> np.ndarray:
    """Returns whether each test image was answered right [seeds, images]."""
    found = []
    for member in sorted(place.glob(f"members/{way}-seed*")):
        with (member / "predictions.csv").open(newline="") as stream:
            found.append(
                [
                    row["label"] == row["true_label"]
                    for row in csv.DictReader(stream)
                    if row["split"] == "test"
                ]
            )
    return np.array(found)


def _show(answers: Mapping[str, np.ndarray]) -> None:
    rows = []
    for way, right in answers.items():
        for size in map(int, _GROUPS.value):
            both, images = _claims(right, size)
            rows.append(
                (
                    way,
                    f"{100 * right.mean():.1f}",
                    f"{100 * right.mean(1).std(ddof=1):.1f}",
                    str(size),
                    f"{100 * both:.1f}",
                    f"{100 * images:.1f}",
                )
            )
    count = next(iter(answers.values())).shape[1]
    measuring.show(
        f"{_SEEDS.value} trainings of each way, {count} test images, "
        f"{_DRAWS.value} pairs of groups",
        (
            "way",
            "accuracy, %",
            "its deviation",
            "seeds each",
            "false claims, %",
            "by images alone, %",
        ),
        rows,
        (
            "The groups of a pair share no seed; pairs do, so the shares are "
            "less certain than so many draws suggest.",
        ),
    )


def _claims(right: np.ndarray, size: int) -> tuple[float, float]:
    """Returns the shares of claims: by both tests, and by images alone."""
    generator = np.random.default_rng(0)
    claims: list[Sequence[bool]] = []
    for _ in range(_DRAWS.value):
        drawn = generator.permutation(len(right))[: 2 * size]
        found = paired.compare(
            right[drawn[:size]], right[drawn[size:]], draws=1000
        )
        claims.append((found.p < _CLAIMED, found.p_images < _CLAIMED))
    return tuple(np.mean(claims, axis=0))


if __name__ == "__main__":
    app.run(main)
