"""From predictions to measures of quality, each with what it is worth.

The Wilson interval is that of Wilson, 1927 (Probable inference, the law of
succession, and statistical inference); the calibration error that of Guo et
al., 2017 (https://arxiv.org/abs/1706.04599).
"""

import collections
import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats
import sklearn.metrics

from tlkeras import errors
from tlkeras.models import task as tasks
from tlkeras.scoring import intervals
from tlkeras.scoring import two_classes

# Guo et al. use 15 bins; below 200 images the interval is up to 14 points.
_BINS = 15
_EDGES = np.arange(_BINS + 1) / _BINS
_FEW_IMAGES = 200
# A matrix of 5,000 classes took 2.2 GB, and 151 MB as JSON. With more classes
# than these, what is reported grows with the images and not with the classes.
MANY_CLASSES = 100
# Of a column with a value for each image the terminal would show nothing else.
SLICES_SHOWN = 50


def wilson(right: int, images: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share of `right` among `images`.

    Both ends are in [0, 1]; they hold the observed share, also where it is
    0 or 1. Raises ValueError where `right` is not in [0, images].
    """
    if images < 1 or not 0 <= right <= images:
        raise ValueError(
            "`right` must be in [0, images], and `images` at least 1. "
            f"Received: right={right}, images={images}."
        )
    test = scipy.stats.binomtest(right, images)
    interval = test.proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def compute(
    probabilities: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    task: tasks.Task = tasks.SINGLE_LABEL,
    positive: int = 1,
) -> dict[str, Any]:
    """Returns the quality of `probabilities` [n, k] for `targets` [n].

    All is JSON-ready: a number that is not defined is None, never NaN.
    `accuracy` carries its 95 % Wilson interval, over `groups` [n], which are
    equal for images that belong together; `balanced_accuracy` is the mean
    recall of the classes that occur; `macro_f1` the mean F1 of those
    that occur or are answered; `majority` the accuracy of always answering
    the commonest class of these images; `kappa` Cohen's, 1960, the agreement
    beyond chance: 0 is that of chance, 1 all, None where there is one class;
    `top3` and `top5` are there for more classes; `cross_entropy` is in nats.
    `two_classes` has the curves of the `positive` one of two, where both occur.
    `expected_calibration_error` is the mean of |accuracy - confidence| over
    15 bins of equal width of the highest score, weighted by their images
    (Guo et al., 2017), and `reliability` lists those bins. `confused` lists
    the wrong answers by how often they were given; `confusion` has true
    classes in rows and answers in columns. With more than `MANY_CLASSES`
    classes `confusion` is None, and `per_class` lists only the classes that
    occur or are answered.

    Raises `UserError` without images, or where scores are not finite.
    """
    scores, truth = _check(probabilities, targets, labels)
    images, classes = scores.shape
    answers, confidence = task.answers(scores)
    correct = task.right(answers, truth)
    share = intervals.share(correct, groups)
    occurring = np.bincount(truth, minlength=classes)
    commonest = int(occurring.argmax())
    per_class = _per_class(truth, answers, labels)
    if classes > MANY_CLASSES:
        per_class = [row for row in per_class if row["f1"] is not None]
    recalls = [row["recall"] for row in per_class if row["recall"] is not None]
    f1s = [row["f1"] for row in per_class if row["f1"] is not None]
    # A probability of exactly 0 stands for one too small for its format.
    likelihood = np.maximum(
        scores[np.arange(images), truth], np.finfo(np.float64).tiny
    )
    reliability = _reliability(confidence, correct)
    accuracy = {
        "value": share.value,
        "low": share.low,
        "high": share.high,
        "n": images,
        "groups": share.groups,
    }
    result: dict[str, Any] = {
        "accuracy": accuracy,
        "balanced_accuracy": math.fsum(recalls) / len(recalls),
        "macro_f1": math.fsum(f1s) / len(f1s),
        "majority": float(occurring[commonest] / images),
        "kappa": _kappa(truth, answers),
    }
    for top in (3, 5):
        if classes > top:
            result[f"top{top}"] = float((ranks(scores, truth) < top).mean())
    result["cross_entropy"] = max(0.0, float(-np.log(likelihood).mean()))
    result["expected_calibration_error"] = calibration_error(
        confidence, correct
    )
    if classes == 2:
        result["two_classes"] = two_classes.curves(
            scores, truth, positive, str(labels[positive])
        )
    result["per_class"] = per_class
    result["confused"] = _confused(truth, answers, labels)
    result["confusion"] = None
    if classes <= MANY_CLASSES:
        result["confusion"] = sklearn.metrics.confusion_matrix(
            truth, answers, labels=range(classes)
        ).tolist()
    result["reliability"] = reliability
    result["warnings"] = [
        *_baseline_warnings(result, labels[commonest]),
        *_size_warnings(accuracy),
        *_absent_warnings(labels, occurring),
    ]
    return result


def slices(
    column: str,
    values: Sequence[str],
    right: np.ndarray,
    groups: Sequence[str],
) -> dict[str, Any]:
    """Returns the accuracy for each value of a column, the lowest first.

    values: of the column, of each image. right: whether its answer is [n].
    groups: equal for images that belong together, which the intervals count.
    """
    places: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        places.setdefault(value, []).append(place)
    found = []
    for value, own in places.items():
        share = intervals.share(right[own], [groups[place] for place in own])
        found.append(
            {
                "value": value,
                "accuracy": share.value,
                "low": share.low,
                "high": share.high,
                "n": share.images,
                "groups": share.groups,
            }
        )
    found.sort(key=lambda row: (row["accuracy"], row["value"]))
    return {"column": column, "values": found}


def slice_lines(quality: Mapping[str, Any]) -> list[str]:
    """Returns a line on each of the lowest `slices`, if any were wished."""
    found = quality.get("slices", {"column": "", "values": []})
    lines = [
        f"{found['column']} {row['value'] or '(empty)'}: "
        f"{100 * row['accuracy']:.1f} % (95 % interval {100 * row['low']:.1f} "
        f"to {100 * row['high']:.1f}, n = {row['n']})"
        for row in found["values"][:SLICES_SHOWN]
    ]
    more = len(found["values"]) - len(lines)
    return [*lines, f"... and {more:,} more in the report"] if more else lines


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Returns the mean of |accuracy - confidence| over bins (Guo et al., 2017).

    confidence: [n] in [0, 1], of the answers that are `correct` [n]. There are
    15 bins of equal width, weighted by their images.
    """
    # Bins hold their upper edge, not their lower one, as in the paper.
    bins = np.digitize(confidence, _EDGES[1:-1], right=True)
    gaps = np.bincount(bins, weights=confidence - correct, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def sentence(quality: Mapping[str, Any]) -> str:
    """Returns `quality` as one line: the accuracy with what it is worth."""
    accuracy = quality["accuracy"]
    grouped = ""
    if accuracy["groups"] < accuracy["n"]:
        grouped = f" in {accuracy['groups']} groups"
    return (
        f"accuracy {100 * accuracy['value']:.1f} % (95 % interval "
        f"{100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f}, "
        f"n = {accuracy['n']}{grouped}), balanced "
        f"{100 * quality['balanced_accuracy']:.1f} %, majority baseline "
        f"{100 * quality['majority']:.1f} %"
    )


def _check(
    probabilities: np.ndarray, targets: np.ndarray, labels: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    scores = np.asarray(probabilities).astype(np.float64, copy=False)
    truth = np.asarray(targets)
    if truth.size == 0:
        raise errors.UserError(
            "quality cannot be measured without images. Received: 0 images. "
            "Give data with at least one labelled image."
        )
    if scores.shape != (len(truth), len(labels)) or truth.ndim != 1:
        raise ValueError(
            "`probabilities` must be [n, k] for n targets and k labels. "
            f"Received: shape {scores.shape}, targets of shape {truth.shape}, "
            f"{len(labels)} labels."
        )
    truth = truth.astype(np.int64)
    if truth.min() < 0 or truth.max() >= len(labels):
        raise ValueError(
            f"`targets` must be in [0, {len(labels) - 1}]. Received: "
            f"{truth.min()} to {truth.max()}."
        )
    tasks.check_finite(scores)
    # Logits given by mistake would pass unnoticed: their argmax is right.
    if scores.min() < 0 or np.abs(scores.sum(axis=1) - 1).max() > 0.02:
        raise ValueError(
            "`probabilities` must be at least 0 and sum to 1 for each image. "
            f"Received: values from {scores.min():g}, sums from "
            f"{scores.sum(axis=1).min():g} to {scores.sum(axis=1).max():g}. "
            "Were they logits?"
        )
    return scores, truth


def _kappa(truth: np.ndarray, answers: np.ndarray) -> float | None:
    """Returns Cohen's kappa, None where one class is all there is."""
    if len(np.union1d(truth, answers)) < 2:
        return None
    return float(sklearn.metrics.cohen_kappa_score(truth, answers))


def _per_class(
    truth: np.ndarray, answers: np.ndarray, labels: Sequence[str]
) -> list[dict[str, Any]]:
    *shares, images = sklearn.metrics.precision_recall_fscore_support(
        truth, answers, labels=range(len(labels)), zero_division=np.nan
    )
    columns = [np.where(np.isnan(share), None, share) for share in shares]
    names = ("label", "precision", "recall", "f1", "n")
    rows = zip(map(str, labels), *columns, map(int, images), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _confused(
    truth: np.ndarray, answers: np.ndarray, labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns the pairs of a true class and a wrong answer, commonest first."""
    wrong = truth != answers
    pairs = collections.Counter(
        zip(truth[wrong].tolist(), answers[wrong].tolist(), strict=True)
    )
    return [
        {"true_label": str(labels[one]), "label": str(labels[other]), "n": n}
        for (one, other), n in sorted(
            pairs.items(), key=lambda pair: (-pair[1], pair[0])
        )
    ]


def ranks(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns how many classes are before the true one [n], of [n, k]."""
    # Ties go to the earlier class, as in argmax.
    own = scores[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(scores.shape[1])[None] < truth[:, None]
    return ((scores > own) | ((scores == own) & earlier)).sum(axis=1)


def _reliability(
    confidence: np.ndarray, correct: np.ndarray
) -> list[dict[str, Any]]:
    bins = np.digitize(confidence, _EDGES[1:-1], right=True)
    return [
        {
            "low": float(_EDGES[index]),
            "high": float(_EDGES[index + 1]),
            "n": int((bins == index).sum()),
            "confidence": _mean(confidence[bins == index]),
            "accuracy": _mean(correct[bins == index]),
        }
        for index in range(_BINS)
    ]


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _baseline_warnings(result: Mapping[str, Any], commonest: str) -> list[str]:
    accuracy, majority = result["accuracy"], result["majority"]
    if accuracy["low"] > majority:
        return []
    surely = " clearly" if accuracy["value"] > majority else ""
    return [
        f"Not{surely} better than always predicting '{commonest}', the most "
        f"common class of these images: {_percent(majority)}."
    ]


def _size_warnings(accuracy: Mapping[str, Any]) -> list[str]:
    images, groups = accuracy["n"], accuracy["groups"]
    if groups >= _FEW_IMAGES:
        return []
    width = 100 * (accuracy["high"] - accuracy["low"])
    few = errors.count(images, "image")
    if groups < images:
        few += f", {groups:,} of them independent"
    return [
        f"Only {few}: the accuracy's 95 % interval is {width:.1f} points wide."
    ]


def _absent_warnings(labels: Sequence[str], occurring: np.ndarray) -> list[str]:
    absent = [
        label
        for label, count in zip(labels, occurring, strict=True)
        if not count
    ]
    if not absent:
        return []
    return [
        f"No image here of {len(absent)} of {len(labels)} classes, so nothing "
        f"is known of them: {errors.few(absent)}."
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
