"""The solved head is the minimum, and its penalty the cross-validated one."""

import numpy as np
import pytest
import scipy.special
import sklearn.datasets
import sklearn.linear_model

from tlkeras.training import solver


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    found = sklearn.datasets.load_digits()
    return found.data[:600].astype(np.float32), found.target[:600]


def solve(features, targets, *, weights=None, classes=10, **options):
    if weights is None:
        weights = np.ones(len(targets))
    return solver.logistic(
        features if features.ndim == 3 else features[None],
        targets,
        weights,
        classes=classes,
        **options,
    )


def loss(solution, features, targets, l2: float, weights=None) -> float:
    """Returns what Keras' loss would be: mean and penalty, in nats."""
    logits = features @ solution.kernel.astype(np.float64) + solution.bias
    logits -= logits.max(axis=1, keepdims=True)
    chosen = logits[np.arange(len(targets)), targets]
    entropies = np.log(np.exp(logits).sum(axis=1)) - chosen
    mean = np.average(entropies, weights=weights)
    return mean + l2 * np.square(solution.kernel.astype(np.float64)).sum()


@pytest.mark.parametrize("l2", [1e-2, 1e-4])
def test_is_what_scikit_learn_finds(digits, l2):
    features, targets = digits
    found = solve(features, targets, l2=l2)
    other = sklearn.linear_model.LogisticRegression(
        C=1 / (2 * l2 * len(targets)), tol=1e-8, max_iter=10_000
    ).fit(features.astype(np.float64), targets)
    expected = solver.Solution(other.coef_.T, other.intercept_, l2, 0, 0.0)
    least = loss(expected, features, targets, l2)
    # Solved until the slope is 1e-5 nats: where classes lie
    # apart, the last of the loss is far away.
    assert least - 1e-6 <= loss(found, features, targets, l2) < least + 5e-4
    assert found.strength == pytest.approx(l2)


def test_weights_are_those_of_the_mean(digits):
    features, targets = digits
    features, targets = features[:90], targets[:90]
    weights = 1.0 + (np.arange(90) % 3)
    twice = np.repeat(np.arange(90), weights.astype(int))
    one = solve(features, targets, weights=weights, l2=1e-3)
    other = solve(features[twice], targets[twice], l2=1e-3)
    assert loss(one, features, targets, 1e-3, weights) == pytest.approx(
        loss(other, features, targets, 1e-3, weights), rel=1e-3
    )


def test_views_count_as_images(digits):
    features, targets = digits
    shifted = features + np.random.default_rng(0).normal(0, 1, features.shape)
    views = np.stack([features, shifted.astype(np.float32)])
    one = solve(views, targets, l2=1e-3)
    rows = np.concatenate(views)
    both = np.tile(targets, 2)
    other = solve(rows, both, l2=1e-3)
    assert loss(one, rows, both, 1e-3) == pytest.approx(
        loss(other, rows, both, 1e-3), rel=1e-4
    )


def test_the_penalty_is_as_good_as_a_searched_one(digits):
    features, targets = digits
    rest = sklearn.datasets.load_digits()
    unseen = rest.data[600:], rest.target[600:]
    found = solve(features, targets)
    best = min(
        loss(solve(features, targets, l2=10.0**power), *unseen, 0.0)
        for power in np.arange(-5, 1, 0.5)
    )
    assert loss(found, *unseen, 0.0) < 1.1 * best


@pytest.mark.parametrize("factor, offset", [(1e-3, 0.0), (1e3, 1e4)])
def test_the_scale_of_the_features_does_not_matter(digits, factor, offset):
    features, targets = digits
    one = solve(features, targets)
    other = solve(features * np.float32(factor) + np.float32(offset), targets)
    first = features @ one.kernel + one.bias
    second = (features * factor + offset) @ other.kernel.astype(
        np.float64
    ) + other.bias
    agree = (first.argmax(axis=1) == second.argmax(axis=1)).mean()
    assert agree > 0.99


def test_equal_features_give_the_shares_of_the_classes():
    targets = np.array([0] * 6 + [1] * 3)
    found = solve(np.ones([9, 4], np.float32), targets, classes=2)
    logits = np.ones(4) @ found.kernel + found.bias
    assert np.exp(logits[0] - logits[1]) == pytest.approx(2.0, rel=0.02)


def test_a_class_without_images_is_unlikely(digits):
    features, targets = digits
    chosen = targets < 3
    found = solve(features[chosen], targets[chosen], classes=4)
    logits = features[chosen] @ found.kernel + found.bias
    assert (logits.argmax(axis=1) < 3).all()
    assert np.isfinite(found.kernel).all()


def test_few_images():
    features = np.eye(2, 5, dtype=np.float32)
    found = solve(features, np.array([0, 1]), classes=2)
    logits = features @ found.kernel + found.bias
    assert logits.argmax(axis=1).tolist() == [0, 1]


def test_the_same_problem_is_solved_once(digits, monkeypatch):
    features, targets = digits
    features, targets = features[:80], targets[:80]
    solved = []
    solve_anew = solver._solve

    def counted(*arguments):
        solved.append(arguments)
        return solve_anew(*arguments)

    monkeypatch.setattr(solver, "_solve", counted)
    monkeypatch.setattr(solver, "_solutions", {})
    first = solve(features, targets, l2=1e-2)
    again = solve(features.copy(), targets.copy(), l2=1e-2)
    assert len(solved) == 1
    assert np.array_equal(first.kernel, again.kernel)
    for change in (
        {"l2": 1e-3},
        {"l2": 1e-2, "weights": np.arange(80) + 1.0},
        {"l2": 1e-2, "classes": 11},
    ):
        count = len(solved)
        solve(features, targets, **change)
        assert len(solved) == count + 1
    for power in range(3, 9):
        solve(features, targets, l2=10.0**-power)
    assert len(solver._solutions) == solver._REMEMBERED


def test_images_of_a_group_stand_in_one_fold():
    """40 patients with 6 almost equal images each, and no signal at all."""
    generator = np.random.default_rng(0)
    patients = generator.normal(size=(80, 60))
    labels = generator.integers(0, 2, 80)

    def images(chosen: slice) -> tuple[np.ndarray, np.ndarray]:
        noise = 0.01 * generator.normal(size=(240, 60))
        features = np.repeat(patients[chosen], 6, axis=0) + noise
        return features[None].astype(np.float32), np.repeat(labels[chosen], 6)

    features, targets = images(slice(0, 40))
    new_features, new_targets = images(slice(40, 80))
    groups = np.repeat(np.arange(40), 6)
    losses = {}
    for name, given in (("images", None), ("groups", groups)):
        found = solver.logistic(
            features, targets, np.ones(240), classes=2, groups=given
        )
        logits = new_features[0] @ found.kernel + found.bias
        truth = logits[np.arange(240), new_targets]
        loss = (scipy.special.logsumexp(logits, axis=1) - truth).mean()
        losses[name] = found.cross_entropy, float(loss)
    assert losses["images"][0] < 0.1 < 1 < losses["images"][1]
    # With groups it knows that it knows nothing, and says so.
    assert losses["groups"][0] > 0.6
    assert losses["groups"][1] < 0.9


def test_one_group_has_no_folds_and_all_the_penalty():
    features = np.random.default_rng(0).normal(size=(1, 12, 3))
    targets = np.arange(12) % 2
    found = solver.logistic(
        features.astype(np.float32),
        targets,
        np.ones(12),
        classes=2,
        groups=np.zeros(12),
    )
    assert np.isfinite(found.kernel).all()
    assert np.isnan(found.cross_entropy)
