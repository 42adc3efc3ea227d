"""An interval holds the truth as often as it says, whatever the groups."""

import numpy as np
import pytest

from tlkeras.scoring import intervals
from tlkeras.scoring import metrics


def test_a_share_has_its_wilson_interval():
    found = intervals.share(np.array([True] * 8 + [False] * 2))
    # From Wilson's formula by hand.
    assert (found.value, found.images, found.groups) == (0.8, 10, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_a_difference_has_an_interval_of_pairs():
    one = np.array([True] * 60 + [False] * 40)
    found = intervals.difference(one, ~one)
    # 60 better, 40 worse and half an image each: (20 +- 1.96 root of
    # (101 - 400 / 102)) / 102.
    spread = 1.959964 * np.sqrt(101 - 400 / 102) / 102
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(20 / 102 - spread, abs=1e-6)
    assert found.high == pytest.approx(20 / 102 + spread, abs=1e-6)
    same = intervals.difference(one, one)
    assert same.value == 0
    assert same.low < 0 < same.high
    assert same.low == -same.high


def test_an_interval_holds_the_truth_nineteen_times_in_twenty():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        both = generator.random(100)
        one, other = both < 0.8, (both < 0.7) | (both > 0.95)
        # P(one) = 0.8, P(other) = 0.75.
        found = intervals.difference(one, other)
        hits += found.low <= 0.05 <= found.high
    assert hits > 930


@pytest.mark.parametrize(("right", "images"), [(0, 7), (7, 7), (113, 150)])
def test_without_groups_it_is_wilsons(right, images):
    found = intervals.share(np.arange(images) < right)
    assert (found.low, found.high) == pytest.approx(
        metrics.wilson(right, images), abs=1e-12
    )
    # Names that never come twice are no groups.
    named = intervals.share(
        np.arange(images) < right, [str(index) for index in range(images)]
    )
    assert named == found


def answered(
    generator: np.random.Generator,
    sizes: np.ndarray,
    accuracy: float,
    alike: float,
) -> np.ndarray:
    """Answers on groups of these sizes; `alike` is their correlation."""
    chances = np.full(len(sizes), accuracy)
    if alike == 1:
        chances = (generator.random(len(sizes)) < accuracy).astype(float)
    elif alike:
        ease = (1 - alike) / alike
        chances = generator.beta(
            accuracy * ease, (1 - accuracy) * ease, len(sizes)
        )
    return generator.random(sizes.sum()) < np.repeat(chances, sizes)


@pytest.mark.parametrize("alike", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("accuracy", [0.7, 0.9])
def test_groups_are_the_observations(accuracy, alike):
    """Over images it holds the truth in 58 to 85 of 100 where alike."""
    generator = np.random.default_rng(1)
    for sizes in (np.full(40, 5), 1 + np.arange(40) % 9):
        groups = np.repeat(np.arange(40), sizes)
        hits = over_images = 0
        for _ in range(400):
            right = answered(generator, sizes, accuracy, alike)
            found = intervals.share(right, groups)
            hits += found.low <= accuracy <= found.high
            alone = intervals.share(right)
            over_images += alone.low <= accuracy <= alone.high
        # 91 of 100 where the sizes differ ninefold.
        assert hits > 0.9 * 400
        if alike:
            assert over_images < 0.86 * 400
            assert hits > over_images


def test_a_difference_counts_groups_too():
    generator = np.random.default_rng(1)
    sizes = np.full(40, 5)
    groups = np.repeat(np.arange(40), sizes)
    hits = over_images = 0
    for _ in range(400):
        chances = np.repeat(generator.random(40), sizes)
        # Both are right in 80 of 100 groups, and not on the same ones.
        one, other = chances < 0.8, chances > 0.2
        found = intervals.difference(one, other, groups)
        alone = intervals.difference(one, other)
        hits += found.low <= 0 <= found.high
        over_images += alone.low <= 0 <= alone.high
    assert hits > 0.92 * 400
    assert over_images < 0.75 * 400


@pytest.mark.parametrize("right", [0, 1])
def test_where_all_is_right_or_wrong_a_group_is_one_image(right):
    answers = np.full(200, bool(right))
    found = intervals.share(answers, np.repeat(np.arange(40), 5))
    assert (found.images, found.groups) == (200, 40)
    assert found.high - found.low > 3 * (
        np.ptp(metrics.wilson(200 * right, 200))
    )
    one = intervals.share(answers, ["a"] * 200)
    assert one.high - one.low > 0.7
