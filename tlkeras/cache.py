"""Frozen work done once: features in the place of images."""

import keras
import numpy as np
import tensorflow as tf

from tlkeras import progress as progresses
from tlkeras.backbones import base as bases
from tlkeras.data import batches

# Above this many bytes of features the base runs live.
_LARGEST = 4e9


def feed(
    model: keras.Model,
    live: batches.Feed,
    *,
    progress: progresses.Progress,
) -> batches.Feed | None:
    """Returns a feed of features for the head of `model`, whose base is frozen.

    Every view of a training image goes through the base once, and epochs then
    choose among them as they would have chosen live: same order, same views.
    None where the views are endless, or their features take over 4 GB.
    """
    views = live.views()
    base = bases.of(model)
    width = base.output.shape[-1]
    images = len(views) * live.train_images + live.validation_images
    if not views or images * width * 4 > _LARGEST:
        return None
    network = keras.Model(model.input, base.output)
    steps = sum(int(view.cardinality()) for view in views)
    progress.begin(
        "computing features", steps + int(live.validation.cardinality())
    )
    try:
        train = [_features(network, view, progress) for view in views]
        validation = _features(
            network,
            live.validation.map(lambda images, targets: images),
            progress,
        )
    finally:
        progress.end()
    return live.on_features(np.stack(train), validation)


def _features(
    network: keras.Model,
    images: tf.data.Dataset,
    progress: progresses.Progress,
) -> np.ndarray:
    """Returns the features [n, c], float32, of batches of images."""
    parts = []
    for batch in images:
        parts.append(network.predict_on_batch(batch).astype(np.float32))
        progress.advance()
    return np.concatenate(parts)
