"""The chosen recipe once more, from the beginning, on more images.

What was held back to choose by has then taught nothing. With the choice made
it may: the same start, the phases that were kept, their rates and as many
steps. Nothing is looked at on the way, so the last epoch counts.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from tlkeras import errors
from tlkeras import records
from tlkeras.models import classifier as classifiers
from tlkeras.training import phase as one_phase
from tlkeras.training import setup as setups

if TYPE_CHECKING:
    from tlkeras.data import batches


def run(
    model: keras.Model,
    results: Sequence[records.PhaseResult],
    feed: "batches.Feed",
    setup: setups.Setup,
    *,
    choice: "batches.Feed",
    start: Sequence[np.ndarray],
    splits: tuple[str, ...],
) -> records.FinalFit:
    """Returns what training `model` again as `results` chose came to.

    results: of the phases of the choice, which left `model` as it is. feed: of
      the images of `splits`, without validation images.
    choice: the feed of the choice. start: the state of `model` before the
      first phase.

    `model` then holds what came of it, and is as it was where that is nothing
    to deliver: a loss that is not finite, features of a solved head that cannot
    be stored, or answers on the validation images that are clearly worse than
    before, although it has learned from them. So it is after an interrupt,
    which raises KeyboardInterrupt.
    """
    found = records.FinalFit(splits, feed.train_images, ())
    setup.progress.say(
        f"final fit: the chosen phases once more, on {feed.train_images:,} "
        f"images ({', '.join(splits)}); the last epoch counts"
    )
    chosen = classifiers.state(model)
    try:
        classifiers.restore(model, start)
        steps = len(choice.train_sizes)
        found = _again(model, results, feed, setup, steps, found)
        if not found.kept:
            found = _judged(model, results, choice, setup, found)
    except KeyboardInterrupt:
        if setup.placement.group.processes == 1:
            classifiers.restore(model, chosen)
        raise
    except errors.UserError as error:
        found = _kept(found, "impossible", str(error).rstrip("."))
    setup.progress.end()
    if found.kept:
        classifiers.restore(model, chosen)
        setup.progress.say(
            f"final fit {found.kept}: {found.why}; the model that was chosen "
            "is kept"
        )
    return found


def recipe(
    results: Sequence[records.PhaseResult],
) -> tuple[records.PhaseResult, ...]:
    """Returns the results of the phases that the chosen model is made of."""
    return tuple(
        each for each in results if each.best_epoch and not each.rolled_back
    )


def length(
    result: records.PhaseResult, steps_per_epoch: int, steps: int
) -> tuple[int, int]:
    """Returns the epochs that take as many steps as a phase's best epoch.

    And the steps after which the schedule of its rate would end, so that the
    last rate is that of the best epoch. steps_per_epoch: of the phase that was.
    steps: of an epoch now.
    """
    epochs = max(1, round(result.best_epoch * steps_per_epoch / steps))
    whole = epochs * steps * result.phase.epochs / result.best_epoch
    return epochs, max(round(whole), epochs * steps)


def _again(
    model: keras.Model,
    results: Sequence[records.PhaseResult],
    feed: "batches.Feed",
    setup: setups.Setup,
    steps_per_epoch: int,
    found: records.FinalFit,
) -> records.FinalFit:
    """Returns `found` with the results of the phases, on `model`'s start."""
    # No two epochs draw the same order and augmentation, these neither.
    before = sum(each.epochs for each in results)
    head = model.get_layer("head")
    fresh = classifiers.state(head)
    for result in recipe(results):
        if result.phase.fresh_head:
            classifiers.restore(head, fresh)
        epochs, whole = length(result, steps_per_epoch, len(feed.train_sizes))
        again = one_phase.fit(
            model,
            dataclasses.replace(result.phase, epochs=epochs),
            feed,
            _storing(setup, result.phase),
            first_epoch=before + sum(each.epochs for each in found.results),
            schedule_steps=whole,
            l2=result.l2,
        )
        found = dataclasses.replace(found, results=(*found.results, again))
        if again.stopped == "interrupted":
            raise KeyboardInterrupt
        # The last step is in no epoch's loss.
        if again.stopped == "diverged" or not _finite(model):
            return _kept(
                found,
                "diverged",
                f"the loss of phase {result.phase.name} was not finite",
            )
        setup.progress.fit_ends(again)
    return found


def _judged(
    model: keras.Model,
    results: Sequence[records.PhaseResult],
    choice: "batches.Feed",
    setup: setups.Setup,
    found: records.FinalFit,
) -> records.FinalFit:
    """Returns `found`, which keeps the chosen model where the new one failed.

    At a high rate a training may end badly that had gone well with other
    images: of 1,000 digits one fell from 95 to 87 % (benchmarks/recipes.csv).
    """
    with setup.placement.scope():
        one_phase.compile(model, results[-1].phase, 1, balanced=choice.balanced)
    score = one_phase.evaluate(model, choice, setup.placement)
    model.optimizer = None
    before = recipe(results)[-1].score
    if not records.clearly_worse(score, before):
        return found
    return _kept(
        found,
        "worse",
        f"it is right on {100 * score.deciding:.1f} % of the validation images "
        f"that it has learned from, after {100 * before.deciding:.1f} %",
    )


def _storing(setup: setups.Setup, phase: records.Phase) -> setups.Setup:
    """Returns the setup with which features are stored again.

    A head was solved on stored features, so it pays: nothing is timed, which
    would decide by chance.
    """
    if phase.solver == "adam" or setup.storage.mode != "auto":
        return setup
    storage = dataclasses.replace(setup.storage, mode="disk")
    return dataclasses.replace(setup, storage=storage)


def _finite(model: keras.Model) -> bool:
    return all(
        np.isfinite(array.astype(np.float32)).all()
        for array in classifiers.state(model)
    )


def _kept(found: records.FinalFit, kept: str, why: str) -> records.FinalFit:
    return dataclasses.replace(found, kept=kept, why=why)
