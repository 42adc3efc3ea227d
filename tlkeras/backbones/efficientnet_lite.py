"""EfficientNet-Lite 0, 1 and 2, with the numbers of Google's.

EfficientNet (Tan and Le, arXiv:1905.11946) for devices: without
squeeze-and-excite, with ReLU6, and with a stem and a head that do not grow
(github.com/tensorflow/tpu, models/official/efficientnet/lite).
"""

import math
from collections.abc import Iterator

import keras

from tlkeras.backbones import layers

# B0's stages: kernel, blocks, filters, expansion, stride.
_STAGES = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)
# Network: factors of the filters, and of the blocks.
FACTORS = {
    "EfficientNetLite0": (1.0, 1.0),
    "EfficientNetLite1": (1.0, 1.1),
    "EfficientNetLite2": (1.1, 1.2),
}
_STEM = 32
_HEAD = 1280
_EPSILON = 1e-3
# Share of images that skip the last block while it trains; less below it.
_DROP = 0.2


@layers.constructor("efficientnet_lite0", smallest=32)
def EfficientNetLite0(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Returns EfficientNet-Lite0, [n, h, w, 3] -> [n, 1280], or logits."""
    return _network(x, "EfficientNetLite0", classes)


@layers.constructor("efficientnet_lite1", smallest=32, size=240)
def EfficientNetLite1(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Returns EfficientNet-Lite1, [n, h, w, 3] -> [n, 1280], or logits."""
    return _network(x, "EfficientNetLite1", classes)


@layers.constructor("efficientnet_lite2", smallest=32, size=260)
def EfficientNetLite2(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Returns EfficientNet-Lite2, [n, h, w, 3] -> [n, 1280], or logits."""
    return _network(x, "EfficientNetLite2", classes)


def blocks(name: str) -> Iterator[tuple[str, int, int, int, int]]:
    """Yields a network's blocks: name, kernel, filters, expansion, stride.

    Their names are those of Keras' EfficientNet: `block1a`, `block2a`, ...
    """
    wider, deeper = FACTORS[name]
    for stage, (kernel, count, filters, expansion, stride) in enumerate(
        _STAGES, 1
    ):
        inside = 1 < stage < len(_STAGES)
        for index in range(math.ceil(count * deeper) if inside else count):
            yield (
                f"block{stage}{'abcdefgh'[index]}",
                kernel,
                _rounded(filters * wider),
                expansion,
                1 if index else stride,
            )


def _rounded(filters: float) -> int:
    """Returns the multiple of 8 next to `filters`, at least 90 % of it."""
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * filters else nearest


def _network(
    x: keras.KerasTensor, name: str, classes: int
) -> keras.KerasTensor:
    # Google's own mean and deviation of all channels, in grey levels.
    x = keras.layers.Rescaling(1 / 128, -127 / 128, name="rescaling")(x)
    x = _convolve(x, _STEM, 3, "stem", stride=2)
    known = list(blocks(name))
    for index, block in enumerate(known):
        x = _block(x, *block, drop=_DROP * index / len(known))
    x = _convolve(x, _HEAD, 1, "top")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.layers.Dense(classes, name="fc")(x) if classes else x


def _block(
    x: keras.KerasTensor,
    name: str,
    kernel: int,
    filters: int,
    expansion: int,
    stride: int,
    *,
    drop: float,
) -> keras.KerasTensor:
    """Returns an inverted residual block, with a linear bottleneck."""
    skip = x
    if expansion > 1:
        x = _convolve(x, expansion * x.shape[-1], 1, f"{name}_expand")
    x = keras.layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{name}_depthwise_conv",
    )(x)
    x = _normalize(x, f"{name}_depthwise")
    x = keras.layers.ReLU(6.0, name=f"{name}_depthwise_relu")(x)
    x = _convolve(x, filters, 1, f"{name}_project", activate=False)
    if stride > 1 or skip.shape[-1] != filters:
        return x
    if drop:
        # Of an image all or nothing (arXiv:1603.09382).
        x = keras.layers.Dropout(
            drop, noise_shape=(None, 1, 1, 1), name=f"{name}_drop"
        )(x)
    return keras.layers.Add(name=f"{name}_add")([x, skip])


def _convolve(
    x: keras.KerasTensor,
    filters: int,
    kernel: int,
    name: str,
    *,
    stride: int = 1,
    activate: bool = True,
) -> keras.KerasTensor:
    # `same` pads as TensorFlow, where these networks were trained.
    x = keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = _normalize(x, name)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x) if activate else x


def _normalize(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.BatchNormalization(
        epsilon=_EPSILON, momentum=0.99, name=f"{name}_bn"
    )(x)
