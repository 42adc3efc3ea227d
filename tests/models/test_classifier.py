"""Classifiers as functional models, and what of their base may learn."""

import pathlib

import keras
import numpy as np
import pytest
import tiny

from tlkeras import errors
from tlkeras.backbones import base as bases
from tlkeras.backbones import tensor_files
from tlkeras.backbones import torch_weights
from tlkeras.backbones import weights
from tlkeras.data import images as image_stores
from tlkeras.models import classifier as classifiers
from tlkeras.models import graph
from tlkeras.models import saving


def build(**settings) -> keras.Model:
    return classifiers.build_classifier(
        3, **{"backbone": "SmallResNet", "weights": "none", **SMALL, **settings}
    )


SMALL = {"image_size": 16}


@pytest.fixture(scope="module")
def small() -> keras.Model:
    return build()


def learning(model: keras.Model) -> list[str]:
    """Returns the names of the layers of the base that learn."""
    network = bases.of(model).network
    return [layer.name for layer in network.layers if layer.trainable_variables]


def fit(model: keras.Model) -> None:
    images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:]))
    model.fit(100 * images, np.array([0, 1]), verbose=0)


def compile(model: keras.Model) -> None:
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )


def toggle(model: keras.Model) -> None:
    """Sets what is not set already, which TensorFlow would pass over."""
    model.trainable = False
    model.trainable = True


class TestBuild:
    def test_is_functional_and_its_base_frozen(self, small):
        assert isinstance(small, keras.Model)
        assert [layer.name for layer in small.layers] == [
            "images",
            "base",
            "head",
        ]
        assert small.input_shape == (None, 16, 16, 3)
        assert small.input.dtype == "float32"
        assert not learning(small)
        assert len(small.trainable_variables) == 2

    def test_answers_in_logits(self):
        # Of random heads one in some has no logit below 0 here.
        keras.utils.set_random_seed(0)
        model = build(head_initializer="glorot_uniform")
        images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3))
        logits = model.predict(images.astype(np.float32), verbose=0)
        assert logits.dtype == np.float32
        assert (logits < 0).any()
        assert not np.allclose(logits.sum(axis=1), 1)

    def test_a_zero_head_answers_zero(self, small):
        images = np.full((1, 16, 16, 3), 99.0, np.float32)
        assert not small.predict(images, verbose=0).any()

    @pytest.mark.parametrize(
        "backbone, size", [("VGG16", 32), ("SmallResNet", 16)]
    )
    def test_uint8_is_the_same_picture(self, backbone, size):
        # The caffe scaling of Keras wraps on uint8: 0 becomes 153.
        model = build(
            backbone=backbone,
            image_size=size,
            head_initializer="glorot_uniform",
        )
        images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3))
        images = images.astype(np.uint8)
        np.testing.assert_array_equal(
            model.predict(images, verbose=0),
            model.predict(images.astype(np.float32), verbose=0),
        )

    def test_two_classes_are_a_softmax_of_two(self):
        model = classifiers.build_classifier(
            2, backbone="SmallResNet", weights="none", **SMALL
        )
        assert model.output_shape == (None, 2)

    def test_the_default_size_is_the_networks_own(self):
        assert build(image_size="auto").input_shape == (None, 32, 32, 3)

    @pytest.mark.parametrize(
        "settings, message",
        [
            ({"backbone": "SmalResNet"}, "Did you mean SmallResNet"),
            ({"image_size": 4}, "at least 8 pixels.*Received: 4"),
            ({"head": "deep"}, "one of linear, mlp. Received: 'deep'"),
            ({"precision": "half"}, "float16. Received: 'half'"),
            ({"weights": "imagenet"}, "no ImageNet weights for SmallResNet"),
            ({"weights": "/no/such.h5"}, "/no/such.h5, which does not exist"),
        ],
    )
    def test_tells_what_is_wrong(self, settings, message):
        with pytest.raises(errors.UserError, match=message) as caught:
            build(**settings)
        assert "\n" not in str(caught.value)
        assert keras.config.dtype_policy().name == "float32"

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("dropout", 1.5),
            ("image_size", "big"),
            ("head_initializer", "foo"),
            ("head_units", 0),
            ("l2", -1.0),
        ],
    )
    def test_values_are_those_of_the_settings(self, setting, value):
        with pytest.raises(errors.UserError, match=f"`{setting}` must be"):
            build(**{setting: value})

    def test_one_class_is_none(self):
        with pytest.raises(errors.UserError, match="at least 2. Received: 1"):
            classifiers.build_classifier(1)


