"""The one rule by which epochs, phases and strategies are chosen."""

import math

import pytest

from tlkeras import records

NAN = math.nan
INFINITE = math.inf


def score(accuracy: float, cross_entropy: float = 1.0) -> records.Score:
    return records.Score(accuracy, cross_entropy, 100)


class TestBetter:
    @pytest.mark.parametrize(
        "new, old, wanted",
        [
            # Accuracy comes first.
            ((0.8, 9.0), (0.7, 0.1), True),
            ((0.7, 0.1), (0.8, 9.0), False),
            # On a tie cross-entropy.
            ((0.8, 0.4), (0.8, 0.5), True),
            ((0.8, 0.5), (0.8, 0.4), False),
            # On a tie in both the earlier one stays.
            ((0.8, 0.5), (0.8, 0.5), False),
            # What is not finite never wins, and loses to all that is.
            ((0.9, NAN), (0.1, 5.0), False),
            ((0.9, INFINITE), (0.1, 5.0), False),
            ((0.1, 5.0), (0.9, NAN), True),
            ((0.1, 5.0), (0.9, INFINITE), True),
            ((0.9, NAN), (0.1, NAN), False),
            ((0.9, INFINITE), (0.1, NAN), False),
            ((0.9, NAN), (0.1, INFINITE), False),
        ],
    )
    def test_table(self, new, old, wanted):
        assert records.better(score(*new), score(*old)) == wanted

    @pytest.mark.parametrize(
        "new, old, wanted",
        [
            # One image of 100 more, and a loss that is clearly worse.
            ((0.81, 0.60), (0.80, 0.50), False),
            ((0.80, 0.50), (0.81, 0.60), True),
            # The loss is hardly worse.
            ((0.81, 0.52), (0.80, 0.50), True),
            # Two images are more than chance.
            ((0.82, 0.60), (0.80, 0.50), True),
        ],
    )
    def test_one_image_is_chance(self, new, old, wanted):
        assert records.better(score(*new), score(*old)) == wanted

    @pytest.mark.parametrize("one, other", [(0.8, 0.6), (0.6, 0.8)])
    def test_balanced_accuracy_stands_for_accuracy(self, one, other):
        better = records.Score(0.5, 1.0, 100, max(one, other))
        worse = records.Score(0.9, 1.0, 100, min(one, other))
        assert records.better(better, worse)
        assert not records.better(worse, better)

    def test_never_both(self):
        scores = [
            score(accuracy, cross_entropy)
            for accuracy in (0.0, 0.5, 1.0)
            for cross_entropy in (0.0, 1.0, NAN, INFINITE)
        ]
        for one in scores:
            for other in scores:
                assert not (
                    records.better(one, other) and records.better(other, one)
                )


class TestImproved:
    @pytest.mark.parametrize(
        "new, old, images, wanted",
        [
            # One standard error of 50 % of 100 is 5 points.
            (0.54, 0.5, 100, False),
            (0.56, 0.5, 100, True),
            # 0.5 points of 10,000.
            (0.504, 0.5, 10_000, False),
            (0.506, 0.5, 10_000, True),
            # 100 % has an error, too, and 0 % as well.
            (1.0, 1.0, 10, False),
            (0.05, 0.0, 10, False),
            (0.4, 0.5, 100, False),
        ],
    )
    def test_table(self, new, old, images, wanted):
        found = records.improved(
            records.Score(new, 1.0, images), records.Score(old, 1.0, images)
        )
        assert found == wanted
