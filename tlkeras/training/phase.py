"""One phase: select what learns, compile afresh, fit, check the claim.

Feeds are made by TensorFlow, which is imported only where a phase runs:
`compile` also serves where there is none.
"""

import dataclasses
import math
import time
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
from tlkeras.training import placement as placements
from tlkeras.training import row_store
from tlkeras.training import solver

if TYPE_CHECKING:
    from tlkeras.data import batches

# Below this many steps a variable may stand still for a good reason: a base
# under a head that starts at zero gets no gradient in the first step.
_STEPS_TO_MOVE = 20


class ClaimError(RuntimeError):
    """A phase changed what it must not, or left alone all it should change."""


@dataclasses.dataclass(frozen=True)
class _Parts:
    """The variables of a classifier, by what a phase may do to them."""

    frozen: list[keras.Variable]
    base: list[keras.Variable]
    head: list[keras.Variable]
    moving: list[keras.Variable]


def fit(
    model: keras.Model,
    phase: records.Phase,
    feed: "batches.Feed",
    *,
    first_epoch: int,
    placement: placements.Placement = placements.SINGLE,
    storage: row_store.Storage = row_store.NOWHERE,
    progress: progresses.Progress,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
) -> records.PhaseResult:
    """Returns what `phase` came to; `model` then holds its best epoch.

    placement: the devices, in whose scope `model` was built.

    storage: where activations are kept that take the place of images where
    the base, or its lower part, is frozen.

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
        solved = _solve(model, phase, feed, storage=storage, progress=progress)
        if solved is not None:
            return solved
        # The line that the feature cache printed says why.
        progress.say("  so Adam trains the head in the place of solving for it")
        phase = dataclasses.replace(phase, solver="adam")
    base.batch_norm = phase.batch_norm
    own = {}
    if phase.batch_norm == "training":
        own = _fit_statistics(
            base, phase.epochs * feed.steps_per_epoch, placement
        )
    try:
        return _fit(
            model,
            phase,
            feed,
            momentum=min((layer.momentum for layer in own), default=0.0),
            first_epoch=first_epoch,
            placement=placement,
            storage=storage,
            progress=progress,
            callbacks=callbacks,
        )
    finally:
        for layer, (momentum, synchronized) in own.items():
            layer.momentum = momentum
            layer.synchronized = synchronized
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
    """Returns the course of the rate of `phase` over `steps` steps."""
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


def compile(model: keras.Model, phase: records.Phase, steps: int) -> None:
    """Compiles `model` for `phase`, always with a fresh optimizer."""
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate(phase, steps)),
        loss=tasks.SINGLE_LABEL.loss(),
        metrics=tasks.SINGLE_LABEL.metrics(),
    )
    # With its state made beforehand, TensorFlow traces the step once and not
    # twice: MobileNetV2's first step takes 8 s of a CPU instead of 15.
    model.optimizer.build(model.trainable_variables)


def _fit(
    model: keras.Model,
    phase: records.Phase,
    feed: "batches.Feed",
    *,
    momentum: float,
    first_epoch: int,
    placement: placements.Placement,
    storage: row_store.Storage,
    progress: progresses.Progress,
    callbacks: tuple[keras.callbacks.Callback, ...],
) -> records.PhaseResult:
    from tlkeras.training import feature_cache

    began = time.perf_counter()
    learner = model
    cut = _frozen_cut(model, phase)
    cached = None
    if cut is not None or phase.unfreeze == "none":
        cached = feature_cache.feed(
            model,
            cut,
            feed,
            epochs=phase.epochs,
            storage=storage,
            progress=progress,
        )
    views = 0
    stored = 0.0
    if cached is not None:
        # What is frozen is not even in the graph.
        views = len(feed.views.names)
        stored = time.perf_counter() - began
        with placement.scope():
            learner, feed = classifiers.above(model, cut), cached
    with placement.scope():
        compile(learner, phase, phase.epochs * feed.steps_per_epoch)
    placement.prepare(learner, feed)
    parts = _parts(model, phase)
    learning = parts.base + parts.head
    parameters = sum(math.prod(variable.shape) for variable in learning)
    before = classifiers.state(model)
    watch = _BestEpoch(phase, feed, parts.moving, progress)
    progress.phase_begins(
        phase,
        trainable_parameters=parameters,
        steps=feed.steps_per_epoch,
        views_cached=views,
        cached_at=_place(cut),
        live_seconds=stored / max(1, views),
    )
    try:
        with devices.forgetting_steps():
            learner.fit(
                placement.place(
                    feed.train(first_epoch, phase.epochs),
                    feed,
                    feed.train_images,
                ),
                epochs=phase.epochs,
                steps_per_epoch=feed.steps_per_epoch,
                validation_data=placement.place(
                    feed.validation, feed, feed.validation_images
                ),
                validation_steps=feed.validation_steps,
                callbacks=[watch, *callbacks],
                shuffle=False,
                verbose=0,
            )
    except KeyboardInterrupt:
        if placement.group.processes > 1:
            # The others are elsewhere, and no step can be taken without them.
            raise
        watch.stopped = "interrupted"
        classifiers.restore_deleted(model, before)
    unmoved = _check_claim(
        model,
        phase,
        parts,
        before,
        # float16 leaves out the steps whose gradients are not finite.
        steps=0 if watch.stopped == "diverged" else watch.steps,
    )
    if watch.best is None:
        classifiers.restore(model, before)
        watch.score = evaluate(learner, feed, placement)
    else:
        for variable, array in zip(parts.moving, watch.best, strict=True):
            variable.assign(array)
    return records.PhaseResult(
        phase=phase,
        score=watch.score,
        epochs=len(watch.history),
        best_epoch=watch.best_epoch,
        steps=watch.steps,
        seconds=time.perf_counter() - began,
        stopped=watch.stopped,
        trainable_parameters=parameters,
        learning=len(learning),
        unmoved=unmoved,
        momentum=momentum,
        history=tuple(watch.history),
        views_cached=views,
        cached_at=_place(cut) if views else "",
        shared_seconds=stored,
    )


def _solve(
    model: keras.Model,
    phase: records.Phase,
    feed: "batches.Feed",
    *,
    storage: row_store.Storage,
    progress: progresses.Progress,
) -> records.PhaseResult | None:
    """Puts the solution for a linear head on the frozen base into `model`.

    None where the solver is `auto` and the features cannot be stored.
    """
    from tlkeras.training import feature_cache

    began = time.perf_counter()
    found = feature_cache.feed(
        model,
        None,
        feed,
        epochs=len(feed.views.names),
        storage=storage,
        progress=progress,
    )
    if found is None and phase.solver == "auto":
        return None
    if found is None:
        raise errors.UserError(
            f"phase {phase.name} is solved by {phase.solver}, which needs the "
            "features of all images, but they are not stored. Give more of "
            "--feature_memory_gb and --feature_cache_gb, or another solver."
        )
    phase = dataclasses.replace(phase, solver="logistic")
    stored = time.perf_counter() - began
    layer = model.get_layer("head").get_layer("logits")
    parts = _parts(model, phase)
    before = classifiers.state(model)
    parameters = sum(math.prod(variable.shape) for variable in parts.head)
    views = len(feed.views.names)
    progress.solve_begins(phase, parameters, views)
    held = found.arrays()
    penalty = layer.kernel_regularizer
    solving = time.perf_counter()
    solution = solver.logistic(
        held.train,
        held.targets,
        held.weights,
        classes=layer.units,
        l2=float(penalty.l2) if penalty is not None else 0.0,
    )
    seconds = time.perf_counter() - solving
    layer.kernel.assign(solution.kernel)
    layer.bias.assign(solution.bias)
    unmoved = _check_claim(model, phase, parts, before, steps=0)
    train = _score(solution, held.train[0], held.targets)
    score = _score(solution, held.validation, held.validation_targets)
    epoch = records.Epoch(
        phase=phase.name,
        epoch=1,
        learning_rate=0.0,
        loss=train.cross_entropy,
        accuracy=train.accuracy,
        validation_accuracy=score.accuracy,
        validation_cross_entropy=score.cross_entropy,
        seconds=seconds,
        images_per_second=len(held.targets) / seconds,
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
        learning=len(parts.head),
        unmoved=unmoved,
        momentum=0.0,
        history=(epoch,),
        views_cached=views,
        cached_at=_place(None),
        shared_seconds=stored + seconds,
        l2=solution.strength,
    )


def _score(
    solution: solver.Solution, features: np.ndarray, targets: np.ndarray
) -> records.Score:
    logits = features @ solution.kernel + solution.bias
    return tasks.SINGLE_LABEL.score(logits, targets)


def _frozen_cut(model: keras.Model, phase: records.Phase) -> graph.Cut | None:
    """Returns the highest frozen block cut; None is the base's end, or none."""
    if phase.unfreeze in ("none", "all"):
        return None
    return classifiers.find_cut(bases.of(model).network, phase.unfreeze)[0]


