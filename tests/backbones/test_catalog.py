"""Holds every row of the catalogue against Keras itself."""

import dataclasses
import importlib
import inspect
import subprocess
import sys

import keras
import numpy as np
import pytest

from tlkeras import errors
from tlkeras.backbones import catalog

KERAS_ROWS = tuple(
    row
    for row in catalog.BACKBONES
    if row.constructor.startswith("keras.applications.")
)

OWN_ROWS = tuple(row for row in catalog.BACKBONES if row not in KERAS_ROWS)


def smallest(rows: tuple[catalog.Backbone, ...]) -> list[catalog.Backbone]:
    """Returns the smallest network of each family."""
    descending = sorted(rows, key=lambda row: -row.parameters)
    return list({row.family: row for row in descending}.values())


SMALL_ROWS = smallest(KERAS_ROWS)

# DESIGN.md, section 7, which was measured independently: parameters, width.
GOLDEN_SIZES = {
    "VGG16": (14_714_688, 512),
    "ResNet50": (23_587_712, 2048),
    "ResNet50V2": (23_564_800, 2048),
    "InceptionV3": (21_802_784, 2048),
    "Xception": (20_861_480, 2048),
    "DenseNet121": (7_037_504, 1024),
    "MobileNet": (3_228_864, 1024),
    "MobileNetV2": (2_257_984, 1280),
    "MobileNetV3Small": (939_120, 576),
    "NASNetMobile": (4_269_716, 1056),
    "EfficientNetB0": (4_049_571, 1280),
    "EfficientNetV2B0": (5_919_312, 1280),
    "ConvNeXtTiny": (27_820_128, 768),
}

# DESIGN.md, section 7: the channels of an image of 0, and of one of 255, to
# the digits given there. Every scaling is linear in between.
GOLDEN_PIXELS = {
    "caffe": ((-103.939, -116.779, -123.68), (151.061, 138.221, 131.32)),
    "torch": ((-2.1179, -2.0357, -1.8044), (2.2489, 2.4286, 2.64)),
    "tf": ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)),
    "none": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
}


def build(row: catalog.Backbone, size: int) -> keras.Model:
    keras.backend.clear_session()
    return constructor(row)(
        include_top=False,
        weights=None,
        pooling="avg",
        input_shape=(size, size, 3),
        **dict(row.arguments),
    )


def constructor(row: catalog.Backbone):
    module, name = row.constructor.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def noise(size: int, images: int = 2) -> np.ndarray:
    generator = np.random.default_rng(0)
    pixels = generator.uniform(0, 255, (images, size, size, 3))
    return pixels.astype("float32")


def check_at_smallest_size(row: catalog.Backbone) -> None:
    """Checks that the network is as its row says, and really computes."""
    with pytest.raises(ValueError, match="must be at least"):
        build(row, row.smallest_size - 1)
    network = build(row, row.smallest_size)
    assert network.count_params() == row.parameters
    assert network.output_shape == (None, row.width)
    scales = any(
        isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization)
        for layer in network.layers
    )
    assert scales == (row.scaling == "none")
    first, second = np.asarray(
        network(noise(row.smallest_size), training=False)
    )
    assert np.isfinite(first).all()
    assert np.isfinite(second).all()
    assert not np.array_equal(first, second)


def test_every_constructor_of_keras_has_a_row():
    offered = {
        f"keras.applications.{name}"
        for name, _ in inspect.getmembers(
            keras.applications, inspect.isfunction
        )
    }
    assert {row.constructor for row in KERAS_ROWS} == offered


def test_every_width_that_keras_has_weights_for_has_a_row():
    widths = {
        "MobileNet": {0.25, 0.5, 0.75, 1.0},
        "MobileNetV2": {0.35, 0.5, 0.75, 1.0, 1.3, 1.4},
    }
    for family, expected in widths.items():
        rows = [row for row in KERAS_ROWS if row.family == family]
        found = [dict(row.arguments).get("alpha", 1.0) for row in rows]
        assert sorted(found) == sorted(expected)
        for row, alpha in zip(rows, found, strict=True):
            suffix = "" if alpha == 1.0 else f"-{alpha}"
            assert row.name == family + suffix


