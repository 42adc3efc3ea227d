"""Weights from every place they may come from, and what does not fit."""

import dataclasses
import hashlib
import os
import pathlib
import socket
import sys
import time
import zipfile
from collections.abc import Callable

import h5py
import keras
import numpy as np
import parity
import pytest
import torch_files

from tlkeras import errors
from tlkeras.backbones import catalog
from tlkeras.backbones import torch_weights
from tlkeras.backbones import weights
from tlkeras.data import images as image_stores
from tlkeras.models import classifier as classifiers
from tlkeras.models import saving

SHARED = pathlib.Path(__file__).parents[2] / ".." / "shared" / "weights"
SMALL = "SmallResNet"
MOBILE = "MobileNetV2-0.35"


def load(name: str, source: object, size: int = 32) -> keras.Model:
    return weights.network(catalog.find(name), size, str(source))


def constructed(name: str, **arguments) -> keras.Model:
    """The network as Keras' own constructor makes it."""
    row = catalog.find(name)
    constructor = getattr(keras.applications, name.partition("-")[0])
    return constructor(**{"weights": None, **dict(row.arguments), **arguments})


def randomized(model: keras.Model) -> keras.Model:
    """Fills all weights, so that no two networks are equal by chance."""
    generator = np.random.default_rng(0)
    model.set_weights(
        [
            generator.uniform(0.5, 1.5, weight.shape).astype(np.float32)
            for weight in model.weights
        ]
    )
    return model


def save(model: keras.Model, path: pathlib.Path) -> None:
    """Saves weights alone if the name says so, else the whole model."""
    alone = path.name.endswith(".weights.h5")
    (model.save_weights if alone else model.save)(path)


