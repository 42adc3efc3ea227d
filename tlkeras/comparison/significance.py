"""Whether two classifiers differ, judged on the same images.

Answers are tables [seeds, images] of right (1) and wrong (0). A difference is
claimed only where two tests agree, because they look at different chances:
which images are in the test split, and which seed a training had.
"""

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np
import scipy.optimize
import scipy.stats

from tlkeras.scoring import intervals

# Draws at a time [numbers in memory].
_BLOCK = 20_000_000


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How much better one is than the other, and whether that is more than
    chance.

    difference: of the mean accuracies, in [-1, 1]; low, high: its 95 %
      interval over images and seeds together. wins, losses: images, or groups
      of them, on which one was right more often, or less often. p_images:
      probability of as large a difference by exchanging them image by image,
      or group by group (McNemar's test for one seed). p_seeds: by a t-test
      over the seeds; None for one seed.
    """

    difference: float
    low: float
    high: float
    wins: int
    losses: int
    p_images: float
    p_seeds: float | None

    @property
    def p(self) -> float:
        """The larger of both, which is what a claim stands on.

        1 for one seed: the images alone tell two trained models apart, but not
        two strategies. Where seeds move the accuracy of 300 images by 6 points,
        they find a difference between a strategy and itself in 52 of 100 cases,
        and both tests together in 5 (simulated, three seeds; see
        benchmarks/claims.md).
        """
        if self.p_seeds is None:
            return 1.0
        return max(self.p_images, self.p_seeds)


def compare(
    one: np.ndarray,
    other: np.ndarray,
    *,
    groups: Sequence[str] | np.ndarray | None = None,
    draws: int = 10_000,
) -> Comparison:
    """Returns how `one` stands against `other`, both [seeds, images] of 0, 1.

    Seeds are not paired, images are. groups: a name of each image [images],
    equal for those that belong together, which are then one observation; None
    where each stands alone. draws: of each random test.

    Raises ValueError where the tables are not over the same images.
    """
    one = np.atleast_2d(np.asarray(one, np.float64))
    other = np.atleast_2d(np.asarray(other, np.float64))
    if one.shape[1] != other.shape[1] or not one.size or not other.size:
        raise ValueError(
            "`one` and `other` must be [seeds, images] over the same images. "
            f"Received: {one.shape} and {other.shape}."
        )
    numbers = np.arange(one.shape[1])
    if groups is not None:
        numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    by_group = _by_group(one, other, numbers)
    low, high = _interval(one, other, numbers, draws)
    return Comparison(
        difference=float(one.mean() - other.mean()),
        low=low,
        high=high,
        wins=int((by_group > 0).sum()),
        losses=int((by_group < 0).sum()),
        p_images=p_images(one, other, numbers, draws=draws),
        p_seeds=p_seeds(one, other, numbers),
    )


def _by_group(
    one: np.ndarray, other: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Returns how many more right answers `one` has in each group."""
    differences = np.bincount(groups, one.mean(0) - other.mean(0))
    # Thirds that add up to nothing.
    differences[np.abs(differences) < 1e-9] = 0
    return differences


def p_worse(
    one: np.ndarray,
    other: np.ndarray,
    *,
    margin: float,
    groups: Sequence[str] | np.ndarray | None = None,
) -> float:
    """Returns the p of `other` being worse than `one` by `margin` or more.

    Of the two one-sided tests of equivalence (Schuirmann, 1987, A comparison of
    the two one-sided tests procedure and the power approach) the one that
    guards against a loss: that `other` may be better by more is no harm. One
    minus it is not the chance of being as good.

    one, other, groups: as of `compare`. margin: in (0, 1].

    Images and seeds both have their say, by variances that add up. To that
    over images comes what a loss of `margin` would bring with it: few answers
    that differ would else prove too much (the score test of Tango, 1998,
    Equivalence test and confidence interval for the difference in proportions
    for the paired-sample design, does so exactly). Where no answer differs, p
    is the chance that none does. 1 for one seed, of which nobody knows what
    another would do.
    """
    one = np.atleast_2d(np.asarray(one, np.float64))
    other = np.atleast_2d(np.asarray(other, np.float64))
    numbers = np.arange(one.shape[1])
    if groups is not None:
        numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    room = margin - float(one.mean() - other.mean())
    if min(len(one), len(other)) < 2 or room <= 0 or numbers.max() < 1:
        return 1.0
    differences = one.mean(0) - other.mean(0)
    count = int(numbers.max()) + 1
    if not differences.any():
        return float((1 - margin) ** count)
    over_images, degrees = _over_images(differences, numbers)
    parts = [(over_images + margin * (1 - margin) / count, degrees)]
    varying = [side for side in (one, other) if (side != side[0]).any()]
    if varying:
        parts.append(_over_seeds(*varying))
    return _added(room, parts) / 2


def holm(values: list[float]) -> list[float]:
    """Returns p-values corrected for being several (Holm, 1979)."""
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    corrected = np.minimum(1, np.asarray(values)[order] * factors)
    result = np.empty(len(values))
    result[order] = np.maximum.accumulate(corrected)
    return result.tolist()


def p_images(
    one: np.ndarray, other: np.ndarray, groups: np.ndarray, *, draws: int
) -> float:
    """Returns the two-sided p of the difference under exchanged answers.

    groups: numbers from 0 on [images]; those of a group are exchanged
    together. Where all differences have one size, as with one seed and no
    groups, that is McNemar's exact test.
    """
    differences = _by_group(one, other, groups)
    differing = differences[differences != 0]
    if not differing.size:
        return 1.0
    sizes = np.abs(differing)
    if np.ptp(sizes) < 1e-12:
        wins = int((differing > 0).sum())
        return float(scipy.stats.binomtest(wins, differing.size).pvalue)
    generator = np.random.default_rng(0)
    observed = abs(differing.sum()) - 1e-9
    block = max(1, _BLOCK // differing.size)
    extreme = 0
    for start in range(0, draws, block):
        count = min(block, draws - start)
        signs = generator.integers(0, 2, (count, differing.size)) * 2 - 1
        extreme += int((np.abs(signs @ sizes) >= observed).sum())
    # The observed one is a draw, too, so that p is never 0.
    return (extreme + 1) / (draws + 1)


def p_seeds(
    one: np.ndarray, other: np.ndarray, groups: np.ndarray
) -> float | None:
    """Returns the p of a t-test on the seeds' accuracies (Student, 1908).

    Not Welch's: with two or three seeds its degrees of freedom fall to one or
    two, and 19 points are no difference then. With as many seeds on both sides
    Student's stands unequal variances, but not a side that does not vary at
    all, as a solved head: with 2k - 2 degrees of freedom for k seeds it claims
    falsely in up to 14 of 100 cases. Such a side enters as a constant.
    """
    if min(len(one), len(other)) < 2:
        return None
    first, second = one.mean(1), other.mean(1)
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        # Nothing varies, so nothing tells what seeds would do.
        return 1.0
    for constant, varying in ((one, other), (other, one)):
        if (constant == constant[0]).all():
            return _from_constant(constant[0], varying, groups)
    with warnings.catch_warnings():
        # It warns where all seeds of one came to the same, which is no fault.
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(scipy.stats.ttest_ind(first, second).pvalue)


def _from_constant(
    constant: np.ndarray, varying: np.ndarray, groups: np.ndarray
) -> float:
    """Returns the p of a difference from answers that no seed changes.

    constant: [images]. varying: [seeds, images].

    What a constant owes to the test images no seed shows: a t-test of the
    seeds against its accuracy claims falsely in up to 24 of 100 cases, and in
    up to 11 where the images must claim, too. So the variances over images and
    over seeds add up, each by its own quantile, which never claims more often
    than it says (Banerjee, 1960, Sankhya 22, 357: Approximate confidence
    interval for linear functions of means).
    """
    difference = constant - varying.mean(0)
    if groups.max() < 1:
        return 1.0
    return _added(
        difference.mean(),
        [_over_images(difference, groups), _over_seeds(varying)],
    )


def _over_images(
    difference: np.ndarray, groups: np.ndarray
) -> tuple[float, int]:
    """Returns the variance of the mean over images, and its degrees."""
    return intervals.variance_of_mean(difference, groups), int(groups.max())


def _over_seeds(*sides: np.ndarray) -> tuple[float, int]:
    """Returns the variance over seeds of all sides together, and its degrees.

    sides: [seeds, images]; the degrees are Student's.
    """
    variance = sum(side.mean(1).var(ddof=1) / len(side) for side in sides)
    return float(variance), sum(len(side) - 1 for side in sides)


def _added(distance: float, parts: Sequence[tuple[float, int]]) -> float:
    """Returns the two-sided p of a distance whose variances add up.

    parts: a variance and its degrees of freedom, each.
    """
    variances, degrees = zip(*parts, strict=True)

    def left_over(p: float) -> float:
        quantiles = scipy.stats.t.isf(p / 2, degrees)
        return float(np.square(quantiles) @ variances - distance**2)

    least = 1e-12
    if left_over(least) <= 0:
        return least
    return float(scipy.optimize.brentq(left_over, least, 1.0))


def _interval(
    one: np.ndarray, other: np.ndarray, groups: np.ndarray, draws: int
) -> tuple[float, float]:
    """Returns the 95 % interval of the difference, by bootstrap.

    groups: a number of each image [images]. Each draw takes groups, and of
    each classifier seeds, with replacement.
    """
    generator = np.random.default_rng(0)
    sizes = np.bincount(groups)
    count = len(sizes)
    # The right answers of each seed, by group.
    tables = [
        np.stack([np.bincount(groups, seed) for seed in table])
        for table in (one, other)
    ]
    differences = np.empty(draws)
    block = max(1, _BLOCK // count)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        # How often each group and each seed is drawn.
        often = generator.multinomial(count, np.full(count, 1 / count), size)
        totals = []
        for table in tables:
            seeds = generator.multinomial(
                len(table), np.full(len(table), 1 / len(table)), size
            )
            totals.append(((seeds @ table) * often).sum(1) / len(table))
        differences[start : start + size] = (totals[0] - totals[1]) / (
            often @ sizes
        )
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)
