"""The whole story of a run: from a plan to a directory with its results."""

import contextlib
import dataclasses
import hashlib
import pathlib
import tempfile
import textwrap
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tlkeras import errors
from tlkeras import files
from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras import records
from tlkeras import run_directory
from tlkeras.backbones import base as bases
from tlkeras.backbones import locate
from tlkeras.data import batches
from tlkeras.data import dataset as datasets
from tlkeras.data import images as image_stores
from tlkeras.export import saved_model
from tlkeras.machine import devices
from tlkeras.models import classifier as classifiers
from tlkeras.models import saving
from tlkeras.models import task as tasks
from tlkeras.scoring import metrics
from tlkeras.scoring import predicting
from tlkeras.settings import config as configs
from tlkeras.training import checkpoint
from tlkeras.training import phases as all_phases
from tlkeras.training import placement as placements
from tlkeras.training import row_store

# How many images the export is checked on.
_SAMPLES = 8
# Images a step where nothing else is said.
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: where it stands, and what its report says.

    Of several processes the others than the first have no report.
    """

    directory: pathlib.Path
    report: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Untrained:
    """A classifier before its phases, and the devices it was built on."""

    model: keras.Model
    placement: placements.Placement


def run(plan: plans.Plan, *, progress: progresses.Progress) -> Run:
    """Returns the run that `plan` describes, and leaves its directory.

    Raises `UserError` for what only the images or the built network show;
    if no phase has ended then, nothing is left. Ctrl-C in a phase keeps the
    best so far.
    """
    if not plan.group.is_main:
        # Only the first process writes; what is stored here goes at the end.
        with tempfile.TemporaryDirectory() as name, batches.user_errors():
            place = pathlib.Path(name)
            here = dataclasses.replace(plan, directory=place, cache=place)
            start, data = _begin(here, progress)
            _train(here, start, data, progress)
        return Run(plan.directory, {})
    began = time.perf_counter()
    directory = plan.directory
    with (
        undo_on_error(directory, progress, ended=ended),
        batches.user_errors(),
    ):
        start, data = _begin(plan, progress)
        outcome = learn(plan, start, data, progress=progress)
        progress.say("exporting and checking the export")
        exported = saved_model.write(
            outcome.classifier,
            directory / "saved_model" / "1",
            samples=_samples(plan, data),
        )
        note = (
            f"The SavedModel answers as the model on {exported.images} test "
            "images, given as files and as pixels (largest difference "
            f"{exported.largest_difference:.1g})."
        )
        seconds = time.perf_counter() - began
        report = run_directory.summarise(
            plan, data, outcome, seconds=seconds, notes=[note]
        )
        run_directory.write_tables(plan, data, outcome)
        run_directory.write_page(plan, data, outcome, report)
        run_directory.finish(plan, report)
    _say_result(report, directory, progress)
    return Run(directory, report)


def _begin(
    plan: plans.Plan, progress: progresses.Progress
) -> tuple[Untrained, datasets.Dataset]:
    """Returns what training needs, after telling what it is.

    The classifier comes first: whether it can be built is known sooner.
    """
    if plan.group.processes > 1:
        plan.group.agree(_digests(plan))
    start = build(plan)
    data = read(plan, progress=progress)
    plan.group.agree({"images": datasets.digest(data)})
    progress.say(f"run {plan.directory}")
    say_data(data, [*data.notes, *_check_phases(plan, start.model)], progress)
    return start, data


def build(plan: plans.Plan) -> Untrained:
    """Returns the classifier of `plan`, untrained, and seeds what is random.

    Raises `UserError` where its weights do not fit, or a phase names a part
    that the base lacks, which otherwise only the phase itself would see.
    """
    config = plan.config
    devices.leave_to_keras()
    keras.utils.set_random_seed(config.seed)
    placement = placements.start(config.distribute, plan.group)
    if plan.group.processes > 1 and plan.weights == "imagenet":
        # One after the other, since several on a host download to one file.
        plan.group.main_first(
            lambda: classifiers.build_base(
                plan.row.name, image_size=plan.image_size
            )
        )
    with placement.scope():
        model = classifiers.build_classifier(
            len(plan.source.labels),
            backbone=plan.row.name,
            weights=plan.weights,
            image_size=plan.image_size,
            head=config.head,
            head_units=config.head_units,
            head_initializer=config.head_initializer,
            dropout=config.dropout,
            l2=config.l2,
            precision=devices.precision(config.precision),
        )
    _check_phases(plan, model)
    return Untrained(model, placement)


def read(
    plan: plans.Plan, *, progress: progresses.Progress
) -> datasets.Dataset:
    """Returns the images of `plan`, scanned, split, and ready to be read.

    Raises `UserError` where they cannot be.
    """
    config = plan.config
    return plan.group.run_on_all(
        lambda: datasets.prepare(
            plan.source,
            shape=_shape(plan),
            split_seed=config.split_seed,
            images_per_class=config.images_per_class,
            on_bad_image=config.on_bad_image,
            store_bytes=config.image_store_gb * 1e9,
            directory=plan.directory,
            cache_dir=plan.cache,
            progress=progress,
        )
    )


def learn(
    plan: plans.Plan,
    start: Untrained,
    data: datasets.Dataset,
    *,
    whole: bool = False,
    progress: progresses.Progress,
) -> run_directory.Outcome:
    """Trains a classifier as `plan` says, scores and saves it.

    config.toml comes first and a checkpoint after each phase, so that a killed
    run goes on until `finish`.

    whole: a phase that is interrupted is not kept, and KeyboardInterrupt is
      raised.
    """
    results = _train(plan, start, data, progress, whole=whole)
    progress.detail("scoring and saving")
    classifier = saving.TrainedModel(start.model, data.labels, _shape(plan))
    path = plan.directory / "model.keras"
    saving.save(path, classifier)
    if start.placement.kind != "none":
        # Weights on several devices are in the way of all that follows:
        # `predict` and export by one process, or in one graph.
        classifier = saving.load(path)
    batch_size = images_a_step(plan.config, data, start.placement.devices)
    answers = {}
    for split in ("validation", "test"):
        began = time.perf_counter()
        answers[split] = _answers(classifier, data, split, batch_size, progress)
        scoring = len(answers[split]) / (time.perf_counter() - began)
    notes = _check_phases(plan, start.model)
    if start.placement.kind != "none":
        notes += (start.placement.text(batch_size),)
    return run_directory.Outcome(
        classifier,
        results,
        answers,
        {split: _quality(answers[split], data, split) for split in answers},
        notes,
        scoring,
    )


def _train(
    plan: plans.Plan,
    start: Untrained,
    data: datasets.Dataset,
    progress: progresses.Progress,
    *,
    whole: bool = False,
) -> tuple[records.PhaseResult, ...]:
    """Returns what the phases came to; each process of the plan's does this."""

    def after_phase(results: tuple[records.PhaseResult, ...]) -> None:
        if whole and results[-1].stopped == "interrupted":
            raise KeyboardInterrupt
        if group.is_main:
            checkpoint.save(directory, model, results)

    config, directory, group = plan.config, plan.directory, plan.group
    model, placement = start.model, start.placement
    batch_size = images_a_step(config, data, placement.devices)
    progress.detail(placement.text(batch_size))
    if group.is_main:
        files.write_text(directory / "config.toml", configs.to_toml(config))
    feed = _feed(config, data, batch_size, placement)
    checkpoint.share(directory, group.broadcast)
    results = all_phases.run(
        model,
        plan.strategy,
        feed,
        placement=placement,
        storage=_storage(plan),
        progress=progress,
        done=_resume(directory, model, progress),
        after_phase=after_phase,
        callbacks=lambda phase: _callbacks(plan, phase),
    )
    group.disconnect()
    return results


