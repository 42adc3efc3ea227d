"""The graph that converters take: pixels to probabilities, all constants.

Nothing of our SavedModel converts: its signatures decode files and resize by
operations that other formats lack. What is converted takes images of one size.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tlkeras.backbones import base as bases
from tlkeras.machine import keras_private
from tlkeras.models import saving

INPUT = "images"
OUTPUTS = ("probabilities", "similarity", "known")


def function(
    classifier: saving.TrainedModel, *, batch: int | None, whole: bool = True
) -> tuple[Any, tf.TensorSpec]:
    """Returns a `tf.function` without variables, and what it takes.

    It takes `images` [batch, size, size, 3], float32 in 0..255, and returns
    `probabilities` [batch, k]; scaling and softmax are in it, and all is
    computed in float32. Where the classifier tells pictures that are none of
    its classes, it also returns `similarity` [batch] to training images and
    whether that is `known` [batch], unless `whole` is false.

    batch: None is any.
    """
    wide = dataclasses.replace(classifier, model=_in_float32(classifier.model))
    model = wide.whole if whole else wide.averaged
    least = classifier.reference and classifier.reference.similarity
    activation = keras.activations.get(classifier.task.activation)
    size = classifier.shape.size
    spec = tf.TensorSpec([batch, size, size, 3], tf.float32, INPUT)

    @tf.function(input_signature=[spec], autograph=False)
    def live(images):
        logits, *similarity = keras.tree.flatten(model(images, training=False))
        known = [each >= least for each in similarity]
        return activation(logits), *similarity, *known

    with _inlined():
        constant = keras_private.freeze_function(live.get_concrete_function())

    @tf.function(input_signature=[spec], autograph=False)
    def answer(images):
        found = tf.nest.flatten(constant(images))
        return dict(zip(OUTPUTS, found, strict=False))

    return answer, spec


@contextlib.contextmanager
def _inlined() -> Iterator[None]:
    """Lets functions inside of functions be traced as part of the outer one.

    Keras wraps grouped convolutions, as ConvNeXt has them, in a function that
    XLA must compile; to other programs that is an unknown operation.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _in_float32(model: keras.Model) -> keras.Model:
    """Returns the model, or a copy of it that computes in float32.

    What a GPU trained in a narrow format goes to other programs in one that
    all of them have. Its variables are float32 in either case.
    """
    narrow = bases.of(model).compute_dtype
    if narrow == "float32":
        return model
    described = model.to_json().replace(f'"mixed_{narrow}"', '"float32"')
    copy = keras.models.model_from_json(described)
    copy.set_weights(model.get_weights())
    return copy
