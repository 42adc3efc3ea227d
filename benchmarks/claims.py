"""How often a strategy is claimed to differ from its equal.

Each strategy is trained with many seeds on one data set. Two disjoint sets of
these are drawn, thousands of times, and compared as `tlkeras compare` compares
two strategies: every claim is a false one. What the images alone would claim
stands beside it.

A solved head gives the same answers under every seed, and its equal is a
strategy that varies. Where such a head was trained, each of the others is made
its equal: in each draw as many of their answers are turned, on images drawn by
chance, as brings their mean accuracy to that of the solved head.

With --simulate answers are drawn instead of trained, so that seeds may differ
by less or more than those of one data set, and images come in groups that are
answered alike. A second table then has one side that is worse by the margin of
`compare`'s equivalence test: every 'as good' is a false one. Beside it stands
how often equals are called as good.

  python benchmarks/claims.py --data=folder:PHOTOS --backbone=MobileNet-0.25 \\
      --weights=FILE --image_size=96 --seeds=24 --budget=60
  python benchmarks/claims.py --simulate --draws=500
"""

import pathlib
import tempfile
from collections.abc import Mapping
from collections.abc import Sequence

import measuring
import numpy as np
import scipy.stats
from absl import app
from absl import flags

import tlkeras
from tlkeras.comparison import ranking
from tlkeras.comparison import significance

_DATA = flags.DEFINE_string("data", "builtin:digits", "as of tlkeras train")
_BACKBONE = flags.DEFINE_string("backbone", "MobileNetV2", "network")
_WEIGHTS = flags.DEFINE_string("weights", "imagenet", "or their file")
_SIDE = flags.DEFINE_integer("image_size", 96, "pixels")
_STRATEGIES = flags.DEFINE_list(
    "strategies", ["feature_extraction", "scratch"], "which"
)
_SEEDS = flags.DEFINE_integer("seeds", 24, "trainings of each strategy")
_BUDGET = flags.DEFINE_integer("budget", 60, "steps of each training")
_COMPARED = flags.DEFINE_list("compared", ["2", "3", "5"], "seeds each")
_DRAWS = flags.DEFINE_integer("draws", 2000, "pairs")
_SIMULATE = flags.DEFINE_bool(
    "simulate", False, "draws answers, trains nothing"
)
_WORKDIR = flags.DEFINE_string("workdir", None, "keeps the trainings")

# What is simulated: test images, how many of a group are answered alike, and
# deviations of the seeds' effects. An image's own ease and what is left to
# chance have one of 1.5 and of 1.
_IMAGES = (100, 300)
_ALIKE = (1, 5)
_EFFECTS = (0.0, 0.1, 0.3, 0.6)
_EASE = 1.5
# Of the second table: test images, margins, and which share of what is left to
# chance is common to all trainings.
_MANY_IMAGES = (300, 1000)
_MARGINS = (0.01, 0.03)
_COMMON = (0.0, 0.95)


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
                strategies=_STRATEGIES.value,
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
            name: np.stack(
                [
                    ranking.load(member, name, number).right["test"]
                    for number, member in enumerate(
                        sorted(place.glob(f"runs/{name}-seed*"))
                    )
                ]
            )
            for name in _STRATEGIES.value
        }
    _show(answers)


def _simulate() -> None:
    """Prints the tables for answers that are drawn."""
    generator = np.random.default_rng(0)
    rows = []
    for images in _IMAGES:
        for alike in _ALIKE:
            for effect in _EFFECTS:
                for size in map(int, _COMPARED.value):
                    for constant in (False, True)[: 1 + bool(effect)]:
                        rows.append(
                            _simulated(
                                generator, images, alike, effect, size, constant
                            )
                        )
    measuring.show(
        f"{_DRAWS.value} pairs a line, simulated",
        ("test images", "alike", "against", *_COLUMNS),
        rows,
        (_worst(rows),),
    )
    losses = [
        _as_good(generator, images, effect, size, constant, common, margin)
        for images in _MANY_IMAGES
        for effect in _EFFECTS[:-1]
        for size in map(int, _COMPARED.value)
        for constant in (False, True)
        for common in _COMMON
        for margin in _MARGINS
    ]
    measuring.show(
        f"A loss of the margin called as good, {_DRAWS.value} pairs a line",
        (
            "test images",
            "effect",
            "against",
            "common",
            "seeds each",
            "margin, points",
            "false claims, %",
            "equals as good, %",
        ),
        losses,
        (_worst(losses),),
    )


def _as_good(
    generator: np.random.Generator,
    images: int,
    effect: float,
    size: int,
    constant: bool,
    common: float,
    margin: float,
) -> tuple[str, ...]:
    """Returns a line of the second table.

    effect: deviation of the seeds' effects. size: seeds each. constant:
    whether the better side is the same under every seed. common: share of the
    chance's variance that all trainings have in common.
    """
    total = np.sqrt(1 + _EASE**2 + effect**2)
    best = float(scipy.stats.norm.cdf(1 / total))
    claims = []
    for loss in (margin, 0.0):
        worse = scipy.stats.norm.ppf(best - loss) * total
        found = 0
        for _ in range(_DRAWS.value):
            ease = _EASE * generator.standard_normal(images)
            ease = ease + np.sqrt(common) * generator.standard_normal(images)
            seeds = effect * generator.standard_normal((2 * size, 1))
            chance = generator.standard_normal((2 * size, images))
            answers = ease + seeds + np.sqrt(1 - common) * chance
            one, other = answers[:size] + 1 > 0, answers[size:] + worse > 0
            if constant:
                still = scipy.stats.norm.ppf(best) * np.sqrt(1 + _EASE**2)
                one[:] = ease + np.sqrt(1 - common) * chance[0] + still > 0
            found += (
                significance.p_worse(one, other, margin=margin)
                < ranking.CLAIMED
            )
        claims.append(100 * found / _DRAWS.value)
    return (
        str(images),
        f"{effect:g}",
        "a constant" if constant else "itself",
        f"{common:g}",
        str(size),
        f"{100 * margin:g}",
        *(f"{share:.1f}" for share in claims),
    )