def damage(path: pathlib.Path, change: Callable) -> None:
    """Changes the last array of many numbers in an HDF5 file."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(
            lambda name, found: (
                names.append(name) if getattr(found, "size", 0) > 99 else None
            )
        )
        shape = file[names[-1]].shape
        with h5py.File(path.with_name("other.h5"), "w") as other:
            other["x"] = np.ones(shape, np.float32)
        del file[names[-1]]
        change(file, names[-1], shape, str(path.with_name("other.h5")))


def link(file, name, shape, other):
    file[name] = h5py.ExternalLink(other, "x")


def view(file, name, shape, other):
    layout = h5py.VirtualLayout(shape, np.float32)
    layout[:] = h5py.VirtualSource(other, "x", shape)
    file.create_virtual_dataset(name, layout)


# What becomes of an array: (file, its name, its shape, another file).
DAMAGES = {
    "missing": lambda file, name, shape, other: None,
    "linked": link,
    "a view": view,
    "elsewhere": lambda file, name, shape, other: file.create_dataset(
        name, shape, np.float32, external="/dev/zero"
    ),
    "of holes": lambda file, name, shape, other: file.create_dataset(
        name, (1 << 20, 1 << 14), np.float32, chunks=(1024, 1024)
    ),
    "text": lambda file, name, shape, other: file.create_dataset(
        name, data="text"
    ),
}


def same(found: keras.Model, wanted: keras.Model) -> bool:
    """Compares as many weights as `found` has."""
    pairs = zip(found.get_weights(), wanted.get_weights(), strict=False)
    return all(np.array_equal(*pair) for pair in pairs)


@pytest.fixture(scope="module")
def base() -> keras.Model:
    """A base for images of another size than those that it is loaded for."""
    return randomized(load(SMALL, "none", 24))


@pytest.fixture(scope="module")
def full(base) -> keras.Model:
    """The same with a classifier on top."""
    return keras.Model(base.input, keras.layers.Dense(7)(base.output))


@pytest.fixture
def shallow(monkeypatch) -> None:
    """Lets EfficientNet have two kinds of blocks: what is asked is the rest."""
    module = keras.src.applications.efficientnet
    few = module.DEFAULT_BLOCKS_ARGS[:2]
    monkeypatch.setattr(module, "DEFAULT_BLOCKS_ARGS", few)


class TestFiles:
    @pytest.mark.parametrize("which", ["base", "full"])
    @pytest.mark.parametrize(
        "name", ["some.h5", "some.keras", "some.weights.h5"]
    )
    def test_load(self, request, base, tmp_path, which, name):
        model = request.getfixturevalue(which)
        save(model, tmp_path / name)
        assert same(load(SMALL, tmp_path / name), base)

    @pytest.mark.parametrize("name", ["nested.h5", "nested.keras"])
    def test_network_inside_a_network(self, base, tmp_path, name):
        # Keras' guide builds them so. An .h5 file lists the statistics last.
        nested = keras.Sequential(
            [keras.Input((24, 24, 3)), base, keras.layers.Dense(3)]
        )
        nested.save(tmp_path / name)
        assert same(load(SMALL, tmp_path / name), base)

    @pytest.mark.parametrize(
        "name", ["nested.h5", "nested.keras", "nested.weights.h5"]
    )
    @pytest.mark.parametrize("frozen", [0.5, 1.0])
    # The layers of EfficientNet's input have numbers that Keras counts on.
    @pytest.mark.parametrize(
        "network", [SMALL, "MobileNet-0.25", "EfficientNetB0"]
    )
    def test_partly_frozen_network_inside_a_network(
        self, tmp_path, network, frozen, name, shallow
    ):
        # An .h5 file lists all frozen layers behind those that learn.
        inner = randomized(load(network, "none"))
        for layer in inner.layers[: round(frozen * len(inner.layers))]:
            layer.trainable = False
        nested = keras.Sequential(
            [keras.Input((32, 32, 3)), inner, keras.layers.Dense(3)]
        )
        save(nested, tmp_path / name)
        found = load(network, tmp_path / name)
        if network == "EfficientNetB0":
            # Its variance may be scaled.
            found.layers[2].set_weights(inner.layers[2].get_weights())
        assert same(found, inner)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize(
        "name", ["some.h5", "some.keras", "some.weights.h5"]
    )
    def test_what_is_not_finite_is_refused(self, base, tmp_path, name, value):
        broken = load(SMALL, "none")
        kernel = broken.get_layer("stage2_block1_1_conv").kernel
        values = np.array(kernel)
        values[0, 0, 0, 0] = value
        kernel.assign(values)
        save(broken, tmp_path / name)
        message = told(SMALL, tmp_path / name)
        assert name in message
        assert "NaN or infinity in stage2_block1_1_conv/" in message

    def test_names_in_several_pieces(self, base, tmp_path):
        # So Keras writes a list of over 64 kB.
        base.save(tmp_path / "some.h5")
        with h5py.File(tmp_path / "some.h5", "a") as file:
            attributes = file["model_weights"].attrs
            names = attributes["layer_names"]
            del attributes["layer_names"]
            attributes["layer_names0"] = names[:9]
            attributes["layer_names1"] = names[9:]
        assert same(load(SMALL, tmp_path / "some.h5"), base)

    def test_classifiers_of_convolutions(self, tmp_path):
        # MobileNet's own classifier is a 1 x 1 convolution.
        full = randomized(constructed("MobileNet-0.25"))
        full.save(tmp_path / "full.h5")
        assert same(load("MobileNet-0.25", tmp_path / "full.h5"), full)

    def test_run_directory(self, tmp_path):
        model = classifiers.build_classifier(
            2, backbone=SMALL, weights="none", image_size=16
        )
        randomized(model)
        saving.save(
            tmp_path / "model.keras",
            saving.TrainedModel(
                model, ("a", "b"), image_stores.Shape(16, "pad")
            ),
        )
        wanted = model.get_layer("base").network
        assert same(load(SMALL, tmp_path, 24), wanted)

    def test_none_is_random(self):
        assert not same(load(SMALL, "none"), load(SMALL, "none"))


class TestKerasSqueezenet:
    """Keras 1 wrote its file, with names that Keras 3 does not allow."""

    @pytest.fixture
    def file(self, tmp_path):
        """A file as theirs is: the path, and a network with its weights."""
        made = randomized(load("SqueezeNet1_1-keras", "none", 47))
        names = []
        with h5py.File(tmp_path / "notop.h5", "w") as file:
            for layer in made.layers:
                name = layer.name.replace("_", "/")
                names.append(name.encode())
                group = file.create_group(name)
                arrays = [f"uniform{len(names)}", f"{name}_b"]
                arrays = arrays[: len(layer.weights)]
                group.attrs["weight_names"] = [
                    array.encode() for array in arrays
                ]
                for array, weight in zip(arrays, layer.weights, strict=True):
                    group[array] = np.asarray(weight)
            file.attrs["layer_names"] = names
        return tmp_path / "notop.h5", made

    def test_fills_the_variant(self, file):
        path, made = file
        assert same(load("SqueezeNet1_1-keras", path), made)

    def test_is_refused_where_images_are_scaled_otherwise(self, file):
        message = told("SqueezeNet1_1", file[0])
        assert "Give --backbone=SqueezeNet1_1-keras" in message

    def test_pools_as_torchvision_at_224_pixels_only(self, file):
        _, made = file
        for size, equal in ((224, True), (177, False), (227, False)):
            images = np.random.default_rng(0).random((1, size, size, 3))
            features = []
            for name in ("SqueezeNet1_1-keras", "SqueezeNet1_1"):
                network = load(name, "none", size)
                network.set_weights(
                    [0.1 * array for array in made.get_weights()]
                )
                features.append(np.asarray(network(images)))
            assert np.array_equal(*features) == equal


class TestClassifier:
    """What the source's own classifier says of features."""

    @pytest.mark.parametrize(
        "name", ["some.h5", "some.keras", "some.weights.h5"]
    )
    def test_of_a_file(self, base, full, tmp_path, name):
        save(full, tmp_path / name)
        made = classifiers.build_base(
            SMALL, weights=str(tmp_path / name), image_size=24
        )
        pixels = np.random.default_rng(0).random((2, 24, 24, 3))
        found = weights.classifier(made, str(tmp_path / name))
        np.testing.assert_allclose(
            found(base.predict(pixels, verbose=0)),
            full.predict(pixels, verbose=0),
            rtol=1e-4,
        )

    def test_of_a_run(self, tmp_path):
        model = randomized(
            classifiers.build_classifier(
                2, backbone=SMALL, weights="none", image_size=16, head="mlp"
            )
        )
        model.save(tmp_path / "model.keras")
        made = classifiers.build_base(
            SMALL, weights=str(tmp_path), image_size=16
        )
        features = np.ones([3, 128], np.float32)
        np.testing.assert_allclose(
            weights.classifier(made, str(tmp_path))(features),
            model.get_layer("head").predict(features, verbose=0),
            rtol=1e-5,
        )

    def test_behind_the_pooling_as_a_convolution(self, tmp_path):
        full = randomized(
            constructed("MobileNet-0.25", input_shape=(32, 32, 3))
        )
        full.save(tmp_path / "full.h5")
        made = classifiers.build_base(
            "MobileNet-0.25", weights=str(tmp_path / "full.h5"), image_size=32
        )
        found = weights.classifier(made, str(tmp_path / "full.h5"))
        kernel, bias = full.get_weights()[-2:]
        features = np.ones([1, 256], np.float32)
        assert kernel.shape == (1, 1, 256, 1000)
        np.testing.assert_allclose(
            found(features)[0], kernel[0, 0].sum(axis=0) + bias, rtol=1e-4
        )

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_of_torchvision(self, tmp_path, suffix):
        full = parity.whole("ResNet18", 64)
        drawn = parity.draw(full, "ResNet18")
        torch_weights.assign(full, "ResNet18", drawn, "here")
        path = tmp_path / f"resnet18{suffix}"
        torch_files.write(path, drawn)
        made = classifiers.build_base(
            "ResNet18", weights=str(path), image_size=64
        )
        scaled = parity.images(64)
        np.testing.assert_allclose(
            weights.classifier(made, str(path))(
                made.network.predict(scaled, verbose=0)
            ),
            full.predict(scaled, verbose=0),
            rtol=1e-4,
            atol=1e-5,
        )

    @pytest.mark.parametrize(
        "name", ["some.h5", "some.keras", "some.weights.h5"]
    )
    def test_is_absent(self, base, tmp_path, name):
        save(base, tmp_path / name)
        made = classifiers.build_base(
            SMALL, weights=str(tmp_path / name), image_size=24
        )
        assert weights.classifier(made, str(tmp_path / name)) is None
        assert weights.classifier(made, "imagenet") is None
        assert weights.classifier(made, "none") is None

    def test_of_more_layers_is_none(self, base, tmp_path):
        x = keras.layers.Dense(128, "relu")(base.output)
        keras.Model(base.input, keras.layers.Dense(7)(x)).save(
            tmp_path / "some.h5"
        )
        made = classifiers.build_base(
            SMALL, weights=str(tmp_path / "some.h5"), image_size=24
        )
        assert weights.classifier(made, str(tmp_path / "some.h5")) is None


