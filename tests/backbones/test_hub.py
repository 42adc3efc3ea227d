"""Presets of keras-hub as bases: equal, divisible, saved, and what is not.

The presets are small and random, and made here: nothing is downloaded.
"""

import functools
import importlib.util
import json
import pathlib
import shutil
import sys

import keras
import numpy as np
import parity
import portable
import pytest
import tiny
from conftest import LABELS
from conftest import run
from conftest import small

from tlkeras import errors
from tlkeras import records
from tlkeras.advisor import passes
from tlkeras.backbones import base as bases
from tlkeras.backbones import catalog
from tlkeras.backbones import hub
from tlkeras.backbones import hub_network
from tlkeras.backbones import origins
from tlkeras.backbones import torch_weights
from tlkeras.backbones import weights
from tlkeras.data import images as image_stores
from tlkeras.models import adapters
from tlkeras.models import classifier as classifiers
from tlkeras.models import graph
from tlkeras.models import saving
from tlkeras.training import phase as one_phase
from tlkeras.training import setup as setups

pytest.importorskip("keras_hub", reason="keras-hub is not installed")

import keras_hub  # noqa: E402
import presets  # noqa: E402

SIZE = presets.SIZE
FAMILIES = tuple(presets.BACKBONES)
# What a default suite tries; -m slow tries them all.
SOME = ("ViT", "DINOv2")
OTHERS = [
    pytest.param(family, marks=pytest.mark.slow)
    for family in FAMILIES
    if family not in SOME
]
SETUP = setups.Setup(progress=tiny.QUIET)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("presets")


def pixels(images: int = 3) -> np.ndarray:
    shape = (images, SIZE, SIZE, 3)
    return np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)


def classifier(name: str, **settings) -> keras.Model:
    return classifiers.build_classifier(
        tiny.CLASSES, backbone=name, image_size=SIZE, **settings
    )


@functools.cache
def network(name: str) -> keras.Model:
    """Returns a network that no test changes."""
    return classifiers.build_base(name, image_size=SIZE).network


def expected(name: str, family: hub.Family) -> np.ndarray:
    """Returns what keras-hub's own network makes of `pixels`, pooled."""
    place = name.removeprefix(hub.PREFIX)
    size = {family.size_key: (SIZE, SIZE, 3)} if family.sizes != "own" else {}
    own = keras_hub.models.Backbone.from_preset(place, **size)
    own = getattr(own, "vision_encoder", own)
    x = keras_hub.layers.ImageConverter.from_preset(place)(pixels())
    x = {key: x for key in own.input} if isinstance(own.input, dict) else x
    x = own(x, training=False)
    if isinstance(x, dict):
        x = x[list(x)[-1]]
    if family.pooling == "map":
        return np.asarray(keras.layers.GlobalAveragePooling2D()(x))
    x = np.asarray(x)
    first = 1 + getattr(own, "num_register_tokens", 0)
    pooled = {
        "none": lambda: x,
        "token": lambda: x[:, 0],
        "mean": lambda: keras.ops.mean(x, axis=1),
        "token_mean": lambda: np.concatenate(
            [x[:, 0], keras.ops.mean(x[:, first:], axis=1)], -1
        ),
    }
    return np.asarray(pooled[family.pooling]())