class TestHead:
    def test_linear(self):
        head = classifiers.build_head(8, 3, dropout=0.2, l2=0.1)
        assert [layer.name for layer in head.layers] == [
            "features",
            "dropout",
            "logits",
        ]
        assert not np.asarray(head.get_layer("logits").kernel).any()

    def test_mlp(self):
        head = classifiers.build_head(
            8, 3, kind="mlp", units=5, initializer="glorot_uniform", dropout=0
        )
        assert [layer.name for layer in head.layers] == [
            "features",
            "hidden",
            "logits",
        ]
        assert head.count_params() == 8 * 5 + 5 + 5 * 3 + 3
        assert np.asarray(head.get_layer("logits").kernel).all()

    def test_penalty(self):
        head = classifiers.build_head(2, 2, kind="mlp", units=2, l2=0.5)
        head.set_weights([np.ones(each.shape) for each in head.weights])
        # 0.5 times the squares of two kernels of 2 x 2; biases are free.
        assert sum(map(float, head.losses)) == pytest.approx(4.0)


class TestUnfreeze:
    def test_all_and_none(self, small):
        assert classifiers.unfreeze(small) == "all"
        assert len(learning(small)) == 20
        assert classifiers.unfreeze(small, "none") == "none"
        assert not learning(small)

    def test_the_topmost_stages(self, small):
        assert classifiers.unfreeze(small, "stages:1") == "stages:1"
        assert sorted(learning(small)) == [
            f"stage3_block1_{part}_{kind}"
            for part in ("1", "2", "skip")
            for kind in ("bn", "conv")
        ]
        # More after less, and less after more.
        classifiers.unfreeze(small, "stages:2")
        assert {name[:6] for name in learning(small)} == {"stage2", "stage3"}
        classifiers.unfreeze(small, "stages:3")
        assert len(learning(small)) == 20
        classifiers.unfreeze(small, "stages:1")
        assert len(learning(small)) == 6

    def test_freeze_takes_all_back(self, small):
        classifiers.unfreeze(small, "stages:1")
        classifiers.freeze(small)
        assert not learning(small)
        # Behind the base's back.
        bases.of(small).network.trainable = True
        classifiers.freeze(small)
        assert not learning(small)

    def test_a_layer_inside_a_block_snaps_to_its_start(self, small):
        found = classifiers.unfreeze(small, "from:stage3_block1_2_conv")
        assert found == "from:stage3_block1_1_conv"
        assert len(learning(small)) == 6

    def test_a_model_is_saved_with_a_part_unfrozen(self, tmp_path):
        model = build(head_initializer="glorot_uniform")
        bases.of(model).batch_norm = "training"
        classifiers.unfreeze(model, "stages:1")
        compile(model)
        fit(model)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        images = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3))
        np.testing.assert_array_equal(
            again.predict(images, verbose=0), model.predict(images, verbose=0)
        )
        assert len(again.variables) == len(model.variables)

    def test_the_first_layers_are_all(self, small):
        assert classifiers.unfreeze(small, "from:stem_conv") == "all"
        assert "stem_conv" in learning(small)

    def test_every_answer_is_a_fixed_point(self, small):
        network = bases.of(small).network
        cuts = graph.block_cuts(network)
        for layer in network.layers:
            cut, exact = graph.find_cut(network, f"from:{layer.name}")
            assert graph.find_cut(network, exact) == (cut, exact)
            assert cut is None or layer.name not in cut.below
            higher = [each for each in cuts if layer.name not in each.below]
            assert cut is None or cut == higher[-1]

    def test_mobilenet_v2(self):
        # Block 5 begins behind the addition of block 4.
        network = classifiers.build_base(
            "MobileNetV2-0.35", weights="none", image_size=32
        ).network
        cut, exact = graph.find_cut(network, "from:block_5_project")
        assert (cut.layer, exact) == ("block_4_add", "from:block_5_expand")

    @pytest.mark.parametrize(
        "what, message",
        [
            ("stages:4", "N of at most 3 for small_resnet.*stages:4"),
            ("from:stage3_block1_3_conv", "Did you mean stage3_block1_2_conv"),
            ("from:", "must be none, all, stages:N"),
            ("stages:0", "must be none, all, stages:N"),
            ("top", "must be none, all, stages:N"),
        ],
    )
    def test_tells_what_is_wrong(self, small, what, message):
        before = learning(small)
        with pytest.raises(errors.UserError, match=message):
            classifiers.unfreeze(small, what)
        assert learning(small) == before

    def test_another_model_has_no_base(self):
        with pytest.raises(ValueError, match="build_classifier"):
            classifiers.freeze(classifiers.build_head(4, 2))


