"""Attention roll-out finds what a transformer has learned to look for."""

import pathlib

import keras
import numpy as np
import pytest

from tlkeras import errors
from tlkeras.backbones import base as bases
from tlkeras.data import images as image_stores
from tlkeras.models import classifier as classifiers
from tlkeras.models import graph
from tlkeras.models import saving
from tlkeras.scoring import explaining

pytest.importorskip("keras_hub", reason="keras-hub is not installed")

import presets  # noqa: E402

SIZE = presets.SIZE
PATCH = 8
# Side of pictures with a mark, and of the mark [pixels].
LARGE = 64
MARK = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("presets")


def model(family: str, folder: pathlib.Path, **settings: object):
    name = presets.write(family, folder, **settings)
    return classifiers.build_classifier(
        2, backbone=name, image_size=SIZE, head_initializer="glorot_uniform"
    )


def pixels(images: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(60, 180, (images, SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize("family", ["ViT", "DeiT", "DINOv2", "SigLIP"])
def test_shares_of_the_patches(family, folder):
    made = model(family, folder)
    # It is divided in training, which leaves more nodes behind.
    network = bases.of(made).network
    graph.split(network, graph.block_cuts(network)[1])
    found = explaining.explain(made, pixels(3), [0, 1, 0])
    assert found.method == explaining.ROLL_OUT
    assert found.values.shape == (3, SIZE // PATCH, SIZE // PATCH)
    total = found.values.sum(axis=(1, 2))
    assert (found.values > 0).all() and (total < 1.0001).all()
    # SigLIP has no token but those of the picture.
    if family == "SigLIP":
        np.testing.assert_allclose(total, 1, rtol=1e-4)
    again = explaining.explain(made, pixels(3), [1, 0, 1])
    np.testing.assert_array_equal(found.values, again.values)


def test_a_block_of_even_attention(folder):
    """Keys of 0 attend evenly: what is rolled out is then known."""
    made = model("ViT", folder)
    blocks = [
        layer
        for layer in bases.of(made).network.layers
        if type(layer).__name__ == "ViTEncoderBlock"
    ]
    for block in blocks:
        for variable in block.mha.key_dense.variables:
            variable.assign(np.zeros(variable.shape))
    found = explaining.explain(made, pixels(1), [0]).values
    tokens = 1 + (SIZE // PATCH) ** 2
    expected = (1 - 0.5 ** len(blocks)) / tokens
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_of_swin_the_map_is_exact(folder):
    made = model("Swin", folder)
    squares = pixels(2)
    found = explaining.explain(made, squares, [0, 1])
    assert found.method == explaining.CAM and found.values.ndim == 3
    given = made.predict(squares.astype(np.float32), verbose=0)
    expected = (given - given.mean(axis=1, keepdims=True))[[0, 1], [0, 1]]
    np.testing.assert_allclose(
        found.values.mean(axis=(1, 2)), expected, rtol=1e-3, atol=1e-4
    )


def test_it_is_asked_for_no_class(folder):
    saved = saving.TrainedModel(
        model("ViT", folder), ("plain", "red"), image_stores.Shape(SIZE, "pad")
    )
    with pytest.raises(errors.UserError, match="the same for every class"):
        explaining.explain_squares(saved, list(pixels(1)), label="red")


def test_dinov3_has_no_maps(folder):
    with pytest.raises(errors.UserError, match="cannot be explained"):
        explaining.explain(model("DINOv3", folder), pixels(1), [0])


@pytest.mark.slow
def test_it_finds_a_mark_in_a_corner(folder):
    """Red or blue decides; a green mark is in every picture."""
    name = presets.write(
        "ViT",
        folder / "larger",
        image_shape=(LARGE, LARGE, 3),
        hidden_dim=32,
        num_heads=4,
        num_layers=4,
        mlp_dim=64,
    )
    keras.utils.set_random_seed(0)
    made = classifiers.build_classifier(
        3, backbone=name, weights="none", image_size=LARGE
    )
    classifiers.unfreeze(made)
    squares, classes, _ = marked(900, 0)
    made.compile(
        keras.optimizers.Adam(2e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    made.fit(squares.astype(np.float32), classes, epochs=25, verbose=0)
    squares, classes, corners = marked(150, 100)
    logits = made.predict(squares.astype(np.float32), verbose=0)
    right = logits.argmax(axis=1) == classes
    assert right.mean() > 0.9
    seen = right & (classes > 0)
    found = explaining.explain(made, squares[seen], classes[seen]).values
    half = found.shape[1] // 2
    strongest = [np.unravel_index(each.argmax(), each.shape) for each in found]
    places = [2 * (row >= half) + (column >= half) for row, column in strongest]
    # By chance it would be a quarter.
    assert np.mean(places == corners[seen]) > 0.8


def marked(images: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns noise, a green mark in a corner, and perhaps one in another.

    With it what that is [n], 0 none, 1 red, 2 blue, and its corner [n].
    """
    random = np.random.default_rng(seed)
    shape = (images, LARGE, LARGE, 3)
    squares = random.integers(60, 180, shape, np.uint8)
    classes = np.arange(images) % 3
    corners = random.integers(0, 4, images)
    others = (corners + random.integers(1, 4, images)) % 4
    colours = (None, (255, 0, 0), (0, 0, 255))
    for square, kind, corner, other in zip(
        squares, classes, corners, others, strict=True
    ):
        for place, colour in ((corner, colours[kind]), (other, (0, 200, 0))):
            if colour is not None:
                row, column = np.array(divmod(place, 2)) * (LARGE - MARK)
                square[row : row + MARK, column : column + MARK] = colour
    return squares, classes, corners
