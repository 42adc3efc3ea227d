"""Runs a strategy: phase after phase, never worse than the phase before."""

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence

import keras

from tlkeras import cache
from tlkeras import distribution
from tlkeras import errors
from tlkeras import model as models
from tlkeras import progress as progresses
from tlkeras import records
from tlkeras import strategies
from tlkeras import training
from tlkeras.data import batches


def run(
    model: keras.Model,
    strategy: strategies.Strategy,
    evidence: records.Evidence,
    feed: batches.Feed,
    *,
    spread: distribution.Spread = distribution.ALONE,
    storage: cache.Storage = cache.NOWHERE,
    progress: progresses.Progress,
    done: Sequence[records.PhaseResult] = (),
    after_phase: Callable[[tuple[records.PhaseResult, ...]], None],
    callbacks: Callable[
        [records.Phase], tuple[keras.callbacks.Callback, ...]
    ] = lambda phase: (),
) -> tuple[records.PhaseResult, ...]:
    """Returns what the phases came to; `model` then holds the best of them.

    done: results of phases that an earlier, killed run finished; `model`
      holds their weights.
    spread: the devices, in whose scope `model` was built.
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
        before = models.state(model)
        result = training.fit(
            model,
            phase,
            feed,
            first_epoch=sum(each.epochs for each in results),
            spread=spread,
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
            models.restore(model, before)
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
