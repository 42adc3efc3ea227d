"""GoogLeNet (Inception v1) with BatchNorm, with the numbers of torchvision's.

Szegedy et al., Going deeper with convolutions (arXiv:1409.4842), without its
auxiliary classifiers. The third branch has a 3 x 3 where the paper has a
5 x 5: torchvision's weights were trained so (pytorch/vision issue 906).
"""

import keras

from tlkeras.backbones import layers

SMALLEST = 15
# Name; filters of the 1 x 1; of the 3 x 3 and the 1 x 1 in front of it; of the
# paper's 5 x 5 and the 1 x 1 in front of it; of the 1 x 1 behind the pooling.
INCEPTIONS = (
    ("3a", 64, 96, 128, 16, 32, 32),
    ("3b", 128, 128, 192, 32, 96, 64),
    ("4a", 192, 96, 208, 16, 48, 64),
    ("4b", 160, 112, 224, 24, 64, 64),
    ("4c", 128, 128, 256, 24, 64, 64),
    ("4d", 112, 144, 288, 32, 64, 64),
    ("4e", 256, 160, 320, 32, 128, 128),
    ("5a", 256, 160, 320, 32, 128, 128),
    ("5b", 384, 192, 384, 48, 128, 128),
)
# Sides in pixels of the poolings behind these.
_POOLINGS = {"3b": 3, "4e": 2}
_EPSILON = 1e-3
_DROPOUT = 0.2


def GoogLeNet(
    *,
    include_top: bool = False,
    weights: str | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    pooling: str = "avg",
    classes: int = 1000,
) -> keras.Model:
    """Returns GoogLeNet, [n, h, w, 3] -> [n, 1024], or logits [n, classes].

    The arguments are those of `keras.applications`, as far as they apply.

    Raises ValueError for images too small and for weights.
    """
    layers.check("GoogLeNet", SMALLEST, input_shape, weights, pooling)
    images = keras.Input(input_shape)
    x = _convolve(images, 64, 7, "conv1", stride=2)
    x = layers.max_pool(x, 3, 2, ceil_mode=True, name="pool1")
    x = _convolve(x, 64, 1, "conv2")
    x = _convolve(x, 192, 3, "conv3")
    x = layers.max_pool(x, 3, 2, ceil_mode=True, name="pool2")
    for number, *filters in INCEPTIONS:
        x = _inception(x, *filters, name=f"inception{number}")
        if number in _POOLINGS:
            x = layers.max_pool(
                x,
                _POOLINGS[number],
                2,
                ceil_mode=True,
                name=f"pool{number[0]}",
            )
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    if include_top:
        x = keras.layers.Dropout(_DROPOUT, name="dropout")(x)
        x = keras.layers.Dense(classes, name="fc")(x)
    return keras.Model(images, x, name="googlenet")


def _inception(
    x: keras.KerasTensor,
    one: int,
    reduce_three: int,
    three: int,
    reduce_five: int,
    five: int,
    project: int,
    *,
    name: str,
) -> keras.KerasTensor:
    pooled = layers.max_pool(x, 3, 1, padding=1, name=f"{name}_4_pool")
    branches = (
        _convolve(x, one, 1, f"{name}_1"),
        _convolve(
            _convolve(x, reduce_three, 1, f"{name}_2_reduce"),
            three,
            3,
            f"{name}_2",
        ),
        _convolve(
            _convolve(x, reduce_five, 1, f"{name}_3_reduce"),
            five,
            3,
            f"{name}_3",
        ),
        _convolve(pooled, project, 1, f"{name}_4"),
    )
    return keras.layers.Concatenate(name=f"{name}_concat")(branches)


def _convolve(
    x: keras.KerasTensor, filters: int, kernel: int, name: str, stride: int = 1
) -> keras.KerasTensor:
    x = layers.convolve(
        x,
        filters,
        kernel,
        stride=stride,
        padding=kernel // 2,
        bias=False,
        name=f"{name}_conv",
    )
    x = keras.layers.BatchNormalization(
        epsilon=_EPSILON, momentum=0.9, name=f"{name}_bn"
    )(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