@pytest.mark.parametrize("family", [*SOME, *OTHERS])
class TestEveryFamily:
    def test_equals_its_backbone_to_the_bit(self, family, folder):
        name = presets.write(family, folder)
        ours = np.asarray(network(name)(pixels(), training=False))
        row = hub.find(name).family
        assert row.name == family
        np.testing.assert_array_equal(ours, expected(name, row))

    def test_divides_at_every_block(self, family, folder):
        made = network(presets.write(family, folder))
        cuts = graph.block_cuts(made)
        whole = np.asarray(made(pixels(), training=False))
        for cut in cuts:
            below, above = graph.split(made, cut)
            found = above(below(pixels(), training=False), training=False)
            np.testing.assert_array_equal(np.asarray(found), whole)
        stages = graph.stages(made)
        assert [len(stage.cuts) for stage in stages] == STAGES[family]
        assert stages[-1].end.layer == cuts[-1].layer
        assert stages[-1].end.shapes == (made.output.shape[1:],)
        # It opens without keras-hub where all layers are Keras'.
        plain = not isinstance(made, hub_network.HubNetwork)
        assert plain == (family in PLAIN)

    def test_comes_back_with_all_its_weights(self, family, folder, tmp_path):
        model = classifier(presets.write(family, folder))
        generator = np.random.default_rng(2)
        for variable in model.variables:
            if keras.backend.is_float_dtype(variable.dtype):
                # Upward, which keras-hub itself would not save of DINOv2.
                change = generator.uniform(0.01, 0.1, variable.shape)
                variable.assign_add(change.astype(np.float32))
        wanted = model.predict(pixels(), verbose=0)
        shape = image_stores.Shape(SIZE, "crop", 10**6)
        path = tmp_path / "model.keras"
        saving.save(path, saving.TrainedModel(model, tuple("abc"), shape))
        opened = saving.load(path).model
        np.testing.assert_array_equal(
            opened.predict(pixels(), verbose=0), wanted
        )
        for one, other in zip(model.weights, opened.weights, strict=True):
            np.testing.assert_array_equal(one, other)


# Number of cuts of each stage. Of tokens: quarters of five blocks, and pooling.
STAGES = {
    "ViT": [2, 1, 1, 2],
    "DINOv2": [2, 1, 1, 2],
    "DeiT": [2, 1, 1, 2],
    "DINOv3": [2, 1, 1, 2],
    "SigLIP": [2, 1, 1, 2],
    # These have resolutions.
    "Swin": [2, 4],
    "ResNet": [2, 2, 3],
    "EfficientNet": [2, 2, 4],
    "MobileNetV3": [1, 1, 1, 4],
    "HGNetV2": [2, 2],
    "DenseNet": [2, 3, 5],
    "CSPNet": [3, 3],
    "VGG": [2, 3],
}
PLAIN = ("ResNet", "DenseNet", "CSPNet", "VGG")


class TestLayouts:
    def test_hugging_face(self, tmp_path):
        name, own = presets.write_hugging_face(tmp_path)
        row = catalog.find(name)
        assert (row.family, row.default_size) == ("ViT", SIZE)
        scaled = (pixels() / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.5]
        wanted = own(scaled.astype(np.float32), training=False)[:, 0]
        found = network(name)(pixels(), training=False)
        np.testing.assert_allclose(found, wanted, atol=1e-5)

    def test_hugging_face_without_scaling(self, tmp_path):
        name, _ = presets.write_hugging_face(tmp_path)
        (tmp_path / "hugging_face/preprocessor_config.json").unlink()
        with pytest.raises(errors.UserError, match="pixels scaled"):
            classifier(name)

    @pytest.mark.slow
    def test_timm(self, tmp_path):
        """The same file makes the features of our own ResNet18."""
        ours = classifiers.build_base("ResNet18", weights="none", image_size=64)
        drawn = parity.draw(ours.network, "ResNet18")
        torch_weights.assign(ours.network, "ResNet18", drawn, "drawn")
        name = presets.write_timm(tmp_path, "resnet18", drawn)
        found = classifiers.build_base(name)
        images = np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 3))
        wanted = np.asarray(ours(images))
        np.testing.assert_allclose(
            found(images), wanted, atol=1e-4 * np.abs(wanted).max()
        )

    def test_timm_has_networks_that_keras_hub_cannot_read(self, tmp_path):
        name = presets.write_timm(tmp_path, "resnet50d", {"a": np.ones(3)})
        with pytest.raises(errors.UserError, match="resnet50d is not supp"):
            classifier(name)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "unfreeze, batch_norm",
    [
        ("none", "frozen"),
        ("stages:1", "frozen"),
        ("all", "frozen"),
        ("all", "training"),
    ],
)
def test_trains_what_a_phase_says(family, unfreeze, batch_norm, folder):
    """`fit` itself checks that what is frozen is equal to the bit."""
    model = classifier(presets.write(family, folder))
    phase = records.Phase(
        "phase", unfreeze, 2, 1e-3, batch_norm=batch_norm, layer_decay=0.8
    )
    before = classifiers.state(bases.of(model))
    result = one_phase.fit(model, phase, tiny.feed(size=SIZE), SETUP)
    moved = [
        variable.path
        for variable, array in zip(
            bases.of(model).variables, before, strict=True
        )
        if not np.array_equal(variable, array)
    ]
    assert bool(moved) == (unfreeze != "none")
    assert np.isfinite(result.score.cross_entropy)
    # The gradient of a key's bias is 0, but for rounding.
    assert result.unmoved <= result.learning // 10


