import json
import math
import tracemalloc

import hypothesis
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import strategies as st

from tlkeras import errors
from tlkeras.models import task as tasks
from tlkeras.report import terminal
from tlkeras.scoring import metrics


def draw(images, classes, seed=0, quality=1.5):
    random = np.random.default_rng(seed)
    targets = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes))
    logits[np.arange(images), targets] += quality
    return tasks.SINGLE_LABEL.probabilities(logits), targets


def names(classes):
    return tuple(f"class {index}" for index in range(classes))


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    [
        # Newcombe, 1998, Statistics in Medicine 17, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(right, images, low, high):
    got = metrics.wilson(right, images)
    assert tuple(round(end, 4) for end in got) == (low, high)


@hypothesis.given(st.data())
def test_wilson_holds_the_share_and_is_symmetric(data):
    images = data.draw(st.integers(1, 10**6))
    right = data.draw(st.integers(0, images))
    low, high = metrics.wilson(right, images)
    assert 0 <= low <= right / images <= high <= 1
    mirrored = metrics.wilson(images - right, images)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)
    if right < images:
        more = metrics.wilson(right + 1, images)
        assert more[0] > low
        assert more[1] >= high


@pytest.mark.parametrize(("right", "images"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_impossible_counts(right, images):
    with pytest.raises(ValueError, match=f"right={right}, images={images}"):
        metrics.wilson(right, images)


def test_metrics_of_a_case_made_by_hand():
    probabilities = np.array(
        [
            [0.7, 0.2, 0.1],
            [0.3, 0.6, 0.1],
            [0.2, 0.5, 0.3],
            [0.1, 0.1, 0.8],
        ]
    )
    got = metrics.compute(
        probabilities, np.array([0, 0, 1, 2]), ("a", "b", "c")
    )
    assert got["accuracy"]["value"] == 0.75
    assert got["accuracy"]["n"] == 4
    assert got["balanced_accuracy"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert got["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert got["majority"] == 0.5
    assert got["cross_entropy"] == pytest.approx(
        -(math.log(0.7) + math.log(0.3) + math.log(0.5) + math.log(0.8)) / 4
    )
    # Scores 0.7, 0.6, 0.5, 0.8 fall into the bins 11, 9, 8 and 12 (of 15).
    assert got["expected_calibration_error"] == pytest.approx(
        (0.3 + 0.6 + 0.5 + 0.2) / 4
    )
    assert [part["n"] for part in got["reliability"]] == (
        [0] * 7 + [1, 1, 0, 1, 1, 0, 0, 0]
    )
    assert got["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert got["per_class"][1] == {
        "label": "b",
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
        "n": 1,
    }
    assert got["confused"] == [{"true_label": "a", "label": "b", "n": 1}]
    assert "top5" not in got


def test_groups_are_what_speaks():
    """40 patients of 5 images, each patient answered as one."""
    right = np.arange(40) < 30
    targets = np.zeros(200, int)
    probabilities = np.eye(2)[np.repeat(1 - right.astype(int), 5)]
    groups = [f"patient {index // 5}" for index in range(200)]
    got = metrics.compute(probabilities, targets, ("a", "b"), groups=groups)
    accuracy = got["accuracy"]
    assert (accuracy["n"], accuracy["groups"]) == (200, 40)
    # As of 40 images and less, not of 200.
    low, high = metrics.wilson(30, 40)
    assert accuracy["low"] < low < high < accuracy["high"]
    assert "n = 200 in 40 groups)" in metrics.sentence(got)
    assert any(
        "40 of them independent" in warning for warning in got["warnings"]
    )
    alone = metrics.compute(probabilities, targets, ("a", "b"))
    assert alone["accuracy"]["groups"] == 200
    assert "n = 200)" in metrics.sentence(alone)
    assert not any("Only" in warning for warning in alone["warnings"])


@pytest.mark.parametrize(("images", "classes"), [(300, 2), (500, 7), (90, 40)])
def test_metrics_agree_with_scikit_learn(images, classes):
    probabilities, targets = draw(images, classes, seed=classes)
    got = metrics.compute(probabilities, targets, names(classes))
    answers = probabilities.argmax(axis=1)
    assert got["accuracy"]["value"] == pytest.approx(
        sklearn.metrics.accuracy_score(targets, answers)
    )
    recalls = sklearn.metrics.recall_score(
        targets, answers, labels=np.unique(targets), average=None
    )
    assert got["balanced_accuracy"] == pytest.approx(recalls.mean())
    assert got["macro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(
            targets, answers, average="macro", zero_division=0
        )
    )
    assert got["cross_entropy"] == pytest.approx(
        sklearn.metrics.log_loss(targets, probabilities, labels=range(classes))
    )
    assert got["confusion"] == (
        sklearn.metrics.confusion_matrix(
            targets, answers, labels=range(classes)
        ).tolist()
    )
    if classes > 5:
        assert got["top5"] == pytest.approx(
            sklearn.metrics.top_k_accuracy_score(
                targets, probabilities, k=5, labels=range(classes)
            )
        )
    precision, recall, f1, counts = (
        sklearn.metrics.precision_recall_fscore_support(
            targets, answers, labels=range(classes), zero_division=np.nan
        )
    )
    for index, row in enumerate(got["per_class"]):
        assert row["n"] == counts[index]
        for key, value in (
            ("precision", precision[index]),
            ("recall", recall[index]),
            ("f1", f1[index]),
        ):
            if row[key] is None:
                assert math.isnan(value)
            else:
                assert row[key] == pytest.approx(value)


def test_calibration_error_agrees_with_a_plain_loop():
    probabilities, targets = draw(700, 4, seed=3, quality=0.8)
    got = metrics.compute(probabilities, targets, names(4))
    error = 0.0
    for index in range(15):
        inside = [
            (row.max(), row.argmax() == target)
            for row, target in zip(probabilities, targets, strict=True)
            if index / 15 < row.max() <= (index + 1) / 15
        ]
        assert got["reliability"][index]["n"] == len(inside)
        if inside:
            scores, right = zip(*inside, strict=True)
            error += abs(sum(right) - sum(scores)) / 700
    assert got["expected_calibration_error"] == pytest.approx(error)


def test_perfect_scores():
    got = metrics.compute(
        np.eye(3)[[0, 1, 2] * 100], np.array([0, 1, 2] * 100), names(3)
    )
    assert got["accuracy"]["value"] == got["accuracy"]["high"] == 1.0
    assert got["balanced_accuracy"] == got["macro_f1"] == 1.0
    assert got["cross_entropy"] == got["expected_calibration_error"] == 0.0
    assert got["reliability"][-1]["n"] == 300
    assert got["warnings"] == []


def test_a_probability_of_zero_keeps_the_cross_entropy_finite():
    got = metrics.compute(
        np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([1, 0]), names(2)
    )
    assert 300 < got["cross_entropy"] < 400


def test_a_class_without_images_has_no_recall():
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]])
    got = metrics.compute(probabilities, np.array([0, 0]), names(3))
    assert [row["recall"] for row in got["per_class"]] == [0.5, None, None]
    assert [row["precision"] for row in got["per_class"]] == [1.0, 0.0, None]
    assert got["per_class"][2]["f1"] is None
    assert got["balanced_accuracy"] == 0.5
    assert got["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert any("class 1, class 2" in text for text in got["warnings"])


def test_majority_is_that_of_these_images():
    probabilities, _ = draw(10, 3)
    for targets in ([0] * 6 + [1] * 3 + [2], [2] * 6 + [1] * 3 + [0]):
        found = metrics.compute(probabilities, np.array(targets), names(3))
        assert found["majority"] == 0.6


def test_an_accuracy_that_does_not_beat_the_majority_is_warned_of():
    targets = np.array([0] * 150 + [1] * 150)
    answers = np.array([0] * 160 + [1] * 140)
    worse = metrics.compute(np.eye(2)[1 - answers], targets, ("cat", "dog"))
    (warning,) = worse["warnings"]
    assert "Not better than always predicting 'cat'" in warning
    assert "50.0 %" in warning
    unsure = np.array([0] * 150 + [1] * 10 + [0] * 140)
    (warning,) = metrics.compute(np.eye(2)[unsure], targets, ("cat", "dog"))[
        "warnings"
    ]
    assert "Not clearly better than always predicting 'cat'" in warning
    better = metrics.compute(np.eye(2)[answers], targets, ("cat", "dog"))
    assert better["warnings"] == []


def test_few_images_are_warned_of_with_the_width():
    got = metrics.compute(
        np.eye(2)[[0, 1] * 50], np.array([0, 1] * 50), ("cat", "dog")
    )
    low, high = metrics.wilson(100, 100)
    (warning,) = got["warnings"]
    assert "Only 100 images" in warning
    assert f"{100 * (high - low):.1f} points wide" in warning


def test_no_images_is_a_users_error():
    with pytest.raises(errors.UserError, match="0 images"):
        metrics.compute(np.zeros((0, 2)), np.zeros(0, int), names(2))


def test_scores_that_are_not_finite_are_a_users_error():
    with pytest.raises(errors.UserError, match="1 of 2 images"):
        metrics.compute(
            np.array([[0.5, 0.5], [np.nan, 1.0]]), np.array([0, 1]), names(2)
        )


@pytest.mark.parametrize(
    ("probabilities", "targets", "message"),
    [
        ([[2.0, -1.0]], [0], "logits"),
        ([[0.9, 0.9]], [0], "logits"),
        ([[0.5, 0.5]], [2], r"\[0, 1\]"),
        ([[0.5, 0.5]], [-1], r"\[0, 1\]"),
        ([[0.5, 0.5]], [0, 1], "n targets"),
        ([[0.5, 0.25, 0.25]], [0], "k labels"),
    ],
)
def test_what_does_not_fit_is_refused(probabilities, targets, message):
    with pytest.raises(ValueError, match=message):
        metrics.compute(np.array(probabilities), np.array(targets), names(2))


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    images=st.integers(1, 60),
    classes=st.integers(2, 9),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_metrics_are_json_and_do_not_depend_on_the_order(
    images, classes, seed, dtype
):
    probabilities, targets = draw(images, classes, seed)
    probabilities = probabilities.astype(dtype)
    got = metrics.compute(probabilities, targets, names(classes))
    text = json.dumps(got, allow_nan=False)
    assert json.loads(text) == got
    for key in ("balanced_accuracy", "macro_f1", "majority"):
        assert 0 <= got[key] <= 1
    assert 0 <= got["expected_calibration_error"] <= 1
    assert sum(map(sum, got["confusion"])) == images
    assert sum(part["n"] for part in got["reliability"]) == images
    assert sum(row["n"] for row in got["per_class"]) == images
    order = np.random.default_rng(seed).permutation(images)
    again = metrics.compute(
        probabilities[order], targets[order], names(classes)
    )
    for key in ("accuracy", "confusion", "per_class", "warnings"):
        assert again[key] == got[key]
    assert again["cross_entropy"] == pytest.approx(got["cross_entropy"])


def test_thousands_of_classes_cost_what_the_images_cost():
    """What is reported grows with the images, and is none the less whole."""
    classes, images = 5000, 200
    random = np.random.default_rng(0)
    targets = random.integers(0, classes, images)
    answers = np.where(random.random(images) < 0.5, targets, 7)
    probabilities = np.zeros((images, classes))
    probabilities[np.arange(images), answers] = 1
    tracemalloc.start()
    got = metrics.compute(probabilities, targets, names(classes))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A matrix of 5,000 x 5,000 numbers would be 200 MB.
    assert peak < 8 * probabilities.nbytes
    assert len(json.dumps(got, indent=1)) < 400 * images
    assert got["confusion"] is None
    wrong = sum(pair["n"] for pair in got["confused"])
    assert wrong == (answers != targets).sum()
    assert sum(row["n"] for row in got["per_class"]) == images
    assert got["macro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(targets, answers, average="macro")
    )
    absent = classes - len(np.unique(targets))
    assert any(f"{absent} of 5000 classes" in w for w in got["warnings"])


def test_what_was_confused_is_the_confusion_without_its_diagonal():
    for classes in (2, 40, metrics.MANY_CLASSES, metrics.MANY_CLASSES + 1):
        probabilities, targets = draw(500, classes, quality=0.5)
        got = metrics.compute(probabilities, targets, names(classes))
        expected = sklearn.metrics.confusion_matrix(
            targets, probabilities.argmax(axis=1), labels=range(classes)
        )
        few = classes <= metrics.MANY_CLASSES
        assert got["confusion"] == (expected.tolist() if few else None)
        matrix = np.zeros_like(expected)
        for pair in got["confused"]:
            row = names(classes).index(pair["true_label"])
            matrix[row, names(classes).index(pair["label"])] = pair["n"]
        np.fill_diagonal(expected, 0)
        np.testing.assert_array_equal(matrix, expected)
        counts = [pair["n"] for pair in got["confused"]]
        assert counts == sorted(counts, reverse=True)


def test_kappa_is_the_agreement_beyond_chance():
    targets = np.array([0] * 25 + [1] * 25)
    # Right on 20 + 15, by chance on half of them: (0.7 - 0.5) / (1 - 0.5).
    answers = np.array([0] * 20 + [1] * 5 + [0] * 10 + [1] * 15)
    found = metrics.compute(np.eye(2)[answers], targets, ("a", "b"))
    assert found["kappa"] == pytest.approx(0.4)
    alone = metrics.compute(np.eye(2)[[0, 0]], np.array([0, 0]), ("a", "b"))
    assert alone["kappa"] is None


@pytest.mark.parametrize("more", [0, 7])
def test_of_many_slices_the_lowest_are_told(more, capsys):
    values = [f"v{n}" for n in range(metrics.SLICES_SHOWN + more)]
    right = np.arange(len(values)) >= 2
    quality = metrics.compute(np.eye(2), np.array([0, 1]), ("a", "b"))
    quality["slices"] = metrics.slices("camera", values, right, values)
    assert len(quality["slices"]["values"]) == len(values)
    lines = metrics.slice_lines(quality)
    terminal.slices(quality["slices"])
    table = capsys.readouterr().out.splitlines()[1:]
    for told in (lines, table):
        assert len(told) == metrics.SLICES_SHOWN + bool(more)
        assert "v0" in told[0] and "v1" in told[1]
        assert told[-1].startswith("... and 7 more") == bool(more)
