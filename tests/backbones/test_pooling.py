"""Pooling of `layers` against what PyTorch defines, window by window."""

import keras
import numpy as np
import pytest

from tlkeras.backbones import layers

SIZES = tuple(range(1, 15))


def image(height: int, width: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.random((2, height, width, 3), np.float32)


def call(function, pixels: np.ndarray, *arguments, **keywords) -> np.ndarray:
    entry = keras.Input(pixels.shape[1:])
    made = keras.Model(
        entry, function(entry, *arguments, name="pool", **keywords)
    )
    return np.asarray(made(pixels))


def along(pixels: np.ndarray, axis: int, windows, reduce) -> np.ndarray:
    """Reduces each window of pixels, (begin, end), along an axis."""
    parts = [
        reduce(np.take(pixels, range(*window), axis), axis=axis)
        for window in windows
    ]
    return np.stack(parts, axis)


def windows(length, size, stride, padding, ceil_mode) -> list[tuple[int, int]]:
    """Returns what of an axis each window covers, by PyTorch's rule.

    A window may not begin in the padding behind the last pixel.
    """
    found = []
    begin = -padding
    while True:
        if begin + size > length + padding:
            inside = begin < length and begin < length + padding
            if not (
                ceil_mode
                and inside
                and begin + size - stride < length + padding
            ):
                return found
        found.append((max(begin, 0), min(begin + size, length)))
        begin += stride


@pytest.mark.parametrize("length", SIZES)
def test_average_to(length):
    pixels = image(length, 5)
    bins = [
        (place * length // 6, -(-(place + 1) * length // 6))
        for place in range(6)
    ]
    wanted = along(pixels, 1, bins, np.mean)
    columns = [(0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 5)]
    wanted = along(wanted, 2, columns, np.mean)
    found = call(layers.average_to, pixels, 6)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_average_to_the_same_size_does_nothing():
    entry = keras.Input((6, 6, 3))
    assert layers.average_to(entry, 6, name="pool") is entry


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    "size, stride, padding", [(3, 2, 0), (2, 2, 0), (3, 2, 1), (3, 1, 1)]
)
def test_max_pool(size, stride, padding, ceil_mode):
    for length in range(3, 13):
        pixels = image(length, 7)
        rule = (size, stride, padding, ceil_mode)
        wanted = along(pixels, 1, windows(length, *rule), np.max)
        wanted = along(wanted, 2, windows(7, *rule), np.max)
        found = call(
            layers.max_pool,
            pixels,
            size,
            stride,
            padding=padding,
            ceil_mode=ceil_mode,
        )
        np.testing.assert_array_equal(found, wanted)


def test_ceil_mode_matters():
    pixels = image(6, 6)
    assert call(layers.max_pool, pixels, 3, 2).shape == (2, 2, 2, 3)
    found = call(layers.max_pool, pixels, 3, 2, ceil_mode=True)
    assert found.shape == (2, 3, 3, 3)


@pytest.mark.torch
def test_pools_as_torch():
    import torch

    functional = torch.nn.functional
    for length in SIZES:
        pixels = image(length, 7)
        theirs = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
        pairs = [
            (
                call(layers.average_to, pixels, 6),
                functional.adaptive_avg_pool2d(theirs, 6),
            )
        ]
        if length >= 3:
            pairs += [
                (
                    call(
                        layers.max_pool,
                        pixels,
                        size,
                        stride,
                        padding=padding,
                        ceil_mode=ceil_mode,
                    ),
                    functional.max_pool2d(
                        theirs, size, stride, padding, ceil_mode=ceil_mode
                    ),
                )
                for size, stride, padding in (
                    (3, 2, 0),
                    (2, 2, 0),
                    (3, 2, 1),
                    (3, 1, 1),
                )
                for ceil_mode in (False, True)
            ]
        for ours, wanted in pairs:
            np.testing.assert_allclose(
                ours, wanted.numpy().transpose(0, 2, 3, 1), rtol=1e-6
            )
