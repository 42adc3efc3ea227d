"""ResNets with the numbers of torchvision's.

He et al., Deep Residual Learning for Image Recognition (arXiv:1512.03385).
`keras.applications` begins at 50 layers, and its ResNets have biases and other
epsilons than torchvision's, and shrink the map in a block's first convolution
where these do in the one of 3 x 3.
"""

from collections.abc import Callable

import keras

from tlkeras.backbones import layers

# Blocks in each stage.
STAGES_18 = (2, 2, 2, 2)
STAGES_34 = (3, 4, 6, 3)
STAGES_101 = (3, 4, 23, 3)
STAGES_152 = (3, 8, 36, 3)
# Of the stages; all but the first begin with stride 2.
_FILTERS = (64, 128, 256, 512)


@layers.constructor("resnet18", smallest=1)
def ResNet18(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Returns ResNet-18, [n, h, w, 3] -> [n, 512], or logits [n, classes]."""
    return _network(x, STAGES_18, classes)


@layers.constructor("resnet34", smallest=1)
def ResNet34(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Returns ResNet-34, [n, h, w, 3] -> [n, 512], or logits [n, classes]."""
    return _network(x, STAGES_34, classes)


@layers.constructor("resnet50", smallest=1)
def ResNet50_torchvision(
    x: keras.KerasTensor, classes: int
) -> keras.KerasTensor:
    """Returns ResNet-50, [n, h, w, 3] -> [n, 2048], or logits [n, classes]."""
    return _network(x, STAGES_34, classes, _bottleneck)


@layers.constructor("resnet101", smallest=1)
def ResNet101_torchvision(
    x: keras.KerasTensor, classes: int
) -> keras.KerasTensor:
    """Returns ResNet-101, [n, h, w, 3] -> [n, 2048], or logits."""
    return _network(x, STAGES_101, classes, _bottleneck)


@layers.constructor("resnet152", smallest=1)
def ResNet152_torchvision(
    x: keras.KerasTensor, classes: int
) -> keras.KerasTensor:
    """Returns ResNet-152, [n, h, w, 3] -> [n, 2048], or logits."""
    return _network(x, STAGES_152, classes, _bottleneck)


def _basic(
    x: keras.KerasTensor, filters: int, stride: int, name: str
) -> keras.KerasTensor:
    return layers.residual(x, filters, stride, name, _convolve)


def _bottleneck(
    x: keras.KerasTensor, filters: int, stride: int, name: str
) -> keras.KerasTensor:
    """Returns a block of a 3 x 3 convolution between two of 1 x 1."""
    skip = x
    if stride > 1 or x.shape[-1] != 4 * filters:
        skip = _convolve(x, 4 * filters, 1, f"{name}_skip", stride=stride)
    x = _convolve(x, filters, 1, f"{name}_1")
    x = keras.layers.ReLU(name=f"{name}_1_relu")(x)
    x = _convolve(x, filters, 3, f"{name}_2", stride=stride)
    x = keras.layers.ReLU(name=f"{name}_2_relu")(x)
    x = _convolve(x, 4 * filters, 1, f"{name}_3")
    x = keras.layers.Add(name=f"{name}_add")([x, skip])
    return keras.layers.ReLU(name=f"{name}_out")(x)


def _network(
    x: keras.KerasTensor,
    stages: tuple[int, ...],
    classes: int,
    build: Callable[..., keras.KerasTensor] = _basic,
) -> keras.KerasTensor:
    x = _convolve(x, _FILTERS[0], 7, "conv1", stride=2)
    x = keras.layers.ReLU(name="conv1_relu")(x)
    x = layers.max_pool(x, 3, 2, padding=1, name="pool1")
    for stage, (filters, blocks) in enumerate(
        zip(_FILTERS, stages, strict=True), 2
    ):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 2 and block == 1 else 1
            name = f"conv{stage}_block{block}"
            x = build(x, filters, stride, name)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.layers.Dense(classes, name="fc")(x) if classes else x


def _convolve(
    x: keras.KerasTensor, filters: int, kernel: int, name: str, stride: int = 1
) -> keras.KerasTensor:
    return layers.convolve_norm(
        x,
        filters,
        kernel,
        name,
        stride=stride,
        epsilon=1e-5,
        initializer=keras.initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal"
        ),
    )
