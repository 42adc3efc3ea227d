"""What a killed run finds again: all of it, or a clear refusal."""

import dataclasses
import json
import math

import numpy as np
import pytest
import tiny

from tlkeras import errors
from tlkeras import records
from tlkeras.models import classifier as classifiers
from tlkeras.training import checkpoint

ROW = records.Epoch(
    phase="head",
    epoch=1,
    learning_rate=0.1,
    loss=0.1 + 0.2,
    accuracy=1 / 3,
    validation_accuracy=2 / 3,
    validation_cross_entropy=math.pi,
    seconds=1e-9,
    images_per_second=1e9,
)
RESULT = records.PhaseResult(
    phase=records.Phase("head", "stages:2", 5, 1e-3, schedule="cosine"),
    score=records.Score(2 / 3, math.pi, 24),
    epochs=1,
    best_epoch=1,
    steps=3,
    seconds=1.5,
    stopped="budget",
    trainable_parameters=12,
    learning=2,
    unmoved=0,
    momentum=0.5,
    history=(ROW,),
    rolled_back=True,
    views_cached=2,
)


DIGESTS = {"images": "1", "settings": "2"}


@pytest.fixture(scope="module")
def model():
    made = tiny.classifier()
    for number, variable in enumerate(made.variables):
        variable.assign(variable + number)
    return made


def contents(model) -> list[bytes]:
    return [each.tobytes() for each in classifiers.state(model)]


def test_gives_back_every_bit(model, tmp_path):
    assert not checkpoint.exists(tmp_path)
    assert checkpoint.load(tmp_path, model, DIGESTS) == ()
    checkpoint.save(tmp_path, model, (RESULT,), DIGESTS)
    assert checkpoint.exists(tmp_path)
    other = tiny.classifier(seed=5)
    assert contents(other) != contents(model)
    assert checkpoint.load(tmp_path, other, DIGESTS) == (RESULT,)
    # Dropout's seeds, too, which Keras' own files of weights leave out.
    assert contents(other) == contents(model)


def test_scores_that_are_not_finite(model, tmp_path):
    score = records.Score(0.5, math.inf, 24)
    checkpoint.save(
        tmp_path, model, (dataclasses.replace(RESULT, score=score),), DIGESTS
    )
    (found,) = checkpoint.load(tmp_path, model, DIGESTS)
    assert found.score == score


def test_is_one_file_and_replaces_the_last(model, tmp_path):
    checkpoint.save(tmp_path, model, (RESULT,), DIGESTS)
    checkpoint.save(tmp_path, model, (RESULT, RESULT), DIGESTS)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.npz"]
    assert checkpoint.load(tmp_path, model, DIGESTS) == (RESULT, RESULT)


def test_a_failed_save_leaves_the_last(model, tmp_path, monkeypatch):
    checkpoint.save(tmp_path, model, (RESULT,), DIGESTS)

    def fail(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(errors.UserError, match="disk full"):
        checkpoint.save(tmp_path, model, (RESULT, RESULT), DIGESTS)
    assert checkpoint.load(tmp_path, model, DIGESTS) == (RESULT,)


def test_remove(model, tmp_path):
    checkpoint.save(tmp_path, model, (RESULT,), DIGESTS)
    checkpoint.remove(tmp_path)
    checkpoint.remove(tmp_path)
    assert not list(tmp_path.iterdir())


class TestRefusal:
    def test_of_another_model(self, model, tmp_path):
        head = classifiers.build_head(4, 3)
        checkpoint.save(tmp_path, head, (RESULT,), DIGESTS)
        with pytest.raises(errors.UserError, match="cannot go on"):
            checkpoint.load(tmp_path, model, DIGESTS)

    def test_of_a_damaged_file(self, model, tmp_path):
        checkpoint.save(tmp_path, model, (RESULT,), DIGESTS)
        path = tmp_path / "checkpoint.npz"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(errors.UserError, match="checkpoint.npz is damaged"):
            checkpoint.load(tmp_path, model, DIGESTS)

    @pytest.mark.parametrize("name", DIGESTS)
    def test_of_what_has_changed(self, model, tmp_path, name):
        before = contents(model)
        checkpoint.save(tmp_path, tiny.classifier(), (RESULT,), DIGESTS)
        with pytest.raises(errors.UserError, match=f"whose {name} have"):
            checkpoint.load(tmp_path, model, {**DIGESTS, name: "other"})
        assert contents(model) == before


def test_holds_no_python_objects(model, tmp_path):
    checkpoint.save(tmp_path, model, (RESULT,), DIGESTS)
    with np.load(tmp_path / "checkpoint.npz", allow_pickle=False) as saved:
        assert json.loads(str(saved["content"]))["phases"][0]["steps"] == 3
