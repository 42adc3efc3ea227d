"""Training on JAX: the results of TensorFlow, and its claims bit for bit."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import portable
import pytest
import tensorflow as tf

pytest.importorskip("jax", reason="JAX is not installed")

FORMATS = ("float32", "bfloat16")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("backends")


@pytest.fixture(scope="module")
def both(trained, photos, place):
    """Reports of runs from the same weights, by backend and format."""

    def settings(backend: str) -> dict[str, dict]:
        return {
            str(place / backend / precision): {
                "data": f"folder:{photos}",
                "weights": str(trained.directory),
                "precision": precision,
            }
            for precision in FORMATS
        }

    process = portable.start(
        "runs",
        {"settings": settings("jax")},
        backend="jax",
        environment={"XDG_CACHE_HOME": str(place / "cache")},
    )
    found = portable.runs(settings("tensorflow"))
    return {**found, **portable.answer(process)}


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    # float32 sums in another order; bfloat16 has 8 bits, of which Adam makes
    # steps of either sign where a gradient is nearly nothing.
    [("float32", 1e-3), ("bfloat16", 3e-2)],
)
def test_it_comes_to_what_tensorflow_comes_to(
    both, place, precision, tolerance
):
    expected = portable.numbers(place / "tensorflow" / precision)
    found = portable.numbers(place / "jax" / precision)
    assert len(expected["loss"]) == 5
    for name, values in expected.items():
        np.testing.assert_allclose(
            found[name], values, atol=tolerance, err_msg=name
        )
    # It learned at all.
    assert found["validation_cross_entropy"][-1] < np.log(3) / 2


@pytest.mark.parametrize("precision", FORMATS)
def test_the_export_answers_in_tensorflow(both, place, photos, precision):
    run = place / "jax" / precision
    served = tf.saved_model.load(str(run / "saved_model" / "1"))
    with open(run / "predictions.csv") as stream:
        path = stream.read().splitlines()[1].split(",")[0]
    answer = served.signatures["serving_default"](
        image_bytes=tf.constant([pathlib.Path(photos, path).read_bytes()])
    )
    np.testing.assert_allclose(
        answer["probabilities"][0],
        portable.numbers(run)["probabilities"][0],
        atol={"float32": 1e-4, "bfloat16": 3e-2}[precision],
    )
    report = both[str(run)]
    assert "SavedModel answers as the model" in report["notes"][-1]
    environment = json.loads((run / "environment.json").read_text())
    assert environment["backend"] == "jax"
    assert environment["jax"][0].isdigit()


def on_jax(*words: str) -> str:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n", "0"),
            *("-p", "no:randomly", *words),
        ],
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
    return done.stdout


def test_claims_best_epoch_and_interrupt_hold_on_jax():
    """Callbacks read variables that a step has taken the values out of."""
    names = (
        "is_bit_equal and not learned",
        "movement_is_an_error and not learned",
        "restored_bit_for_bit",
        "interrupt",
    )
    found = on_jax("tests/test_training.py", "-k", " or ".join(names))
    assert " passed" in found


@pytest.mark.slow
def test_the_tests_of_training_hold_on_jax():
    on_jax(
        "tests/test_training.py",
        "tests/test_schedule.py",
        "tests/test_checkpoint.py",
        "tests/test_saving.py",
        "tests/test_predicting.py",
        "tests/test_model.py",
    )
