"""One phase: select what learns, compile afresh, fit, check the claim.

Feeds are made by TensorFlow, which is imported only where a phase runs:
`compile` also serves where there is none.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras import records
from tlkeras.backbones import base as bases
from tlkeras.machine import devices
from tlkeras.machine import keras_private
from tlkeras.models import classifier as classifiers
from tlkeras.models import graph
from tlkeras.models import task as tasks
from tlkeras.training import best_epoch
from tlkeras.training import claims
from tlkeras.training import placement as placements
from tlkeras.training import row_store
from tlkeras.training import solver

if TYPE_CHECKING:
    from tlkeras.data import batches


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the phases of a run have in common.

    placement: the devices, in whose scope the model was built.
    storage: where activations of what is frozen are kept.
    callbacks: phase -> Keras callbacks beside our own.
    """

    progress: progresses.Progress
    placement: placements.Placement = placements.SINGLE
    storage: row_store.Storage = row_store.NOWHERE
    callbacks: Callable[
        [records.Phase], tuple[keras.callbacks.Callback, ...]
    ] = lambda phase: ()


@dataclasses.dataclass(frozen=True)
class _Source:
    """What a phase learns from, and which model learns.

    learner: all of the classifier, or what is above the stored activations.
    views: stored ways an image can look, 0 where the base runs live. layer:
    whose activations are stored. seconds: that storing them took.
    """

    learner: keras.Model
    feed: "batches.Feed"
    views: int = 0
    layer: str = ""
    seconds: float = 0.0


def fit(
    model: keras.Model,
    phase: records.Phase,
    feed: "batches.Feed",
    setup: Setup,
    *,
    first_epoch: int = 0,
) -> records.PhaseResult:
    """Returns what `phase` came to; `model` then holds its best epoch.

    first_epoch: number of epochs that went before, over all phases, so that
      no two draw the same order and augmentation.

    An interrupt ends the phase. Where no epoch came to its end, or the loss
    was not finite in the first, `model` holds its start and the result's
    `best_epoch` is 0.

    Raises `UserError` where the base lacks the part to unfreeze, `ClaimError`
    where the frozen part moved or the learning part did not.
    """
    base = bases.of(model)
    classifiers.unfreeze(base, phase.unfreeze)
    if phase.solver != "adam":
        solved = _solve(model, phase, feed, setup)
        if solved is not None:
            return solved
        # The line that the feature cache printed says why.
        setup.progress.say("  so Adam trains the head instead of solving it")
        phase = dataclasses.replace(phase, solver="adam")
    base.batch_norm = phase.batch_norm
    steps = phase.epochs * len(feed.train_sizes)
    try:
        with _batch_norm(base, phase, steps, setup.placement) as momentum:
            return _train(model, phase, feed, setup, momentum, first_epoch)
    finally:
        base.batch_norm = "frozen"
        classifiers.freeze(base)
        # Its state is twice the model's size, and no other phase may use it.
        model.optimizer = model.get_layer("head").optimizer = None


def short_momentum(steps: int) -> float:
    """Returns BatchNorm's momentum for a phase of this many steps.

    The moving statistics then remember a twentieth of the phase, at least 2
    steps and at most 1,000. `keras.applications` come with 0.99 or 0.999,
    which in a few hundred steps leaves them behind the weights.
    """
    return 1 - 1 / min(max(steps / 20, 2), 1000)


