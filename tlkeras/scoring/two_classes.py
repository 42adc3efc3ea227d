"""Of two classes: curves over all thresholds, and the one that is wished."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn.metrics

from tlkeras import errors
from tlkeras.models import threshold as thresholds
from tlkeras.scoring import intervals
from tlkeras.settings import wish as wishes

# Points of a curve that are kept; more cannot be seen.
_POINTS = 200


def curves(
    probabilities: np.ndarray, targets: np.ndarray, positive: int, label: str
) -> dict[str, Any] | None:
    """Returns the curves of one of two classes, JSON-ready.

    probabilities: [n, 2]. positive: its index, and `label` its name. `roc`:
    shares of false alarms and of those found, for all thresholds, with the area
    `roc_area`: how often one of the class has a higher score than one of the
    other. `precision_recall`: recall and precision, with `average_precision`,
    which is `base` by chance. None where one class is all there is.
    """
    truth = targets == positive
    if truth.all() or not truth.any():
        return None
    scores = probabilities[:, positive]
    alarms, found, _ = sklearn.metrics.roc_curve(truth, scores)
    precision, recall, _ = sklearn.metrics.precision_recall_curve(truth, scores)
    return {
        "positive": label,
        "roc_area": float(sklearn.metrics.roc_auc_score(truth, scores)),
        "average_precision": float(
            sklearn.metrics.average_precision_score(truth, scores)
        ),
        "base": float(truth.mean()),
        "roc": _thinned(alarms, found),
        "precision_recall": _thinned(recall[::-1], precision[::-1]),
    }


def choose(
    wish: wishes.Wish,
    probabilities: np.ndarray,
    targets: np.ndarray,
    positive: int,
) -> thresholds.Threshold | None:
    """Returns the threshold that fulfils a wish on these images; None if none.

    probabilities: [n, 2]. Of those that do it is the one that finds most, or,
    where the recall is wished, the one with fewest false alarms. It lies in the
    middle between two scores.
    """
    truth = targets == positive
    if truth.all() or not truth.any():
        return None
    own = probabilities[:, positive]
    scores = np.unique(own)
    # Beyond the last nothing would be answered, which is never wrong.
    edges = np.concatenate([[0.0], (scores[1:] + scores[:-1]) / 2])
    answered = len(own) - np.searchsorted(np.sort(own), edges)
    hits = truth.sum() - np.searchsorted(np.sort(own[truth]), edges)
    alarms, missed = answered - hits, truth.sum() - hits
    if wish.kind == "cost":
        chosen = np.argmin(wish.value * missed + alarms)
    else:
        fulfilled = (
            hits >= wish.value * truth.sum() - 1e-9
            if wish.kind == "recall"
            else hits >= wish.value * (hits + alarms) - 1e-9
        )
        if not fulfilled.any():
            return None
        # Edges ascend: the lowest finds most, the highest alarms least.
        places = np.flatnonzero(fulfilled)
        chosen = places[-1 if wish.kind == "recall" else 0]
    return thresholds.Threshold(positive, float(edges[chosen]))


def report(
    wish: wishes.Wish,
    threshold: thresholds.Threshold | None,
    label: str,
    validation: tuple[np.ndarray, np.ndarray, Sequence[str]],
    test: tuple[np.ndarray, np.ndarray, Sequence[str]],
) -> dict[str, Any]:
    """Returns what a threshold comes to, as report.json says it.

    validation, test: probabilities [n, 2], targets [n] and groups [n]; the
    first have chosen it. `text` says it in words. `precision` and `recall`
    carry 95 % intervals; `false_alarms` and `missed` are counts.
    """
    found: dict[str, Any] = {
        "wish": wish.kind,
        "value": wish.value,
        "positive": label,
        "probability": threshold.probability if threshold else None,
    }
    if threshold is None:
        found["text"] = (
            f"No threshold gives {label} a {wish.kind} of {wish.value:g} on "
            "the validation images, so the likelier class is answered."
        )
        return found
    for name, split in (("validation", validation), ("test", test)):
        found[name] = _measured(threshold, *split)
    found["text"] = _sentence(found)
    return found


def _sentence(found: dict[str, Any]) -> str:
    goal = f"{found['wish']} {found['value']:g}"
    if found["wish"] == "cost":
        goal = f"one missed costs {found['value']:g} false alarms"
    shares = [
        f"{name} {100 * share['value']:.1f} % (95 % interval "
        f"{100 * share['low']:.1f} to {100 * share['high']:.1f})"
        for name in ("precision", "recall")
        if (share := found["test"][name]) is not None
    ]
    return (
        f"{found['positive']} is answered from a probability of "
        f"{found['probability']:.3f} on, chosen on the validation images "
        f"({goal}). On the test images: "
        f"{', '.join([*shares, _counted(found['test'])])}."
    )


def _counted(test: dict[str, Any]) -> str:
    alarms = errors.count(test["false_alarms"], "false alarm")
    return f"{alarms}, {test['missed']} missed"


def _measured(
    threshold: thresholds.Threshold,
    probabilities: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str],
) -> dict[str, Any]:
    answers, _ = threshold.task.answers(probabilities)
    answered, truth = (
        answers == threshold.positive,
        targets == threshold.positive,
    )
    result: dict[str, Any] = {
        "false_alarms": int((answered & ~truth).sum()),
        "missed": int((truth & ~answered).sum()),
    }
    for name, of in (("precision", answered), ("recall", truth)):
        result[name] = None
        if of.any():
            share = intervals.share(
                (answered & truth)[of],
                [groups[index] for index in np.flatnonzero(of).tolist()],
            )
            result[name] = {
                "value": share.value,
                "low": share.low,
                "high": share.high,
            }
    return result


def _thinned(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
    """Returns points [x, y], at most 200 of them, the ends among them."""
    places = np.linspace(0, len(x) - 1, min(len(x), _POINTS)).round()
    return [[float(x[i]), float(y[i])] for i in places.astype(int)]