def _place(cut: graph.Cut | None) -> str:
    return cut.layer if cut is not None else "the base's end"


def evaluate(
    model: keras.Model,
    feed: "batches.Feed",
    placement: placements.Placement = placements.SINGLE,
) -> records.Score:
    """Returns the validation score of a compiled `model`."""
    values = model.evaluate(
        placement.place(feed.validation, feed, feed.validation_images),
        steps=feed.validation_steps,
        verbose=0,
        return_dict=True,
    )
    return records.Score(
        float(values["accuracy"]),
        float(values["cross_entropy"]),
        feed.validation_images,
    )


class _BestEpoch(keras.callbacks.Callback):
    """Keeps the best epoch, ends the phase when it has converged."""

    def __init__(
        self,
        phase: records.Phase,
        feed: "batches.Feed",
        moving: list[keras.Variable],
        progress: progresses.Progress,
    ):
        super().__init__()
        self.phase = phase
        self.feed = feed
        self.moving = moving
        self.progress = progress
        self.history: list[records.Epoch] = []
        self.score: records.Score | None = None
        self.best: list[np.ndarray] | None = None
        self.best_epoch = 0
        self.steps = 0
        self.stopped = "budget"

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_began = self.epoch_ended = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self.epoch_ended = time.perf_counter()
        self.progress.step_ends(self.feed.batch_size)

    def on_epoch_end(self, epoch, logs=None):
        seconds = self.epoch_ended - self.epoch_began
        score = records.Score(
            float(logs["val_accuracy"]),
            float(logs["val_cross_entropy"]),
            self.feed.validation_images,
        )
        row = records.Epoch(
            phase=self.phase.name,
            epoch=epoch + 1,
            learning_rate=self._rate(),
            loss=float(logs["loss"]),
            accuracy=float(logs["accuracy"]),
            validation_accuracy=score.accuracy,
            validation_cross_entropy=score.cross_entropy,
            seconds=seconds,
            images_per_second=self.feed.train_images / seconds,
        )
        if not math.isfinite(row.loss):
            self.stopped = "diverged"
            self.model.stop_training = True
            return
        self.history.append(row)
        if self.score is None or records.better(score, self.score):
            self.score = score
            self.best = [_array(variable) for variable in self.moving]
            self.best_epoch = epoch + 1
        self.progress.epoch_ends(row)
        waited = epoch + 1 - max(self.best_epoch, self._warmup_epochs())
        if waited >= self.phase.patience and epoch + 1 < self.phase.epochs:
            self.stopped = "patience"
            self.model.stop_training = True

    def _warmup_epochs(self) -> int:
        if self.phase.schedule == "constant":
            return 0
        return math.ceil(self.phase.warmup * self.phase.epochs)

    def _rate(self) -> float:
        rate = self.model.optimizer.learning_rate
        return float(keras.ops.convert_to_numpy(rate))


