"""The small network is one of the catalogue's, and has its interface."""

import keras
import numpy as np
import pytest

from tlkeras.backbones import catalog
from tlkeras.backbones import layers
from tlkeras.backbones import small


def test_is_as_the_catalogue_says():
    row = catalog.find("SmallResNet")
    made = small.SmallResNet()
    assert made.count_params() == row.parameters
    assert made.output_shape == (None, row.width)
    assert made.input_shape == (None, row.default_size, row.default_size, 3)


@pytest.mark.parametrize("size", [8, 9, 33])
def test_any_size(size):
    made = small.SmallResNet(input_shape=(size, size, 3))
    features = made(np.ones((2, size, size, 3), np.float32), training=True)
    assert features.shape == (2, 128)
    assert np.isfinite(features).all()


def test_skips_the_convolutions_where_nothing_changes():
    images = keras.Input((8, 8, 16))
    names = {
        layer.name
        for layer in keras.Model(
            images, layers.residual(images, 16, 1, "block", small._convolve)
        ).layers
    }
    assert "block_skip_conv" not in names


@pytest.mark.parametrize(
    "arguments",
    [{"include_top": True}, {"weights": "imagenet"}, {"pooling": "max"}],
)
def test_lacks_what_it_lacks(arguments):
    with pytest.raises(ValueError, match="comes without .* Received: "):
        small.SmallResNet(**arguments)
