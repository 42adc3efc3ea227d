"""AlexNet in one tower, with the numbers of torchvision's.

Krizhevsky, One weird trick for parallelizing convolutional neural networks
(arXiv:1404.5997).
"""

import keras

from tlkeras.backbones import layers

# Filters, kernel, stride, padding (pixels), and whether a pooling follows.
CONVOLUTIONS = (
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)
# Side of the map in front of fc6, in pixels, at any size of the image.
MAP = 6
_UNITS = 4096
_DROPOUT = 0.5


@layers.constructor("alexnet", smallest=63)
def AlexNet(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Returns AlexNet, [n, h, w, 3] -> [n, 4096], or logits [n, classes].

    The features are those of fc7; what is pooled is the map in front of fc6, to
    6 x 6. The dropout in front of fc6 and fc7 belongs to the base.
    """
    for number, (filters, kernel, stride, padding, pool) in enumerate(
        CONVOLUTIONS, 1
    ):
        x = layers.convolve(
            x,
            filters,
            kernel,
            stride=stride,
            padding=padding,
            activation="relu",
            name=f"conv{number}",
        )
        if pool:
            x = layers.max_pool(x, 3, 2, name=f"pool{number}")
    x = layers.average_to(x, MAP, name="pool")
    x = keras.layers.Flatten(name="flatten")(x)
    for name in ("fc6", "fc7"):
        x = keras.layers.Dropout(_DROPOUT, name=f"{name}_dropout")(x)
        x = keras.layers.Dense(
            _UNITS, "relu", kernel_initializer="he_normal", name=name
        )(x)
    return keras.layers.Dense(classes, name="fc8")(x) if classes else x
