"""Test images for the page of a run, with what the model saw in them."""

from typing import Any

import numpy as np
import PIL.Image
import tensorflow as tf

from tlkeras import errors
from tlkeras.data import dataset as datasets
from tlkeras.models import saving
from tlkeras.report import explained
from tlkeras.scoring import explaining

# How many mistakes are shown, and right answers: of each class, and in all.
_MISTAKES = 24
_RIGHT_EACH, _RIGHT = 2, 24
# Side of a map at most [pixels].
_SIDE = 160


def choose(
    classifier: saving.TrainedModel,
    probabilities: np.ndarray,
    data: datasets.Dataset,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the worst mistakes, worst first, and the surest right answers.

    probabilities: [n, k] of the test images of `data`.

    Each has `path`, `true_label`, `label`, `score`, its picture as `png`, and
    as `maps` the evidence for the answer and, if that is another, for the true
    class, unless maps are the same for all: [] for a network without maps.
    `method` and `places` say how these were computed.
    """
    task = classifier.task
    positions = data.positions("test")
    targets = data.targets[positions]
    answers, scores = task.answers(probabilities)
    right = task.right(answers, targets)
    wrong = np.flatnonzero(~right)
    likelihood = probabilities[wrong, targets[wrong]]
    worst = wrong[np.argsort(likelihood, kind="stable")][:_MISTAKES]
    surest: list[int] = []
    for target in np.unique(targets):
        of_class = np.flatnonzero(right & (targets == target))
        order = np.argsort(-scores[of_class], kind="stable")
        surest += of_class[order[:_RIGHT_EACH]].tolist()
    chosen = np.array([*worst, *surest[:_RIGHT]], np.int64)
    if not len(chosen):
        return [], []
    squares = data.images.rows(data.rows[positions[chosen]])
    maps = _maps(classifier, squares, answers[chosen], targets[chosen])
    found = [
        {
            "path": data.paths[positions[index]],
            "true_label": data.labels[targets[index]],
            "label": data.labels[answers[index]],
            "score": float(scores[index]),
            "png": tf.io.encode_png(square).numpy(),
            **drawn,
        }
        for index, square, drawn in zip(chosen, squares, maps, strict=True)
    ]
    return found[: len(worst)], found[len(worst) :]


def _maps(
    classifier: saving.TrainedModel,
    squares: np.ndarray,
    answers: np.ndarray,
    targets: np.ndarray,
) -> list[dict[str, Any]]:
    """Returns the maps of each picture as JPEG files, and their method."""
    try:
        found = explaining.explain(
            classifier.model,
            squares,
            np.stack([answers, targets], axis=1),
        )
    except errors.UserError:
        return [{"maps": [], "method": "", "places": ""} for _ in squares]
    places = found.values.shape[2:]
    alike = found.method == explaining.ROLL_OUT
    return [
        {
            "maps": [
                explained.jpeg(
                    PIL.Image.fromarray(explaining.overlay(square, values)),
                    _SIDE,
                )
                for values in maps[: 1 if answer == target or alike else 2]
            ],
            "method": found.method,
            "places": " × ".join(map(str, places)),
        }
        for square, maps, answer, target in zip(
            squares, found.values, answers, targets, strict=True
        )
    ]