@pytest.mark.parametrize("row", catalog.BACKBONES, ids=lambda row: row.name)
def test_row_holds_together(row):
    assert row.scaling in GOLDEN_PIXELS
    assert 0 < row.smallest_size <= row.default_size
    assert row.width > 0
    assert row.weights in (("imagenet",), ())
    assert row.family
    assert "\n" not in row.note
    assert set(dict(row.arguments)) <= set(
        inspect.signature(constructor(row)).parameters
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.width = 1


def test_names_are_spelled_as_the_constructors():
    for row in catalog.BACKBONES:
        spelled = row.constructor.rsplit(".", 1)[1].replace("_keras", "-keras")
        spelled = spelled.replace("_torchvision", "-torchvision")
        suffixes = [str(value) for _, value in row.arguments]
        assert row.name == "-".join([spelled, *suffixes])


def test_names_are_told_apart_however_they_are_spelled():
    names = catalog.names()
    assert len(names) == len(catalog.BACKBONES)
    keys = {name.lower().replace("-", "").replace("_", "") for name in names}
    assert len(keys) == len(names)


def test_a_family_shares_scaling_and_note():
    shared = {(row.family, row.scaling, row.note) for row in catalog.BACKBONES}
    assert len(shared) == len({row.family for row in catalog.BACKBONES})


def test_a_family_of_keras_shares_the_smallest_size():
    shared = {(row.family, row.smallest_size) for row in KERAS_ROWS}
    assert len(shared) == len({row.family for row in KERAS_ROWS})


def test_what_is_downloaded_from_elsewhere_has_a_hash():
    for row in catalog.BACKBONES:
        elsewhere = bool(row.weights) and row not in KERAS_ROWS
        assert row.origin.startswith(("https://", "package:")) == elsewhere
        assert (len(row.sha256) >= 8) == elsewhere


@pytest.mark.parametrize("name", GOLDEN_SIZES)
def test_row_agrees_with_the_design(name):
    row = catalog.find(name)
    assert (row.parameters, row.width) == GOLDEN_SIZES[name]


@pytest.mark.parametrize(
    "row",
    # The next test has all of them.
    [row for row in SMALL_ROWS if row.parameters < 4e6],
    ids=lambda row: row.family,
)
def test_small_network_is_as_its_row_says(row):
    check_at_smallest_size(row)


@pytest.mark.slow
@pytest.mark.parametrize("row", KERAS_ROWS, ids=lambda row: row.name)
def test_network_is_as_its_row_says(row):
    check_at_smallest_size(row)
    assert build(row, row.default_size).count_params() == row.parameters
    keras.backend.clear_session()
    whole = constructor(row)(weights=None, **dict(row.arguments))
    # MobileNetV3 leaves the size open, and has weights of 224 pixels only.
    assert (whole.input_shape[1] or 224) == row.default_size


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row,
            marks=() if row in smallest(OWN_ROWS) else pytest.mark.slow,
            id=row.name,
        )
        for row in OWN_ROWS
    ],
)
def test_own_network_is_as_its_row_says(row):
    check_at_smallest_size(row)


@pytest.mark.parametrize("row", OWN_ROWS, ids=lambda row: row.name)
def test_own_network_lacks_what_it_lacks(row):
    for arguments in (
        {"weights": "imagenet"},
        {"pooling": "max"},
        {"input_shape": (None, None, 3)},
    ):
        with pytest.raises(ValueError, match="Received: "):
            constructor(row)(**arguments)


@pytest.mark.parametrize("row", SMALL_ROWS, ids=lambda row: row.family)
def test_scaling_is_that_of_keras(row):
    home = inspect.getmodule(constructor(row)).__name__.rsplit(".", 1)[1]
    module = importlib.import_module(f"keras.applications.{home}")
    low, high = np.array(GOLDEN_PIXELS[row.scaling])
    tolerance = {"rtol": 0, "atol": 1e-4}
    for value, expected in ((0, low), (255, high)):
        image = np.full((1, 8, 8, 3), value, "float32")
        # Copies: Keras scales an array in place.
        scaled = module.preprocess_input(image.copy())
        assert scaled.dtype == np.float32
        np.testing.assert_allclose(
            scaled, np.broadcast_to(expected, image.shape), **tolerance
        )
    image = noise(8)
    channels = image[..., ::-1] if row.scaling == "caffe" else image
    np.testing.assert_allclose(
        module.preprocess_input(image.copy()),
        low + (high - low) * (channels / 255),
        **tolerance,
    )


