"""Whether two classifiers differ, judged on the same images.

Answers are tables [seeds, images] of right (1) and wrong (0). A difference is
claimed only where two tests agree, because they look at different chances:
which images are in the test split, and which seed a training had.
"""

import dataclasses
import warnings

import numpy as np
import scipy.stats

# Draws at a time [numbers in memory].
_BLOCK = 20_000_000


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How much better one is than the other, and whether that is more than
    chance.

    difference: of the mean accuracies, in [-1, 1]; low, high: its 95 %
      interval over images and seeds together. wins, losses: images on which
      one was right more often, or less often. p_images: probability of as
      large a difference by exchanging them image by image (McNemar's test for
      one seed). p_seeds: by exchanging the seeds' differences (t-test); None
      for one seed.
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
        two ways to train. Where seeds move the accuracy of 300 images by 6
        points, they find a difference between a way and itself in 52 of 100
        cases, and both tests together in 5 (simulated, three seeds; see
        benchmarks/claims.md).
        """
        if self.p_seeds is None:
            return 1.0
        return max(self.p_images, self.p_seeds)


def compare(
    one: np.ndarray, other: np.ndarray, *, draws: int = 10_000
) -> Comparison:
    """Returns how `one` stands against `other`, both [seeds, images] of 0, 1.

    Seeds are not paired, images are. draws: of each random test.

    Raises ValueError where the tables are not over the same images.
    """
    one = np.atleast_2d(np.asarray(one, np.float64))
    other = np.atleast_2d(np.asarray(other, np.float64))
    if one.shape[1] != other.shape[1] or not one.size or not other.size:
        raise ValueError(
            "`one` and `other` must be [seeds, images] over the same images. "
            f"Received: {one.shape} and {other.shape}."
        )
    each = one.mean(0) - other.mean(0)
    low, high = _interval(one, other, draws)
    return Comparison(
        difference=float(each.mean()),
        low=low,
        high=high,
        wins=int((each > 0).sum()),
        losses=int((each < 0).sum()),
        p_images=_exchange(each, draws),
        p_seeds=_seeds(one, other),
    )


def holm(values: list[float]) -> list[float]:
    """Returns p-values corrected for being several (Holm, 1979)."""
    order = np.argsort(values, kind="stable")
    found = [0.0] * len(values)
    highest = 0.0
    for rank, index in enumerate(order):
        corrected = min(1.0, (len(values) - rank) * values[index])
        highest = max(highest, corrected)
        found[index] = highest
    return found


def _exchange(each: np.ndarray, draws: int) -> float:
    """Returns the two-sided p of differences [images] under changed signs.

    Where all differences have one size, as with one seed, that is McNemar's
    exact test.
    """
    differing = each[each != 0]
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


def _seeds(one: np.ndarray, other: np.ndarray) -> float | None:
    """Returns the p of a t-test on the seeds' accuracies (Student, 1908).

    Not Welch's: with two or three seeds its degrees of freedom fall to one or
    two, and 19 points are no difference then. With as many seeds on both sides
    Student's stands unequal variances.
    """
    first, second = one.mean(1), other.mean(1)
    if min(first.size, second.size) < 2:
        return None
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return 1.0 if first[0] == second[0] else 0.0
    with warnings.catch_warnings():
        # It warns where all seeds of one came to the same, which is no fault.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = scipy.stats.ttest_ind(first, second)
    return float(found.pvalue)


def _interval(
    one: np.ndarray, other: np.ndarray, draws: int
) -> tuple[float, float]:
    """Returns the 95 % interval of the difference, by bootstrap.

    Each draw takes images, and of each classifier seeds, with replacement.
    """
    generator = np.random.default_rng(0)
    images = one.shape[1]
    found = np.empty(draws)
    block = max(1, _BLOCK // images)
    for start in range(0, draws, block):
        count = min(block, draws - start)
        # How often each image and each seed is drawn.
        often = generator.multinomial(
            images, np.full(images, 1 / images), count
        )
        totals = []
        for table in (one, other):
            seeds = generator.multinomial(
                len(table), np.full(len(table), 1 / len(table)), count
            )
            totals.append(((seeds @ table) * often).sum(1) / len(table))
        found[start : start + count] = (totals[0] - totals[1]) / images
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
