"""A small residual network, for small images, first runs and tests."""

import keras

from tlkeras.backbones import layers

# Of the stages, one block each; all but the first begin with stride 2.
_FILTERS = (32, 64, 128)


@layers.constructor("small_resnet", smallest=8, size=32)
def SmallResNet(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Returns a residual network of three stages, [n, h, w, 3] -> [n, 128].

    Blocks as in He et al., Deep Residual Learning (arXiv:1512.03385), with
    projections where the shape changes.
    """
    if classes:
        raise ValueError(
            "`SmallResNet` comes without classifier. Received: "
            "include_top=True."
        )
    x = _convolve(x, 16, 3, "stem")
    x = keras.layers.ReLU(name="stem_relu")(x)
    for stage, filters in enumerate(_FILTERS, 1):
        stride = 2 if stage > 1 else 1
        name = f"stage{stage}_block1"
        x = layers.residual(x, filters, stride, name, _convolve)
    return keras.layers.GlobalAveragePooling2D(name="pool")(x)


def _convolve(
    x: keras.KerasTensor, filters: int, kernel: int, name: str, stride: int = 1
) -> keras.KerasTensor:
    x = keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return keras.layers.BatchNormalization(name=f"{name}_bn")(x)
