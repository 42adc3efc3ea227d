"""Runs a strategy: phase after phase, never worse than the phase before."""

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import keras

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
    evidence: Any = None,
    done: Sequence[records.PhaseResult] = (),
    after_phase: Callable[[Results], None] = lambda results: None,
) -> Results:
    """Returns what the phases came to; `model` then holds the best of them.

    evidence: the advisor's, for strategies that decide by it.
    done: results of phases that an earlier, killed run finished; `model`
      holds their weights.
    after_phase: called with all results so far when a phase has ended.

    A phase that ends no better than the best before it is rolled back. An
    interrupt ends the strategy. Raises `UserError` where the first phase gives
    no finite result at all.
    """
    results = tuple(done)
    while not (results and results[-1].stopped == "interrupted"):
        phase = strategy.next_phase(evidence, results)
        if phase is None:
            break
        before = classifiers.state(model)
        result = one_phase.fit(
            model,
            phase,
            feed,
            setup,
            first_epoch=sum(each.epochs for each in results),
        )
        best_so_far = best(results)
        if best_so_far is None:
            _check_finite(result)
        elif records.better(result.score, best_so_far):
            won = records.improved(result.score, best_so_far)
            result = dataclasses.replace(result, improved=won)
        else:
            classifiers.restore(model, before)
            result = dataclasses.replace(result, rolled_back=True)
        results += (result,)
        setup.progress.phase_ends(result, best_so_far)
        after_phase(results)
    return results


def best(results: Sequence[records.PhaseResult]) -> records.Score | None:
    """Returns the score that the model has after `results`."""
    scores = [each.score for each in results if not each.rolled_back]
    return scores[-1] if scores else None


def _check_finite(result: records.PhaseResult) -> None:
    """Raises `UserError` if the first phase of all has no finite epoch."""
    if result.stopped == "diverged" and not result.best_epoch:
        raise errors.UserError(
            f"phase {result.phase.name}: the loss was not finite in the first "
            f"epoch, at a learning rate of {result.phase.learning_rate:g}. "
            "Lower the rate, or give --precision=float32."
        )
