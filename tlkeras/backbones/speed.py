"""How fast networks compute on this machine."""

import statistics
import time

import keras
import numpy as np

from tlkeras.backbones import catalog
from tlkeras.backbones import weights

BATCH = 16
# Batches whose median time counts, behind one in which all is prepared.
_BATCHES = 5


def measure(backbone: catalog.Backbone, image_size: int) -> float:
    """Returns the images a second that a network's features take here.

    Of random weights, which cost the same, in batches of 16; decoding and
    scaling are not in it.
    """
    made = weights.network(backbone, image_size, "none")
    shape = (BATCH, image_size, image_size, 3)
    images = np.random.default_rng(0).random(shape, np.float32)
    made.predict_on_batch(images)
    seconds = []
    for _ in range(_BATCHES):
        began = time.perf_counter()
        # What it returns lies in the machine's memory, so it has ended.
        made.predict_on_batch(images)
        seconds.append(time.perf_counter() - began)
    keras.backend.clear_session()
    return BATCH / statistics.median(seconds)
