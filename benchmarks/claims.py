"""How often a way is claimed to differ from itself under other seeds.

Each way is trained with many seeds on one data set. Two disjoint groups of
these are drawn, thousands of times, and compared as `tlkeras compare` compares
two ways: every claim is a false one. What the images alone would claim stands
beside it. With --simulate answers are drawn instead of trained, so that seeds
may differ by less or more than those of one data set.

  python benchmarks/claims.py --data=folder:PHOTOS --backbone=MobileNet-0.25 \\
      --weights=FILE --image_size=96 --seeds=24 --budget=60
  python benchmarks/claims.py --simulate --draws=500
"""

import pathlib
import tempfile
from collections.abc import Mapping

import measuring
import numpy as np
from absl import app
from absl import flags

import tlkeras
from tlkeras.comparison import ranking
from tlkeras.comparison import significance

_DATA = flags.DEFINE_string("data", "builtin:digits", "as of tlkeras train")
_BACKBONE = flags.DEFINE_string("backbone", "MobileNetV2", "network")
_WEIGHTS = flags.DEFINE_string("weights", "imagenet", "or their file")
_SIDE = flags.DEFINE_integer("image_size", 96, "pixels")
_WAYS = flags.DEFINE_list("ways", ["feature_extraction", "scratch"], "which")
_SEEDS = flags.DEFINE_integer("seeds", 24, "trainings of each way")
_BUDGET = flags.DEFINE_integer("budget", 60, "steps of each training")
_GROUPS = flags.DEFINE_list("groups", ["2", "3", "5"], "seeds compared")
_DRAWS = flags.DEFINE_integer("draws", 2000, "pairs of groups")
_SIMULATE = flags.DEFINE_bool(
    "simulate", False, "draws answers, trains nothing"
)
_WORKDIR = flags.DEFINE_string("workdir", None, "keeps the trainings")

# What is simulated: test images, and deviations of the seeds' effects. An
# image's own ease and what is left to chance have one of 1.5 and of 1.
_IMAGES = (100, 300)
_EFFECTS = (0.0, 0.1, 0.3, 0.6)
_EASE = 1.5


_COLUMNS = (
    "accuracy, %",
    "its deviation",
    "seeds each",
    "false claims, %",
    "by images alone, %",
)


def main(arguments: list[str]) -> None:
    """Trains, draws and prints the table."""
    del arguments
    if _SIMULATE.value:
        _simulate()
        return
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
        answers = {
            way: np.stack(
                [
                    ranking.load(member, way, number).right["test"]
                    for number, member in enumerate(
                        sorted(place.glob(f"members/{way}-seed*"))
                    )
                ]
            )
            for way in _WAYS.value
        }
    _show(answers)


def _simulate() -> None:
    """Prints the table for answers that are drawn."""
    generator = np.random.default_rng(0)
    rows = []
    for images in _IMAGES:
        for effect in _EFFECTS:
            for size in map(int, _GROUPS.value):
                claims = []
                accuracies = []
                for _ in range(_DRAWS.value):
                    ease = 1 + _EASE * generator.standard_normal(images)
                    seeds = effect * generator.standard_normal((2 * size, 1))
                    chance = generator.standard_normal((2 * size, images))
                    right = ease + seeds + chance > 0
                    accuracies.append(right.mean(1))
                    claims.append(_claimed(right[:size], right[size:]))
                both, alone = np.mean(claims, axis=0)
                spread = np.std(accuracies, axis=1, ddof=1)
                rows.append(
                    (
                        str(images),
                        f"{100 * np.mean(accuracies):.1f}",
                        f"{100 * np.sqrt(np.square(spread).mean()):.1f}",
                        str(size),
                        f"{100 * both:.1f}",
                        f"{100 * alone:.1f}",
                    )
                )
    measuring.show(
        f"{_DRAWS.value} pairs of groups, simulated",
        ("test images", *_COLUMNS),
        rows,
    )


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
        ("way", *_COLUMNS),
        rows,
        (
            "The groups of a pair share no seed; pairs do, so the shares are "
            "less certain than so many draws suggest.",
        ),
    )


def _claims(right: np.ndarray, size: int) -> tuple[float, float]:
    """Returns the shares of claims: by both tests, and by images alone."""
    generator = np.random.default_rng(0)
    claims = []
    for _ in range(_DRAWS.value):
        drawn = generator.permutation(len(right))[: 2 * size]
        claims.append(_claimed(right[drawn[:size]], right[drawn[size:]]))
    return tuple(np.mean(claims, axis=0))


def _claimed(one: np.ndarray, other: np.ndarray) -> tuple[bool, bool]:
    found = significance.compare(one, other, draws=1000)
    return found.p < ranking.CLAIMED, found.p_images < ranking.CLAIMED


if __name__ == "__main__":
    app.run(main)
