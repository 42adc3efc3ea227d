"""A phase that solves for a linear head instead of training it."""

import dataclasses
import time
from typing import TYPE_CHECKING

import keras
import numpy as np

from tlkeras import errors
from tlkeras import records
from tlkeras.models import classifier as classifiers
from tlkeras.models import task as tasks
from tlkeras.training import claims
from tlkeras.training import setup as setups
from tlkeras.training import solver

if TYPE_CHECKING:
    from tlkeras.data import batches

# Where the features of a head are stored, in reports.
BASE_END = "the base's end"


def views(feed: "batches.Feed") -> int:
    """Returns in how many ways a training image of `feed` can look."""
    return len(feed.views.names) if feed.views is not None else 0


def fit(
    model: keras.Model,
    phase: records.Phase,
    feed: "batches.Feed",
    setup: setups.Setup,
    *,
    l2: float = 0.0,
) -> records.PhaseResult | None:
    """Puts the solution for a linear head on the frozen base into `model`.

    l2: the penalty; 0 is that of the head's layer, and where that has none,
    cross-validation chooses it.

    None where the solver is `auto` and the features cannot be stored. Raises
    `UserError` where it is `logistic` and they cannot.
    """
    began = time.perf_counter()
    data = _features(model, phase, feed, setup)
    if data is None:
        return None
    storing = time.perf_counter() - began
    phase = dataclasses.replace(phase, solver="logistic")
    variables = claims.variables(model, phase)
    before = classifiers.state(model)
    setup.progress.solve_begins(phase, variables.parameters, len(data.train))
    solution, solving = _solve(model, data, l2)
    unmoved = claims.check(model, phase, variables, before, steps=0)
    epoch = _epoch(phase, solution, data, feed.balanced, solving)
    return records.PhaseResult(
        phase=phase,
        score=records.Score(
            epoch.validation_accuracy,
            epoch.validation_cross_entropy,
            len(data.validation_targets),
            epoch.validation_balanced_accuracy,
        ),
        epochs=1,
        best_epoch=1,
        steps=solution.iterations,
        seconds=time.perf_counter() - began,
        stopped="solved",
        trainable_parameters=variables.parameters,
        learning=len(variables.learning),
        unmoved=unmoved,
        momentum=0.0,
        history=(epoch,),
        views_cached=len(data.train),
        cached_at=BASE_END,
        shared_seconds=storing + solving,
        l2=solution.strength,
    )


def _features(
    model: keras.Model,
    phase: records.Phase,
    feed: "batches.Feed",
    setup: setups.Setup,
) -> "batches.FeatureArrays | None":
    """Returns the features of all images, None where they are not stored."""
    from tlkeras.training import feature_cache

    with feature_cache.features(
        model,
        None,
        feed,
        epochs=views(feed),
        storage=setup.storage,
        progress=setup.progress,
    ) as stored:
        if stored is not None and stored.arrays is not None:
            return stored.arrays()
    if phase.solver == "auto":
        return None
    raise errors.UserError(
        f"phase {phase.name} is solved by {phase.solver}, which needs the "
        "features of all images, but they are not stored. Give more of "
        "--feature_memory_gb and --feature_cache_gb, or another solver."
    )


def _solve(
    model: keras.Model, data: "batches.FeatureArrays", l2: float
) -> tuple[solver.Solution, float]:
    """Puts the solution into the head; returns it, and the seconds it took."""
    began = time.perf_counter()
    logits = model.get_layer("head").get_layer("logits")
    penalty = logits.kernel_regularizer
    solution = solver.logistic(
        data.train,
        data.targets,
        data.weights,
        classes=logits.units,
        l2=l2 or (float(penalty.l2) if penalty is not None else 0.0),
        groups=data.groups,
    )
    logits.kernel.assign(solution.kernel)
    logits.bias.assign(solution.bias)
    return solution, time.perf_counter() - began


def _epoch(
    phase: records.Phase,
    solution: solver.Solution,
    data: "batches.FeatureArrays",
    balanced: bool,
    seconds: float,
) -> records.Epoch:
    """Returns the solution as the one epoch of its phase."""

    def score(features: np.ndarray, targets: np.ndarray) -> records.Score:
        if not len(targets):
            return records.UNSCORED
        logits = features @ solution.kernel + solution.bias
        return tasks.SINGLE_LABEL.score(logits, targets)

    train = score(data.train[0], data.targets)
    validation = score(data.validation, data.validation_targets)
    return records.Epoch(
        phase=phase.name,
        epoch=1,
        learning_rate=0.0,
        loss=train.cross_entropy,
        accuracy=train.accuracy,
        validation_accuracy=validation.accuracy,
        validation_cross_entropy=validation.cross_entropy,
        seconds=seconds,
        images_per_second=len(data.targets) / seconds,
        validation_balanced_accuracy=(
            validation.balanced_accuracy if balanced else None
        ),
    )
