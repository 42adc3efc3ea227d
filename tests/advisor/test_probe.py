"""The probe sees what can be told apart, and asks no image twice."""

import numpy as np
import pytest
import sklearn.datasets
import sklearn.linear_model
import sklearn.model_selection

from tlkeras.advisor import probe
from tlkeras.data import splits


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    found = sklearn.datasets.load_digits()
    return found.data[:300].astype(np.float32), found.target[:300]


def alone(count: int) -> list[str]:
    return [str(index) for index in range(count)]


def apart(images: int = 60, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Three classes that lie far apart, in features of any scale."""
    targets = np.arange(images) % 3
    noise = np.random.default_rng(0).normal(0, 0.01, (images, width))
    noise[np.arange(images), targets] += 1
    return noise.astype(np.float32), targets


@pytest.mark.parametrize("width", [4, 500])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e6])
def test_what_can_be_told_apart_is(width, scale):
    features, targets = apart(width=width)
    groups = alone(len(targets))
    folds = splits.folds(targets, groups, seed=0)
    features = (features * scale).astype(np.float32)
    assert probe.linear(features, targets, folds, groups).all()
    assert probe.neighbours(features, targets, folds).all()


def test_noise_is_told_apart_by_chance_only():
    targets = np.arange(400) % 2
    features = np.random.default_rng(1).normal(size=(400, 900))
    groups = alone(400)
    folds = splits.folds(targets, groups, seed=0)
    for right in (
        probe.linear(features, targets, folds, groups),
        probe.neighbours(features, targets, folds),
    ):
        # Three standard errors of 400 throws.
        assert abs(right.mean() - 0.5) < 0.075


def test_equal_features_are_answered_by_the_commonest_class():
    targets = np.array([0] * 30 + [1] * 10)
    groups = alone(40)
    folds = splits.folds(targets, groups, seed=0)
    right = probe.linear(np.ones([40, 3]), targets, folds, groups)
    assert right.tolist() == (targets == 0).tolist()


def test_is_as_good_as_a_logistic_classifier(digits):
    features, targets = digits
    groups = alone(len(targets))
    folds = splits.folds(targets, groups, seed=0)
    found = probe.linear(features, targets, folds, groups).mean()
    other = sklearn.model_selection.cross_val_score(
        sklearn.linear_model.LogisticRegression(C=0.01, max_iter=500),
        features,
        targets,
        cv=sklearn.model_selection.PredefinedSplit(folds),
    ).mean()
    assert found > other - 0.03
    assert found > 0.85


def test_the_answers_are_those_of_ridge_regression(digits):
    """Held against a plain solution, with the same choice of the penalty."""
    features, targets = digits[0][:80], digits[1][:80]
    rows, asked = probe._prepared(features[:60], features[60:])
    wanted = np.eye(10)[targets[:60]]
    # Two images of one group, which are left out together.
    groups = np.minimum(np.arange(60), 58)
    found = probe._ridge(rows, wanted, groups, asked)

    def plain(learn, ask, strength):
        mean = wanted[learn].mean(axis=0)
        centre = rows[learn].mean(axis=0)
        rest = rows[learn] - centre
        kernel = np.linalg.solve(
            rest.T @ rest + strength * 60 * np.eye(rows.shape[1]),
            rest.T @ (wanted[learn] - mean),
        )
        return (ask - centre) @ kernel + mean

    def error(strength):
        total = 0.0
        for group in np.unique(groups):
            out = groups == group
            answers = plain(~out, rows[out], strength)
            total += np.square(answers - wanted[out]).sum()
        return total

    best = min(probe._STRENGTHS, key=error)
    np.testing.assert_allclose(
        found, plain(np.ones(60, bool), asked, best), atol=1e-8
    )


def test_folds_part_no_group_and_are_even_in_each_class():
    generator = np.random.default_rng(0)
    targets = np.sort(generator.integers(0, 4, 200))
    groups = [f"{index // 2}" for index in range(200)]
    folds = splits.folds(targets, groups, seed=3)
    assert set(folds) == set(range(splits.FOLDS))
    for index in range(0, 200, 2):
        assert folds[index] == folds[index + 1]
    for target in range(4):
        counts = np.bincount(folds[targets == target], minlength=splits.FOLDS)
        assert counts.max() - counts.min() <= 3
    assert (folds == splits.folds(targets, groups, seed=3)).all()
    assert (folds != splits.folds(targets, groups, seed=4)).any()


def test_groups_that_cannot_be_parted_are_refused():
    with pytest.raises(ValueError, match="two or more"):
        splits.folds(np.array([0, 1]), ["a", "a"], seed=0)
    assert set(splits.folds(np.array([0, 1]), ["a", "b"], seed=0)) == {0, 1}


def test_a_memory_of_the_group_is_no_knowledge():
    """Equal pictures with random labels: known by heart they would be right."""
    generator = np.random.default_rng(0)
    features = np.repeat(generator.normal(size=(25, 50)), 8, axis=0)
    targets = np.repeat(generator.integers(0, 2, 25), 8)
    groups = [str(index // 8) for index in range(200)]
    together = splits.folds(targets, groups, seed=0)
    assert probe.neighbours(features, targets, together).mean() < 0.7
    apart = splits.folds(targets, alone(200), seed=0)
    assert probe.neighbours(features, targets, apart).mean() > 0.9


def test_a_subset_is_even_and_holds_the_smaller_ones(digits):
    targets = digits[1]
    every = np.arange(len(targets))
    quarter = probe._subset(every, targets, every, 0.25)
    half = probe._subset(every, targets, every, 0.5)
    assert set(quarter) < set(half) < set(every)
    for target in range(10):
        count = (targets == target).sum()
        assert (targets[quarter] == target).sum() == round(count / 4)
    two = np.arange(2)
    assert probe._subset(two, two, two, 0.25).tolist() == [0, 1]
    groups = alone(300)
    folds = splits.folds(targets, groups, seed=0)
    assert probe.learned(targets, folds, groups, 1.0) == (240, 240)


def test_a_subset_is_of_whole_groups():
    """A quarter of the patients, not a quarter of the films of each."""
    targets = np.repeat([0, 1], 40)
    # Ten groups of four a class, whose images are not side by side.
    numbers = np.arange(80) % 10 + 10 * targets
    quarter = probe._subset(np.arange(80), targets, numbers, 0.25)
    assert len(quarter) == 16
    assert len(np.unique(numbers[quarter])) == 4
    groups = numbers.astype(str).tolist()
    folds = splits.folds(targets, groups, seed=0)
    assert probe.learned(targets, folds, groups, 1.0) == (64, 16)
    assert probe.learned(targets, folds, groups, 0.25) == (16, 4)


def test_more_images_teach_more(digits):
    features, targets = digits
    groups = alone(300)
    folds = splits.folds(targets, groups, seed=0)
    few, all_of_them = (
        probe.linear(features, targets, folds, groups, share=share).mean()
        for share in (0.25, 1.0)
    )
    assert few < all_of_them
