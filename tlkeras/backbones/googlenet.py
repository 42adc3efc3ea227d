"""GoogLeNet (Inception v1) with BatchNorm, with the numbers of torchvision's.

Szegedy et al., Going deeper with convolutions (arXiv:1409.4842), without its
auxiliary classifiers. The third branch has a 3 x 3 where the paper has a
5 x 5: torchvision's weights were trained so (pytorch/vision issue 906).
"""

import keras

from tlkeras.backbones import layers

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


@layers.constructor("googlenet", smallest=15)
def GoogLeNet(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Returns GoogLeNet, [n, h, w, 3] -> [n, 1024], or logits [n, classes]."""
    x = _convolve(x, 64, 7, "conv1", stride=2)
    x = layers.max_pool(x, 3, 2, ceil_mode=True, name="pool1")
    x = _convolve(x, 64, 1, "conv2")
    x = _convolve(x, 192, 3, "conv3")
    x = layers.max_pool(x, 3, 2, ceil_mode=True, name="pool2")
    for number, *filters in INCEPTIONS:
        x = _inception(x, filters, f"inception{number}")
        if number in _POOLINGS:
            x = layers.max_pool(
                x,
                _POOLINGS[number],
                2,
                ceil_mode=True,
                name=f"pool{number[0]}",
            )
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    if classes:
        x = keras.layers.Dropout(_DROPOUT, name="dropout")(x)
        x = keras.layers.Dense(classes, name="fc")(x)
    return x


def _inception(
    x: keras.KerasTensor, filters: list[int], name: str
) -> keras.KerasTensor:
    one, reduce_three, three, reduce_five, five, project = filters
    # In this order initial weights are drawn.
    branch1 = _convolve(x, one, 1, f"{name}_1")
    branch2 = _convolve(x, reduce_three, 1, f"{name}_2_reduce")
    branch2 = _convolve(branch2, three, 3, f"{name}_2")
    branch3 = _convolve(x, reduce_five, 1, f"{name}_3_reduce")
    branch3 = _convolve(branch3, five, 3, f"{name}_3")
    branch4 = layers.max_pool(x, 3, 1, padding=1, name=f"{name}_4_pool")
    branch4 = _convolve(branch4, project, 1, f"{name}_4")
    branches = (branch1, branch2, branch3, branch4)
    return keras.layers.Concatenate(name=f"{name}_concat")(branches)


def _convolve(
    x: keras.KerasTensor, filters: int, kernel: int, name: str, stride: int = 1
) -> keras.KerasTensor:
    x = layers.convolve_norm(
        x, filters, kernel, name, stride=stride, epsilon=_EPSILON
    )
    return keras.layers.ReLU(name=f"{name}_relu")(x)
