"""The slope of a model's outputs at its inputs, on each backend."""

import keras
import numpy as np


def of(
    model: keras.Model, inputs: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Returns the slope [n, ...] of each image's weighted outputs, float32.

    inputs: [n, ...]. weights: of the outputs [n, k]; the model is called in
    inference mode.
    """
    if keras.backend.backend() == "jax":
        import jax

        def weighted(inputs):
            return keras.ops.sum(model(inputs, training=False) * weights)

        return np.asarray(jax.grad(weighted)(inputs), np.float32)
    import tensorflow as tf

    given = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(given)
        weighted = tf.reduce_sum(model(given, training=False) * weights)
    return tape.gradient(weighted, given).numpy()
