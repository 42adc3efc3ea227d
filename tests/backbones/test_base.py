"""The base computes in the mode that it was told, whatever Keras does."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from tlkeras.backbones import base as bases
from tlkeras.models import classifier as classifiers

KERAS = tuple(map(int, keras.version().split(".")[:2]))
# From Keras 3.16 on, the guide's way holds (keras PR 23364).
guide_fails = pytest.mark.skipif(
    KERAS >= (3, 16), reason="Keras 3.16 keeps training=False in fit"
)
SIZE = 8


def network() -> keras.Model:
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(images)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    features = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, features)


def held(inner: keras.Model, batch_norm: str = "frozen") -> bases.Base:
    return bases.Base(
        inner,
        backbone="test",
        scaling="none",
        batch_norm=batch_norm,
        name="base",
    )


def pixels(images: int = 16, size: int = SIZE) -> np.ndarray:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (images, size, size, 3))
    return noise.astype(np.float32)


def distance_in_fit(call, inner: keras.Model, images: np.ndarray) -> float:
    """How far the features in `fit` are from those of inference, relatively.

    The loss of the first step is their distance. The second step then has
    other targets, so that something is learned.
    """
    features = np.asarray(inner(images, training=False))
    entry = keras.Input(images.shape[1:])
    model = keras.Model(entry, call(entry))
    model.compile(keras.optimizers.SGD(0.1), loss="mean_absolute_error")
    losses = [
        model.fit(
            images, targets, batch_size=len(images), shuffle=False, verbose=0
        ).history["loss"][0]
        for targets in (features, 2 * features)
    ]
    return losses[0] / np.abs(features).mean()


def statistics_of(inner: keras.Model) -> list[bytes]:
    bn = inner.get_layer("bn")
    return [
        np.asarray(each).tobytes()
        for each in (bn.moving_mean, bn.moving_variance)
    ]


def seed_of(inner: keras.Model) -> list[int]:
    state = inner.get_layer("dropout").seed_generator.state
    return np.asarray(state).tolist()


class TestFit:
    def test_held_statistics_do_not_move_by_one_bit(self):
        inner = network()
        before = statistics_of(inner), seed_of(inner)
        kernel = np.asarray(inner.get_layer("conv").kernel)
        distance = distance_in_fit(held(inner), inner, pixels())
        assert (statistics_of(inner), seed_of(inner)) == before
        assert not np.array_equal(inner.get_layer("conv").kernel, kernel)
        assert distance < 1e-5

    def test_learned_statistics_move(self):
        inner = network()
        before = statistics_of(inner), seed_of(inner)
        call = held(inner, "training")
        distance = distance_in_fit(call, inner, pixels())
        assert all(
            new != old
            for new, old in zip(statistics_of(inner), before[0], strict=True)
        )
        assert seed_of(inner) != before[1]
        assert distance > 0.01

    def test_learned_is_inference_outside_of_fit(self):
        inner = network()
        call = held(inner, "training")
        before = statistics_of(inner)
        entry = keras.Input((SIZE, SIZE, 3))
        found = keras.Model(entry, call(entry)).predict(pixels(), verbose=0)
        wanted = np.asarray(inner(pixels(), training=False))
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
        assert statistics_of(inner) == before

    @guide_fails
    def test_the_guides_way_moves_statistics(self):
        # If this fails on a Keras before 3.16, law 1 needs a second look.
        inner = network()
        before = statistics_of(inner)
        distance = distance_in_fit(
            lambda images: inner(images, training=False), inner, pixels()
        )
        assert statistics_of(inner) != before
        assert distance > 0.01


class TestEfficientNet:
    """A frozen one has dropout, which the guide's way leaves on."""

    @pytest.fixture(scope="class")
    def inner(self):
        keras.utils.set_random_seed(0)
        made = keras.applications.EfficientNetB0(
            include_top=False,
            weights=None,
            input_shape=(32, 32, 3),
            pooling="avg",
        )
        made.trainable = False
        return made

    @pytest.mark.filterwarnings("ignore:.*does not have any trainable")
    def test_held_is_inference(self, inner):
        assert distance_in_fit(held(inner), inner, pixels(8, 32)) < 1e-4

    @guide_fails
    @pytest.mark.filterwarnings("ignore:.*does not have any trainable")
    def test_the_guides_way_drops(self, inner):
        distance = distance_in_fit(
            lambda images: inner(images, training=False), inner, pixels(8, 32)
        )
        assert distance > 0.01


class TestScaling:
    @pytest.mark.parametrize(
        "scaling, module",
        [
            ("caffe", keras.applications.vgg16),
            ("caffe", keras.applications.resnet50),
            ("tf", keras.applications.mobilenet_v2),
            ("tf", keras.applications.resnet_v2),
            ("torch", keras.applications.densenet),
            ("none", keras.applications.efficientnet),
            ("none", keras.applications.convnext),
        ],
    )
    @pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
    def test_is_keras_own_in_float32(self, scaling, module, policy):
        images = pixels()
        base = bases.Base(
            keras.Sequential([keras.Input((SIZE, SIZE, 3)), _identity()]),
            backbone="test",
            scaling=scaling,
            dtype=policy,
        )
        wanted = module.preprocess_input(images.copy())
        np.testing.assert_allclose(base(images), wanted, rtol=0, atol=2e-5)
        np.testing.assert_allclose(
            base(images.astype(np.uint8)), wanted, rtol=0, atol=2e-5
        )


def _identity() -> keras.layers.Layer:
    return keras.layers.Activation("linear", dtype="float32")


class TestSaving:
    def test_opens_after_the_import_and_says_so_before(self, tmp_path):
        model = classifiers.build_classifier(
            3,
            backbone="SmallResNet",
            weights="none",
            image_size=16,
            head_initializer="glorot_uniform",
        )
        model.save(tmp_path / "model.keras")
        np.save(tmp_path / "images.npy", pixels(4, 16))
        program = """
import keras, numpy
try:
    keras.saving.load_model("model.keras")
except TypeError as error:
    print(error)
import tlkeras.models.classifier
model = keras.saving.load_model("model.keras")
assert model.get_layer("base").backbone == "SmallResNet"
logits = model.predict(numpy.load("images.npy"), verbose=0)
numpy.save("logits.npy", logits)
"""
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        # Some, such as Keras 3.8, import what the file names by themselves.
        if done.stdout or KERAS >= (3, 15):
            assert "import tlkeras.models.classifier" in done.stdout
            assert "tlkeras.load" in done.stdout
        np.testing.assert_array_equal(
            np.load(tmp_path / "logits.npy"),
            model.predict(pixels(4, 16), verbose=0),
        )

    def test_keeps_its_settings(self):
        base = held(network(), "training")
        again = bases.Base.from_config(base.get_config())
        assert again.batch_norm == "training"
        assert again.scaling == "none"
        assert again.backbone == "test"
        assert [layer.name for layer in again.network.layers] == [
            layer.name for layer in base.network.layers
        ]


class TestOf:
    def test_finds_the_base(self):
        base = held(network())
        entry = keras.Input((SIZE, SIZE, 3))
        assert bases.of(keras.Model(entry, base(entry))) is base

    def test_names_what_there_is_instead(self):
        with pytest.raises(ValueError, match="must be a classifier of"):
            bases.of(network())
