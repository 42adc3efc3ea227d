"""Phase after phase: never worse, and the same again after a kill."""

import hashlib
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tiny

from tlkeras import errors
from tlkeras import records
from tlkeras.backbones import base as bases
from tlkeras.models import classifier as classifiers
from tlkeras.settings import strategies
from tlkeras.training import checkpoint
from tlkeras.training import phases as all_phases
from tlkeras.training import setup as setups

HEAD = records.Phase("head", "none", 4, 0.3)
TOP = records.Phase("top", "from:conv2", 2, 1e-2, schedule="cosine")
WHOLE = records.Phase("whole", "all", 2, 1e-2, batch_norm="training")
# Adam's first step moves every weight by about the rate.
DESTRUCTIVE = records.Phase("destructive", "all", 1, 1e3)


def run(model, *phases, done=(), after=lambda results: None, callbacks=None):
    return all_phases.run(
        model,
        strategies.walk("test", phases),
        tiny.feed(),
        setups.Setup(tiny.QUIET, callbacks=callbacks or (lambda phase: ())),
        done=done,
        after_phase=after,
    )


def contents(model: keras.Model) -> list[bytes]:
    return [each.tobytes() for each in classifiers.state(model)]


class TestRollback:
    def test_gives_back_every_bit_and_says_so(self):
        model = tiny.classifier()
        states = []
        results = run(
            model,
            HEAD,
            DESTRUCTIVE,
            after=lambda results: states.append(contents(model)),
        )
        assert not records.better(results[1].score, results[0].score)
        assert [each.rolled_back for each in results] == [False, True]
        assert not results[1].improved
        assert states[0] == states[1] == contents(model)
        assert all_phases.best(results) == results[0].score

    def test_a_later_phase_that_diverges(self):
        model = tiny.classifier()
        results = run(model, HEAD, TOP, callbacks=ruin("top"))
        assert results[1].stopped == "diverged"
        assert results[1].rolled_back
        assert all_phases.best(results) == results[0].score
        assert all(np.isfinite(each).all() for each in model.get_weights())

    def test_a_first_phase_that_diverges(self):
        with pytest.raises(errors.UserError, match="phase head: the loss"):
            run(tiny.classifier(), HEAD, callbacks=ruin("head"))


def ruin(name: str):
    """Returns callbacks that make the loss of phase `name` NaN."""

    def callbacks(phase):
        if phase.name != name:
            return ()

        def assign(model):
            logits = model.get_layer("head").get_layer("logits")
            logits.bias.assign([np.nan] * tiny.CLASSES)

        class Ruin(keras.callbacks.Callback):
            def on_train_begin(self, logs=None):
                assign(self.model)

        return (Ruin(),)

    return callbacks


class TestImproved:
    @pytest.mark.parametrize(
        "accuracy, improved, rolled_back",
        [(0.4, False, True), (0.5, False, True), (0.55, False, False)],
    )
    def test_a_win_within_the_error(
        self, monkeypatch, accuracy, improved, rolled_back
    ):
        results = scored(monkeypatch, 0.5, accuracy)
        assert results[1].improved == improved
        assert results[1].rolled_back == rolled_back

    def test_a_win_beyond_it(self, monkeypatch):
        # One standard error of 50 % of 24 images is 10.2 points.
        results = scored(monkeypatch, 0.5, 0.61)
        assert [each.improved for each in results] == [False, True]

    def test_against_what_was_kept(self, monkeypatch):
        results = scored(monkeypatch, 0.5, 0.9, 0.2, 0.85)
        assert [each.rolled_back for each in results] == [0, 0, 1, 1]


def scored(monkeypatch, *accuracies):
    """Returns the results of phases that have these accuracies."""
    found = iter(accuracies)

    def fit(model, phase, feed, setup, **options):
        return records.PhaseResult(
            phase=phase,
            score=records.Score(next(found), 1.0, 24),
            epochs=1,
            best_epoch=1,
            steps=3,
            seconds=1.0,
            stopped="budget",
            trainable_parameters=1,
            learning=1,
            unmoved=0,
            momentum=0.0,
            history=(),
        )

    monkeypatch.setattr(all_phases.one_phase, "fit", fit)
    return run(tiny.classifier(), *[HEAD] * len(accuracies))


class TestOrder:
    def test_epochs_are_counted_through(self, monkeypatch):
        firsts = []
        fit = all_phases.one_phase.fit

        def spy(*arguments, first_epoch, **options):
            firsts.append(first_epoch)
            return fit(*arguments, first_epoch=first_epoch, **options)

        monkeypatch.setattr(all_phases.one_phase, "fit", spy)
        run(tiny.classifier(), HEAD, HEAD, HEAD)
        assert firsts == [0, 4, 8]

    def test_an_interrupt_ends_it(self):
        def callbacks(phase):
            def stop(epoch, logs):
                raise KeyboardInterrupt

            return (keras.callbacks.LambdaCallback(on_epoch_end=stop),)

        ended = []
        with pytest.raises(KeyboardInterrupt):
            run(
                tiny.classifier(),
                HEAD,
                TOP,
                after=ended.append,
                callbacks=callbacks,
            )
        assert not ended

    def test_statistics_learned_in_one_phase_are_held_in_the_next(self):
        model = tiny.classifier()
        bn = bases.of(model).network.get_layer("bn1")
        seen = []
        run(
            model,
            WHOLE,
            TOP,
            after=lambda results: seen.append(np.asarray(bn.moving_mean)),
        )
        assert seen[0].any()
        np.testing.assert_array_equal(seen[0], seen[1])


class TestResume:
    def test_is_the_unbroken_run_bit_for_bit(self, tmp_path):
        phases = (HEAD, DESTRUCTIVE, WHOLE)
        unbroken = tiny.classifier()
        wanted = run(unbroken, *phases)
        assert wanted[1].rolled_back

        killed = tiny.classifier()

        def save_and_die(results):
            checkpoint.save(tmp_path, killed, results, {})
            if len(results) == 2:
                raise MemoryError

        with pytest.raises(MemoryError):
            run(killed, *phases, after=save_and_die)

        # Other seeds: all that counts must come from the checkpoint.
        resumed = tiny.classifier(seed=7)
        done = checkpoint.load(tmp_path, resumed, {})
        found = run(resumed, *phases, done=done)
        assert contents(resumed) == contents(unbroken)
        assert list(map(essence, found)) == list(map(essence, wanted))


def essence(result: records.PhaseResult) -> tuple:
    """Returns what of a result does not depend on the clock."""
    rows = [(row.loss, row.validation_accuracy) for row in result.history]
    return result.score, result.best_epoch, result.rolled_back, rows


class TestOneSeed:
    def test_gives_one_result_in_two_processes(self):
        program = """
import hashlib, tiny, test_phases
model = tiny.classifier()
test_phases.run(model, test_phases.HEAD, test_phases.WHOLE)
print(hashlib.sha256(b"".join(test_phases.contents(model))).hexdigest())
"""
        other = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        )
        model = tiny.classifier()
        run(model, HEAD, WHOLE)
        found = hashlib.sha256(b"".join(contents(model))).hexdigest()
        assert other.stdout.strip() == found