def _simulated(
    generator: np.random.Generator,
    images: int,
    alike: int,
    effect: float,
    size: int,
    constant: bool,
) -> tuple[str, ...]:
    """Returns a line of the table.

    alike: images of a group, which have one answer. effect: deviation of the
    seeds' effects. size: seeds each. constant: whether one side is the same
    under every seed, and as good on average as the other.
    """
    count = images // alike
    groups = np.repeat(np.arange(count), alike)
    # Seeds' effects bend the accuracy down; without them the ease does.
    total = 1 + _EASE**2
    mean = np.sqrt(total / (total + effect**2))
    claims, accuracies = [], []
    for _ in range(_DRAWS.value):
        ease = 1 + _EASE * generator.standard_normal(count)
        seeds = effect * generator.standard_normal((2 * size, 1))
        chance = generator.standard_normal((2 * size, count))
        right = ease + seeds + chance > 0
        if constant:
            right[:size] = ease - 1 + mean + chance[0] > 0
        right = np.repeat(right, alike, axis=1)
        accuracies.append(right[size:].mean(1))
        claims.append(_claimed(right[:size], right[size:], groups))
    both, alone = np.mean(claims, axis=0)
    spread = np.std(accuracies, axis=1, ddof=1)
    return (
        str(images),
        str(alike),
        "a constant" if constant else "itself",
        f"{100 * np.mean(accuracies):.1f}",
        f"{100 * np.sqrt(np.square(spread).mean()):.1f}",
        str(size),
        f"{100 * both:.1f}",
        f"{100 * alone:.1f}",
    )


def _worst(rows: Sequence[Sequence[str]]) -> str:
    shares = [float(row[-2]) for row in rows]
    return (
        f"The worst line claims falsely in {max(shares):.1f} of 100, all "
        f"together in {np.mean(shares):.1f}."
    )


def _show(answers: Mapping[str, np.ndarray]) -> None:
    rows = []
    constants = [
        name for name, right in answers.items() if (right == right[0]).all()
    ]
    for name, right in answers.items():
        for against in ("itself", *constants):
            if name in constants:
                # It cannot differ from itself, and two constants claim nothing.
                continue
            for size in map(int, _COMPARED.value):
                both, images = _claims(right, answers.get(against), size)
                rows.append(
                    (
                        name,
                        against,
                        f"{100 * right.mean():.1f}",
                        f"{100 * right.mean(1).std(ddof=1):.1f}",
                        str(size),
                        f"{100 * both:.1f}",
                        f"{100 * images:.1f}",
                    )
                )
    count = next(iter(answers.values())).shape[1]
    measuring.show(
        f"{_SEEDS.value} trainings of each strategy, {count} test images, "
        f"{_DRAWS.value} pairs a line",
        ("strategy", "against", *_COLUMNS),
        rows,
        (
            "The two sides of a pair share no seed; pairs do, so the shares "
            "are less certain than so many draws suggest.",
            _worst(rows),
        ),
    )


def _claims(
    right: np.ndarray, constant: np.ndarray | None, size: int
) -> tuple[float, float]:
    """Returns the shares of claims: by both tests, and by images alone.

    constant: the answers of a strategy that does not vary, None to compare
    `right` [seeds, images] with itself.
    """
    generator = np.random.default_rng(0)
    claims = []
    for _ in range(_DRAWS.value):
        drawn = generator.permutation(len(right))[: 2 * size]
        one, other = right[drawn[:size]], right[drawn[size:]]
        if constant is not None:
            one = constant[:size]
            other = _turned(other, constant[0].mean() - right.mean(), generator)
        claims.append(_claimed(one, other, np.arange(right.shape[1])))
    return tuple(np.mean(claims, axis=0))


def _turned(
    right: np.ndarray, points: float, generator: np.random.Generator
) -> np.ndarray:
    """Returns `right` [seeds, images] with a mean that is `points` higher.

    The answers of the same images are turned under every seed.
    """
    wrong = points < 0
    share = abs(points) / (right.mean() if wrong else 1 - right.mean())
    images = generator.random(right.shape[1]) < share
    return np.where(images, not wrong, right)


def _claimed(
    one: np.ndarray, other: np.ndarray, groups: np.ndarray
) -> tuple[bool, bool]:
    """Tells whether both tests claim a difference, and the images alone."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    limit = ranking.CLAIMED
    alone = np.arange(one.shape[1])
    return (
        # The second test takes longer, and seldom matters.
        significance.p_seeds(one, other, groups) < limit
        and significance.p_images(one, other, groups, draws=500) < limit,
        significance.p_images(one, other, alone, draws=200) < limit,
    )


if __name__ == "__main__":
    app.run(main)
