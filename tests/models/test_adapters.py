"""LoRA: nothing changes at first, only adapters learn, and none is left."""

import keras
import numpy as np
import pytest
import tiny

from tlkeras import errors
from tlkeras import records
from tlkeras.backbones import base as bases
from tlkeras.data import images as image_stores
from tlkeras.models import adapters
from tlkeras.models import classifier as classifiers
from tlkeras.models import graph
from tlkeras.models import saving
from tlkeras.settings import config as configs
from tlkeras.training import phase as one_phase
from tlkeras.training import row_store
from tlkeras.training import setup as setups
from tlkeras.training import unfinished

RANK = 2
SETUP = setups.Setup(progress=tiny.QUIET)


def classifier() -> keras.Model:
    """Two blocks of patches, one with dense layers and attention."""
    keras.utils.set_random_seed(0)
    images = keras.Input((tiny.SIZE, tiny.SIZE, 3))
    x = keras.layers.Conv2D(8, 4, strides=4, name="patches")(images)
    x = keras.layers.Dense(8, name="lower")(x)
    x = keras.layers.ReLU(name="relu")(x)
    tokens = keras.layers.Reshape((4, 8))(x)
    attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
    x = keras.layers.Add(name="add")([tokens, attention(tokens, tokens)])
    x = keras.layers.LayerNormalization(name="norm")(x)
    x = keras.layers.Dense(8, "relu", name="dense")(x)
    x = keras.layers.GlobalAveragePooling1D(name="pool")(x)
    network = keras.Model(images, x, name="tiny")
    base = bases.Base(
        network, backbone="SmallResNet", scaling="tf", name="base"
    )
    images = keras.Input((tiny.SIZE, tiny.SIZE, 3))
    model = keras.Model(
        images, classifiers.build_head(8, tiny.CLASSES)(base(images))
    )
    base.owned_by(model)
    classifiers.freeze(base)
    return model


def phase(unfreeze: str = "all", **fields) -> records.Phase:
    values = {"adapt": "lora", "lora_rank": RANK, **fields}
    return records.Phase("test", unfreeze, 3, 1e-2, **values)


def pixels() -> np.ndarray:
    shape = (5, tiny.SIZE, tiny.SIZE, 3)
    return np.random.default_rng(0).uniform(0, 255, shape).astype("float32")


