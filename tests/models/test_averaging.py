"""Answers over an image and its mirror image, wherever a model answers."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import run
from conftest import small

from tlkeras import api
from tlkeras import cli
from tlkeras import errors
from tlkeras.export import saved_model
from tlkeras.models import averaging
from tlkeras.models import classifier as classifiers
from tlkeras.models import saving
from tlkeras.scoring import predicting

SQUARES = np.random.default_rng(0).integers(0, 256, [6, 16, 16, 3], np.uint8)


@pytest.fixture(scope="module")
def classifier(trained):
    """One whose answers tell left from right."""
    found = saving.load(trained.directory, tta="flip")
    for layer in found.model.get_layer("base").network.layers:
        for variable in layer.weights:
            if len(variable.shape) == 4:
                noise = np.random.default_rng(0).normal(0, 0.2, variable.shape)
                variable.assign_add(noise)
    logits = found.model.predict_on_batch(SQUARES.astype(np.float32))
    classifiers.divide_logits(found.model, float(logits.std()))
    return found


@pytest.fixture
def squares():
    return SQUARES


def test_flip_is_the_mean_of_both_logits(classifier, squares):
    images = squares.astype(np.float32)
    one = classifier.model.predict_on_batch(images)
    other = classifier.model.predict_on_batch(images[:, :, ::-1])
    assert np.abs(one - other).max() > 0.01
    found = classifier.averaged.predict_on_batch(images)
    np.testing.assert_allclose(found, (one + other) / 2, atol=1e-5)
    assert averaging.averaged(classifier.model, "none") is classifier.model
    answers = predicting.predict_squares(classifier, list(squares))
    mirrored = predicting.predict_squares(classifier, list(squares[:, :, ::-1]))
    np.testing.assert_allclose(
        answers.probabilities, mirrored.probabilities, atol=1e-5
    )


def test_a_model_says_over_what_it_averages(classifier, squares, tmp_path):
    saving.save(tmp_path / "model.keras", classifier)
    expected = predicting.predict_squares(classifier, list(squares))
    for tta, equal in (("model", True), ("flip", True), ("none", False)):
        opened = saving.load(tmp_path / "model.keras", tta=tta)
        found = predicting.predict_squares(opened, list(squares))
        difference = found.probabilities - expected.probabilities
        assert bool(np.abs(difference).max() < 1e-6) is equal
    with pytest.raises(errors.UserError, match="`tta` must be one of model"):
        saving.load(tmp_path / "model.keras", tta="crop")


def test_the_saved_model_averages(classifier, squares, tmp_path):
    encoded = [tf.io.encode_png(square).numpy() for square in squares]
    saved_model.write(classifier, tmp_path / "flip", samples=encoded)
    # Which compares with the live model, so another one is refused.
    alone = dataclasses.replace(classifier, tta="none")
    with pytest.raises(errors.UserError, match="probabilities differ"):
        saved_model._verify(alone, tmp_path / "flip", encoded)


@pytest.mark.parametrize(
    "name",
    [
        "litert",
        pytest.param("litert_int8", marks=pytest.mark.slow),
        "onnx",
        pytest.param("openvino", marks=pytest.mark.slow),
    ],
)
def test_converted_formats_average(classifier, photos, tmp_path, name):
    pytest.importorskip("ai_edge_litert" if "litert" in name else name)
    saving.save(tmp_path / "model.keras", classifier)
    done = api.export_model(
        tmp_path / "model.keras",
        tmp_path / "out",
        format=name,
        data=f"folder:{photos}",
        calibration=f"folder:{photos}",
        max_changed=0.2,
        quiet=True,
    )
    assert not done.refused
    known = json.loads((tmp_path / "out" / "model.json").read_text())
    assert known["averaged_over"] == "flip"


def test_a_run_is_scored_as_it_answers(photos, tmp_path, no_page):
    made = run(
        small(data=f"folder:{photos}", epochs=1, tta="flip"), tmp_path / "run"
    )
    assert saving.load(made.directory).tta == "flip"
    found = {}
    for tta in ("model", "flip", "none"):
        table = tmp_path / f"{tta}.json"
        words = [f"--tta={tta}", f"--json={table}", "--quiet"]
        words += [f"--model={made.directory}", f"--data=folder:{photos}"]
        assert cli.main(["evaluate", *words]) == 0
        found[tta] = json.loads(table.read_text())["quality"]
    test = made.report["test"]["cross_entropy"]
    assert found["model"]["cross_entropy"] == pytest.approx(test, rel=1e-4)
    assert found["model"] == found["flip"] != found["none"]