class TestRun:
    @pytest.mark.parametrize(
        "family",
        [
            "ViT",
            *(pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES[1:]),
        ],
    )
    def test_from_a_folder_to_an_export(self, family, folder, photos, tmp_path):
        """The export is compared with the model where it is made."""
        settings = {
            "data": f"folder:{photos}",
            "backbone": presets.write(family, folder),
            "weights": "imagenet",
            "image_size": SIZE,
            "strategy": "last_stage",
            "finetune_epochs": 1,
            "adapt": "lora" if family == "ViT" else "none",
            "images_per_class": 8,
            "batch_size": 12,
        }
        directory = tmp_path / "run"
        made = run(small(**settings), directory)
        head, last = made.report["phases"]
        assert last["cached_at"]
        # Two parts of an adapter for each of six layers, in one block.
        if family == "ViT":
            assert last["learning"] == 2 * 6 + 2
        assert made.report["backbone"] == settings["backbone"]
        card = (directory / "model_card.md").read_text(encoding="utf-8")
        assert f"hub:{family.lower()} at 32" in card
        assert str(folder) not in card
        opened = saving.load(directory)
        assert opened.labels == LABELS

    @pytest.mark.slow
    @pytest.mark.parametrize("family, adapt", [("ViT", "lora"), ("DINOv2", "")])
    def test_on_jax(self, family, adapt, folder, photos, tmp_path):
        pytest.importorskip("jax", reason="JAX is not installed")
        head, top = portable.PHASES
        settings = {
            "data": f"folder:{photos}",
            "backbone": presets.write(family, folder),
            "image_size": SIZE,
            "phases": [head, {**top, "adapt": adapt or "none"}],
        }
        process = portable.start(
            "runs",
            {"settings": {str(tmp_path / "jax"): settings}},
            backend="jax",
            environment={"XDG_CACHE_HOME": str(tmp_path / "cache")},
        )
        portable.runs({str(tmp_path / "tensorflow"): settings})
        portable.answer(process)
        one, other = (
            portable.numbers(tmp_path / backend)
            for backend in ("jax", "tensorflow")
        )
        for name, values in one.items():
            np.testing.assert_allclose(values, other[name], atol=1e-3)


@pytest.mark.slow
def test_the_advisor_compares_it_with_itself_at_random(folder):
    """Layer by layer it could not be copied."""
    base = classifiers.build_base(presets.write("ViT", folder), image_size=SIZE)
    images = pixels().astype(np.uint8)
    found = passes.run(base, images, seed=0, progress=tiny.QUIET)
    assert len(found.stages) == len(found.features) == 4
    for one, other in zip(found.features, found.random_features, strict=True):
        assert one.shape == other.shape
        assert not np.allclose(one, other)