def test_efficientnet_has_a_further_layer_for_imagenet_weights(
    monkeypatch, tmp_path
):
    row = catalog.find("EfficientNetB0")
    network = build(row, 32)
    path = str(tmp_path / "efficientnet.weights.h5")
    network.save_weights(path)
    downloads = importlib.import_module("keras.src.utils.file_utils")
    monkeypatch.setattr(downloads, "get_file", lambda *_, **__: path)
    imagenet = constructor(row)(
        include_top=False, pooling="avg", input_shape=(32, 32, 3)
    )
    assert len(imagenet.layers) == len(network.layers) + 1
    assert imagenet.count_params() == row.parameters
    image = noise(32, images=1)
    features = np.asarray(network(image, training=False))
    scaled = np.asarray(imagenet(image, training=False))
    assert not np.allclose(features, scaled, rtol=0.01, atol=0)


def test_padding_of_odd_maps_needs_a_fixed_size():
    row = catalog.find("MobileNetV2_0.35")
    anyhow = constructor(row)(
        include_top=False,
        weights=None,
        pooling="avg",
        input_shape=(None, None, 3),
        alpha=0.35,
    )
    for size, same in ((64, True), (75, False)):
        fixed = build(row, size)
        fixed.set_weights(anyhow.get_weights())
        images = noise(size) / 127.5 - 1
        difference = np.abs(
            np.asarray(anyhow(images, training=False))
            - np.asarray(fixed(images, training=False))
        )
        assert (difference.max() == 0) == same


@pytest.mark.slow
def test_nasnet_lacks_layers_without_a_fixed_size():
    row = catalog.find("NASNetLarge")
    anyhow = constructor(row)(include_top=False, weights=None, pooling="avg")
    assert anyhow.count_params() == 84_887_922 < row.parameters


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("MobileNetV2", "MobileNetV2"),
        ("mobilenet_v2", "MobileNetV2"),
        ("MOBILENET-V2", "MobileNetV2"),
        ("mobilenetv2-0.35", "MobileNetV2-0.35"),
        ("MobileNet_V2_0.35", "MobileNetV2-0.35"),
        ("mobilenet_0.5", "MobileNet-0.5"),
        ("resnet_50_v2", "ResNet50V2"),
        ("efficientnet-v2-s", "EfficientNetV2S"),
        ("convnext_xlarge", "ConvNeXtXLarge"),
        ("nasnet-mobile", "NASNetMobile"),
        ("small_resnet", "SmallResNet"),
        ("squeezenet1_0", "SqueezeNet1_0"),
        ("squeezenet1_1-keras", "SqueezeNet1_1-keras"),
        ("googlenet", "GoogLeNet"),
        ("resnet_18", "ResNet18"),
    ],
)
def test_find_takes_any_spelling(spelling, name):
    assert catalog.find(spelling).name == name


def test_find_takes_every_name():
    for row in catalog.BACKBONES:
        assert catalog.find(row.name) is row
        assert catalog.find(row.name.upper().replace("-", "_")) is row


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("MobilNetV2", "MobileNetV2"),
        ("xceptoin", "Xception"),
        ("MobileNetV3", "MobileNetV3Small"),
        ("efficientnet", "EfficientNetB0"),
        ("mobilenetv2-0.36", "MobileNetV2-0.35"),
        ("squeezenet1.1", "SqueezeNet1_1"),
    ],
)
def test_find_names_the_nearest(wrong, nearest):
    with pytest.raises(errors.UserError) as caught:
        catalog.find(wrong)
    message = str(caught.value)
    assert repr(wrong) in message
    assert f"Did you mean {nearest}?" in message
    assert "`tlkeras backbones` lists all" in message
    assert "\n" not in message


@pytest.mark.parametrize("wrong", ["", "-", "zzzzzz", "two\nlines"])
def test_find_guesses_nothing_where_nothing_is_near(wrong):
    with pytest.raises(errors.UserError) as caught:
        catalog.find(wrong)
    message = str(caught.value)
    assert "Did you mean" not in message
    assert "`tlkeras backbones` lists all" in message
    assert "\n" not in message


def test_the_catalogue_imports_no_keras():
    code = (
        "import sys, tlkeras.backbones.catalog; "
        "sys.exit(any(name in sys.modules for name in "
        "('keras', 'tensorflow', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
