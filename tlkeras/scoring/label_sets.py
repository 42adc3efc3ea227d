"""As many labels as it takes to hold the true one, so often as is wished.

Split conformal prediction: the least probability that a label needs is chosen
on images that the model did not learn from, so that in the long run the wished
share of sets hold the true label, however bad the model is (Sadinle, Lei and
Wasserman, 2019, https://arxiv.org/abs/1609.00451).
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkeras import errors
from tlkeras.models import saving
from tlkeras.scoring import intervals


def least(scores: np.ndarray, coverage: float) -> float | None:
    """Returns the probability that a label needs to stand in a set.

    scores: of the true class [m], on images that the model did not learn from,
    ascending. None where they are too few for `coverage`, in (0, 1).
    """
    # A hair more, for 1 - 0.95 is less than 0.05.
    rank = math.floor((len(scores) + 1) * (1 - coverage) + 1e-9)
    return float(scores[rank - 1]) if rank else None


def fewest(coverage: float) -> int:
    """Returns how many images `least` takes."""
    return math.ceil(1 / (1 - coverage) - 1e-9) - 1


def of(probabilities: np.ndarray, needed: float) -> np.ndarray:
    """Returns which labels stand in the sets [n, k]; the answer always does."""
    answers = probabilities.argmax(axis=1)[:, None]
    chosen = probabilities >= needed
    np.put_along_axis(chosen, answers, True, axis=1)
    return chosen


def measure(
    probabilities: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str],
    scores: np.ndarray,
    coverage: float,
) -> dict[str, Any]:
    """Returns what the sets of labelled images come to, JSON-ready.

    `coverage`: the wished one. `needed`: the probability that a label needs.
    `held`: how often a set has the true label, with its 95 % interval.
    `labels`: in a set, on average; `single`: the share of sets of one. All but
    the first are None where `scores` are too few; `fewest` is what it takes.
    """
    needed = least(scores, coverage)
    result: dict[str, Any] = {
        "coverage": coverage,
        "fewest": fewest(coverage),
        "needed": needed,
        "held": None,
        "labels": None,
        "single": None,
    }
    if needed is not None:
        sets = of(probabilities, needed)
        share = intervals.share(sets[np.arange(len(targets)), targets], groups)
        sizes = sets.sum(axis=1)
        result["held"] = {
            "value": share.value,
            "low": share.low,
            "high": share.high,
        }
        result["labels"] = float(sizes.mean())
        result["single"] = float((sizes == 1).mean())
    return result


def needed_by(classifier: saving.TrainedModel, coverage: float) -> float:
    """Returns the probability that a label needs for a classifier.

    Raises `UserError` where it was saved without the answers on validation
    images, or these were too few.
    """
    known = classifier.reference
    needed = None if known is None else least(known.scores, coverage)
    if needed is None:
        there = (
            "it was saved without them"
            if known is None
            else f"its run had {len(known.scores)}"
        )
        raise errors.UserError(
            f"`coverage` {coverage:g} takes the model's answers on at least "
            f"{fewest(coverage)} validation images; {there}. Give a lower one, "
            "or train again with more images."
        )
    return needed


def words(
    probabilities: np.ndarray, needed: float, labels: Sequence[str]
) -> list[str]:
    """Returns each set as a JSON list, the most probable label first."""
    sets = of(probabilities, needed)
    orders = np.argsort(-probabilities, axis=1, kind="stable")
    return [
        json.dumps(
            [labels[each] for each in order if chosen[each]],
            ensure_ascii=False,
        )
        for chosen, order in zip(sets, orders, strict=True)
    ]