def _parts(model: keras.Model, phase: records.Phase) -> _Parts:
    base = bases.of(model)
    inside = {id(variable) for variable in base.variables}
    trainable = model.trainable_variables
    may_move = {id(variable) for variable in trainable}
    if phase.batch_norm == "training":
        for layer in keras_private.flatten_layers(base.network):
            # A model's own list holds the weights of its frozen layers, too.
            if layer.trainable and not isinstance(layer, keras.Model):
                may_move |= {
                    id(variable) for variable in layer.non_trainable_variables
                }
    frozen = []
    moving = []
    for variable in model.variables:
        if id(variable) in inside and id(variable) not in may_move:
            frozen.append(variable)
        else:
            moving.append(variable)
    return _Parts(
        frozen=frozen,
        base=[variable for variable in trainable if id(variable) in inside],
        head=[variable for variable in trainable if id(variable) not in inside],
        moving=moving,
    )


def _check_claim(
    model: keras.Model,
    phase: records.Phase,
    parts: _Parts,
    before: list[np.ndarray],
    *,
    steps: int,
) -> int:
    """Returns how many learning variables stand where they stood.

    Raises `ClaimError` if something frozen moved, be it by one bit, or if
    nothing of a learning part moved in 20 `steps` or more.
    """
    start = {
        id(variable): array
        for variable, array in zip(model.variables, before, strict=True)
    }

    def moved(variable: keras.Variable) -> bool:
        return start[id(variable)].tobytes() != _array(variable).tobytes()

    broken = [variable.path for variable in parts.frozen if moved(variable)]
    if broken:
        raise ClaimError(
            f"phase {phase.name} moved {len(broken)} variables that are "
            f"frozen, {broken[0]} among them."
        )
    unmoved = 0
    for name, part in (("base", parts.base), ("head", parts.head)):
        still = sum(not moved(variable) for variable in part)
        if part and still == len(part) and steps >= _STEPS_TO_MOVE:
            raise ClaimError(
                f"phase {phase.name} moved none of the {still} variables of "
                f"the {name} in {steps} steps."
            )
        unmoved += still
    return unmoved


def _fit_statistics(
    base: bases.Base, steps: int, placement: placements.Placement
) -> dict[keras.layers.Layer, tuple[float, bool]]:
    """Lets BatchNorm keep up with a short phase, and see the whole batch.

    Returns its own momenta, and whether it was synchronized.
    """
    own = {}
    for layer in keras_private.flatten_layers(base.network):
        if isinstance(layer, keras.layers.BatchNormalization):
            own[layer] = layer.momentum, layer.synchronized
            # On JAX it sees the whole batch by itself, and knows no other way.
            layer.synchronized = placement.kind == "mirrored"
            layer.momentum = min(layer.momentum, short_momentum(steps))
    return own


def _array(variable: keras.Variable) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(variable))
