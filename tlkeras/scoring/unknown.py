"""'None of these': pictures that are unlike all that the model learned from.

A classifier answers with one of its classes whatever it is shown, and often is
sure of it. How like a picture's features are to those of training images tells
far more (Sun et al., 2022, Out-of-Distribution Detection with Deep Nearest
Neighbors, https://arxiv.org/abs/2204.06507). The least likeness is chosen so
that a wished share of the validation images is refused.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tlkeras import progress as progresses
from tlkeras.models import reference as references
from tlkeras.models import saving
from tlkeras.scoring import intervals

# With 200 of 837 training images as many strangers were refused as with all.
MOST = 1000


def sample(targets: np.ndarray, most: int = MOST) -> np.ndarray:
    """Returns at most `most` indices into `targets` [n], even in each class."""
    if len(targets) <= most:
        return np.arange(len(targets))
    order = np.random.default_rng(0).permutation(len(targets))
    # How many of its class come before each.
    ranks = np.empty(len(targets), np.int64)
    counts = np.zeros(targets.max() + 1, np.int64)
    for index in order:
        ranks[index] = counts[targets[index]]
        counts[targets[index]] += 1
    chosen = order[np.argsort(ranks[order], kind="stable")][:most]
    return np.sort(chosen)


def features(
    classifier: saving.TrainedModel,
    squares: tf.data.Dataset,
    *,
    progress: progresses.Progress,
) -> np.ndarray:
    """Returns the features [n, c] of images, float32.

    squares: batches, as `batches.evaluation` makes them.
    """
    parts = []
    progress.begin("remembering", int(squares.cardinality()))
    try:
        for part, _ in classifier.forward.over(squares):
            parts.append(part)
            progress.advance()
    finally:
        progress.end()
    return np.concatenate(parts)


def of_length_one(features: np.ndarray) -> np.ndarray:
    """Returns features [n, c] as a `Reference` has them, float16."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(lengths, 1e-12)).astype(np.float16)


def threshold(similarities: np.ndarray, rate: float) -> float | None:
    """Returns the least similarity that is known.

    similarities: of validation images [m], of which at most the share `rate`
    has less. None where they are too few.
    """
    rank = math.floor((len(similarities) + 1) * rate + 1e-9)
    return float(np.sort(similarities)[rank - 1]) if rank else None


def fewest(rate: float) -> int:
    """Returns how many validation images `threshold` takes."""
    return math.ceil(1 / rate - 1e-9) - 1


def report(
    reference: references.Reference,
    rate: float,
    similarities: np.ndarray | None,
    groups: Sequence[str],
) -> dict[str, Any]:
    """Returns what is said of it, JSON-ready.

    similarities: of the test images; None where the model learned from them.
    `refused`: their share that is refused, all of which are known, with its
    95 % interval.
    """
    refused = None
    if similarities is not None and len(reference.features):
        share = intervals.share(similarities < reference.similarity, groups)
        refused = {"value": share.value, "low": share.low, "high": share.high}
    return {
        "rate": rate,
        "images": len(reference.features),
        "similarity": reference.similarity,
        "fewest": fewest(rate) if rate else None,
        "refused": refused,
    }