def _digests(plan: plans.Plan) -> dict[str, str]:
    """Returns what must be the same for all processes, by what it is called.

    Weights that differ would else fail in JAX, when the model is built.
    """
    # Paths may differ between hosts.
    config = dataclasses.replace(
        plan.config, data="", data_dir="", cache_dir="", weights=""
    )
    file = locate.weights(plan.weights)
    return {
        "settings": _digest(configs.to_toml(config).encode()),
        "weights": _digest(file.read_bytes() if file is not None else b""),
    }


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _storage(plan: plans.Plan) -> row_store.Storage:
    config = plan.config
    mode = config.feature_cache
    if plan.group.processes > 1 and mode != "off":
        # All must compute the same, whatever the first finds on its disk.
        mode = "memory"
    return row_store.Storage(
        mode=mode,
        directory=plan.cache / row_store.FOLDER,
        memory_bytes=config.feature_memory_gb * 1e9,
        disk_bytes=config.feature_cache_gb * 1e9,
    )


def _shape(plan: plans.Plan) -> image_stores.Shape:
    config = plan.config
    return image_stores.Shape(plan.image_size, config.resize, config.max_pixels)


def ended(directory: pathlib.Path) -> bool:
    """Tells whether a phase of the run in `directory` came to its end."""
    return (directory / "report.json").exists() or checkpoint.exists(directory)


@contextlib.contextmanager
def undo_on_error(
    directory: pathlib.Path,
    progress: progresses.Progress,
    *,
    ended: Callable[[pathlib.Path], bool],
) -> Iterator[None]:
    """Makes `directory`; if the block raises, leaves all as it was.

    ended: whether something is there that is to be kept.

    Raises `UserError` where another process works in it.
    """
    with files.directory(directory), files.alone(directory):
        files.remove_unfinished(directory)
        before = set(directory.iterdir())
        try:
            yield
        except BaseException:
            if not ended(directory):
                for path in set(directory.iterdir()) - before:
                    files.remove(path)
            raise
        finally:
            # A terminal shows no cursor beside a bar.
            progress.end()


def _check_phases(plan: plans.Plan, model: keras.Model) -> tuple[str, ...]:
    """Returns what `unfreeze` comes to where it is not what was asked for.

    Raises `UserError` where the base lacks the part.
    """
    notes = []
    network = bases.of(model).network
    for phase in plan.strategy.planned:
        if phase.unfreeze == "none":
            continue
        _, exact = classifiers.find_cut(network, phase.unfreeze)
        if exact != phase.unfreeze:
            notes.append(
                f"Phase {phase.name}: {phase.unfreeze} lies inside a block, so "
                f"the base learns from the block's start: {exact}."
            )
    return tuple(notes)


