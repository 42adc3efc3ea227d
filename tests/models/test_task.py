"""The table of tasks: each says all that depends on it."""

import math

import keras
import ml_dtypes
import numpy as np
import pytest

from tlkeras.models import task as tasks

SINGLE = tasks.SINGLE_LABEL


def test_softmax_of_known_logits():
    logits = np.log([[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]])
    expected = [[0.125, 0.25, 0.625], [0.375, 0.375, 0.25]]
    np.testing.assert_allclose(
        SINGLE.probabilities(logits), expected, atol=1e-15
    )


def test_softmax_does_not_overflow():
    got = SINGLE.probabilities(np.array([1000.0, 1000.0, -1000.0]))
    np.testing.assert_array_equal(got, [0.5, 0.5, 0.0])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_softmax_widens_narrow_formats(dtype):
    logits = np.array([[60000.0, 0.0], [1.5, 0.25]]).astype(dtype)
    got = SINGLE.probabilities(logits)
    assert got.dtype == np.float64
    assert got[0].tolist() == [1.0, 0.0]
    assert got[1, 0] == pytest.approx(1 / (1 + math.exp(-1.25)), abs=1e-15)


def test_the_activation_is_what_gives_probabilities():
    logits = np.random.default_rng(0).normal(0, 5, (20, 7)).astype("float32")
    activation = keras.activations.get(SINGLE.activation)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(activation(keras.ops.array(logits))),
        SINGLE.probabilities(logits),
        atol=1e-6,
    )


def test_the_score_is_what_the_compiled_metrics_give():
    random = np.random.default_rng(1)
    logits = random.normal(0, 3, (50, 4)).astype("float32")
    targets = random.integers(0, 4, 50).astype(SINGLE.target_type)
    score = SINGLE.score(logits, targets)
    expected = {}
    for metric in SINGLE.metrics():
        metric.update_state(targets, logits)
        expected[metric.name] = float(metric.result())
    assert score.accuracy == pytest.approx(expected["accuracy"], abs=1e-6)
    assert score.cross_entropy == pytest.approx(
        expected["cross_entropy"], abs=1e-5
    )
    assert score.cross_entropy == pytest.approx(
        float(SINGLE.loss()(targets, logits)), abs=1e-5
    )
    answers, highest = SINGLE.answers(SINGLE.probabilities(logits))
    assert SINGLE.right(answers, targets).mean() == score.accuracy
    assert highest.min() >= 0.25


def test_every_task_can_be_found_by_its_name():
    for name, task in tasks.TASKS.items():
        assert task.name == name
        assert task.page
