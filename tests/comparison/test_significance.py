import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import settings
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


def test_groups_are_exchanged_and_not_their_images():
    """Image by image a third of null pairs would differ."""
    generator = np.random.default_rng(7)
    groups = np.repeat(np.arange(40), 5)
    by_groups = by_images = 0
    for _ in range(100):
        one, other = np.repeat(generator.random((2, 40)) < 0.7, 5, axis=1)
        grouped = significance.compare(one, other, groups=groups, draws=200)
        alone = significance.compare(one, other, draws=200)
        by_groups += grouped.p_images < 0.05
        by_images += alone.p_images < 0.05
        assert grouped.wins + grouped.losses <= 40
        assert grouped.high - grouped.low > alone.high - alone.low
    # Of a binomial of 5 % eleven or more have a chance of 1.2 %.
    assert by_groups <= 10
    assert by_images >= 25


def test_groups_of_one_image_are_images():
    generator = np.random.default_rng(7)
    one, other = draw(generator, seeds=3, images=50, noise=0.3)
    assert significance.compare(one, other) == significance.compare(
        one, other, groups=[f"{index:02}" for index in range(50)]
    )


def test_what_does_not_vary_has_no_degree_of_freedom():
    generator = np.random.default_rng(7)
    one, other = draw(generator, seeds=3, images=100, noise=0.3)
    solved = np.repeat(one[:1], 3, axis=0)
    with pytest.warns(RuntimeWarning):
        pooled = scipy.stats.ttest_ind(solved.mean(1), other.mean(1)).pvalue
    alone = scipy.stats.ttest_1samp(other.mean(1), solved[0].mean()).pvalue
    found = significance.compare(solved, other)
    assert found.p_seeds > alone > pooled
    assert found.p_seeds == significance.compare(other, solved).p_seeds


@pytest.mark.parametrize("alike", [1, 5])
@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_a_constant_seldom_differs_from_its_equal(seeds, alike):
    """A solved head, and one that is trained to the same mean accuracy."""
    generator = np.random.default_rng(7)
    effect = 0.6
    # By so much the seeds' effects bend the accuracy down.
    bent = 1 - np.sqrt(3.25 / (3.25 + effect**2))
    groups = np.repeat(np.arange(100), alike)
    claims = pooled = 0
    for _ in range(300):
        ease = 1 + 1.5 * generator.normal(size=100)
        solved = ease - bent + generator.normal(size=(1, 100)) > 0
        effects = effect * generator.normal(size=(seeds, 1))
        trained = ease + effects + generator.normal(size=(seeds, 100)) > 0
        one, other = (
            np.repeat(table.astype(float), alike, axis=1)
            for table in (np.repeat(solved, seeds, axis=0), trained)
        )
        if significance.p_seeds(one, other, groups) < 0.05:
            claims += (
                significance.p_images(one, other, groups, draws=200) < 0.05
            )
        spread = np.sqrt(other.mean(1).var(ddof=1) / seeds) + 1e-9
        difference = abs(one.mean() - other.mean())
        pooled += scipy.stats.t.sf(difference / spread, 2 * seeds - 2) < 0.025
    # Of a binomial of 5 % 24 or more have a chance of 1.5 %.
    assert claims <= 23
    assert pooled > 30


def test_a_clear_difference_from_a_constant_is_seen():
    generator = np.random.default_rng(7)
    one, other = draw(generator, seeds=3, images=300, noise=0.05, better=1.5)
    found = significance.compare(np.repeat(one[:1], 3, axis=0), other)
    assert found.p < 0.05


def test_two_constants_claim_nothing():
    """They differ, but nothing tells what another training would do."""
    one = np.repeat([[1] * 90 + [0] * 10], 3, axis=0)
    other = np.repeat([[1] * 40 + [0] * 60], 3, axis=0)
    found = significance.compare(one, other)
    assert found.p_images < 1e-6
    assert found.p_seeds == 1.0
    assert found.p == 1.0
    # Equal accuracies by other answers are no variation either.
    other[1] = other[1][::-1]
    assert significance.compare(one, other).p == 1.0


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


@settings(deadline=None)
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


class TestWorse:
    @pytest.mark.parametrize("noise", [0.0, 0.3])
    def test_a_loss_of_the_margin_is_seldom_called_as_good(self, noise):
        generator = np.random.default_rng(3)
        pairs = [
            draw(generator, seeds=3, images=400, noise=noise, better=0.2)
            for _ in range(60)
        ]
        # The true loss, about two points, is the margin.
        loss = np.mean([one.mean() - other.mean() for one, other in pairs])
        assert 0.01 < loss < 0.04
        claims = sum(
            significance.p_worse(one, other, margin=loss) < 0.05
            for one, other in pairs
        )
        # Of a binomial of 5 % three are expected; nine have one of 0.3 %.
        assert claims <= 8

    def test_more_images_and_more_seeds_prove_more(self):
        generator = np.random.default_rng(0)
        found = [
            significance.p_worse(
                *draw(generator, seeds=seeds, images=images, noise=0.0),
                margin=0.05,
            )
            for seeds, images in ((3, 100), (3, 3000), (8, 3000))
        ]
        assert found == sorted(found, reverse=True)
        assert found[-1] < 0.05

    def test_equal_answers_on_few_images_prove_nothing(self):
        """A loss on one of 100 images would not be seen among 200."""
        same = np.ones((3, 200))
        assert significance.p_worse(same, same, margin=0.01) == pytest.approx(
            0.99**200
        )
        assert significance.p_worse(same, same, margin=0.1) < 0.05

    def test_images_of_a_group_are_one_observation(self):
        same = np.ones((3, 200))
        groups = np.repeat([f"{number}" for number in range(20)], 10)
        assert significance.p_worse(
            same, same, margin=0.1, groups=groups
        ) == pytest.approx(0.9**20)

    def test_one_seed_proves_nothing(self):
        same = np.ones(10_000)
        assert significance.p_worse(same, same, margin=0.1) == 1.0

    def test_what_is_worse_by_the_margin_is_not_as_good(self):
        one = np.ones((3, 1000))
        other = np.ones((3, 1000))
        other[:, :20] = 0
        assert significance.p_worse(one, other, margin=0.02) == 1.0
        assert significance.p_worse(other, one, margin=0.02) < 1e-6
