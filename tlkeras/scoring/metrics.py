"""From predictions to measures of quality, each with what it is worth.

The Wilson interval is that of Wilson, 1927 (Probable inference, the law of
succession, and statistical inference); the calibration error that of Guo et
al., 2017 (https://arxiv.org/abs/1706.04599).
"""

import math
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats

from tlkeras import errors
from tlkeras.models import task as tasks

# Guo et al. use 15 bins; below 200 images the interval is up to 14 points.
_BINS = 15
_FEW_IMAGES = 200


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
    majority_label_of_training: int | None = None,
    task: tasks.Task = tasks.SINGLE_LABEL,
) -> dict[str, Any]:
    """Returns the quality of `probabilities` [n, k] for `targets` [n].

    All is JSON-ready: a number that is not defined is None, never NaN.
    `accuracy` carries its 95 % Wilson interval; `balanced_accuracy` is the
    mean recall of the classes that occur; `macro_f1` the mean F1 of those
    that occur or are answered; `majority` the accuracy of always answering
    `majority_label_of_training`, or the commonest class of these images;
    `top5` is there for more than 5 classes; `cross_entropy` is in nats.
    `expected_calibration_error` is the mean of |accuracy - confidence| over
    15 bins of equal width of the highest score, weighted by their images
    (Guo et al., 2017), and `reliability` lists those bins. `confusion` has
    true classes in rows and answers in columns.

    Raises `UserError` without images, or where scores are not finite.
    """
    scores, truth = _check(probabilities, targets, labels)
    images, classes = scores.shape
    answers, confidence = task.answers(scores)
    correct = task.right(answers, truth)
    confusion = np.bincount(
        truth * classes + answers, minlength=classes * classes
    ).reshape(classes, classes)
    per_class = _per_class(confusion, labels)
    recalls = [row["recall"] for row in per_class if row["recall"] is not None]
    f1s = [row["f1"] for row in per_class if row["f1"] is not None]
    right = int(correct.sum())
    low, high = wilson(right, images)
    occurring = confusion.sum(axis=1)
    commonest = (
        int(occurring.argmax())
        if majority_label_of_training is None
        else majority_label_of_training
    )
    # A probability of exactly 0 stands for one too small for its format.
    likelihood = np.maximum(
        scores[np.arange(images), truth], np.finfo(np.float64).tiny
    )
    reliability = _reliability(confidence, correct)
    result: dict[str, Any] = {
        "accuracy": {
            "value": right / images,
            "low": low,
            "high": high,
            "n": images,
        },
        "balanced_accuracy": math.fsum(recalls) / len(recalls),
        "macro_f1": math.fsum(f1s) / len(f1s),
        "majority": float(occurring[commonest] / images),
    }
    if classes > 5:
        result["top5"] = float((_ranks(scores, truth) < 5).mean())
    result["cross_entropy"] = max(0.0, float(-np.log(likelihood).mean()))
    result["expected_calibration_error"] = math.fsum(
        part["n"] * abs(part["accuracy"] - part["confidence"]) / images
        for part in reliability
        if part["n"]
    )
    result["per_class"] = per_class
    result["confusion"] = confusion.tolist()
    result["reliability"] = reliability
    result["warnings"] = _warnings(
        result,
        labels[commonest],
        majority_label_of_training is not None,
    )
    return result


def sentence(quality: dict[str, Any]) -> str:
    """Returns `quality` as one line: the accuracy with what it is worth."""
    accuracy = quality["accuracy"]
    return (
        f"accuracy {100 * accuracy['value']:.1f} % (95 % interval "
        f"{100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f}, "
        f"n = {accuracy['n']}), balanced "
        f"{100 * quality['balanced_accuracy']:.1f} %, majority baseline "
        f"{100 * quality['majority']:.1f} %"
    )


