"""The chosen recipe once more, on more images: what is the same, what not."""

import math

import keras
import numpy as np
import pytest
import tiny

from tlkeras import records
from tlkeras.models import classifier as classifiers
from tlkeras.settings import strategies
from tlkeras.training import final_fit
from tlkeras.training import phases as all_phases
from tlkeras.training import row_store
from tlkeras.training import setup as setups
from tlkeras.training import solver

SOLVED = records.Phase("head", "none", 4, 0.3, solver="logistic")
HEAD = records.Phase("head", "none", 4, 0.3)
TOP = records.Phase("top", "from:conv2", 3, 1e-2, schedule="cosine")
# Adam's first step moves every weight by about the rate.
DESTRUCTIVE = records.Phase("destructive", "all", 1, 1e3)
CHOICE, NOBODY = slice(0, 24), slice(0, 0)


def feed(train, validation, **options):
    random = np.random.default_rng(0)
    targets = np.arange(36) % tiny.CLASSES
    noise = random.integers(0, 60, (36, tiny.SIZE, tiny.SIZE, 3))
    pixels = noise + 63 * targets[:, None, None, None]
    return tiny.of(
        pixels.astype(np.uint8),
        targets,
        train=train,
        validation=validation,
        **options,
    )


def setup(callbacks=lambda phase: (), mode="memory"):
    storage = row_store.Storage(mode, memory_bytes=1e9)
    return setups.Setup(tiny.QUIET, storage=storage, callbacks=callbacks)


def contents(model) -> list[bytes]:
    return [each.tobytes() for each in classifiers.state(model)]


def choose(model, *phases, **options):
    """Returns the start of `model`, and what `phases` came to."""
    start = classifiers.state(model)
    results = all_phases.run(
        model,
        strategies.walk("test", phases),
        feed(CHOICE, slice(24, 36), **options),
        setup(),
    )
    return start, results


def again(model, start, results, callbacks=lambda phase: (), **options):
    return final_fit.run(
        model,
        results,
        feed(slice(0, 36), NOBODY, **options),
        setup(callbacks),
        choice=feed(CHOICE, slice(24, 36), **options),
        start=start,
        splits=("train", "validation"),
    )


@pytest.mark.parametrize("augment", ["none", "flip", "light"])
def test_a_solved_head_is_the_solution_on_all_with_the_same_penalty(
    augment, monkeypatch
):
    problems = []
    logistic = solver.logistic

    def watched(features, targets, weights, **options):
        problems.append((features, targets, weights, options))
        return logistic(features, targets, weights, **options)

    monkeypatch.setattr(solver, "logistic", watched)
    model = tiny.classifier()
    weights = np.array([1.0, 2.0, 3.0])
    options = {"augment": augment, "class_weights": weights}
    start, results = choose(model, SOLVED, **options)
    found = again(model, start, results, **options)
    assert not found.kept and found.images == 36
    (_, _, _, first), (features, targets, factors, second) = problems
    assert first["l2"] == 0.0
    assert second["l2"] == results[0].l2 > 0
    assert found.results[0].l2 == pytest.approx(results[0].l2)
    assert features.shape[1] == 36
    wanted = logistic(features, targets, factors, classes=3, l2=results[0].l2)
    logits = model.get_layer("head").get_layer("logits")
    np.testing.assert_allclose(logits.kernel, wanted.kernel, atol=1e-5)
    np.testing.assert_allclose(logits.bias, wanted.bias, atol=1e-5)
    assert math.isnan(found.results[0].score.accuracy)


def test_steps_are_those_of_the_best_epoch():
    """And the rate ends where the best epoch had it."""
    model = tiny.classifier()
    rates = []

    def callbacks(phase):
        def note(batch, logs):
            rate = model_of[0].optimizer.learning_rate
            rates.append(float(keras.ops.convert_to_numpy(rate)))

        class Note(keras.callbacks.Callback):
            def set_model(self, trained):
                super().set_model(trained)
                model_of[:] = [trained]

        return (Note(), keras.callbacks.LambdaCallback(on_train_batch_end=note))

    model_of: list[keras.Model] = []
    start, results = choose(model, TOP)
    best = results[0].best_epoch
    found = again(model, start, results, callbacks)
    (result,) = found.results
    # 24 images are 3 steps an epoch, 36 are 5.
    assert result.epochs == max(1, round(best * 3 / 5)) == result.best_epoch
    assert result.steps == 5 * result.epochs == len(rates)
    whole = round(result.steps * TOP.epochs / best)
    schedule = final_fit.one_phase.learning_rate(TOP, whole)
    assert rates[-1] == pytest.approx(float(schedule(result.steps)), rel=1e-4)


