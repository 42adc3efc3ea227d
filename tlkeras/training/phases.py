"""Runs a strategy: phase after phase, never worse than the phase before."""

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras import records
from tlkeras.data import batches
from tlkeras.models import classifier as classifiers
from tlkeras.settings import strategies
from tlkeras.training import phase as one_phase
from tlkeras.training import placement as placements
from tlkeras.training import row_store


def run(
    model: keras.Model,
    strategy: strategies.Strategy,
    feed: batches.Feed,
    *,
    evidence: Any = None,
    placement: placements.Placement = placements.SINGLE,
    storage: row_store.Storage = row_store.NOWHERE,
    progress: progresses.Progress,
    done: Sequence[records.PhaseResult] = (),
    after_phase: Callable[[tuple[records.PhaseResult, ...]], None],
    callbacks: Callable[
        [records.Phase], tuple[keras.callbacks.Callback, ...]
    ] = lambda phase: (),
) -> tuple[records.PhaseResult, ...]:
    """Returns what the phases came to; `model` then holds the best of them.

    evidence: the advisor's, for strategies that decide by it.
    done: results of phases that an earlier, killed run finished; `model`
      holds their weights.
    placement: the devices, in whose scope `model` was built.
    storage: where activations of what is frozen are kept.
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
            first_epoch=sum(each.epochs for each in results),
            placement=placement,
            storage=storage,
            progress=progress,
            callbacks=callbacks(phase),
        )
        kept = best(results)
        if kept is None:
            if result.stopped == "diverged" and not result.best_epoch:
                raise errors.UserError(
                    f"phase {phase.name}: the loss was not finite in the first"
                    f" epoch, at a learning rate of {phase.learning_rate:g}. "
                    "Lower the rate, or give --precision=float32."
                )
        elif records.better(result.score, kept):
            won = records.improved(result.score, kept)
            result = dataclasses.replace(result, improved=won)
        else:
            classifiers.restore(model, before)
            result = dataclasses.replace(result, rolled_back=True)
        results += (result,)
        progress.phase_ends(result, kept)
        after_phase(results)
    return results


def best(
    results: Sequence[records.PhaseResult],
) -> records.Score | None:
    """Returns the score that the model has after `results`."""
    kept = [result.score for result in results if not result.rolled_back]
    return kept[-1] if kept else None