class TestFind:
    def test_what_is_known_without_building(self, folder):
        row = catalog.find(presets.write("DINOv2", folder))
        assert (row.family, row.default_size, row.size_step) == (
            "DINOv2",
            224,
            8,
        )

    def test_a_size_that_positions_do_not_fit(self, folder):
        name = presets.write("ViT", folder)
        with pytest.raises(errors.UserError, match="must be 32 pixels"):
            catalog.find(name).check_size(40)
        row = catalog.find(presets.write("DINOv2", folder))
        row.check_size(40)
        with pytest.raises(errors.UserError, match="multiple of 8 pixels"):
            row.check_size(44)

    def test_a_relative_path_becomes_absolute(self, folder, monkeypatch):
        name = presets.write("ViT", folder)
        monkeypatch.chdir(folder)
        assert catalog.find("hub:vit").name == name

    @pytest.mark.parametrize(
        "config, words",
        [
            (None, "it holds no config.json"),
            ("{", "cannot be read"),
            ("[]", "describes no network"),
            ('{"registered_name": "keras_hub>BertBackbone"}', "ViT, DeiT"),
            ('{"architecture": "mobilenetv5_300m"}', "is a mobilenetv5_300m"),
            ('{"model_type": "bert"}', "is a bert"),
        ],
    )
    def test_what_is_no_preset_of_pictures(self, config, words, tmp_path):
        if config is not None:
            (tmp_path / "config.json").write_text(config)
        with pytest.raises(errors.UserError, match=words):
            catalog.find(f"hub:{tmp_path}")

    def test_a_directory_that_is_not_there(self, tmp_path):
        with pytest.raises(errors.UserError, match="does not exist"):
            catalog.find(f"hub:{tmp_path}/missing")

    def test_what_cannot_be_downloaded(self, monkeypatch):
        def refuse(place, name):
            raise OSError(f"no way\nto {place}")

        monkeypatch.setattr(hub.keras_private, "hub_json", refuse)
        with pytest.raises(errors.UserError, match="no way to hf://a/b"):
            catalog.find("hub:hf://a/b")

    def test_without_keras_hub(self, monkeypatch, folder):
        name = presets.write("ViT", folder)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(errors.UserError, match=r"tlkeras\[hub\]"):
            catalog.find(name)

    def test_a_directory_is_named_without_its_place(self):
        assert hub.title("hub:/home/me/vit/") == "hub:vit"
        assert hub.title("hub:hf://google/vit") == "hub:hf://google/vit"
        said = origins.describe("hub:/home/me/vit", "imagenet")
        assert "preset `vit`" in said


class TestBuild:
    def test_without_a_converter(self, folder, tmp_path):
        shutil.copytree(folder / "vit", tmp_path / "vit")
        (tmp_path / "vit/image_converter.json").unlink()
        with pytest.raises(errors.UserError, match="pixels scaled"):
            classifier(f"hub:{tmp_path}/vit")

    def test_damaged_weights(self, folder, tmp_path):
        presets.write("ViT", folder)
        shutil.copytree(folder / "vit", tmp_path / "vit")
        (tmp_path / "vit/model.weights.h5").write_bytes(b"no")
        with pytest.raises(errors.UserError, match="cannot be loaded by"):
            classifier(f"hub:{tmp_path}/vit")

    def test_at_random(self, folder):
        name = presets.write("ViT", folder)
        own = network(name).get_weights()
        made = classifiers.build_base(name, weights="none", image_size=SIZE)
        random = made.network.get_weights()
        assert [a.shape for a in own] == [b.shape for b in random]
        assert any(
            not np.array_equal(a, b) for a, b in zip(own, random, strict=True)
        )

    @pytest.mark.slow
    def test_in_a_narrow_number_format(self, folder, tmp_path):
        model = classifier(presets.write("ViT", folder), precision="bfloat16")
        made = bases.of(model).network
        assert made.get_layer("pixels").compute_dtype == "float32"
        assert made.get_layer("pool").compute_dtype == "bfloat16"
        assert {weight.dtype for weight in model.weights} <= {
            "float32",
            "uint32",
        }
        model.save(tmp_path / "model.keras")
        opened = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(
            opened.predict(pixels(), verbose=0),
            model.predict(pixels(), verbose=0),
        )

    def test_opened_without_keras_hub(self, folder, monkeypatch, tmp_path):
        model = classifier(presets.write("ViT", folder))
        path = tmp_path / "model.keras"
        model.save(path)
        monkeypatch.setitem(sys.modules, "keras_hub", None)
        with pytest.raises(errors.UserError) as caught:
            weights.open_model(path)
        assert str(caught.value) == (
            f"{path} cannot be opened: its base needs keras-hub, which is not "
            "installed: pip install 'tlkeras[hub]'."
        )


