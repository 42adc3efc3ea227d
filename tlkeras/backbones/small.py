"""A small residual network, for small images, first runs and tests."""

import keras

from tlkeras.backbones import layers

# (filters, blocks) of each stage; all but the first begin with stride 2.
_STAGES = ((32, 1), (64, 1), (128, 1))


def SmallResNet(
    *,
    include_top: bool = False,
    weights: str | None = None,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    pooling: str = "avg",
) -> keras.Model:
    """Returns a residual network of three stages, [n, h, w, 3] -> [n, 128].

    The arguments are those of `keras.applications`, as far as they apply.
    Blocks as in He et al., Deep Residual Learning (arXiv:1512.03385), with
    projections where the shape changes.

    Raises ValueError for images too small, for weights and for a classifier.
    """
    layers.check("SmallResNet", 8, input_shape, weights, pooling)
    if include_top:
        raise ValueError(
            "`SmallResNet` comes without classifier. Received: "
            f"include_top={include_top}."
        )
    images = keras.Input(input_shape)
    x = _convolve(images, 16, 1, "stem")
    x = keras.layers.ReLU(name="stem_relu")(x)
    for stage, (filters, blocks) in enumerate(_STAGES, 1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _block(x, filters, stride, f"stage{stage}_block{block}")
    features = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, features, name="small_resnet")


def _block(x, filters: int, stride: int, name: str):
    skip = x
    if stride > 1 or x.shape[-1] != filters:
        skip = _convolve(x, filters, stride, f"{name}_skip", kernel=1)
    x = _convolve(x, filters, stride, f"{name}_1")
    x = keras.layers.ReLU(name=f"{name}_1_relu")(x)
    x = _convolve(x, filters, 1, f"{name}_2")
    x = keras.layers.Add(name=f"{name}_add")([x, skip])
    return keras.layers.ReLU(name=f"{name}_out")(x)


def _convolve(x, filters: int, stride: int, name: str, kernel: int = 3):
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
