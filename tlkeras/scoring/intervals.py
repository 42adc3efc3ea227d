"""What a share of right answers is worth: 95 % intervals that count groups.

Images of one group (a patient, a film, equal pictures) are answered alike, so
a group is one observation. Of 40 groups of 5 images the interval over images
holds the truth in 59 of 100 cases where a group is answered as one, the one
here in 93 to 97; where it is answered half alike, 67 to 73 and 89 to 95
(simulated, accuracies of 70, 90 and 97 %; tests/scoring/test_intervals.py).
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy.stats

# The 97.5 % point of the normal distribution.
_NORMAL = float(scipy.stats.norm.ppf(0.975))


@dataclasses.dataclass(frozen=True)
class Share:
    """A share of right answers, with its 95 % interval, in [0, 1].

    images: how many were asked. groups: how many of them are independent.
    """

    value: float
    low: float
    high: float
    images: int
    groups: int


@dataclasses.dataclass(frozen=True)
class Difference:
    """Of two shares on the same images, with its 95 % interval, in [-1, 1]."""

    value: float
    low: float
    high: float


def share(
    right: np.ndarray, groups: Sequence[str] | np.ndarray | None = None
) -> Share:
    """Returns the share of what is true in `right` [n].

    groups: a name of each image [n], equal for those that belong together;
    None where each stands alone. `right` may also hold shares in [0, 1], of
    several answers on an image.

    The interval is that of Wilson, 1927 (Probable inference, the law of
    succession, and statistical inference), for as many images as tell as much
    if each stood alone.
    """
    right = np.asarray(right, np.float64)
    numbers = _numbers(groups, len(right))
    value = float(right.mean())
    count = _effective(right, numbers)
    # Wilson's formula; scipy's takes no fraction of an image.
    square = _NORMAL**2 / count
    centre = value + square / 2
    spread = math.sqrt(square * (value * (1 - value) + square / 4))
    return Share(
        value,
        # Both ends hold the share itself, whatever is rounded.
        min(value, max(0.0, (centre - spread) / (1 + square))),
        max(value, min(1.0, (centre + spread) / (1 + square))),
        len(right),
        int(numbers.max()) + 1,
    )


def difference(
    one: np.ndarray,
    other: np.ndarray,
    groups: Sequence[str] | np.ndarray | None = None,
) -> Difference:
    """Returns the share of `one` less that of `other`, both [n], of bools.

    groups: as of `share`. The interval is that of Agresti and Min, 2005
    (Simple improved confidence intervals for comparing matched proportions):
    half an image is added to each of the four ways in which two answers can be
    right and wrong.
    """
    signs = one.astype(np.float64) - other
    effective = _effective(signs, _numbers(groups, len(signs)))
    images = effective + 2
    better = (signs > 0).mean() * effective + 0.5
    worse = (signs < 0).mean() * effective + 0.5
    centre = (better - worse) / images
    spread = _NORMAL / images
    spread *= math.sqrt(better + worse - (better - worse) ** 2 / images)
    return Difference(
        float(signs.mean()),
        float(max(-1.0, centre - spread)),
        float(min(1.0, centre + spread)),
    )


def members(groups: Sequence[str] | np.ndarray) -> list[np.ndarray]:
    """Returns the indices of the images of each group."""
    numbers = _numbers(groups, len(groups))
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers))[:-1]
    return np.split(order, ends)


def _numbers(
    groups: Sequence[str] | np.ndarray | None, images: int
) -> np.ndarray:
    """Returns the groups as numbers from 0 on [n]."""
    if groups is None:
        return np.arange(images)
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def _effective(values: np.ndarray, groups: np.ndarray) -> float:
    """Returns how many images, each alone, tell as much about a mean.

    They are fewer by the design effect, and with few groups by what these
    leave uncertain of it (Korn and Graubard, 1998: Confidence intervals for
    proportions with small expected number of positive counts).
    """
    images = len(values)
    sizes = np.bincount(groups)
    count = len(sizes)
    if count == images:
        return float(images)
    alone = values.var() / images
    if count == 1 or alone == 0:
        # Nothing shows how alike the answers of a group are: taken for equal.
        return float(images**2 / np.square(sizes).sum())
    together = variance_of_mean(values, groups)
    few = _NORMAL / scipy.stats.t.ppf(0.975, count - 1)
    return float(images * alone / max(alone, together) * few**2)


def variance_of_mean(values: np.ndarray, groups: np.ndarray) -> float:
    """Returns the variance of the mean of `values` [n] over other groups.

    groups: numbers from 0 on [n], two at least.
    """
    sizes = np.bincount(groups)
    count = len(sizes)
    sums = np.bincount(groups, values) - values.mean() * sizes
    return count / (count - 1) * float(np.square(sums).sum()) / len(values) ** 2
