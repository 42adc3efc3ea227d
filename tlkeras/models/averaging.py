"""Answers that are averaged over an image and its mirror image."""

import keras

# What `--tta` takes; the first averages nothing.
WAYS = ("none", "flip")


def averaged(model: keras.Model, way: str) -> keras.Model:
    """Returns a model that averages the logits of `model` as `way` says.

    It shares the weights. `flip` takes each image and its mirror image, left
    to right, which costs twice the time.
    """
    if way == "none":
        return model
    mirrored = model(keras.ops.flip(model.input, axis=2))
    return keras.Model(model.input, (model.output + mirrored) / 2)
