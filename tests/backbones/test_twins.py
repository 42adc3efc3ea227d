"""Networks that PyTorch has, too: equal weights make equal features."""

import json

import keras
import numpy as np
import parity
import pytest
import torch_files

from tlkeras import errors
from tlkeras.backbones import catalog
from tlkeras.backbones import torch_tables
from tlkeras.backbones import torch_weights as mapping
from tlkeras.backbones import weights
from tlkeras.models import classifier as classifiers

TOLERANCE = 1e-4
SMALL = ("VGG16", "DenseNet121", "ConvNeXtTiny", "EfficientNetV2B0")


def features(library: str, name: str, size: int) -> np.ndarray:
    keras.backend.clear_session()
    made = parity.base(name, size)
    mapping.assign(made, name, parity.draw(made, name, library), "drawn")
    return np.asarray(made(parity.pixels(name, size)[0], training=False))[0]


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape
    # Features that were all alike would hide a mistake.
    assert wanted.std() > 0.03 * np.abs(wanted).max()
    return np.abs(found - wanted).max() / np.abs(wanted).max()


@pytest.mark.slow
@pytest.mark.parametrize("size", parity.SIZES)
@pytest.mark.parametrize("library, name", parity.TWINS)
def test_features_are_the_golden_ones(library, name, size):
    known = json.loads(parity.TWIN_GOLDEN.read_text())
    wanted = np.array(known[f"{library} {name}"][str(size)])
    found = features(library, name, size)[:: parity.STEP]
    assert distance(found, wanted) < TOLERANCE


@pytest.mark.torch
@pytest.mark.parametrize("size", parity.SIZES)
@pytest.mark.parametrize("library, name", parity.TWINS)
def test_all_features_agree(library, name, size):
    drawn = parity.draw(parity.base(name, 32), name, library)
    wanted = parity.their_features(library, name, drawn, size)
    assert distance(features(library, name, size), wanted) < TOLERANCE


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in SMALL else pytest.mark.slow)
        for name in torch_tables.SCHEMES
        if "2B" not in name or name in SMALL
        if catalog.find(name).parameters < 60e6
    ],
)
def test_each_scheme_has_each_array_once(name):
    keras.backend.clear_session()
    made = parity.base(name, 64)
    places = set(mapping.places(made))
    assert len(places) == len(made.weights)
    for _, rows in mapping.tables(name):
        ours = [row.keras for row in rows]
        assert len(set(ours)) == len(ours)
        assert len({row.torch for row in rows}) == len(rows)
        assert places <= set(ours)
        assert {place.split("/")[0] for place in set(ours) - places} <= {
            *("fc", "fc1", "fc2", "fc8", "conv10", "predictions")
        }


def test_every_network_has_a_twin_or_a_reason():
    for row in catalog.BACKBONES:
        ours = row.name in ("SmallResNet", "SqueezeNet1_1-keras")
        has = row.name in torch_tables.SCHEMES
        assert ours or has != (row.family in torch_tables.OTHERS), row.name


@pytest.mark.parametrize(
    "name, why",
    [
        ("ResNet50", "give --backbone=ResNet50-torchvision"),
        ("InceptionV3", "no gamma"),
        ("MobileNetV2", "pads both sides alike"),
        ("SmallResNet", "no library"),
    ],
)
def test_what_has_no_twin_is_refused(tmp_path, name, why):
    path = tmp_path / "some.pth"
    torch_files.write(path, {"conv1.weight": np.ones((2, 3, 1, 1), "f4")})
    with pytest.raises(errors.UserError, match=why) as caught:
        classifiers.build_base(name, weights=str(path), image_size=96)
    assert f"do not fit {name}" in str(caught.value)


@pytest.mark.slow
def test_weights_bring_the_scaling_of_their_pixels(tmp_path):
    """Those of Keras want Caffe's for VGG, PyTorch's want PyTorch's."""
    row = catalog.find("VGG16")
    assert weights.scaling(row, "imagenet") == "caffe"
    path = tmp_path / "some.pth"
    torch_files.write(path, parity.draw(parity.base("VGG16", 32), "VGG16"))
    model = classifiers.build_classifier(
        3, backbone="VGG16", weights=str(path), image_size=32
    )
    assert model.get_layer("base").scaling == "torch"
    model.save(tmp_path / "model.keras")
    again = classifiers.build_base(
        "VGG16", weights=str(tmp_path / "model.keras"), image_size=32
    )
    assert again.scaling == "torch"
