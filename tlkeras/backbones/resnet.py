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


@layers.constructor("resnet18", smallest=1)
def ResNet18(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Returns ResNet-18, [n, h, w, 3] -> [n, 512], or logits [n, classes]."""
    return _network(x, STAGES_18, classes)


@layers.constructor("resnet34", smallest=1)
def ResNet34(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Returns ResNet-34, [n, h, w, 3] -> [n, 512], or logits [n, classes]."""
    return _network(x, STAGES_34, classes)


def _network(
    x: keras.KerasTensor, stages: tuple[int, ...], classes: int
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
            x = layers.residual(x, filters, stride, name, _convolve)
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
