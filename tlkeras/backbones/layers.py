"""Convolution and pooling as PyTorch has them, from layers of Keras alone.

Equal weights give equal numbers only if the border is treated alike. Keras'
`same` pads an even map more on its far side and has no ceil mode; PyTorch pads
both sides alike. A network of these functions has a fixed image size, from
which the padding follows, and opens wherever Keras does.
"""

import keras


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
            steps = _windows(length + 2 * padding, size, stride) - 1
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


def check(
    name: str,
    smallest: int,
    input_shape: tuple[int, int, int],
    weights: str | None,
    pooling: str,
) -> None:
    """Raises ValueError where a constructor cannot do as it is asked.

    smallest: side in pixels of the smallest image that `name` computes.
    """
    if weights is not None or pooling != "avg":
        raise ValueError(
            f"`{name}` comes without weights, and pools by average. Received: "
            f"weights={weights!r}, pooling={pooling!r}. "
            "tlkeras.build_classifier fills in weights."
        )
    if None in input_shape or min(input_shape[:2]) < smallest:
        raise ValueError(
            f"`input_shape` of {name} must be at least {smallest} x "
            f"{smallest} pixels, and fixed. Received: {input_shape}."
        )


def _windows(length: int, size: int, stride: int) -> int:
    return -(-(length - size) // stride) + 1
