"""The training of a run: the decision, the phases, and a final fit."""

import contextlib
import dataclasses
from collections.abc import Iterator
from collections.abc import Sequence

import keras
import numpy as np

from tlkeras import files
from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras import records
from tlkeras import run_directory
from tlkeras.advisor import advice as advices
from tlkeras.advisor import decision as decisions
from tlkeras.backbones import base as bases
from tlkeras.data import batches
from tlkeras.data import dataset as datasets
from tlkeras.experiment import preparing
from tlkeras.machine import devices
from tlkeras.models import classifier as classifiers
from tlkeras.models import saving
from tlkeras.models import task as tasks
from tlkeras.settings import budget as budgets
from tlkeras.settings import config as configs
from tlkeras.settings import strategies
from tlkeras.training import checkpoint
from tlkeras.training import final_fit
from tlkeras.training import phases as all_phases
from tlkeras.training import row_store
from tlkeras.training import setup as setups
from tlkeras.training import unfinished


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training came to; the model then holds what is to be delivered.

    views: of the images that it learned from, before a final fit. final: that
    fit, None without one. chosen: where it made another model, the state of the
    one that was chosen before it.
    """

    results: all_phases.Results
    views: batches.Views | None
    final: records.FinalFit | None = None
    chosen: Sequence[np.ndarray] = ()


def decide(
    plan: plans.Plan,
    untrained: preparing.Untrained,
    data: datasets.Dataset,
    *,
    progress: progresses.Progress,
) -> decisions.Decision:
    """Returns what the advisor decides for these images, and says so.

    It is kept in the directory: what a killed run goes on with must not depend
    on how fast the machine is now.
    """
    path = plan.directory / run_directory.DECISION
    if checkpoint.exists(plan.directory) and path.exists():
        return decisions.from_json(files.read_json(path))
    evidence = advices.examine(
        bases.of(untrained.model),
        data,
        seed=plan.config.seed,
        at_random=False,
        progress=progress,
    )
    train, validation = (
        len(data.positions(split)) for split in ("train", "validation")
    )
    batch = preparing.images_a_step(
        plan.config, data, untrained.placement.devices
    )
    found = decisions.decide(
        evidence,
        train=train,
        validation=validation,
        steps_per_epoch=-(-train // batch),
        budget=budgets.parse(plan.config.budget),
    )
    files.write_json(path, decisions.to_json(found))
    progress.say(f"decided: {found.strategy}. {found.reasons}")
    return found


def train(
    plan: plans.Plan,
    untrained: preparing.Untrained,
    data: datasets.Dataset,
    *,
    decision: decisions.Decision | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: progresses.Progress,
) -> Trained:
    """Returns what training came to; every process of the plan's does this.

    decision: for a strategy that needs one. callbacks: for the `fit` of each
    phase, beside our own.
    """
    config, directory, group = plan.config, plan.directory, plan.group
    model, placement = untrained.model, untrained.placement
    batch_size = preparing.images_a_step(config, data, placement.devices)
    progress.detail(placement.text(batch_size))
    # Of the training images the features are looked at, too.
    progress.pace.scored = len(data.splits) / len(data.positions("train"))
    digests = {
        **preparing.settings_digests(plan),
        "images": datasets.digest(data),
        # Of auto, which depends on the device.
        "images a step": str(batch_size),
    }
    splits = configs.learned(
        config, len(data.positions("train")) + len(data.positions("validation"))
    )
    start = classifiers.state(model) if len(splits) > 1 else []

    def after_phase(results: all_phases.Results) -> None:
        if group.is_main:
            checkpoint.save(directory, model, results, digests)
        # With stored activations no phase would see it, and scoring would.
        data.check("validation", "test")

    if group.is_main:
        run_directory.write_config(plan)
    checkpoint.share(directory, group.broadcast)
    head = classifiers.state(model.get_layer("head"))
    done = checkpoint.load(directory, model, digests)
    final, chosen = checkpoint.load_final(directory)
    if final is not None:
        progress.say("resuming after the final fit")
    elif done:
        progress.say(f"resuming after phase {done[-1].phase.name}")
    expected = strategies.expected(plan.strategy, decision)
    progress.pace.planned = list(expected[len(done) :])
    if len(splits) > 1 and final is None:
        progress.pace.again = list(expected)
    images = feed(config, data, batch_size, placement.sharding)
    keeper = None
    if group.processes == 1:
        keeper = unfinished.Keeper(directory, digests)
    with _leaving_the_best(plan, untrained, data, progress):
        results = all_phases.run(
            model,
            plan.strategy,
            images,
            setups.Setup(
                progress,
                placement,
                storage(plan),
                lambda phase: (*_tensorboard(plan, phase.name), *callbacks),
                keeper,
                preparing.rate_factor(config, batch_size),
            ),
            decision=decision,
            head=head,
            done=done,
            after_phase=after_phase,
        )
        if final is None and len(splits) > 1:
            before = classifiers.state(model)
            final = fit_again(
                plan,
                untrained,
                data,
                results,
                start,
                splits,
                callbacks=callbacks,
                progress=progress,
            )
            chosen = [] if final.kept else before
            if group.is_main:
                checkpoint.save(
                    directory,
                    model,
                    results,
                    digests,
                    final=final,
                    chosen=chosen,
                )
    group.disconnect()
    return Trained(results, images.views, final, chosen)


def fit_again(
    plan: plans.Plan,
    untrained: preparing.Untrained,
    data: datasets.Dataset,
    results: all_phases.Results,
    start: Sequence[np.ndarray],
    splits: tuple[str, ...],
    *,
    callbacks: Sequence[keras.callbacks.Callback],
    progress: progresses.Progress,
) -> records.FinalFit:
    """Returns what the final fit on `splits` came to; see `final_fit.run`."""
    placement = untrained.placement
    batch_size = preparing.images_a_step(plan.config, data, placement.devices)
    progress.pace.planned = [each.phase for each in final_fit.recipe(results)]
    progress.pace.again = []
    return final_fit.run(
        untrained.model,
        results,
        feed(plan.config, data, batch_size, placement.sharding, splits),
        setups.Setup(
            progress,
            placement,
            storage(plan),
            lambda phase: (
                *_tensorboard(plan, f"final-{phase.name}"),
                *callbacks,
            ),
        ),
        choice=feed(plan.config, data, batch_size, placement.sharding),
        start=start,
        splits=splits,
    )


@contextlib.contextmanager
def _leaving_the_best(
    plan: plans.Plan,
    untrained: preparing.Untrained,
    data: datasets.Dataset,
    progress: progresses.Progress,
) -> Iterator[None]:
    """Writes model.keras where the block is interrupted, if it has learned."""
    try:
        yield
    except KeyboardInterrupt:
        if plan.group.processes == 1 and checkpoint.exists(plan.directory):
            path = plan.directory / "model.keras"
            best = saving.TrainedModel(
                untrained.model,
                data.labels,
                preparing.shape(plan),
                tta=plan.config.tta,
            )
            saving.save(path, best)
            progress.say(f"interrupted; the best so far is {path}")
        raise


def feed(
    config: configs.Config,
    data: datasets.Dataset,
    batch_size: int,
    sharding: batches.Sharding = batches.UNSHARDED,
    splits: Sequence[str] = ("train",),
) -> batches.Feed:
    """Returns a feed that learns from `splits`.

    It validates with the images of validation if none learns from them, else
    with none.
    """
    train = _part(data, splits)
    judges = [] if "validation" in splits else ["validation"]
    weights = np.ones(len(data.labels))
    if config.class_weights == "balanced":
        weights = batches.balanced(train.targets, len(data.labels))
    return batches.feed(
        data.images,
        train,
        _part(data, judges),
        batch_size=batch_size,
        augment=config.augment,
        seed=config.seed,
        class_weights=weights,
        cached_views=config.cached_views,
        sharding=sharding,
        full=devices.compiles_each_shape(),
    )


def _part(data: datasets.Dataset, splits: Sequence[str]) -> batches.Subset:
    positions = np.flatnonzero(np.isin(data.splits, splits))
    return batches.Subset(
        data.rows[positions],
        data.targets[positions].astype(tasks.SINGLE_LABEL.target_type),
        data.hashes[positions],
        np.array(data.groups)[positions],
    )


def storage(plan: plans.Plan) -> row_store.Storage:
    """Returns where activations are kept."""
    config = plan.config
    mode = config.feature_cache
    if plan.group.processes > 1 and mode != "off":
        # All must compute the same, whatever the main one has on its disk.
        mode = "memory"
    return row_store.Storage(
        mode=mode,
        directory=plan.cache_dir / row_store.FOLDER,
        memory_bytes=config.feature_memory_gb * 1e9,
        disk_bytes=config.feature_cache_gb * 1e9,
    )


def _tensorboard(
    plan: plans.Plan, name: str
) -> tuple[keras.callbacks.Callback, ...]:
    """Returns the callback of a phase that writes for TensorBoard, if any."""
    if not plan.config.tensorboard or not plan.group.is_main:
        return ()
    place = plan.directory / "tensorboard" / name
    return (keras.callbacks.TensorBoard(place, write_graph=False),)
