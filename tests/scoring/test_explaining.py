import keras
import numpy as np
import pytest

from tlkeras import errors
from tlkeras.backbones import base as bases
from tlkeras.data import images as image_stores
from tlkeras.models import classifier as classifiers
from tlkeras.models import saving
from tlkeras.scoring import explaining
from tlkeras.training import solver

SIZE = 32
MARK = 8


def marked(images: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns noise, half of it with a red mark in a corner.

    With it whether it has one [n], and the corner (lower, right) [n, 2].
    """
    random = np.random.default_rng(seed)
    pixels = random.integers(60, 180, (images, SIZE, SIZE, 3), np.uint8)
    has = np.arange(images) % 2
    corners = random.integers(0, 2, (images, 2))
    for index in np.flatnonzero(has):
        row, column = corners[index] * (SIZE - MARK)
        pixels[index, row : row + MARK, column : column + MARK] = (255, 0, 0)
    return pixels, has, corners


@pytest.fixture(scope="module", params=["linear", "mlp"])
def classifier(request) -> saving.TrainedModel:
    """A classifier that has learned to see the mark."""
    keras.utils.set_random_seed(0)
    model = classifiers.build_classifier(
        2,
        backbone="SmallResNet",
        weights="none",
        image_size=SIZE,
        head=request.param,
        head_units=16,
    )
    pixels, targets, _ = marked(120, 0)
    base = keras.Model(model.input, bases.of(model).output)
    features = base.predict(pixels.astype(np.float32), verbose=0)
    head = model.get_layer("head")
    if request.param == "linear":
        found = solver.logistic(
            features[None], targets, np.ones(len(targets)), classes=2
        )
        head.get_layer("logits").kernel.assign(found.kernel)
        head.get_layer("logits").bias.assign(found.bias)
    else:
        head.compile(
            keras.optimizers.Adam(0.01),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        head.fit(features, targets, epochs=60, verbose=0)
    shape = image_stores.Shape(SIZE, "pad")
    return saving.TrainedModel(model, ("plain", "marked"), shape)


def logits(classifier: saving.TrainedModel, pixels: np.ndarray) -> np.ndarray:
    return classifier.model.predict(pixels.astype(np.float32), verbose=0)


def test_the_map_finds_a_mark_in_a_corner(classifier):
    pixels, targets, corners = marked(40, 1)
    answers = logits(classifier, pixels).argmax(axis=1)
    assert (answers == targets).mean() > 0.9
    seen = (answers == 1) & (targets == 1)
    pixels, corners = pixels[seen], corners[seen]
    maps = explaining.explain(classifier.model, pixels, [1] * len(pixels))
    _, height, width = maps.values.shape
    for values, corner in zip(maps.values, corners, strict=True):
        place = np.unravel_index(values.argmax(), values.shape)
        found = (place[0] >= height // 2, place[1] >= width // 2)
        assert found == tuple(corner == 1)


def test_several_classes_of_a_picture_are_as_each_alone(classifier):
    pixels, _, _ = marked(3, 2)
    found = explaining.explain(classifier.model, pixels, [[0, 1]] * 3)
    for column in (0, 1):
        alone = explaining.explain(classifier.model, pixels, [column] * 3)
        np.testing.assert_array_equal(found.values[:, column], alone.values)
    nothing = explaining.explain(classifier.model, pixels[:0], [])
    assert nothing.values.shape == (0, 1, 1)


def test_the_method_follows_from_the_head(classifier):
    pixels, _, _ = marked(2, 2)
    found = explaining.explain(classifier.model, pixels, [0, 1])
    layers = classifier.model.get_layer("head").layers
    linear = not any(layer.name == "hidden" for layer in layers)
    assert found.method == (explaining.CAM if linear else explaining.LAYER_CAM)
    if linear:
        # What it claims of itself: the mean of the places is the logit.
        given = logits(classifier, pixels)
        expected = (given - given.mean(1, keepdims=True))[[0, 1], [0, 1]]
        means = found.values.mean(axis=(1, 2))
        np.testing.assert_allclose(means, expected, rtol=1e-4, atol=1e-4)


def test_the_strongest_place_is_the_brightest():
    square = np.full([SIZE, SIZE, 3], 90, np.uint8)
    values = np.full([4, 4], -1.0, np.float32)
    values[3, 0] = 2.0
    drawn = explaining.overlay(square, values)
    assert drawn.shape == square.shape and drawn.dtype == np.uint8
    assert (drawn[:8, -8:] == 90).all()
    corner = drawn[-4:, :4].astype(int)
    assert (corner[..., 0] > corner[..., 2]).all() and corner.mean() > 120


def test_a_class_that_is_not_known(classifier):
    square = np.zeros([SIZE, SIZE, 3], np.uint8)
    with pytest.raises(errors.UserError, match="Did you mean marked"):
        explaining.explain_squares(classifier, [square], label="marke")


def test_a_network_without_maps():
    images = keras.Input((8, 8, 3))
    features = keras.layers.Dense(4, "relu")(keras.layers.Flatten()(images))
    base = bases.Base(
        keras.Model(images, features, name="flat"),
        backbone="SmallResNet",
        scaling="none",
        name="base",
    )
    head = classifiers.build_head(4, 2)
    model = keras.Model(images, head(base(images)))
    with pytest.raises(errors.UserError, match="flat cannot be explained"):
        explaining.explain(model, np.zeros([1, 8, 8, 3]), [0])