class TestMisfit:
    """One line that names the layer and both shapes."""

    @pytest.mark.parametrize(
        "name, layer",
        [
            ("some.h5", "conv1/kernel"),
            ("some.keras", "conv1/kernel"),
            ("some.weights.h5", "conv2d"),
        ],
    )
    def test_another_network(self, tmp_path, name, layer):
        save(load("MobileNet-0.25", "none"), tmp_path / name)
        message = told(SMALL, tmp_path / name)
        assert name in message
        assert "do not fit small_resnet: layer stem_conv" in message
        assert f"layer {layer} has " in message
        for shape in ("(3, 3, 3, 16)", "(3, 3, 3, 8)"):
            assert shape in message

    def test_too_few_weights_in_a_layer(self, tmp_path):
        save(load(SMALL, "none"), tmp_path / "some.weights.h5")
        message = told("VGG16", tmp_path / "some.weights.h5")
        assert "block1_conv1 needs [(3, 3, 3, 64), (64,)]" in message
        assert "conv2d has [(3, 3, 3, 16)]" in message

    def test_a_network_that_goes_on(self, tmp_path):
        longer = longer_by(keras.layers.Conv2D(4, 3, name="further"))
        longer.save(tmp_path / "some.h5")
        message = told(SMALL, tmp_path / "some.h5")
        assert "goes on with layer further/kernel of (3, 3, 128, 4)" in message

    def test_a_network_that_ends_early(self, tmp_path):
        small = load(SMALL, "none")
        shorter = keras.Model(
            small.input, small.get_layer("stage3_block1_2_conv").output
        )
        shorter.save(tmp_path / "some.h5")
        message = told(SMALL, tmp_path / "some.h5")
        assert "skip_conv/kernel needs (1, 1, 64, 128), the file has no mo" in (
            message
        )

    def test_a_run_of_another_network(self, tmp_path):
        model = classifiers.build_classifier(
            2, backbone=SMALL, weights="none", image_size=16
        )
        model.save(tmp_path / "model.keras")
        message = told("VGG16", tmp_path)
        assert "are those of SmallResNet. Received: backbone = VGG16" in message
        assert "--backbone=SmallResNet" in message

    @pytest.mark.parametrize(
        "name", ["some.h5", "some.weights.h5", "some.keras"]
    )
    @pytest.mark.parametrize("content", [b"", b"nonsense" * 99])
    def test_no_weights_at_all(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        assert name in told(SMALL, tmp_path / name)

    @pytest.mark.parametrize("name", ["a.h5", "a.weights.h5", "a.keras"])
    @pytest.mark.parametrize("what", DAMAGES)
    def test_an_array_that_is_not_there_is_one_line(
        self, tmp_path, recwarn, name, what
    ):
        """Neither said twice, nor taken from another file, nor unpacked."""
        save(load(SMALL, "none"), tmp_path / name)
        if name.endswith(".keras"):
            with zipfile.ZipFile(tmp_path / name) as archive:
                archive.extractall(tmp_path / "all")
                members = archive.namelist()
            damage(tmp_path / "all" / "model.weights.h5", DAMAGES[what])
            with zipfile.ZipFile(tmp_path / name, "w") as archive:
                for member in members:
                    archive.write(tmp_path / "all" / member, member)
        else:
            damage(tmp_path / name, DAMAGES[what])
        with pytest.raises(errors.UserError) as caught:
            load(SMALL, tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
        assert not [each for each in recwarn if each.category is UserWarning]

    def test_too_small_an_image(self):
        with pytest.raises(errors.UserError, match="at least 75 pixels"):
            load("InceptionV3", "none", 74)


def longer_by(layer: keras.layers.Layer) -> keras.Model:
    small = load(SMALL, "none")
    end = small.get_layer("stage3_block1_out").output
    return keras.Model(small.input, layer(end))


def told(name: str, source: object) -> str:
    """Returns the message of the `UserError`, which is one short line."""
    with pytest.raises(errors.UserError) as caught:
        load(name, source)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


class TestEfficientNet:
    """Keras scales once more with weights="imagenet", and only then."""

    @pytest.fixture
    def file(self, tmp_path, monkeypatch, shallow):
        """A file as Keras downloads it: the variance is the deviation."""
        made = constructed("EfficientNetB0", include_top=False)
        (layer,) = [
            each
            for each in made.layers
            if isinstance(each, keras.layers.Normalization)
        ]
        for variable, value in zip(
            layer.weights,
            ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 0),
            strict=True,
        ):
            variable.assign(value)
        path = tmp_path / "efficientnetb0_notop.h5"
        made.save(path)
        asked = []

        def get_file(name, origin, **options):
            asked.append(origin)
            return str(path)

        module = keras.src.applications.efficientnet
        monkeypatch.setattr(module.file_utils, "get_file", get_file)
        yield path
        assert asked[0].endswith("/efficientnetb0_notop.h5")

    def test_is_scaled_alike_from_everywhere(self, file, tmp_path):
        keras_own = constructed(
            "EfficientNetB0",
            weights="imagenet",
            include_top=False,
            pooling="avg",
            input_shape=(32, 32, 3),
        )
        keras_own.save(tmp_path / "own.keras")
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
        wanted = np.asarray(keras_own(images, training=False))

        def distance(model: keras.Model) -> float:
            found = np.asarray(model(images, training=False))
            return np.abs(found - wanted).max() / np.abs(wanted).max()

        ours = load("EfficientNetB0", file)
        # Once is enough: what is scaled already is not scaled again.
        ours.save(tmp_path / "ours.keras")
        assert distance(ours) < 1e-5
        for source in (
            "imagenet",
            tmp_path / "own.keras",
            tmp_path / "ours.keras",
        ):
            assert distance(load("EfficientNetB0", source)) < 1e-5
        # The plain file, as Keras would load it, is another network.
        plain = constructed(
            "EfficientNetB0",
            include_top=False,
            pooling="avg",
            input_shape=(32, 32, 3),
        )
        plain.load_weights(file)
        assert distance(plain) > 0.01


class TestImagenet:
    def test_without_a_network_tells_the_way_on(self, tmp_path, monkeypatch):
        monkeypatch.setattr(keras.src.backend.config, "_KERAS_DIR", tmp_path)

        def refuse(*arguments, **options):
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        began = time.perf_counter()
        message = told(MOBILE, "imagenet")
        assert time.perf_counter() - began < 10
        assert "could not be downloaded" in message
        assert "Name or service not known" in message
        assert "--weights=FILE" in message
        assert not [each for each in os.walk(tmp_path) if each[2]]

    @pytest.mark.parametrize(
        "error", [TimeoutError("timed out"), ConnectionResetError("reset")]
    )
    def test_a_broken_connection(self, monkeypatch, error):
        seen = []

        def fail(*arguments, **options):
            seen.append(socket.getdefaulttimeout())
            raise error

        module = keras.src.applications.mobilenet_v2
        monkeypatch.setattr(module.file_utils, "get_file", fail)
        assert str(error) in told(MOBILE, "imagenet")
        assert seen == [weights._TIMEOUT]
        assert socket.getdefaulttimeout() is None

    def test_other_errors_are_not_hidden(self, monkeypatch):
        def fail(*arguments, **options):
            raise RuntimeError("a mistake of ours")

        module = keras.src.applications.mobilenet_v2
        monkeypatch.setattr(module.file_utils, "get_file", fail)
        with pytest.raises(RuntimeError, match="a mistake of ours"):
            load(MOBILE, "imagenet")

    @pytest.fixture
    def elsewhere(self, tmp_path, monkeypatch):
        """Our network, and a row that finds its weights at an address."""
        made = randomized(load("SqueezeNet1_1-keras", "none", 47))
        made.save(tmp_path / "squeezenet.h5")
        monkeypatch.setattr(keras.src.backend.config, "_KERAS_DIR", tmp_path)
        digest = hashlib.sha256((tmp_path / "squeezenet.h5").read_bytes())
        row = dataclasses.replace(
            catalog.find("SqueezeNet1_1-keras"),
            origin=(tmp_path / "squeezenet.h5").as_uri(),
            sha256=digest.hexdigest(),
        )
        return made, row

    def test_from_elsewhere(self, elsewhere, tmp_path):
        made, row = elsewhere
        assert same(weights.network(row, 33, "imagenet"), made)
        assert (tmp_path / "models" / "squeezenet.h5").exists()

    def test_of_another_hash_are_refused_and_fetched_again(
        self, elsewhere, tmp_path
    ):
        row = dataclasses.replace(elsewhere[1], sha256="12345678")
        for _ in range(2):
            with pytest.raises(errors.UserError, match="Incomplete or corrup"):
                weights.network(row, 33, "imagenet")
            assert not (tmp_path / "models" / "squeezenet.h5").exists()

    def test_from_a_package(self, tmp_path, monkeypatch):
        """The package is found, and nothing of it is run."""
        row = catalog.find("EfficientNetLite0")
        package, _, inside = row.origin.removeprefix("package:").partition("/")
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        assert "pip install 'tlkeras[weights]'" in told(row.name, "imagenet")
        full = parity.whole(row.name, 32)
        drawn = parity.draw(full, row.name)
        path = tmp_path / package / inside
        path.parent.mkdir(parents=True)
        torch_files.write(path, drawn)
        (tmp_path / package / "__init__.py").write_text("raise SystemExit")
        made = load(row.name, "imagenet")
        torch_weights.assign(full, row.name, drawn, "here")
        assert same(made, full)
        features = np.ones([1, 1280], np.float32)
        found = weights.classifier(
            classifiers.build_base(row.name, weights="imagenet", image_size=32),
            "imagenet",
        )
        kernel, bias = full.get_weights()[-2:]
        np.testing.assert_allclose(
            found(features)[0], kernel.sum(axis=0) + bias, atol=1e-4
        )

    def test_some_networks_have_none(self):
        assert "no ImageNet weights for SmallResNet" in told(SMALL, "imagenet")


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not here")
class TestRealFiles:
    @pytest.mark.parametrize(
        "name, file",
        [
            (
                "MobileNet-0.25",
                "mobilenet_2_5_224_tf_no_top.h5",
            ),
            (
                MOBILE,
                "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224"
                "_no_top.h5",
            ),
            (
                "MobileNetV2",
                "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224"
                "_no_top.h5",
            ),
            (
                "MobileNetV2",
                "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5",
            ),
        ],
    )
    @pytest.mark.parametrize("size", [96, 224])
    def test_load_as_keras_loads_them(self, name, file, size):
        wanted = constructed(
            name,
            include_top="no_top" not in file,
            input_shape=(224, 224, 3),
            weights=str(SHARED / file),
        )
        assert same(load(name, SHARED / file, size), wanted)

    def test_squeezenet(self):
        file = SHARED / "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
        row = catalog.find("SqueezeNet1_1-keras")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert digest == row.sha256
        found = load("SqueezeNet1_1-keras", file)
        with h5py.File(file) as stored:
            for layer in found.layers:
                name = layer.name.replace("_", "/")
                group = stored[name] if layer.weights else None
                for variable in layer.weights:
                    bias = variable.path.endswith("bias")
                    key = [
                        each
                        for each in group.attrs["weight_names"]
                        if each.endswith(b"_b") == bias
                    ]
                    np.testing.assert_array_equal(variable, group[key[0]])

    def test_with_and_without_classifier_are_one_network(self):
        stem = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224"
        with_it = load("MobileNetV2", SHARED / f"{stem}.h5")
        without = load("MobileNetV2", SHARED / f"{stem}_no_top.h5")
        assert same(with_it, without)
