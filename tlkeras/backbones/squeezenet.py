"""SqueezeNet 1.0 and 1.1, with the numbers of torchvision's.

Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters
(arXiv:1602.07360). Its classifier is a 1 x 1 convolution in front of the
average, with a ReLU on the scores. Transfer puts a linear head behind the
average, which is the same but for that ReLU; a class could not learn while its
score is below zero.
"""

import functools

import keras

from tlkeras.backbones import layers

# Filters of the 1 x 1 squeeze; each of the two expansions has four times as
# many. The modules count from 2, a pooling has the number of the layer in front
# of it.
POOL = 0
FIRES_1_0 = (POOL, 16, 16, 32, POOL, 32, 48, 48, 64, POOL, 64)
FIRES_1_1 = (POOL, 16, 16, POOL, 32, 32, POOL, 48, 48, 64, 64)
_DROPOUT = 0.5

_convolve = functools.partial(
    layers.convolve, activation="relu", initializer="he_uniform"
)


@layers.constructor("squeezenet1_0", smallest=21)
def SqueezeNet1_0(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Returns SqueezeNet 1.0, [n, h, w, 3] -> [n, 512], or logits."""
    return _network(x, (96, 7), FIRES_1_0, classes)


@layers.constructor("squeezenet1_1", smallest=17)
def SqueezeNet1_1(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Returns SqueezeNet 1.1, [n, h, w, 3] -> [n, 512], or logits."""
    return _network(x, (64, 3), FIRES_1_1, classes)


@layers.constructor("squeezenet1_1", smallest=31, size=227)
def SqueezeNet1_1_keras(
    x: keras.KerasTensor, classes: int
) -> keras.KerasTensor:
    """Returns SqueezeNet 1.1 as in the repository keras-squeezenet.

    Its poolings leave a border out that is narrower than a stride. At 224
    pixels there is none.
    """
    return _network(x, (64, 3), FIRES_1_1, classes, ceil_mode=False)


def _network(
    x: keras.KerasTensor,
    stem: tuple[int, int],
    fires: tuple[int, ...],
    classes: int,
    *,
    ceil_mode: bool = True,
) -> keras.KerasTensor:
    """Returns the network; `stem` are filters and kernel of its conv1."""
    filters, kernel = stem
    x = _convolve(x, filters, kernel, name="conv1", stride=2)
    number = 1
    for squeeze in fires:
        if squeeze == POOL:
            x = layers.max_pool(
                x, 3, 2, ceil_mode=ceil_mode, name=f"pool{number}"
            )
            continue
        number += 1
        x = _fire(x, squeeze, f"fire{number}")
    if classes:
        x = keras.layers.Dropout(_DROPOUT, name="dropout")(x)
        x = layers.convolve(
            x,
            classes,
            1,
            activation="relu",
            initializer=keras.initializers.RandomNormal(stddev=0.01),
            name="conv10",
        )
    return keras.layers.GlobalAveragePooling2D(name="pool")(x)


def _fire(x: keras.KerasTensor, squeeze: int, name: str) -> keras.KerasTensor:
    x = _convolve(x, squeeze, 1, name=f"{name}_squeeze1x1")
    narrow = _convolve(x, 4 * squeeze, 1, name=f"{name}_expand1x1")
    wide = _convolve(x, 4 * squeeze, 3, padding=1, name=f"{name}_expand3x3")
    return keras.layers.Concatenate(name=f"{name}_concat")([narrow, wide])
