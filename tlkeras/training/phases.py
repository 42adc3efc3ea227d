"""Runs a strategy: phase after phase, never worse than the phase before."""

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from tlkeras import errors
from tlkeras import records
from tlkeras.models import classifier as classifiers
from tlkeras.settings import strategies
from tlkeras.training import phase as one_phase
from tlkeras.training import setup as setups

if TYPE_CHECKING:
    from tlkeras.data import batches

Results = tuple[records.PhaseResult, ...]


def run(
    model: keras.Model,
    strategy: strategies.Strategy,
    feed: "batches.Feed",
    setup: setups.Setup,
    *,
    decision: strategies.Decision | None = None,
    head: Sequence[np.ndarray] = (),
    done: Sequence[records.PhaseResult] = (),
    after_phase: Callable[[Results], None] = lambda results: None,
) -> Results:
    """Returns what the phases came to; `model` then holds the best of them.

    decision: the advisor's, for a strategy that needs one.
    head: the state of the head at the very beginning, for a phase whose head
      begins anew; without it, that which `model` has now.
    done: results of phases that an earlier, killed run finished; `model`
      holds their weights.
    after_phase: called with all results so far when a phase has ended.

    A phase that ends no better than the best before it is rolled back; one
    that a decision names only where it is clearly worse. Raises
    KeyboardInterrupt where somebody interrupts, `model` then holding the best
    so far, and `UserError` where the first phase gives no finite result at all.
    """
    results = tuple(done)
    head = head or classifiers.state(model.get_layer("head"))
    while (phase := strategy.next_phase(decision, results)) is not None:
        phase = dataclasses.replace(
            phase, learning_rate=setup.rate * phase.learning_rate
        )
        best_so_far = best(results)
        before = classifiers.state(model)
        if phase.fresh_head:
            classifiers.restore(model.get_layer("head"), head)
        result = one_phase.fit(
            model,
            phase,
            feed,
            setup,
            first_epoch=sum(each.epochs for each in results),
            floor=best_so_far if strategy.decides else None,
        )
        if best_so_far is None:
            _check_finite(result)
        elif _stands(result.score, best_so_far, strategy):
            won = records.improved(result.score, best_so_far)
            result = dataclasses.replace(result, improved=won)
        else:
            classifiers.restore(model, before)
            result = dataclasses.replace(result, rolled_back=True)
        results += (result,)
        setup.progress.phase_ends(result, best_so_far)
        if result.stopped == "interrupted":
            raise KeyboardInterrupt
        after_phase(results)
    return results


def best(results: Sequence[records.PhaseResult]) -> records.Score | None:
    """Returns the score that the model has after `results`."""
    scores = [each.score for each in results if not each.rolled_back]
    return scores[-1] if scores else None


def _stands(
    score: records.Score, before: records.Score, strategy: strategies.Strategy
) -> bool:
    if strategy.decides:
        return not records.clearly_worse(score, before)
    return records.better(score, before)


def _check_finite(result: records.PhaseResult) -> None:
    """Raises `UserError` if the first phase of all has no finite epoch."""
    if result.stopped == "diverged" and not result.best_epoch:
        raise errors.UserError(
            f"phase {result.phase.name}: the loss was not finite in the first "
            f"epoch, at a learning rate of {result.phase.learning_rate:g}. "
            "Lower the rate, or give --precision=float32."
        )