class TestLora:
    def test_begins_as_it_was(self):
        model = classifier()
        before = np.asarray(bases.of(model)(pixels()))
        with adapters.lora(bases.of(model), None, RANK):
            after = np.asarray(bases.of(model)(pixels()))
        np.testing.assert_array_equal(after, before)

    @pytest.mark.parametrize("unfreeze", ["all", "from:attention"])
    def test_only_adapters_and_the_head_learn(self, unfreeze):
        model = classifier()
        base = bases.of(model)
        cut, _ = graph.find_cut(base.network, unfreeze)
        allowed = {
            layer.kernel.path for layer in adapters.layers(base.network, cut)
        }
        names = [variable.path for variable in model.variables]
        before = classifiers.state(base)
        result = one_phase.fit(model, phase(unfreeze), tiny.feed(), SETUP)
        moved = {}
        for variable, array in zip(base.variables, before, strict=True):
            change = classifiers.to_array(variable) - array
            if change.any():
                moved[variable.path] = change
        assert set(moved) == allowed
        assert ("lower/kernel" in allowed) == (unfreeze == "all")
        for path, change in moved.items():
            kept = change.reshape(-1, change.shape[-1])
            if "dense" in path:
                assert np.linalg.matrix_rank(kept, tol=1e-5) <= RANK
        assert [variable.path for variable in model.variables] == names
        head = sum(each.size for each in map(np.asarray, model.weights[-2:]))
        assert result.trainable_parameters > head
        assert result.learning == 2 * len(allowed) + 2

    @pytest.mark.slow
    def test_a_later_phase_trains_all_again(self):
        model = classifier()
        one_phase.fit(model, phase(), tiny.feed(), SETUP)
        result = one_phase.fit(model, phase(adapt="none"), tiny.feed(), SETUP)
        everything = sum(
            np.asarray(each).size for each in model.weights if each.trainable
        )
        assert everything <= result.trainable_parameters
        assert result.trainable_parameters == model.count_params()

    def test_it_learns_on_stored_activations(self):
        model = classifier()
        storage = row_store.Storage("memory", memory_bytes=1e9)
        setup = setups.Setup(tiny.QUIET, storage=storage)
        result = one_phase.fit(
            model, phase("from:attention"), tiny.feed(), setup
        )
        assert result.views_cached
        assert result.cached_at == "relu"

    @pytest.mark.slow
    def test_the_same_twice(self):
        results = []
        for _ in range(2):
            model = classifier()
            one_phase.fit(model, phase(), tiny.feed(), SETUP)
            results.append(classifiers.state(model))
        for one, other in zip(*results, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_a_saved_model_is_plain_and_as_it_was_scored(self, tmp_path):
        model = classifier()
        result = one_phase.fit(model, phase(), tiny.feed(), SETUP)
        one_phase.compile(model, phase(), 1)
        score = one_phase.evaluate(model, tiny.feed())
        assert score.cross_entropy == pytest.approx(
            result.score.cross_entropy, abs=1e-6
        )
        wanted = model.predict(pixels(), verbose=0)
        path = tmp_path / "model.keras"
        shape = image_stores.Shape(tiny.SIZE, "crop", 10**6)
        saving.save(path, saving.TrainedModel(model, tuple("abc"), shape))
        opened = saving.load(path).model
        assert len(opened.weights) == len(model.weights)
        assert "lora" not in str([each.path for each in opened.weights])
        np.testing.assert_array_equal(
            opened.predict(pixels(), verbose=0), wanted
        )

    @pytest.mark.slow
    def test_a_phase_that_was_cut_short_goes_on(self, tmp_path):
        whole = classifier()
        one_phase.fit(whole, phase(), tiny.feed(), SETUP)

        def stop(epoch, logs):
            if epoch == 1:
                raise KeyboardInterrupt

        watch = keras.callbacks.LambdaCallback(on_epoch_begin=stop)
        for callbacks in ((watch,), ()):
            model = classifier()
            keeper = unfinished.Keeper(tmp_path, {"images": "1"})
            setup = setups.Setup(
                tiny.QUIET,
                callbacks=lambda phase, each=callbacks: each,
                keeper=keeper,
            )
            result = one_phase.fit(model, phase(), tiny.feed(), setup)
        assert result.stopped == "budget"
        for one, other in zip(
            classifiers.state(model), classifiers.state(whole), strict=True
        ):
            np.testing.assert_array_equal(one, other)


class TestRefused:
    def test_a_base_without_dense_layers(self):
        model = tiny.classifier()
        with pytest.raises(errors.UserError, match="none there"):
            one_phase.fit(model, phase(), tiny.feed(), SETUP)

    def test_a_part_without_dense_layers(self):
        network = bases.of(classifier()).network
        cut = graph.block_cuts(network)[-1]
        with pytest.raises(errors.UserError, match="dense layers"):
            adapters.layers(network, cut)

    def test_batch_norm_in_training_mode(self):
        values = {
            "data": "folder:x",
            "phases": [
                {
                    "name": "a",
                    "unfreeze": "all",
                    "epochs": 1,
                    "learning_rate": 1e-3,
                    "batch_norm": "training",
                    "adapt": "lora",
                }
            ],
        }
        with pytest.raises(errors.UserError, match="`batch_norm` must be"):
            configs.build(values)


def test_which_phases_read_it():
    given = {"data": "folder:x", "adapt": "lora", "lora_rank": 4}
    config = configs.build({**given, "strategy": "fine_tuning"})
    head, finetune = config.strategy_phases().planned
    assert (head.adapt, finetune.adapt, finetune.lora_rank) == (
        "none",
        "lora",
        4,
    )
    config = configs.build({**given, "strategy": "feature_extraction"})
    assert "`adapt` has no effect" in str(configs.unused(config, ["adapt"]))
    config = configs.build({"data": "folder:x", "strategy": "fine_tuning"})
    assert "adapt none" in str(configs.unused(config, ["lora_rank"]))
