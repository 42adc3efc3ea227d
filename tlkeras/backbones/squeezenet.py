"""SqueezeNet 1.0 and 1.1, with the numbers of torchvision's.

Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters
(arXiv:1602.07360). Its classifier is a 1 x 1 convolution in front of the
average, with a ReLU on the scores. Transfer puts a linear head behind the
average, which is the same but for that ReLU; a class could not learn while its
score is below zero.
"""

import keras

from tlkeras.backbones import layers

# Stands between fire modules.
POOL = (0, 0)
# Filters of the 1 x 1 squeeze, and of each of the two expansions. The modules
# count from 2, a pooling has the number of the layer in front of it.
FIRES_1_0 = (
    POOL,
    (16, 64),
    (16, 64),
    (32, 128),
    POOL,
    (32, 128),
    (48, 192),
    (48, 192),
    (64, 256),
    POOL,
    (64, 256),
)
FIRES_1_1 = (
    POOL,
    (16, 64),
    (16, 64),
    POOL,
    (32, 128),
    (32, 128),
    POOL,
    (48, 192),
    (48, 192),
    (64, 256),
    (64, 256),
)
_DROPOUT = 0.5


def SqueezeNet1_0(
    *,
    include_top: bool = False,
    weights: str | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    pooling: str = "avg",
    classes: int = 1000,
) -> keras.Model:
    """Returns SqueezeNet 1.0, [n, h, w, 3] -> [n, 512], or logits.

    The arguments are those of `keras.applications`, as far as they apply; the
    logits are [n, classes].

    Raises ValueError for images too small and for weights.
    """
    layers.check("SqueezeNet1_0", 21, input_shape, weights, pooling)
    return _network(
        "squeezenet1_0", (96, 7), FIRES_1_0, input_shape, include_top, classes
    )


def SqueezeNet1_1(
    *,
    include_top: bool = False,
    weights: str | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    pooling: str = "avg",
    classes: int = 1000,
    variant: str = "torch",
) -> keras.Model:
    """Returns SqueezeNet 1.1, [n, h, w, 3] -> [n, 512], or logits.

    variant: `torch`, or `keras` as in the repository keras-squeezenet, whose
      poolings leave a border out that is narrower than a stride. At 224 pixels
      there is none.

    The other arguments are those of `keras.applications`, as far as they
    apply; the logits are [n, classes].

    Raises ValueError for images too small, for weights, and for a variant that
    there is not.
    """
    if variant not in ("torch", "keras"):
        raise ValueError(
            f"`variant` must be torch or keras. Received: {variant!r}."
        )
    ceil_mode = variant == "torch"
    smallest = 17 if ceil_mode else 31
    layers.check("SqueezeNet1_1", smallest, input_shape, weights, pooling)
    return _network(
        "squeezenet1_1",
        (64, 3),
        FIRES_1_1,
        input_shape,
        include_top,
        classes,
        ceil_mode=ceil_mode,
    )


def _network(
    name: str,
    stem: tuple[int, int],
    fires: tuple[tuple[int, int], ...],
    input_shape: tuple[int, int, int],
    include_top: bool,
    classes: int,
    *,
    ceil_mode: bool = True,
) -> keras.Model:
    """Returns the network; `stem` are filters and kernel of its conv1."""
    images = keras.Input(input_shape)
    filters, kernel = stem
    x = _convolve(images, filters, kernel, name="conv1", stride=2)
    number = 1
    for squeeze, expand in fires:
        if (squeeze, expand) == POOL:
            x = layers.max_pool(
                x, 3, 2, ceil_mode=ceil_mode, name=f"pool{number}"
            )
            continue
        number += 1
        x = _fire(x, squeeze, expand, f"fire{number}")
    if include_top:
        x = keras.layers.Dropout(_DROPOUT, name="dropout")(x)
        x = layers.convolve(
            x,
            classes,
            1,
            activation="relu",
            initializer=keras.initializers.RandomNormal(stddev=0.01),
            name="conv10",
        )
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, x, name=name)


def _fire(
    x: keras.KerasTensor, squeeze: int, expand: int, name: str
) -> keras.KerasTensor:
    x = _convolve(x, squeeze, 1, name=f"{name}_squeeze1x1")
    narrow = _convolve(x, expand, 1, name=f"{name}_expand1x1")
    wide = _convolve(x, expand, 3, padding=1, name=f"{name}_expand3x3")
    return keras.layers.Concatenate(name=f"{name}_concat")([narrow, wide])


def _convolve(
    x: keras.KerasTensor,
    filters: int,
    kernel: int,
    *,
    name: str,
    stride: int = 1,
    padding: int = 0,
) -> keras.KerasTensor:
    return layers.convolve(
        x,
        filters,
        kernel,
        stride=stride,
        padding=padding,
        activation="relu",
        initializer="he_uniform",
        name=name,
    )