def learning_rate(
    phase: records.Phase, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the schedule of the rate of `phase` over `steps` steps."""
    if phase.schedule == "constant":
        return phase.learning_rate
    warmup = round(phase.warmup * steps)
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(
            phase.learning_rate, steps
        )
    return keras.optimizers.schedules.CosineDecay(
        0.0,
        max(steps - warmup, 1),
        warmup_target=phase.learning_rate,
        warmup_steps=warmup,
    )


def compile(
    model: keras.Model,
    phase: records.Phase,
    steps: int,
    *,
    balanced: bool = False,
) -> None:
    """Compiles `model` for `phase`, always with a fresh optimizer.

    balanced: whether validation images are weighed so that all classes count
    the same.
    """
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate(phase, steps)),
        loss=tasks.SINGLE_LABEL.loss(),
        metrics=tasks.SINGLE_LABEL.metrics(),
        weighted_metrics=(
            tasks.SINGLE_LABEL.balanced_metrics() if balanced else None
        ),
    )
    # With its state made beforehand, TensorFlow traces the step once and not
    # twice: MobileNetV2's first step takes 8 s of a CPU instead of 15.
    model.optimizer.build(model.trainable_variables)


def evaluate(
    model: keras.Model,
    feed: "batches.Feed",
    placement: placements.Placement = placements.SINGLE,
) -> records.Score:
    """Returns the validation score of a compiled `model`."""
    values = model.evaluate(
        placement.place(feed.validation, feed.validation_sizes),
        steps=len(feed.validation_sizes),
        verbose=0,
        return_dict=True,
    )
    return best_epoch.validation_score(values, feed)


def _train(
    model: keras.Model,
    phase: records.Phase,
    feed: "batches.Feed",
    setup: Setup,
    momentum: float,
    first_epoch: int,
) -> records.PhaseResult:
    """Trains what learns with Adam, and leaves its best epoch in `model`."""
    with _source(model, phase, feed, setup) as source:
        return _train_on(source, model, phase, setup, momentum, first_epoch)


def _train_on(
    source: _Source,
    model: keras.Model,
    phase: records.Phase,
    setup: Setup,
    momentum: float,
    first_epoch: int,
) -> records.PhaseResult:
    began = time.perf_counter() - source.seconds
    learner, feed = source.learner, source.feed
    with setup.placement.scope():
        compile(
            learner,
            phase,
            phase.epochs * len(feed.train_sizes),
            balanced=feed.balanced,
        )
    setup.placement.prepare(learner, source.feed)
    variables = claims.variables(model, phase)
    before = classifiers.state(model)
    setup.progress.phase_begins(
        phase,
        trainable_parameters=_parameters(variables.learning),
        steps=len(feed.train_sizes),
        views_cached=source.views,
        cached_at=source.layer,
        live_seconds=source.seconds / max(1, source.views),
    )
    best = best_epoch.BestEpoch(
        phase, source.feed, variables.moving, setup.progress
    )
    try:
        _run_epochs(source, phase, setup, best, first_epoch)
    except KeyboardInterrupt:
        if setup.placement.group.processes > 1:
            # The others are elsewhere, and no step can be taken without them.
            raise
        best.stopped = "interrupted"
        classifiers.restore_deleted(model, before)
    # float16 leaves out the steps whose gradients are not finite.
    steps = 0 if best.stopped == "diverged" else best.steps
    unmoved = claims.check(model, phase, variables, before, steps=steps)
    score = best.score
    if best.best is None or score is None:
        classifiers.restore(model, before)
        score = evaluate(learner, source.feed, setup.placement)
    else:
        for variable, array in zip(variables.moving, best.best, strict=True):
            variable.assign(array)
    return records.PhaseResult(
        phase=phase,
        score=score,
        epochs=len(best.history),
        best_epoch=best.best_epoch,
        steps=best.steps,
        seconds=time.perf_counter() - began,
        stopped=best.stopped,
        trainable_parameters=_parameters(variables.learning),
        learning=len(variables.learning),
        unmoved=unmoved,
        momentum=momentum,
        history=tuple(best.history),
        views_cached=source.views,
        cached_at=source.layer,
        shared_seconds=source.seconds,
    )


@contextlib.contextmanager
def _source(
    model: keras.Model,
    phase: records.Phase,
    feed: "batches.Feed",
    setup: Setup,
) -> Iterator[_Source]:
    """Yields what `phase` learns from: activations, if they can be stored.

    What is frozen is then not even in the graph of the learner. Stored or not,
    a training image has the same views where part of the base is frozen.
    """
    from tlkeras.training import feature_cache

    cut = _frozen_cut(model, phase)
    if cut is None and phase.unfreeze != "none":
        yield _Source(model, feed)
        return
    began = time.perf_counter()
    with feature_cache.features(
        model,
        cut,
        feed,
        epochs=phase.epochs,
        storage=setup.storage,
        progress=setup.progress,
    ) as stored:
        if stored is None:
            yield _Source(model, feed.views.live if feed.views else feed)
            return
        seconds = time.perf_counter() - began
        with setup.placement.scope():
            learner = classifiers.above(model, cut)
        yield _Source(learner, stored, _views(feed), _layer(cut), seconds)


def _run_epochs(
    source: _Source,
    phase: records.Phase,
    setup: Setup,
    best: best_epoch.BestEpoch,
    first_epoch: int,
) -> None:
    feed, placement = source.feed, setup.placement
    with devices.forgetting_steps():
        source.learner.fit(
            placement.place(
                feed.train(first_epoch, phase.epochs), feed.train_sizes
            ),
            epochs=phase.epochs,
            steps_per_epoch=len(feed.train_sizes),
            validation_data=placement.place(
                feed.validation, feed.validation_sizes
            ),
            validation_steps=len(feed.validation_sizes),
            # Ours comes first: it sees what Keras measured, and the weights
            # that were measured, before another callback changes them.
            callbacks=[best, *setup.callbacks(phase)],
            shuffle=False,
            verbose=0,
        )


def _solve(
    model: keras.Model,
    phase: records.Phase,
    feed: "batches.Feed",
    setup: Setup,
) -> records.PhaseResult | None:
    """Puts the solution for a linear head on the frozen base into `model`.

    None where the solver is `auto` and the features cannot be stored.
    """
    from tlkeras.training import feature_cache

    began = time.perf_counter()
    with feature_cache.features(
        model,
        None,
        feed,
        epochs=_views(feed),
        storage=setup.storage,
        progress=setup.progress,
    ) as stored:
        if stored is None and phase.solver == "auto":
            return None
        if stored is None or stored.arrays is None:
            raise errors.UserError(
                f"phase {phase.name} is solved by {phase.solver}, which needs "
                "the features of all images, but they are not stored. Give "
                "more of --feature_memory_gb and --feature_cache_gb, or "
                "another solver."
            )
        data = stored.arrays()
    storing = time.perf_counter() - began
    phase = dataclasses.replace(phase, solver="logistic")
    variables = claims.variables(model, phase)
    before = classifiers.state(model)
    parameters = _parameters(variables.head)
    setup.progress.solve_begins(phase, parameters, len(data.train))
    logits = model.get_layer("head").get_layer("logits")
    penalty = logits.kernel_regularizer
    solving = time.perf_counter()
    solution = solver.logistic(
        data.train,
        data.targets,
        data.weights,
        classes=logits.units,
        l2=float(penalty.l2) if penalty is not None else 0.0,
        groups=data.groups,
    )
    solving = time.perf_counter() - solving
    logits.kernel.assign(solution.kernel)
    logits.bias.assign(solution.bias)
    unmoved = claims.check(model, phase, variables, before, steps=0)
    score = _score(
        solution, data.validation, data.validation_targets, feed.balanced
    )
    train = _score(solution, data.train[0], data.targets, feed.balanced)
    epoch = records.Epoch(
        phase=phase.name,
        epoch=1,
        learning_rate=0.0,
        loss=train.cross_entropy,
        accuracy=train.accuracy,
        validation_accuracy=score.accuracy,
        validation_cross_entropy=score.cross_entropy,
        seconds=solving,
        images_per_second=len(data.targets) / solving,
        validation_balanced_accuracy=score.balanced_accuracy,
    )
    return records.PhaseResult(
        phase=phase,
        score=score,
        epochs=1,
        best_epoch=1,
        steps=solution.iterations,
        seconds=time.perf_counter() - began,
        stopped="solved",
        trainable_parameters=parameters,
        learning=len(variables.head),
        unmoved=unmoved,
        momentum=0.0,
        history=(epoch,),
        views_cached=len(data.train),
        cached_at=_layer(None),
        shared_seconds=storing + solving,
        l2=solution.strength,
    )


def _score(
    solution: solver.Solution,
    features: np.ndarray,
    targets: np.ndarray,
    balanced: bool,
) -> records.Score:
    logits = features @ solution.kernel + solution.bias
    score = tasks.SINGLE_LABEL.score(logits, targets)
    if not balanced:
        return dataclasses.replace(score, balanced_accuracy=None)
    return score


def _views(feed: "batches.Feed") -> int:
    """Returns in how many ways a training image of `feed` can look."""
    return len(feed.views.names) if feed.views is not None else 0


def _frozen_cut(model: keras.Model, phase: records.Phase) -> graph.Cut | None:
    """Returns the highest frozen block cut; None is the base's end, or none."""
    if phase.unfreeze in ("none", "all"):
        return None
    return classifiers.find_cut(bases.of(model).network, phase.unfreeze)[0]


def _layer(cut: graph.Cut | None) -> str:
    return cut.layer if cut is not None else "the base's end"


def _parameters(variables: list[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


@contextlib.contextmanager
def _batch_norm(
    base: bases.Base,
    phase: records.Phase,
    steps: int,
    placement: placements.Placement,
) -> Iterator[float]:
    """Lets BatchNorm in training mode keep up with a short phase.

    It also sees the whole batch where several devices share it. Yields its
    lowest momentum, 0 where it is frozen; afterwards all is as before.
    """
    layers = []
    if phase.batch_norm == "training":
        layers = [
            layer
            for layer in keras_private.flatten_layers(base.network)
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
    before = [(layer.momentum, layer.synchronized) for layer in layers]
    for layer in layers:
        # On JAX it sees the whole batch by itself, and knows no other way.
        layer.synchronized = placement.kind == "mirrored"
        layer.momentum = min(layer.momentum, short_momentum(steps))
    try:
        yield min((layer.momentum for layer in layers), default=0.0)
    finally:
        for layer, (momentum, synchronized) in zip(layers, before, strict=True):
            layer.momentum = momentum
            layer.synchronized = synchronized
