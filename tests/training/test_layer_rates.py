"""Rates by depth: as an optimizer for each layer would, on both backends."""

import keras
import portable
import pytest
import tiny

from tlkeras import records
from tlkeras.models import classifier as classifiers
from tlkeras.settings import config as configs
from tlkeras.training import layer_rates
from tlkeras.training import phase as one_phase
from tlkeras.training import row_store
from tlkeras.training import setup as setups

DECAY = 0.5


def check(found: dict) -> None:
    assert found["optimizers"] < 1e-7
    assert found["moves"] == pytest.approx(
        {
            "conv1/kernel": DECAY**2,
            "bn1/beta": DECAY**2,
            "conv2/kernel": DECAY,
            "bn2/beta": DECAY,
            "logits/kernel": 1.0,
        },
        rel=1e-3,
    )


def test_as_an_optimizer_for_each_layer():
    check(portable.layer_rates(DECAY))


@pytest.mark.slow
def test_on_jax_too(tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    process = portable.start(
        "layer_rates",
        {"decay": DECAY},
        backend="jax",
        environment={"XDG_CACHE_HOME": str(tmp_path)},
    )
    check(portable.answer(process))


@pytest.mark.parametrize(
    "name, size, depths",
    [
        (
            "SmallResNet",
            16,
            {
                "stem_conv": 4,
                "stage1_block1_1_conv": 3,
                "stage1_block1_skip_bn": 3,
                "stage3_block1_2_bn": 1,
            },
        ),
        ("MobileNetV2-0.35", 32, {"Conv1": 32, "Conv_1": 1, "Conv_1_bn": 1}),
    ],
)
def test_every_layer_that_learns_has_a_depth(name, size, depths):
    network = classifiers.build_base(
        name, weights="none", image_size=size
    ).network
    found = layer_rates.block_depths(network)
    assert set(found) == {each.name for each in network.layers if each.weights}
    assert set(found.values()) == set(range(1, max(found.values()) + 1))
    assert {layer: found[layer] for layer in depths} == depths


def test_what_is_trained_on_stored_activations_has_them_too():
    model = tiny.classifier(dropout=0.0)
    storage = row_store.Storage("memory", memory_bytes=1e9)
    made = []

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            made.append(self.model.optimizer.get_config()["scales"])

    result = one_phase.fit(
        model,
        records.Phase("test", "stages:1", 4, 1e-2, layer_decay=DECAY),
        tiny.feed(),
        setups.Setup(
            tiny.QUIET, storage=storage, callbacks=lambda phase: (Watch(),)
        ),
    )
    assert result.views_cached
    # Of the last block kernel, gamma and beta; of the head kernel and bias.
    assert made == [(DECAY,) * 3 + (1.0, 1.0)]


def test_the_optimizer_is_saved_and_opened():
    optimizer = layer_rates.LayerwiseAdam(1e-3, scales=(0.5, 1.0))
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config()["scales"] == (0.5, 1.0)


def test_one_rate_is_plain_adam():
    model = tiny.classifier()
    phase = records.Phase("test", "all", 1, 1e-2)
    one_phase.compile(model, phase, 1)
    assert type(model.optimizer) is keras.optimizers.Adam


def test_which_phases_read_it():
    given = {"data": "folder:x", "layer_decay": 0.8, "strategy": "fine_tuning"}
    config = configs.build(given)
    head, finetune = config.strategy_phases().planned
    assert (head.layer_decay, finetune.layer_decay) == (1.0, 0.8)
    for strategy in ("scratch", "feature_extraction"):
        config = configs.build(
            {"data": "folder:x", "layer_decay": 0.8, "strategy": strategy}
        )
        assert "`layer_decay` has no effect" in str(
            configs.unused(config, ["layer_decay"])
        )
        phases = config.strategy_phases().planned
        assert [each.layer_decay for each in phases] == [1.0]
