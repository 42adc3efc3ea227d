"""A model on images that it does not learn from, compiled once for all of them.

Keras' `predict` and `predict_on_batch` are compiled anew for a last batch of
fewer images, for each way in which a batch is handed over, and for each model
that shares the layers: of MobileNetV2 a core takes 1.3 s each time.
"""

import functools
import math
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tlkeras.machine import devices

# Weights that go into a graph as constants at most [bytes]. On two cores
# TensorFlow then takes 0.65 to 0.8 of the time of variables (MobileNetV2, 9 MB,
# EfficientNetB0, 16 MB), because it folds what BatchNorm does into the
# convolutions. ResNet50 (94 MB) took 5 s longer to be written and loaded.
_CONSTANT = 32e6


def is_small(model: keras.Model) -> bool:
    """Tells whether it pays to have the weights as constants in a graph."""
    sizes = (
        math.prod(each.shape) * keras.ops.convert_to_numpy(each).itemsize
        for each in model.weights
    )
    return sum(sizes) <= _CONSTANT


def constant_graph(
    model: keras.Model, images: int | None = None
) -> Callable[[Any], list[tf.Tensor]]:
    """Returns what TensorFlow traces of `model` with the weights of now.

    It takes `images` pictures, None is any number, as `Forward.graph` does.
    """
    learning, others = (
        [keras.ops.convert_to_numpy(variable) for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
        )
    )
    given = tf.TensorSpec([images, *model.input.shape[1:]], tf.uint8)

    @tf.function(input_signature=[given], autograph=False)
    def run(images):
        found, _ = model.stateless_call(
            [tf.constant(value) for value in learning],
            [tf.constant(value) for value in others],
            images,
            training=False,
        )
        return keras.tree.flatten(found)

    # Traced at once: TensorFlow warns of functions that are made in a loop.
    return run.get_concrete_function()


class Forward:
    """Images [n, h, w, 3], uint8 -> an array [n, ...] for each output.

    The model has the weights that it has when it is called, and is in
    inference mode. Threads may call it.

    of: whose weights they are, where `model` was made of another one.
    """

    def __init__(self, model: keras.Model, of: keras.Model | None = None):
        self.of = of or model
        self._model = model
        self._sizes: set[int] = set()
        self._lock = threading.Lock()

    @functools.cached_property
    def graph(self) -> Callable[[Any], list[tf.Tensor]]:
        """What TensorFlow has traced, for any number of images."""
        images = tf.TensorSpec([None, *self._model.input.shape[1:]], tf.uint8)

        @tf.function(input_signature=[images], autograph=False)
        def run(images):
            return keras.tree.flatten(self._model(images, training=False))

        return run.get_concrete_function()

    def __call__(self, images: Any) -> list[np.ndarray]:
        """Returns the outputs; images: an array or a tensor, not empty."""
        if not devices.compiles_each_shape():
            return [
                each.numpy()
                for each in self.graph(tf.convert_to_tensor(images))
            ]
        count = len(images)
        # Keras' functions on JAX give the values of variables away meanwhile.
        with self._lock:
            size = self._size(count)
            self._sizes.add(size)
            found = self._model.predict_on_batch(_filled(images, size))
        return [each[:count] for each in keras.tree.flatten(found)]

    def over(self, batches: Iterable[Any]) -> Iterator[list[np.ndarray]]:
        """Yields the outputs of batches; the last one may be smaller."""
        size = 0
        for images in batches:
            size = max(size, len(images))
            if devices.compiles_each_shape():
                with self._lock:
                    self._sizes.add(size)
                whole = self(_filled(images, size))
                yield [each[: len(images)] for each in whole]
            else:
                yield self(images)

    def _size(self, count: int) -> int:
        """Returns how many images to compute where there are `count`.

        As many as before, on a CPU unless that is far more; else a power of
        two, of which there are few.
        """
        most = math.inf if devices.has_accelerator() else 4
        known = (each for each in self._sizes if count <= each <= most * count)
        return min(known, default=1 << (count - 1).bit_length())


def _filled(images: Any, size: int) -> np.ndarray:
    """Returns `images`, of which the first ones come once more up to `size`."""
    return np.resize(images, [size, *images.shape[1:]])