@pytest.mark.parametrize(
    ("best", "before", "now", "epochs"),
    [(4, 3, 5, 2), (1, 3, 30, 1), (10, 10, 10, 10), (10, 10, 14, 7)],
)
def test_length(best, before, now, epochs):
    result = all_phases.records.PhaseResult(
        TOP, records.UNSCORED, 12, best, 9, 1.0, "budget", 1, 0, 0, 0.0, ()
    )
    found, whole = final_fit.length(result, before, now)
    assert found == epochs
    # The same share of the schedule is left.
    share = TOP.epochs / best
    assert whole == max(round(epochs * now * share), epochs * now)


def test_what_was_rolled_back_is_left_out_and_all_starts_anew():
    model = tiny.classifier()
    start, results = choose(model, HEAD, DESTRUCTIVE, TOP)
    assert results[1].rolled_back
    firsts = []
    fit = final_fit.one_phase.fit

    def spy(model, phase, *arguments, first_epoch, **options):
        if phase.name == "head":
            assert contents(model) == [each.tobytes() for each in start]
        firsts.append((phase.name, first_epoch))
        return fit(model, phase, *arguments, first_epoch=first_epoch, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(final_fit.one_phase, "fit", spy)
        found = again(model, start, results)
    kept = [each for each in results if not each.rolled_back]
    assert [name for name, _ in firsts] == [each.phase.name for each in kept]
    # No epoch draws what another one drew.
    assert firsts[0][1] == sum(each.epochs for each in results)
    assert [each.phase.name for each in found.results] == [
        name for name, _ in firsts
    ]


def test_it_is_the_same_again():
    models = [tiny.classifier(), tiny.classifier()]
    for model in models:
        start, results = choose(model, HEAD, TOP)
        again(model, start, results)
    assert contents(models[0]) == contents(models[1])


def before_top(action):
    """Returns callbacks that do `action` with the model that is to learn."""

    def callbacks(phase):
        class Act(keras.callbacks.Callback):
            def on_train_begin(self, logs=None):
                action(self.model)

        return (Act(),) if phase.name == "top" else ()

    return callbacks


def interrupt(model):
    raise KeyboardInterrupt


def ruin(model):
    for variable in model.trainable_variables:
        variable.assign(variable * np.nan)


def unlearn(model):
    """Lets all images have the answer 0, finite as it is."""

    *_, bias = model.trainable_variables
    bias.assign(np.array([1e4, *[0.0] * (bias.shape[0] - 1)]))


@pytest.mark.parametrize(
    ("action", "kept", "why"),
    [
        (unlearn, "worse", "of the validation images that it has learned"),
        (ruin, "diverged", "the loss of phase top was not finite"),
    ],
)
def test_what_fails_keeps_the_chosen_model_to_the_bit(action, kept, why):
    model = tiny.classifier()
    start, results = choose(model, HEAD, TOP)
    chosen = contents(model)
    found = again(model, start, results, before_top(action))
    assert found.kept == kept
    assert why in found.why
    assert contents(model) == chosen


def test_an_interrupt_keeps_the_chosen_model_to_the_bit():
    model = tiny.classifier()
    start, results = choose(model, HEAD, TOP)
    chosen = contents(model)
    with pytest.raises(KeyboardInterrupt):
        again(model, start, results, before_top(interrupt))
    assert contents(model) == chosen


def test_features_that_cannot_be_stored_keep_the_chosen_model():
    model = tiny.classifier()
    start, results = choose(model, SOLVED)
    chosen = contents(model)
    found = final_fit.run(
        model,
        results,
        feed(slice(0, 36), NOBODY),
        setup(mode="off"),
        start=start,
        choice=feed(CHOICE, slice(24, 36)),
        splits=("train", "validation"),
    )
    assert found.kept == "impossible"
    assert "they are not stored" in found.why
    assert contents(model) == chosen
