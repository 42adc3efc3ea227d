import dataclasses

import numpy as np
import pytest
import scipy.special
import sklearn.calibration
import sklearn.frozen
import sklearn.linear_model
import tiny
from conftest import LABELS
from conftest import SMALL
from conftest import run

import tlkeras
from tlkeras import records
from tlkeras.models import classifier as classifiers
from tlkeras.scoring import calibration
from tlkeras.scoring import metrics
from tlkeras.settings import config as configs


def result(**changes) -> records.PhaseResult:
    phase = records.Phase("a", unfreeze="all", epochs=2, learning_rate=0.1)
    values = {
        field.name: 1 for field in dataclasses.fields(records.PhaseResult)
    } | {"phase": phase, "stopped": "budget", "rolled_back": False}
    return records.PhaseResult(**values | changes)


def answers(images: int, seed: int, surer: float = 1.0, classes: int = 4):
    """Returns probabilities [n, k], true if `surer` is 1, and targets."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (images, classes))
    true = scipy.special.softmax(logits, axis=1)
    targets = (true.cumsum(axis=1) < random.random((images, 1))).sum(axis=1)
    return scipy.special.softmax(surer * logits, axis=1), targets


def fit(probabilities, targets, *results, groups=None, **options):
    groups = map(str, range(len(targets))) if groups is None else groups
    return calibration.fit(
        probabilities, targets, list(groups), results or [result()], **options
    )


@pytest.mark.parametrize("surer", [0.5, 1.0, 3.0])
def test_it_finds_by_how_much_answers_are_too_sure(surer):
    probabilities, targets = answers(4000, 0, surer)
    found = fit(probabilities, targets)
    assert found.value == pytest.approx(surer, rel=0.1)
    mended = calibration.tempered(probabilities, found.value)
    assert (mended.argmax(1) == probabilities.argmax(1)).all()
    np.testing.assert_allclose(mended.sum(axis=1), 1)
    right = mended.argmax(axis=1) == targets
    assert metrics.calibration_error(mended.max(axis=1), right) < 0.03


def test_it_is_scikit_learns():
    random = np.random.default_rng(0)
    features = random.normal(size=(60, 20))
    weights = random.normal(size=(20, 3))
    targets = (features @ weights + random.normal(size=(60, 3))).argmax(axis=1)
    model = sklearn.linear_model.LogisticRegression(C=1e3, max_iter=10_000)
    model.fit(features, targets)
    fresh = random.normal(size=(200, 20))
    truth = (fresh @ weights + random.normal(size=(200, 3))).argmax(axis=1)
    try:
        theirs = sklearn.calibration.CalibratedClassifierCV(
            sklearn.frozen.FrozenEstimator(model), method="temperature"
        ).fit(fresh, truth)
    except ValueError:
        pytest.skip("scikit-learn before 1.8 has no temperature")
    found = fit(model.predict_proba(fresh), truth)
    assert found.value > 1.2
    np.testing.assert_allclose(
        calibration.tempered(model.predict_proba(fresh), found.value),
        theirs.predict_proba(fresh),
        atol=1e-3,
    )


def test_it_says_why_nothing_is_fitted():
    probabilities, targets = answers(60, 0, 3.0)
    rolled_back = result(rolled_back=True)
    solved = result(stopped="solved")
    for found, reason in (
        (fit(probabilities, targets, solved), "solved head"),
        (fit(probabilities, targets, solved, rolled_back), "solved head"),
        (fit(probabilities[:49], targets[:49]), "there are 49 images"),
        (
            fit(probabilities, targets, groups=list("abc") * 20),
            "there are 3 groups of images",
        ),
        (fit(probabilities, targets, wished=False), "--calibrate=none"),
    ):
        assert found.value == 1 and reason in found.text
    assert fit(probabilities, targets, solved, result()).value > 1.5


def test_the_error_has_an_interval_and_that_of_chance():
    probabilities, targets = answers(300, 1)
    alone = calibration.error(probabilities, targets, list(range(300)))
    assert alone["low"] < alone["value"] < alone["high"]
    assert alone["value"] == pytest.approx(alone["chance"], abs=0.03)
    # A small error lies in its own interval, which no resampling gives by
    # itself: it adds an error of its own.
    mended = calibration.error(*answers(180, 3), list(range(180)))
    assert mended["low"] <= mended["value"] <= mended["high"]
    # Ten images answered alike tell as much as one.
    tens = calibration.error(
        np.repeat(probabilities[:30], 10, axis=0),
        np.repeat(targets[:30], 10),
        np.repeat(np.arange(30), 10).tolist(),
    )
    width = alone["high"] - alone["low"]
    assert tens["high"] - tens["low"] > 1.5 * width


def test_the_last_layer_divides():
    model = tiny.classifier()
    random = np.random.default_rng(0)
    layer = model.get_layer("head").get_layer("logits")
    layer.kernel.assign(random.normal(size=layer.kernel.shape))
    layer.bias.assign(random.normal(size=layer.bias.shape))
    images = random.uniform(0, 255, (5, tiny.SIZE, tiny.SIZE, 3))
    before = model.predict(images, verbose=0)
    classifiers.divide_logits(model, 2.5)
    np.testing.assert_allclose(
        model.predict(images, verbose=0), before / 2.5, rtol=1e-5, atol=1e-6
    )


def test_a_run_delivers_what_it_was_measured_with(
    photos, tmp_path, monkeypatch, no_page
):
    monkeypatch.setattr(calibration, "_FEWEST", 5)
    settings = {**SMALL, "data": f"folder:{photos}", "epochs": 2}
    found = run(configs.build(settings), tmp_path / "run")
    temperature = found.report["calibration"]["temperature"]
    assert temperature != 1
    lines = (tmp_path / "run" / "predictions.csv").read_text().splitlines()
    header, first = (line.split(",") for line in lines[:2])
    path = photos / dict(zip(header, first, strict=True))["path"]
    (answer,) = tlkeras.load(tmp_path / "run").predict(path)
    expected = np.array(first[header.index(f"p_{LABELS[0]}") :], float)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
