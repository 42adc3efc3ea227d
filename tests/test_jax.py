"""Training on JAX: the results of TensorFlow, and its claims bit for bit."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import portable
import pytest
import tensorflow as tf
from conftest import unexported

from tlkeras import api
from tlkeras.export import proof
from tlkeras.models import classifier as classifiers

pytest.importorskip("jax", reason="JAX is not installed")

# float32 sums in another order; bfloat16 has 8 bits.
TOLERANCES = {"float32": 1e-3, "bfloat16": 3e-2}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """A directory with weights that all start from."""
    place = tmp_path_factory.mktemp("backends")
    keras.utils.set_random_seed(0)
    base = classifiers.build_base("SmallResNet", weights="none", image_size=16)
    base.network.save_weights(place / "base.weights.h5")
    return place


def settings(place: pathlib.Path, photos: pathlib.Path, *names: str) -> dict:
    """Settings of runs by their directories, BACKEND/PRECISION."""
    return {
        str(place / name): {
            "data": f"folder:{photos}",
            "weights": str(place / "base.weights.h5"),
            "precision": name.rpartition("/")[2],
        }
        for name in names
    }


def on_both(
    function: str, photos: pathlib.Path, place: pathlib.Path, precision: str
) -> tuple[dict, dict]:
    """Returns what a function of `portable` answers on TensorFlow and JAX."""
    process = portable.start(
        function,
        {"settings": settings(place, photos, f"jax/{precision}")},
        backend="jax",
        environment={"XDG_CACHE_HOME": str(place / "cache")},
    )
    expected = getattr(portable, function)(
        settings(place, photos, f"tensorflow/{precision}")
    )
    return expected, portable.answer(process)


@pytest.fixture(scope="module")
def both(photos, place):
    # The tests of the export have that of TensorFlow.
    with unexported():
        return on_both("smoke", photos, place, "float32")


def check_run(place: pathlib.Path, precision: str) -> None:
    expected = portable.numbers(place / "tensorflow" / precision)
    found = portable.numbers(place / "jax" / precision)
    assert len(expected["loss"]) == 5
    for name, values in expected.items():
        np.testing.assert_allclose(
            found[name], values, atol=TOLERANCES[precision], err_msg=name
        )
    # It learned at all.
    assert found["loss"][-1] < 0.8 * found["loss"][0]


def check_export(place: pathlib.Path, photos: pathlib.Path, precision) -> None:
    run = place / "jax" / precision
    served = tf.saved_model.load(str(run / "saved_model" / "1"))
    with open(run / "predictions.csv", newline="") as stream:
        path = list(csv.reader(stream))[1][0]
    answer = served.signatures["serving_default"](
        image_bytes=tf.constant([pathlib.Path(photos, path).read_bytes()])
    )
    np.testing.assert_allclose(
        answer["probabilities"][0],
        portable.numbers(run)["probabilities"][0],
        atol=proof.TOLERANCE[precision],
    )


def test_it_comes_to_what_tensorflow_comes_to(both, place):
    check_run(place, "float32")
    found = both[1]["runs"][str(place / "jax" / "float32")]
    assert "SavedModel predicts as the model" in found["notes"][-1]
    run = place / "jax" / "float32"
    environment = json.loads((run / "environment.json").read_text())
    assert environment["backend"] == "jax"
    assert environment["jax"][0].isdigit()


def test_its_export_answers_in_tensorflow(both, place, photos):
    check_export(place, photos, "float32")


def test_what_it_saved_opens_on_tensorflow(both, place, photos):
    run = place / "jax" / "float32"
    numbers = portable.numbers(run)["probabilities"]
    with open(run / "predictions.csv", newline="") as stream:
        path = list(csv.reader(stream))[1][0]
    (answer,) = api.load(run).predict([photos / path])
    np.testing.assert_allclose(answer["probabilities"], numbers[0], atol=1e-4)


def test_bfloat16_comes_to_what_it_comes_to_on_tensorflow(both):
    expected, found = (answers["mixed"] for answers in both)
    for name in ("cross_entropy", "loss"):
        np.testing.assert_allclose(
            found[name], expected[name], atol=TOLERANCES["bfloat16"]
        )
    assert found["cross_entropy"][-1] < found["cross_entropy"][0]


@pytest.mark.slow
def test_a_run_in_bfloat16(photos, place):
    on_both("runs", photos, place, "bfloat16")
    check_run(place, "bfloat16")
    check_export(place, photos, "bfloat16")


def on_jax(*words: str) -> None:
    """Lets tests hold in a process whose backend is JAX."""
    done = subprocess.run(
        [*(sys.executable, "-m", "pytest", "-q", "-n", "0"), *words],
        cwd=pathlib.Path(__file__).parent.parent,
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_best_epoch_interrupt_and_filled_batches_hold_on_jax():
    """A step takes the values out of the variables that callbacks read."""
    tests = (
        "TestBestEpoch::test_is_restored_bit_for_bit",
        "TestEnd::test_interrupt_within_a_step[0]",
        "test_a_filled_batch_is_scored_as_a_smaller_one",
    )
    on_jax(*[f"tests/training/test_phase.py::{test}" for test in tests])


@pytest.mark.slow
def test_the_tests_of_training_hold_on_jax():
    on_jax(
        "tests/training/test_phase.py",
        "tests/training/test_phases.py",
        "tests/training/test_checkpoint.py",
        "tests/models/test_saving.py",
        "tests/models/test_forward.py",
        "tests/scoring/test_predicting.py",
        "tests/scoring/test_explaining.py",
        "tests/scoring/test_rolling.py",
        "tests/scoring/test_unknown.py",
        "tests/models/test_classifier.py",
    )
