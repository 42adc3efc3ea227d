"""What our own networks are made of: layers of Keras that pad as PyTorch does.

Equal weights give equal numbers only if the border is treated alike. Keras'
`same` pads an even map more on its far side and has no ceil mode; PyTorch pads
both sides alike. A network of these functions has a fixed image size, from
which the padding follows, and opens wherever Keras does.
"""

import functools
from collections.abc import Callable

import keras

_Build = Callable[..., keras.KerasTensor]
_Constructor = Callable[..., keras.Model]


def constructor(
    name: str, *, smallest: int, size: int = 224
) -> Callable[[_Build], _Constructor]:
    """Makes a function of tensors a constructor as `keras.applications` has.

    The decorated function takes images [n, h, w, 3] and the number of classes,
    0 without the classifier, and returns features [n, c] or logits [n, k].

    name: of the model. smallest: side in pixels of the smallest image that it
    computes. size: side in pixels of the image that it was designed for.
    """

    def decorate(build: _Build) -> _Constructor:
        @functools.wraps(build)
        def construct(
            *,
            include_top: bool = False,
            weights: str | None = None,
            input_shape: tuple[int, int, int] = (size, size, 3),
            pooling: str = "avg",
            classes: int = 1000,
        ) -> keras.Model:
            if weights is not None or pooling != "avg":
                raise ValueError(
                    f"`{build.__name__}` comes without weights, and pools by "
                    f"average. Received: weights={weights!r}, pooling="
                    f"{pooling!r}. tlkeras.build_classifier fills in weights."
                )
            if None in input_shape or min(input_shape[:2]) < smallest:
                raise ValueError(
                    f"`input_shape` of {build.__name__} must be at least "
                    f"{smallest} x {smallest} pixels, and fixed. Received: "
                    f"{input_shape}."
                )
            images = keras.Input(input_shape)
            outputs = build(images, classes if include_top else 0)
            return keras.Model(images, outputs, name=name)

        return construct

    return decorate


def convolve(
    x: keras.KerasTensor,
    filters: int,
    kernel: int,
    *,
    name: str,
    stride: int = 1,
    padding: int = 0,
    bias: bool = True,
    activation: str | None = None,
    initializer: str | keras.initializers.Initializer = "he_normal",
) -> keras.KerasTensor:
    """Returns a convolution, [n, h, w, c] -> [n, h', w', filters].

    padding: zeros on each side, in pixels.
    """
    same = stride == 1 and 2 * padding == kernel - 1
    if padding and not same:
        x = keras.layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same" if same else "valid",
        use_bias=bias,
        activation=activation,
        kernel_initializer=initializer,
        name=name,
    )(x)


def convolve_norm(
    x: keras.KerasTensor,
    filters: int,
    kernel: int,
    name: str,
    *,
    stride: int = 1,
    epsilon: float,
    initializer: str | keras.initializers.Initializer = "he_normal",
) -> keras.KerasTensor:
    """Returns a convolution that keeps the borders, and its BatchNorm."""
    x = convolve(
        x,
        filters,
        kernel,
        stride=stride,
        padding=kernel // 2,
        bias=False,
        initializer=initializer,
        name=f"{name}_conv",
    )
    return keras.layers.BatchNormalization(
        epsilon=epsilon, momentum=0.9, name=f"{name}_bn"
    )(x)


def residual(
    x: keras.KerasTensor,
    filters: int,
    stride: int,
    name: str,
    convolve_norm: _Build,
) -> keras.KerasTensor:
    """Returns a block of two 3 x 3 convolutions and what skips them.

    convolve_norm: (x, filters, kernel, name, stride=...) -> a convolution and
      its BatchNorm; it also projects `x` where the shape changes.
    """
    skip = x
    if stride > 1 or x.shape[-1] != filters:
        skip = convolve_norm(x, filters, 1, f"{name}_skip", stride=stride)
    x = convolve_norm(x, filters, 3, f"{name}_1", stride=stride)
    x = keras.layers.ReLU(name=f"{name}_1_relu")(x)
    x = convolve_norm(x, filters, 3, f"{name}_2")
    x = keras.layers.Add(name=f"{name}_add")([x, skip])
    return keras.layers.ReLU(name=f"{name}_out")(x)


def max_pool(
    x: keras.KerasTensor,
    size: int,
    stride: int,
    *,
    name: str,
    padding: int = 0,
    ceil_mode: bool = False,
) -> keras.KerasTensor:
    """Returns the maxima of windows, [n, h, w, c] -> [n, h', w', c].

    x: nothing below zero (behind a ReLU), so that a border of zeros wins no
      window.
    size, stride, padding: in pixels.
    ceil_mode: whether a window may reach beyond the far border.
    """
    if stride == 1 and 2 * padding == size - 1:
        return keras.layers.MaxPooling2D(size, 1, padding="same", name=name)(x)
    borders = []
    for length in x.shape[1:3]:
        beyond = 0
        if ceil_mode:
            steps = -(-(length + 2 * padding - size) // stride)
            # A window that begins beyond the image itself is none.
            if steps * stride >= length + padding:
                steps -= 1
            beyond = max(0, steps * stride + size - length - 2 * padding)
        borders.append((padding, padding + beyond))
    if any(map(any, borders)):
        pad = keras.layers.ZeroPadding2D(tuple(borders), name=f"{name}_pad")
        x = pad(x)
    return keras.layers.MaxPooling2D(size, stride, name=name)(x)


def average_to(
    x: keras.KerasTensor, size: int, *, name: str
) -> keras.KerasTensor:
    """Returns `x` averaged to a map of any other size, [n, size, size, c].

    Each place is the mean of the whole pixels that it touches, as in PyTorch's
    adaptive pooling; along an axis that is as long already nothing is done.
    """
    for axis, direction in ((1, "row"), (2, "column")):
        length = x.shape[axis]
        if length == size:
            continue
        parts = []
        for place in range(size):
            begin = place * length // size
            end = -(-(place + 1) * length // size)
            crop = [(0, 0), (0, 0)]
            crop[axis - 1] = (begin, length - end)
            window = [1, 1]
            window[axis - 1] = end - begin
            part = f"{name}_{direction}{place}"
            cropped = keras.layers.Cropping2D(tuple(crop), name=f"{part}_crop")
            mean = keras.layers.AveragePooling2D(tuple(window), name=part)
            parts.append(mean(cropped(x)))
        merge = keras.layers.Concatenate(axis=axis, name=f"{name}_{direction}s")
        x = merge(parts)
    return x