class TestCompile:
    """Law 2: a change of what learns is no silent no-op."""

    @pytest.fixture(scope="class")
    def built(self):
        return tiny.classifier()

    @pytest.fixture(params=["built", "loaded"])
    def model(self, request, built, tmp_path):
        """A compiled classifier, new or opened from a file."""
        model = built
        if request.param == "loaded":
            path = tmp_path / "model.keras"
            labels = tuple("abc")
            shape = image_stores.Shape(8, "pad")
            saving.save(path, saving.TrainedModel(built, labels, shape))
            model = saving.load(path).model
        classifiers.freeze(model)
        compile(model)
        return model

    @pytest.mark.parametrize(
        "change",
        [
            classifiers.unfreeze,
            lambda model: classifiers.unfreeze(model, "from:conv2"),
            lambda model: setattr(bases.of(model), "trainable", True),
            classifiers.freeze,
            toggle,
        ],
    )
    def test_is_needed_after_a_change(self, model, change):
        change(model)
        with pytest.raises(ValueError, match=r"call `compile\(\)` before"):
            fit(model)

    def test_keras_passes_over_what_is_so_already(self, model):
        model.trainable = True
        if keras.backend.backend() == "tensorflow":
            # Neither the base nor what the model compiled for changes.
            fit(model)
            assert not bases.of(model).trainable
        else:
            with pytest.raises(ValueError, match=r"call `compile\(\)` before"):
                fit(model)

    def test_then_trains(self, built):
        classifiers.unfreeze(built)
        compile(built)
        kernel = bases.of(built).network.get_layer("conv1").kernel
        # The head begins at zero, so the base learns from the second step on;
        # dropout may leave so small a head nothing in a step or two.
        before = np.array(kernel)
        for _ in range(5):
            fit(built)
        assert not np.array_equal(kernel, before)

    def test_without_a_change_nothing_is_refused(self, model):
        fit(model)


class TestSeeds:
    """The functions of the PyTorch tutorial, in Keras form."""

    @pytest.mark.parametrize("feature_extract", [True, False])
    def test_initialize_model(self, feature_extract):
        model = classifiers.initialize_model(
            3,
            feature_extract,
            use_pretrained=False,
            backbone="SmallResNet",
            image_size=16,
        )
        assert bool(learning(model)) == (not feature_extract)
        learned = "frozen" if feature_extract else "training"
        assert bases.of(model).batch_norm == learned

    @pytest.mark.parametrize("feature_extract", [True, False])
    def test_as_the_tutorial_calls_it(self, monkeypatch, feature_extract):
        # SqueezeNet 1.0 with the weights that torchvision has of it, here ones.
        monkeypatch.setattr(
            weights, "_fetch", lambda row: pathlib.Path("x.pth")
        )
        monkeypatch.setattr(tensor_files, "read", lambda path: path)

        def assign(made, name, found, source):
            assert name == "SqueezeNet1_0" and found == pathlib.Path("x.pth")
            made.set_weights([np.ones(each.shape) for each in made.weights])

        monkeypatch.setattr(torch_weights, "assign", assign)
        model = classifiers.initialize_model(
            7, feature_extract, True, backbone="squeezenet1_0"
        )
        base = bases.of(model)
        assert all(np.asarray(each).all() for each in base.weights)
        assert model.input_shape == (None, 224, 224, 3)
        assert model.output_shape == (None, 7)
        assert bool(learning(model)) == (not feature_extract)
        assert base.batch_norm == "frozen"
        head = model.get_layer("head")
        kernel, bias = head.trainable_variables
        assert (kernel.shape, bias.shape) == ((512, 7), (7,))

    def test_set_parameter_requires_grad(self, small):
        classifiers.unfreeze(small)
        classifiers.set_parameter_requires_grad(small, False)
        assert learning(small)
        classifiers.set_parameter_requires_grad(small, True)
        assert not learning(small)
        assert small.get_layer("head").trainable_variables


class TestState:
    def test_holds_weights_and_seeds(self):
        model = tiny.classifier()
        before = classifiers.state(model)
        dropout = model.get_layer("head").get_layer("dropout")
        for variable in model.variables:
            variable.assign(variable + 1)
        changed = classifiers.state(model)
        assert not any(map(np.array_equal, before, changed))
        classifiers.restore(model, before)
        assert all(map(np.array_equal, before, classifiers.state(model)))
        assert int(dropout.seed_generator.state[1]) == 0

    def test_of_another_model(self):
        with pytest.raises(ValueError):
            classifiers.restore(tiny.classifier(), classifiers.state(build()))