class TestDefectsOfKerasHub:
    """What keras-hub 0.32 does, and why ours does something else.

    Where one of these fails, what works round it can go.
    """

    def test_positions_that_learned_upward_are_lost(self, tmp_path):
        own = presets.backbone("DINOv2")
        variable = own.embeddings.interpolated_position_embeddings
        variable.assign_add(keras.ops.ones_like(variable))
        own.save(tmp_path / "own.keras")
        opened = keras.saving.load_model(tmp_path / "own.keras")
        found = opened.embeddings.interpolated_position_embeddings
        assert not np.allclose(found, variable, atol=0.5)

    def test_drop_path_ends_in_an_error(self):
        own = presets.backbone("DINOv2", drop_path_rate=0.1)
        layer = own.get_layer("encoder").layers[0].drop_path
        with pytest.raises((ValueError, TypeError)):
            layer(keras.ops.ones([2, 3, 4]), training=True)

    def test_without_drop_path_it_trains(self, tmp_path):
        name = presets.write("DINOv2", tmp_path, drop_path_rate=0.1)
        made = network(name)
        made(pixels(), training=True)

    def test_embeddings_do_not_come_back_from_their_settings(self):
        layer = presets.backbone("ViT").layers[1]
        with pytest.raises(TypeError, match="num_patches"):
            type(layer).from_config(layer.get_config())

    def test_the_mask_token_has_no_gradient(self, folder):
        own = presets.backbone("DINOv2")
        assert any("mask_token" in each.path for each in own.trainable_weights)
        made = network(presets.write("DINOv2", folder))
        assert not any("mask_token" in each.path for each in made.weights)

    @pytest.mark.slow
    def test_a_setting_of_efficientnet_is_not_written(self, tmp_path):
        own = presets.backbone("EfficientNet", num_features=32)
        assert "num_features" not in own.get_config()
        name = presets.write("EfficientNet", tmp_path, num_features=32)
        with pytest.raises(errors.UserError, match="top_conv"):
            network(name)
        # As a preset that does say it.
        path = tmp_path / "efficientnet/config.json"
        config = json.loads(path.read_text())
        config["config"]["num_features"] = 32
        path.write_text(json.dumps(config))
        made = network(name)
        again = made.from_config(made.get_config())
        assert again.output.shape == made.output.shape == (None, 32)

    def test_siglip_says_a_token_too_many(self):
        own = presets.backbone("SigLIP").vision_encoder
        said = own.get_layer(index=1).output.shape
        is_so = own.get_layer(index=1)(pixels()).shape
        assert (said[1], is_so[1]) == (17, 16)

    @pytest.mark.slow
    def test_swin_says_no_shape(self):
        stage = presets.backbone("Swin").get_layer("stage_0")
        tokens = keras.KerasTensor((None, 64, 8))
        assert stage.downsample(tokens, H=8, W=8).shape[1] is None

    def test_hugging_face_has_no_converter(self, tmp_path):
        name, _ = presets.write_hugging_face(tmp_path)
        place = name.removeprefix(hub.PREFIX)
        assert keras_hub.layers.ImageConverter.from_preset(place) is None

    def test_dinov3_has_no_adapters(self, folder):
        own = presets.backbone("DINOv3")
        own.enable_lora(4)
        assert not own.trainable_variables
        base = classifiers.build_base(
            presets.write("DINOv3", folder), image_size=SIZE
        )
        with adapters.lora(base, None, 4):
            # Of query, key, value, output and two layers of each block.
            assert len(base.trainable_variables) == 2 * 6 * 5

    def test_names_of_other_weights(self):
        table = keras_hub.models.EfficientNetBackbone.presets
        own = table["efficientnet_b1_ft_imagenet"]["kaggle_handle"]
        wrong = [
            name
            for name, each in table.items()
            if each["kaggle_handle"] == own
            and name != "efficientnet_b1_ft_imagenet"
        ]
        assert len(wrong) == 3
        for name in wrong:
            with pytest.raises(errors.UserError, match="EfficientNetB1"):
                catalog.find(f"hub:{name}")


def test_the_table_knows_keras_hub():
    """Every class that the table names is there, and every block is met."""
    for family in hub.FAMILIES:
        assert hasattr(keras_hub.models, family.backbone), family.name


def test_settings_are_json(folder):
    """A model is opened by what stands in its file."""
    made = network(presets.write("DINOv2", folder))
    settings = made.get_config()
    assert json.loads(json.dumps(settings)) is not None
