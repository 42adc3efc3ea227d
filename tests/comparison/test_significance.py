import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as some

from tlkeras.comparison import significance


def draw(generator, *, seeds, images, noise, better=0.0):
    """Two strategies on the same images; a seed moves all its answers."""
    hard = generator.normal(1.7, 2.5, images)

    def answers(skill):
        return np.array(
            [
                hard + skill + generator.normal(0, noise) > own
                for own in generator.normal(0, 0.8, (seeds, images))
            ]
        )

    return answers(better), answers(0.0)


def test_one_seed_is_mcnemars_exact_test():
    one = np.array([1] * 60 + [1] * 12 + [0] * 3 + [0] * 5)
    other = np.array([1] * 60 + [0] * 12 + [1] * 3 + [0] * 5)
    found = significance.compare(one, other)
    assert (found.wins, found.losses) == (12, 3)
    assert found.difference == pytest.approx(9 / 80)
    assert found.p_images == pytest.approx(
        scipy.stats.binomtest(3, 15).pvalue, rel=1e-12
    )


def test_one_seed_claims_nothing_about_the_strategies():
    found = significance.compare(np.ones(100), np.zeros(100))
    assert found.p_images < 1e-6
    assert found.p_seeds is None
    assert found.p == 1.0


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_strategy_seldom_differs_from_itself(noise):
    generator = np.random.default_rng(7)
    claims = sum(
        significance.compare(
            *draw(generator, seeds=3, images=100, noise=noise)
        ).p
        < 0.05
        for _ in range(40)
    )
    # Of a binomial of 5 % two are expected; seven have a chance of 0.3 %.
    assert claims <= 6


def test_the_images_alone_would_claim_too_often():
    generator = np.random.default_rng(7)
    found = [
        significance.compare(
            *draw(generator, seeds=3, images=200, noise=0.5), draws=500
        )
        for _ in range(20)
    ]
    assert sum(each.p_images < 0.05 for each in found) > 7
    assert sum(each.p < 0.05 for each in found) <= 4


def test_a_clear_difference_is_seen():
    generator = np.random.default_rng(7)
    found = significance.compare(
        *draw(generator, seeds=3, images=300, noise=0.05, better=1.5)
    )
    assert found.p < 0.05
    assert 0 < found.low < found.difference < found.high


@given(some.integers(0, 2**20), some.integers(1, 3), some.integers(1, 30))
def test_exchanging_both_exchanges_the_signs(seed, seeds, images):
    generator = np.random.default_rng(seed)
    one, other = generator.integers(0, 2, (2, seeds, images))
    there = significance.compare(one, other, draws=2000)
    back = significance.compare(other, one, draws=2000)
    assert there.difference == pytest.approx(-back.difference)
    assert (there.wins, there.losses) == (back.losses, back.wins)
    assert there.p_images == pytest.approx(back.p_images, abs=0.05)
    assert there.p_seeds == pytest.approx(back.p_seeds)


def test_equal_answers_are_no_difference():
    answers = np.random.default_rng(0).integers(0, 2, (3, 50))
    found = significance.compare(answers, answers)
    assert found.difference == 0
    assert found.p_images == 1.0
    assert found.p == 1.0


def test_other_images_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 3\) and \(1, 4\)"):
        significance.compare(np.ones(3), np.ones(4))


def test_several_p_values_are_corrected():
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx(
        [0.03, 0.06, 0.06]
    )
    assert significance.holm([0.5, 0.9]) == [1.0, 1.0]
    assert significance.holm([]) == []
