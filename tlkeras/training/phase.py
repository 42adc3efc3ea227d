"""One phase: select what learns, compile afresh, fit, check the claim.

Feeds are made by TensorFlow, which is imported only where a phase runs:
`compile` also serves where there is none.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any

import keras

from tlkeras import records
from tlkeras.backbones import base as bases
from tlkeras.machine import devices
from tlkeras.machine import keras_private
from tlkeras.models import adapters
from tlkeras.models import classifier as classifiers
from tlkeras.models import graph
from tlkeras.models import task as tasks
from tlkeras.training import best_epoch
from tlkeras.training import claims
from tlkeras.training import layer_rates
from tlkeras.training import placement as placements
from tlkeras.training import setup as setups
from tlkeras.training import solved_head
from tlkeras.training import unfinished

if TYPE_CHECKING:
    from tlkeras.data import batches


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
    setup: setups.Setup,
    *,
    first_epoch: int = 0,
    schedule_steps: int = 0,
    l2: float = 0.0,
    floor: records.Score | None = None,
) -> records.PhaseResult:
    """Returns what `phase` came to; `model` then holds its best epoch.

    first_epoch: number of epochs that went before, over all phases, so that
      no two draw the same order and augmentation.
    schedule_steps: after which the rate's schedule would end; 0 is the end of
      the phase.
    l2: the penalty on a head that is solved; 0 is that of its layer, or chosen.
    floor: a phase ends at half of its epochs if it is clearly worse by then.

    Without validation images the last epoch counts as the best one.

    An interrupt ends the phase, whose epochs are left to `setup.keeper` for a
    later call that goes on. Where no epoch came to its end, or the loss was not
    finite in the first, `model` holds its start and the result's `best_epoch`
    is 0.

    Raises `UserError` where the base lacks the part to unfreeze, `ClaimError`
    where the frozen part moved or the learning part did not.
    """
    base = bases.of(model)
    classifiers.unfreeze(base, phase.unfreeze)
    if phase.solver != "adam":
        solved = solved_head.fit(model, phase, feed, setup, l2=l2)
        if solved is not None:
            return solved
        # The line that the feature cache printed says why.
        setup.progress.say("  so Adam trains the head instead of solving it")
        phase = dataclasses.replace(phase, solver="adam")
    base.batch_norm = phase.batch_norm
    steps = schedule_steps or phase.epochs * len(feed.train_sizes)
    try:
        with (
            _batch_norm(base, phase, steps, setup.placement) as momentum,
            adapted(model, phase, setup.placement),
            _source(model, phase, feed, setup) as source,
        ):
            return _train(
                source, model, phase, setup, momentum, first_epoch, steps, floor
            )
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
    scales: Mapping[int, float] | None = None,
) -> None:
    """Compiles `model` for `phase`, always with a fresh optimizer.

    balanced: whether validation images are weighed so that all classes count
      the same. scales: factors of the rate by the `id` of a variable; 1 for
      one that is not among them.
    """
    rate = learning_rate(phase, steps)
    optimizer = keras.optimizers.Adam(rate)
    if scales:
        optimizer = layer_rates.LayerwiseAdam(
            rate,
            scales=[
                scales.get(id(variable), 1.0)
                for variable in model.trainable_variables
            ],
        )
    model.compile(
        optimizer=optimizer,
        loss=tasks.SINGLE_LABEL.loss(),
        metrics=tasks.SINGLE_LABEL.metrics(),
        weighted_metrics=(
            tasks.SINGLE_LABEL.balanced_metrics() if balanced else None
        ),
        jit_compile=devices.jit_compile(steps),
    )
    # With its state made beforehand, TensorFlow traces the step once and not
    # twice: MobileNetV2's first step takes 8 s of a CPU instead of 15.
    with keras_private.initialised_by_numpy():
        model.optimizer.build(model.trainable_variables)


def _rate_scales(
    model: keras.Model, phase: records.Phase
) -> dict[int, float] | None:
    if phase.layer_decay == 1 or phase.unfreeze == "none":
        return None
    return layer_rates.scales(model, phase.layer_decay)


def evaluate(
    model: keras.Model,
    feed: "batches.Feed",
    placement: placements.Placement = placements.SINGLE,
) -> records.Score:
    """Returns the validation score of a compiled `model`."""
    if not feed.validation_images:
        return records.UNSCORED
    values = model.evaluate(
        placement.place(feed.validation, feed.validation_sizes),
        steps=len(feed.validation_sizes),
        verbose=0,
        return_dict=True,
    )
    return best_epoch.validation_score(values, feed)


def _train(
    source: _Source,
    model: keras.Model,
    phase: records.Phase,
    setup: setups.Setup,
    momentum: float,
    first_epoch: int,
    steps: int,
    floor: records.Score | None,
) -> records.PhaseResult:
    """Trains what learns with Adam, and leaves its best epoch in `model`."""
    found = setup.keeper and setup.keeper.load(phase, first_epoch)
    earlier = found.seconds if found else 0.0
    began = time.perf_counter() - source.seconds - earlier
    learner, feed = source.learner, source.feed
    with setup.placement.scope():
        compile(
            learner,
            phase,
            steps,
            balanced=feed.balanced,
            scales=_rate_scales(model, phase),
        )
    setup.placement.prepare(learner, source.feed)
    variables = claims.variables(model, phase)
    before = classifiers.state(model)
    setup.progress.phase_begins(
        phase,
        trainable_parameters=variables.parameters,
        steps=len(feed.train_sizes),
        views_cached=source.views,
        cached_at=source.layer,
        live_seconds=source.seconds / max(1, source.views),
        share=len(keras_private.flatten_layers(learner))
        / len(keras_private.flatten_layers(model)),
        done=len(found.history) if found else 0,
    )
    best = best_epoch.BestEpoch(
        phase, source.feed, variables.moving, setup.progress, floor
    )
    keep = None
    if setup.keeper:
        spent = earlier + source.seconds
        keep = unfinished.Keep(setup.keeper, phase, first_epoch, best, spent)
    if found:
        unfinished.go_on(found, best, learner.optimizer)
    _run_epochs(source, phase, setup, best, first_epoch, keep)
    if best.stopped == "interrupted":
        classifiers.restore_deleted(model, before)
    # float16 leaves out the steps whose gradients are not finite.
    taken = 0 if best.stopped == "diverged" else best.steps
    unmoved = claims.check(model, phase, variables, before, steps=taken)
    if best.best is None:
        classifiers.restore(model, before)
    else:
        for variable, array in zip(variables.moving, best.best, strict=True):
            variable.assign(array)
    score = best.score or records.UNSCORED
    if best.score is None and best.stopped != "interrupted":
        score = evaluate(learner, feed, setup.placement)
    return records.PhaseResult(
        phase=phase,
        score=score,
        epochs=len(best.history),
        best_epoch=best.best_epoch,
        steps=best.steps,
        seconds=time.perf_counter() - began,
        stopped=best.stopped,
        trainable_parameters=variables.parameters,
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
    setup: setups.Setup,
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
        yield _Source(
            learner,
            stored,
            solved_head.views(feed),
            cut.layer if cut is not None else solved_head.BASE_END,
            seconds,
        )


def _run_epochs(
    source: _Source,
    phase: records.Phase,
    setup: setups.Setup,
    best: best_epoch.BestEpoch,
    first_epoch: int,
    keep: unfinished.Keep | None,
) -> None:
    """Fits the learner; Ctrl-C ends the phase, which then keeps its best."""
    done = len(best.history)
    feed, placement = source.feed, setup.placement
    validation: dict[str, Any] = {}
    if feed.validation_images:
        validation = {
            "validation_data": placement.place(
                feed.validation, feed.validation_sizes
            ),
            "validation_steps": len(feed.validation_sizes),
        }
    try:
        with devices.forgetting_steps():
            source.learner.fit(
                placement.place(
                    feed.train(first_epoch + done, phase.epochs - done),
                    feed.train_sizes,
                ),
                initial_epoch=done,
                epochs=phase.epochs,
                steps_per_epoch=len(feed.train_sizes),
                **validation,
                # Ours comes first: it sees what Keras measured, and the weights
                # that were measured, before another callback changes them.
                callbacks=[
                    best,
                    *setup.callbacks(phase),
                    *([keep] if keep else []),
                ],
                shuffle=False,
                verbose=0,
            )
    except KeyboardInterrupt:
        if placement.group.processes > 1:
            # The others are elsewhere, and no step can be taken without them.
            raise
        best.stopped = "interrupted"
        if keep:
            keep.write()


@contextlib.contextmanager
def adapted(
    model: keras.Model,
    phase: records.Phase,
    placement: placements.Placement = placements.SINGLE,
) -> Iterator[None]:
    """Lets adapters of the base learn in its place, if `phase` says so.

    The part of the base that `phase` names must be unfrozen already.
    """
    if phase.adapt == "none" or phase.unfreeze == "none":
        yield
        return
    cut = _frozen_cut(model, phase)
    with contextlib.ExitStack() as stack:
        with placement.scope():
            stack.enter_context(
                adapters.lora(bases.of(model), cut, phase.lora_rank)
            )
        yield


def _frozen_cut(model: keras.Model, phase: records.Phase) -> graph.Cut | None:
    """Returns the highest frozen block cut; None is the base's end, or none."""
    if phase.unfreeze in ("none", "all"):
        return None
    return graph.find_cut(bases.of(model).network, phase.unfreeze)[0]


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
