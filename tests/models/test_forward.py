import concurrent.futures
import dataclasses

import keras
import numpy as np
import tiny

from tlkeras.data import images as image_stores
from tlkeras.machine import devices
from tlkeras.models import classifier as classifiers
from tlkeras.models import forward
from tlkeras.models import saving

IMAGES = np.random.default_rng(0).integers(
    0, 256, [11, tiny.SIZE, tiny.SIZE, 3], np.uint8
)


class Counting(keras.layers.Layer):
    """Counts how often it is traced."""

    def __init__(self):
        super().__init__()
        self.traces = 0

    def call(self, x):
        self.traces += 1
        return x


def test_whatever_comes_is_traced_once():
    counting = Counting()
    inputs = keras.Input([tiny.SIZE, tiny.SIZE, 3])
    model = keras.Model(inputs, keras.ops.mean(counting(inputs), axis=(1, 2)))
    counting.traces = 0  # Building the model calls it, too.
    run = forward.Forward(model)
    expected = IMAGES.mean(axis=(1, 2))
    for count in (11, 1, 4, 11):
        (found,) = run(IMAGES[:count])
        np.testing.assert_allclose(found, expected[:count], rtol=1e-5)
    found = [part for (part,) in run.over([IMAGES[:4], IMAGES[4:7]])]
    np.testing.assert_allclose(np.concatenate(found), expected[:7], rtol=1e-5)
    # XLA compiles each number of images: 16, 1 and 4.
    assert counting.traces == (3 if devices.compiles_each_shape() else 1)


def test_it_follows_the_weights_and_what_is_made_of_the_classifier():
    saved = saving.TrainedModel(
        tiny.classifier(), ("a", "b"), image_stores.Shape(tiny.SIZE, "crop")
    )
    head = saved.model.get_layer("head").layers[-1]
    head.kernel.assign(np.ones(head.kernel.shape))
    features, logits = saved.forward(IMAGES)
    np.testing.assert_allclose(logits[:, 0], features.sum(axis=1), rtol=1e-4)
    classifiers.divide_logits(saved.model, 2.0)
    other = dataclasses.replace(saved, labels=("c", "d"))
    assert other.forward is saved.forward
    again, halves = other.forward(IMAGES)
    np.testing.assert_array_equal(again, features)
    np.testing.assert_allclose(halves, logits / 2, rtol=1e-5)
    # Averaged otherwise it is another function.
    mirrored = dataclasses.replace(saved, tta="flip")
    assert mirrored.forward is not saved.forward


def test_another_model_is_another_function():
    saved = saving.TrainedModel(
        tiny.classifier(), ("a", "b"), image_stores.Shape(tiny.SIZE, "crop")
    )
    before, _ = saved.forward(IMAGES)
    other = dataclasses.replace(saved, model=tiny.classifier(1))
    after, _ = other.forward(IMAGES)
    np.testing.assert_allclose(
        after, other.model.get_layer("base")(IMAGES), rtol=1e-4, atol=1e-6
    )
    assert np.abs(before - after).max() > 1e-3


def test_threads_may_call_it():
    run = forward.Forward(tiny.classifier())
    expected = run(IMAGES)[0]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for (found,) in pool.map(run, [IMAGES] * 24):
            np.testing.assert_allclose(found, expected, atol=1e-6)