def _resume(
    directory: pathlib.Path, model: keras.Model, progress: progresses.Progress
) -> tuple[records.PhaseResult, ...]:
    """Returns the phases that a killed run finished; `model` then has them."""
    try:
        done = checkpoint.load(directory, model)
    except (ValueError, KeyError, OSError) as error:
        raise errors.UserError(
            f"`workdir` {directory} holds a run that cannot go on: its data "
            f"changed or a file is damaged ({textwrap.shorten(str(error), 200)}"
            "). Choose another, or remove it."
        ) from error
    if done:
        progress.say(f"going on behind phase {done[-1].phase.name}")
    return done


def images_a_step(
    config: configs.Config, data: datasets.Dataset, devices: int
) -> int:
    """Returns the images a step, of all devices together.

    Raises `UserError` if there are not as many, because an epoch would be one
    step, and not the one that was asked for; or if they cannot be shared.
    """
    images = len(data.positions("train"))
    if config.batch_size == "auto":
        most = min(_BATCH, images)
        return most - most % devices or most
    if int(config.batch_size) > images:
        raise errors.UserError(
            f"`batch_size` must be at most the number of training images, "
            f"{images}. Received: {config.batch_size}."
        )
    if int(config.batch_size) % devices:
        raise errors.UserError(
            "`batch_size` must be a multiple of the number of devices, "
            f"{devices}, that share it. Received: {config.batch_size}."
        )
    return int(config.batch_size)


def _feed(
    config: configs.Config,
    data: datasets.Dataset,
    batch_size: int,
    placement: placements.Placement,
) -> batches.Feed:
    weights = np.ones(len(data.labels))
    if config.class_weights == "balanced":
        targets = data.targets[data.positions("train")]
        weights = batches.balanced(targets, len(data.labels))
    return batches.feed(
        data.images,
        _part(data, "train"),
        _part(data, "validation"),
        batch_size=batch_size,
        augment=config.augment,
        seed=config.seed,
        class_weights=weights,
        cached_views=config.cached_views,
        sharding=placement.sharding,
    )


def _part(data: datasets.Dataset, split: str) -> batches.Subset:
    positions = data.positions(split)
    return batches.Subset(
        data.rows[positions],
        data.targets[positions].astype(tasks.SINGLE_LABEL.target_type),
        data.hashes[positions],
    )


def _callbacks(
    plan: plans.Plan, phase: records.Phase
) -> tuple[keras.callbacks.Callback, ...]:
    if not plan.config.tensorboard or not plan.group.is_main:
        return ()
    place = plan.directory / "tensorboard" / phase.name
    return (keras.callbacks.TensorBoard(place, write_graph=False),)


def _answers(
    classifier: saving.TrainedModel,
    data: datasets.Dataset,
    split: str,
    batch_size: int,
    progress: progresses.Progress,
) -> np.ndarray:
    """Returns the probabilities [n, k] of the images of `split`."""
    return predicting.predict_batches(
        classifier,
        batches.evaluation(
            data.images,
            data.rows[data.positions(split)],
            batch_size=batch_size,
        ),
        what=f"predicting {split}",
        progress=progress,
    )


def _quality(
    probabilities: np.ndarray, data: datasets.Dataset, split: str
) -> dict[str, Any]:
    commonest = np.bincount(data.targets[data.positions("train")]).argmax()
    return metrics.compute(
        probabilities,
        data.targets[data.positions(split)],
        data.labels,
        majority_label_of_training=int(commonest),
    )


def _samples(plan: plans.Plan, data: datasets.Dataset) -> list[bytes]:
    """Returns encoded test images to check an export on."""
    positions = data.positions("test")[:_SAMPLES]
    return [plan.source.read(int(data.rows[each])) for each in positions]


def say_data(
    data: datasets.Dataset,
    notes: Sequence[str],
    progress: progresses.Progress,
) -> None:
    """Says how many images there are, and what to know of them."""
    sizes = ", ".join(
        f"{len(data.positions(split))} {split}"
        for split in ("train", "validation", "test")
    )
    progress.say(
        f"data {data.name}: {len(data.labels)} classes, images: {sizes}"
    )
    if data.skipped:
        path, reason = data.skipped[0]
        progress.say(
            f"  {len(data.skipped)} images cannot be read and are left out "
            f"(skipped.csv), first {path}: {reason}"
        )
    for note in notes:
        progress.say(f"  {note}")


def _say_result(
    report: Mapping[str, Any],
    directory: pathlib.Path,
    progress: progresses.Progress,
) -> None:
    progress.say(f"test {metrics.sentence(report['test'])}")
    for warning in report["test"]["warnings"]:
        progress.say(f"  {warning}")
    if report["interrupted"]:
        progress.say("interrupted: this is the best so far")
    progress.say(
        f"{report['seconds']:.0f} s in all; report: {directory}/report.html"
    )
