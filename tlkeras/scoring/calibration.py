"""Probabilities that are true: logits divided by a temperature.

After fine-tuning a network is surer of its answers than it is right. One
number, fitted on images that it did not learn from, mends most of that and
changes no answer (Guo et al., 2017, https://arxiv.org/abs/1706.04599).
"""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special

from tlkeras import records
from tlkeras.models import task as tasks
from tlkeras.scoring import intervals
from tlkeras.scoring import metrics

# With 50 images the temperature of a fine-tuned network made probabilities
# better in 99 of 100 draws, with 30 in 97, with 20 it made some far worse
# (MobileNetV2-0.35, five flowers).
_FEWEST = 50
# Between a twentieth and twenty.
_POWERS = (-3.0, 3.0)
# Draws of images for the interval of a calibration error.
_DRAWS = 1000


@dataclasses.dataclass(frozen=True)
class Temperature:
    """What the logits are divided by; 1 where nothing was to be fitted.

    images: of validation, on which it was fitted. text: what was done, and
    why.
    """

    value: float
    images: int
    text: str


def fit(
    probabilities: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str],
    results: Sequence[records.PhaseResult],
    *,
    wished: bool = True,
) -> Temperature:
    """Returns the temperature for answers on validation images.

    probabilities: [n, k]. targets, groups: [n]. results: of the phases that
    the model is made of. A head that was solved with a penalty is left as it
    is: its probabilities are true already, and few images would only add
    noise.
    """
    count = len(set(groups))
    kept = [
        each for each in results if each.best_epoch and not each.rolled_back
    ]
    why = ""
    if not wished:
        why = "by --calibrate=none"
    elif not kept or kept[-1].stopped == "solved":
        why = (
            "a solved head has a penalty that was chosen on held-out images, "
            "and its probabilities gain nothing by it"
        )
    elif count < _FEWEST:
        unit = "images" if count == len(targets) else "groups of images"
        why = (
            f"it takes {_FEWEST} validation images, and there are {count} "
            f"{unit}"
        )
    if why:
        return Temperature(1.0, len(targets), f"Not calibrated: {why}.")
    value = _fitted(np.log(_positive(probabilities)), targets)
    surer = "surer" if value > 1 else "less sure"
    return Temperature(
        value,
        len(targets),
        f"The logits are divided by {value:.2f}, fitted on {len(targets)} "
        f"validation images: the network was {surer} than it was right. No "
        "answer changes by it.",
    )


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns the probabilities [n, k] of logits divided by `temperature`."""
    if temperature == 1:
        return probabilities
    logarithms = np.log(_positive(probabilities)) / temperature
    return scipy.special.softmax(logarithms, axis=-1)


def report(
    temperature: Temperature,
    probabilities: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str],
) -> dict[str, Any]:
    """Returns what is said of a temperature, measured on test images.

    probabilities: theirs [n, k] with it.
    """
    before = tempered(probabilities, 1 / temperature.value)
    return {
        "temperature": temperature.value,
        "images": temperature.images,
        "text": temperature.text,
        "before": error(before, targets, groups),
        "after": error(probabilities, targets, groups),
    }


def error(
    probabilities: np.ndarray, targets: np.ndarray, groups: Sequence[str]
) -> Mapping[str, float]:
    """Returns the calibration error with a 95 % interval, and that of chance.

    The interval is that of 1,000 draws of groups, around the error. `chance` is
    the mean error that true probabilities would show on so many images.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    random = np.random.default_rng(0)
    members = intervals.members(groups)
    drawn = []
    for _ in range(_DRAWS):
        some = random.integers(0, len(members), len(members))
        chosen = np.concatenate([members[each] for each in some])
        drawn.append(
            metrics.calibration_error(confidence[chosen], right[chosen])
        )
    chance = [
        metrics.calibration_error(
            confidence, random.random(len(confidence)) < confidence
        )
        for _ in range(_DRAWS // 10)
    ]
    value = metrics.calibration_error(confidence, right)
    # A draw has an error of its own on top, which is not that of the images.
    low, high = np.quantile(drawn, [0.025, 0.975]) - np.mean(drawn) + value
    return {
        "value": value,
        "low": max(0.0, float(low)),
        "high": float(high),
        "chance": float(np.mean(chance)),
    }


def _fitted(logits: np.ndarray, targets: np.ndarray) -> float:
    """Returns the temperature of the least cross-entropy."""

    def loss(power: float) -> float:
        score = tasks.SINGLE_LABEL.score(logits / np.exp(power), targets)
        return score.cross_entropy

    found = scipy.optimize.minimize_scalar(
        loss, bounds=_POWERS, method="bounded"
    )
    return float(np.exp(found.x))


def _positive(probabilities: np.ndarray) -> np.ndarray:
    # 0 stands for what is too small for its format.
    return np.maximum(probabilities, np.finfo(np.float64).tiny)
