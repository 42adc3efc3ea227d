"""ResNet-18 and ResNet-34, with the numbers of torchvision's.

He et al., Deep Residual Learning for Image Recognition (arXiv:1512.03385).
`keras.applications` begins at 50 layers, and its ResNets have biases and other
strides and epsilons than torchvision's.
"""

import keras

from tlkeras.backbones import layers

# Blocks in each stage.
STAGES_18 = (2, 2, 2, 2)
STAGES_34 = (3, 4, 6, 3)
# Of the stages; all but the first begin with stride 2.
_FILTERS = (64, 128, 256, 512)
_EPSILON = 1e-5


def ResNet18(
    *,
    include_top: bool = False,
    weights: str | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    pooling: str = "avg",
    classes: int = 1000,
) -> keras.Model:
    """Returns ResNet-18, [n, h, w, 3] -> [n, 512], or logits [n, classes].

    The arguments are those of `keras.applications`, as far as they apply.

    Raises ValueError for weights.
    """
    layers.check("ResNet18", 1, input_shape, weights, pooling)
    return _network("resnet18", STAGES_18, input_shape, include_top, classes)


def ResNet34(
    *,
    include_top: bool = False,
    weights: str | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    pooling: str = "avg",
    classes: int = 1000,
) -> keras.Model:
    """Returns ResNet-34, [n, h, w, 3] -> [n, 512], or logits [n, classes].

    The arguments are those of `keras.applications`, as far as they apply.

    Raises ValueError for weights.
    """
    layers.check("ResNet34", 1, input_shape, weights, pooling)
    return _network("resnet34", STAGES_34, input_shape, include_top, classes)


def _network(
    name: str,
    stages: tuple[int, ...],
    input_shape: tuple[int, int, int],
    include_top: bool,
    classes: int,
) -> keras.Model:
    images = keras.Input(input_shape)
    x = _convolve(images, _FILTERS[0], 7, "conv1", stride=2)
    x = keras.layers.ReLU(name="conv1_relu")(x)
    x = layers.max_pool(x, 3, 2, padding=1, name="pool1")
    for stage, (filters, blocks) in enumerate(
        zip(_FILTERS, stages, strict=True), 2
    ):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 2 and block == 1 else 1
            x = _block(x, filters, stride, f"conv{stage}_block{block}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    if include_top:
        x = keras.layers.Dense(classes, name="fc")(x)
    return keras.Model(images, x, name=name)


def _block(
    x: keras.KerasTensor, filters: int, stride: int, name: str
) -> keras.KerasTensor:
    skip = x
    if stride > 1:
        skip = _convolve(x, filters, 1, f"{name}_skip", stride=stride)
    x = _convolve(x, filters, 3, f"{name}_1", stride=stride)
    x = keras.layers.ReLU(name=f"{name}_1_relu")(x)
    x = _convolve(x, filters, 3, f"{name}_2")
    x = keras.layers.Add(name=f"{name}_add")([x, skip])
    return keras.layers.ReLU(name=f"{name}_out")(x)


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
        initializer=keras.initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal"
        ),
        name=f"{name}_conv",
    )
    return keras.layers.BatchNormalization(
        epsilon=_EPSILON, momentum=0.9, name=f"{name}_bn"
    )(x)