def predictions_rows(
    paths: Sequence[str],
    probabilities: np.ndarray,
    labels: Sequence[str],
    *,
    splits: Sequence[str] | None = None,
    true_labels: Sequence[str] | None = None,
) -> tuple[list[str], Iterator[list[Any]]]:
    """Returns the header and the rows of predictions.csv.

    `probabilities` [n, k] belong to `paths` [n]; `splits` [n] and
    `true_labels` [n] are columns only where given. Probabilities carry nine
    significant digits, which is what a float32 needs to be read back.
    """
    scores = np.asarray(probabilities).astype(np.float64)
    if scores.shape != (len(paths), len(labels)):
        raise ValueError(
            "`probabilities` must be [n, k] for n paths and k labels. "
            f"Received: shape {scores.shape}, {len(paths)} paths, "
            f"{len(labels)} labels."
        )
    for name, column in (("splits", splits), ("true_labels", true_labels)):
        if column is not None and len(column) != len(paths):
            raise ValueError(
                f"`{name}` must have one entry a path. Received: "
                f"{len(column)} for {len(paths)} paths."
            )
    header = ["path"]
    if splits is not None:
        header.append("split")
    if true_labels is not None:
        header.append("true_label")
    header += ["label", "score", *(f"p_{label}" for label in labels)]

    def rows() -> Iterator[list[Any]]:
        # One row at a time: 50,000 images of 1,000 classes would take
        # gigabytes as Python's numbers.
        for index, path in enumerate(paths):
            row: list[Any] = [path]
            if splits is not None:
                row.append(splits[index])
            if true_labels is not None:
                row.append(true_labels[index])
            shares = [float(f"{share:.9g}") for share in scores[index]]
            answer = int(scores[index].argmax())
            yield [*row, labels[answer], shares[answer], *shares]

    return header, rows()


def _check(
    probabilities: np.ndarray, targets: np.ndarray, labels: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    scores = np.asarray(probabilities).astype(np.float64)
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
    if not np.isfinite(scores).all():
        broken = int((~np.isfinite(scores)).any(axis=1).sum())
        raise errors.UserError(
            f"the model gives no finite scores for {broken} of {len(truth)} "
            "images: its training diverged. Train again with a lower "
            "learning rate."
        )
    # Logits given by mistake would pass unnoticed: their argmax is right.
    if scores.min() < 0 or np.abs(scores.sum(axis=1) - 1).max() > 0.02:
        raise ValueError(
            "`probabilities` must be at least 0 and sum to 1 for each image. "
            f"Received: values from {scores.min():g}, sums from "
            f"{scores.sum(axis=1).min():g} to {scores.sum(axis=1).max():g}. "
            "Were they logits?"
        )
    return scores, truth


def _per_class(
    confusion: np.ndarray, labels: Sequence[str]
) -> list[dict[str, Any]]:
    rows = []
    for index, label in enumerate(labels):
        hits = int(confusion[index, index])
        occurring = int(confusion[index].sum())
        answered = int(confusion[:, index].sum())
        rows.append(
            {
                "label": str(label),
                "precision": hits / answered if answered else None,
                "recall": hits / occurring if occurring else None,
                "f1": (
                    2 * hits / (occurring + answered)
                    if occurring + answered
                    else None
                ),
                "n": occurring,
            }
        )
    return rows


def _ranks(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    # Ties go to the earlier class, as in argmax.
    own = scores[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(scores.shape[1])[None] < truth[:, None]
    return ((scores > own) | ((scores == own) & earlier)).sum(axis=1)


def _reliability(
    confidence: np.ndarray, correct: np.ndarray
) -> list[dict[str, Any]]:
    edges = np.arange(_BINS + 1) / _BINS
    # Bins hold their upper edge, not their lower one, as in the paper.
    bins = np.digitize(confidence, edges[1:-1], right=True)
    result = []
    for index in range(_BINS):
        inside = bins == index
        images = int(inside.sum())
        result.append(
            {
                "low": float(edges[index]),
                "high": float(edges[index + 1]),
                "n": images,
                "confidence": (
                    float(confidence[inside].mean()) if images else None
                ),
                "accuracy": float(correct[inside].mean()) if images else None,
            }
        )
    return result


def _warnings(
    result: dict[str, Any], commonest: str, of_training: bool
) -> list[str]:
    accuracy = result["accuracy"]
    interval = f"{_percent(accuracy['low'])} to {_percent(accuracy['high'])}"
    found = []
    if accuracy["low"] <= result["majority"]:
        where = "training" if of_training else "these"
        verb = (
            "does not surely beat"
            if accuracy["value"] > result["majority"]
            else "does not beat"
        )
        found.append(
            f"The accuracy of {_percent(accuracy['value'])} (95 % interval "
            f"{interval}) {verb} always answering '{commonest}', the "
            f"commonest class of {where} images: "
            f"{_percent(result['majority'])}."
        )
    if accuracy["n"] < _FEW_IMAGES:
        width = 100 * (accuracy["high"] - accuracy["low"])
        found.append(
            f"Only {accuracy['n']} image{'s' if accuracy['n'] > 1 else ''}: "
            f"the accuracy's 95 % interval is {width:.1f} points wide "
            f"({interval})."
        )
    absent = [row["label"] for row in result["per_class"] if not row["n"]]
    if absent:
        named = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        found.append(
            f"{len(absent)} of {len(result['per_class'])} classes have no "
            f"image here, so nothing is known of them: {named}."
        )
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
