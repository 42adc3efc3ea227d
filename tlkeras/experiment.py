"""A run, told in one function: from a plan to a directory with its results."""

import contextlib
import dataclasses
import functools
import hashlib
import pathlib
import shlex
import tempfile
import time
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
from tlkeras.advisor import advice as advices
from tlkeras.advisor import decision as decisions
from tlkeras.backbones import base as bases
from tlkeras.backbones import locate
from tlkeras.data import batches
from tlkeras.data import dataset as datasets
from tlkeras.data import images as image_stores
from tlkeras.export import saved_model
from tlkeras.machine import compiled
from tlkeras.machine import devices
from tlkeras.models import adapters
from tlkeras.models import classifier as classifiers
from tlkeras.models import graph
from tlkeras.models import reference as references
from tlkeras.models import saving
from tlkeras.models import task as tasks
from tlkeras.scoring import calibration as calibrations
from tlkeras.scoring import label_sets
from tlkeras.scoring import metrics
from tlkeras.scoring import predicting
from tlkeras.scoring import two_classes
from tlkeras.scoring import unknown
from tlkeras.scoring import used_images
from tlkeras.settings import budget as budgets
from tlkeras.settings import config as configs
from tlkeras.settings import strategies
from tlkeras.settings import wish as wishes
from tlkeras.training import checkpoint
from tlkeras.training import final_fit
from tlkeras.training import phases as all_phases
from tlkeras.training import placement as placements
from tlkeras.training import row_store
from tlkeras.training import setup as setups
from tlkeras.training import unfinished

# Test images that an export is checked on.
_EXPORT_SAMPLES = 8


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: where it stands, and what its report says.

    Of several processes only the main one has a report.
    """

    directory: pathlib.Path
    report: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Untrained:
    """A classifier before its phases, and the devices it was built on.

    notes: what `unfreeze` comes to where it is not what was asked for.
    """

    model: keras.Model
    placement: placements.Placement
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training came to; the model then holds what is to be delivered.

    final: the final fit, None without one. chosen: where it made another model,
    the state of the one that was chosen before it.
    """

    results: all_phases.Results
    final: records.FinalFit | None = None
    chosen: Sequence[np.ndarray] = ()


def run(
    plan: plans.Plan,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: progresses.Progress,
) -> Run:
    """Returns the run that `plan` describes, and leaves its directory.

    callbacks: for the `fit` of each phase, beside our own.

    Raises `UserError` for what only the images or the built network show;
    if nothing was trained then, nothing is left. Ctrl-C leaves what was, with
    which a run in the same directory goes on, and the best model so far.
    """
    if not plan.group.is_main:
        return _follow(plan, callbacks, progress)
    began = time.perf_counter()
    directory = plan.directory
    with run_directory.undo_on_error(directory, progress):
        with progress.busy("building the network"):
            untrained = build(plan)
        progress.pace.built(time.perf_counter() - began)
        with reading(plan, progress=progress) as data:
            progress.say(f"run {directory}")
            # Before training, lest they be gone after it.
            examples = samples(plan, data)
            say_data(data, [*data.notes, *untrained.notes], progress)
            outcome = learn(
                plan, untrained, data, callbacks=callbacks, progress=progress
            )
            report = finish(
                plan, data, outcome, examples, began=began, progress=progress
            )
    say_result(report, directory, progress)
    return Run(directory, report)


def finish(
    plan: plans.Plan,
    data: datasets.Dataset,
    outcome: run_directory.Outcome,
    samples: Sequence[bytes],
    *,
    began: float,
    progress: progresses.Progress,
) -> dict[str, Any]:
    """Exports the model and writes what a run leaves; returns its report.

    samples: encoded images that the export is checked on. began: when the call
    did.
    """
    progress.say("exporting and checking the export")
    with progress.busy("exporting and checking the export"):
        exported = saved_model.write(
            outcome.classifier,
            plan.directory / "saved_model" / "1",
            samples=samples,
        )
    with progress.busy("writing the report"):
        return run_directory.write(
            plan,
            data,
            outcome,
            seconds=time.perf_counter() - began,
            export=exported,
        )


def fit_on_all(
    plan: plans.Plan,
    data: datasets.Dataset,
    results: all_phases.Results,
    *,
    instead: pathlib.Path,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: progresses.Progress,
) -> tuple[saving.TrainedModel, records.FinalFit, tuple[str, ...]]:
    """Returns the model that learns from all images, saved, and its final fit.

    results: what the phases of the choice came to, on the splits of `data`.
    instead: a run whose model is taken where the final fit comes to nothing.
    Notes on the phases come with it.
    """
    untrained = build(plan)
    start = classifiers.state(untrained.model)
    untrained.model.set_weights(saving.load(instead).model.get_weights())
    final = _fit_again(
        plan,
        untrained,
        data,
        results,
        start,
        configs.LEARNED["all"],
        callbacks=callbacks,
        progress=progress,
    )
    return _saved(plan, untrained, data), final, untrained.notes


def build(plan: plans.Plan) -> Untrained:
    """Returns the classifier of `plan`, untrained, and seeds what is random.

    Raises `UserError` where its weights do not fit, or a phase names a part
    that the base lacks, which otherwise only the phase itself would see.
    """
    config, group = plan.config, plan.group
    group.agree(_settings_digests(plan))
    devices.leave_to_keras()
    compiled.keep(plan.cache_dir)
    keras.utils.set_random_seed(config.seed)
    placement = placements.start(config.distribute, group)
    if group.processes > 1 and config.weights == "imagenet":
        # One after the other, since several on a host download to one file.
        group.main_first(
            lambda: classifiers.build_base(
                config.backbone, image_size=plan.image_size
            )
        )
    with placement.scope():
        model = classifiers.build_classifier(
            len(plan.source.labels),
            backbone=config.backbone,
            weights=config.weights,
            image_size=plan.image_size,
            head=config.head,
            head_units=config.head_units,
            head_initializer=config.head_initializer,
            dropout=config.dropout,
            l2=config.l2,
            precision=devices.precision(config.precision),
        )
    return Untrained(model, placement, unfreeze_notes(plan, model))


def read(
    plan: plans.Plan, *, progress: progresses.Progress
) -> datasets.Dataset:
    """Returns the images of `plan`, scanned, split, and ready to be read.

    Raises `UserError` where they cannot be.
    """
    config, group = plan.config, plan.group
    data = group.run_on_all(
        lambda: datasets.prepare(
            plan.source,
            shape=_shape(plan),
            split_seed=config.split_seed,
            images_per_class=config.images_per_class,
            folds=config.folds,
            on_bad_image=config.on_bad_image,
            store_bytes=config.image_store_gb * 1e9,
            directory=plan.directory,
            cache_dir=plan.cache_dir,
            progress=progress,
        )
    )
    group.agree({"images": datasets.digest(data)})
    return data


@contextlib.contextmanager
def reading(
    plan: plans.Plan, *, progress: progresses.Progress
) -> Iterator[datasets.Dataset]:
    """Yields the images of `plan`, as `read` returns them; closes them.

    Where one can no longer be read, the `UserError` says what to do.
    """
    with contextlib.closing(read(plan, progress=progress)) as data:
        try:
            with batches.user_errors():
                yield data
        except errors.UserError:
            data.check("train", "validation", "test")
            raise


def learn(
    plan: plans.Plan,
    untrained: Untrained,
    data: datasets.Dataset,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: progresses.Progress,
) -> run_directory.Outcome:
    """Trains a classifier as `plan` says, scores and saves it.

    config.toml comes first and a checkpoint after each phase, so that a killed
    run goes on until `run_directory.write`.

    callbacks: as for `run`.
    """
    earlier = checkpoint.seconds(plan.directory)
    decision = None
    if plan.strategy.decides:
        decision = decide(plan, untrained, data, progress=progress)
    trained = train(
        plan,
        untrained,
        data,
        decision=decision,
        callbacks=callbacks,
        progress=progress,
    )
    placement = untrained.placement
    progress.detail("scoring and saving")
    batch_size = images_a_step(plan.config, data, placement.devices)
    probabilities: dict[str, np.ndarray] = {}
    similarities: dict[str, np.ndarray | None] = {}

    # Of several processes the others are gone by now, so that nothing can be
    # put into the model itself, but into the one that was saved.
    classifier = _saved(plan, untrained, data)
    classifier = remembering(plan, classifier, data, batch_size, progress)

    def score(splits: Sequence[str]) -> float:
        """Scores the classifier as it is; returns images a second."""
        speed = 0.0
        for split in splits:
            began = time.perf_counter()
            answers = predict(classifier, data, split, batch_size, progress)
            probabilities[split] = answers.probabilities
            similarities[split] = answers.similarity
            # The last split is one that traces nothing.
            speed = len(probabilities[split]) / (time.perf_counter() - began)
        return speed

    before = _measured_before(trained)
    speed = 0.0
    if before:
        delivered = classifiers.state(classifier.model)
        classifiers.restore(classifier.model, trained.chosen)
        speed = score(before)
        classifiers.restore(classifier.model, delivered)
    rest = [split for split in ("validation", "test") if split not in before]
    last = score(rest)
    if "validation" in before:
        # Those are of the model that was chosen; its features are others.
        similarities["validation"] = predict(
            classifier, data, "validation", batch_size, progress
        ).similarity
    if "test" in before:
        similarities["test"] = None
    temperature = _temperature(plan, data, trained, probabilities["validation"])
    for split, given in probabilities.items():
        probabilities[split] = calibrations.tempered(given, temperature.value)
    classifier, chosen = _with_threshold(plan, classifier, data, probabilities)
    scores = true_scores(data, probabilities)
    classifier = complete(
        plan,
        classifier,
        temperature.value,
        scores,
        similarities["validation"],
    )
    notes = untrained.notes
    if classifier.tta != "none":
        notes += (
            "Answers are averaged over each image and its mirror image "
            "(--tta=flip); the figures of epochs are of the image alone.",
        )
    if placement.kind != "none":
        notes += (placement.text(batch_size),)
    return run_directory.Outcome(
        classifier,
        trained.results,
        probabilities,
        {
            split: _quality(plan, classifier, probabilities[split], data, split)
            for split in ("validation", "test")
        },
        notes,
        last or speed,
        earlier,
        trained.final,
        decision=decision,
        trust={
            **trust(
                plan,
                data,
                classifier,
                temperature,
                probabilities["test"],
                similarities["test"],
            ),
            "threshold": chosen,
        },
        similarities=similarities,
    )


def remembering(
    plan: plans.Plan,
    classifier: saving.TrainedModel,
    data: datasets.Dataset,
    batch_size: int,
    progress: progresses.Progress,
) -> saving.TrainedModel:
    """Returns a classifier that tells how like its training images one is."""
    features = np.zeros([0, 0], np.float16)
    if plan.config.unknown_rate:
        positions = data.positions("train")
        chosen = positions[unknown.sample(data.targets[positions])]
        features = unknown.features(
            classifier,
            batches.evaluation(
                data.images,
                data.rows[chosen],
                batch_size=batch_size,
                full=devices.compiles_each_shape(),
            ),
            images=len(chosen),
            progress=progress,
        )
    return dataclasses.replace(
        classifier,
        reference=references.Reference(np.zeros(0, np.float32), features),
    )


def complete(
    plan: plans.Plan,
    classifier: saving.TrainedModel,
    temperature: float,
    scores: np.ndarray,
    similarities: np.ndarray | None,
) -> saving.TrainedModel:
    """Puts a temperature and a reference into a classifier, and saves it.

    scores: of the true class [m], on validation images. similarities: [m] of
    these, by a classifier that is `remembering`; None by one that is not.
    """
    if temperature != 1:
        classifiers.divide_logits(classifier.model, temperature)
    least = None
    if similarities is not None:
        least = unknown.threshold(similarities, plan.config.unknown_rate)
    known = classifier.reference
    features = known.features if known and least is not None else None
    classifier = dataclasses.replace(
        classifier,
        reference=references.Reference(
            np.sort(scores).astype(np.float32),
            np.zeros([0, 0], np.float16) if features is None else features,
            -1.0 if least is None else least,
        ),
    )
    saving.save(plan.directory / "model.keras", classifier)
    return classifier


def true_scores(
    data: datasets.Dataset, probabilities: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Returns the probabilities of the true class of validation images."""
    targets = data.targets[data.positions("validation")]
    return probabilities["validation"][np.arange(len(targets)), targets]


def trust(
    plan: plans.Plan,
    data: datasets.Dataset,
    classifier: saving.TrainedModel,
    temperature: calibrations.Temperature,
    probabilities: np.ndarray,
    similarities: np.ndarray | None,
) -> dict[str, Any]:
    """Returns how far answers can be trusted, as report.json says it.

    probabilities: [n, k] of the test images. similarities: theirs [n]; None
    where the model learned from them, or knows of none.
    """
    known = classifier.reference
    if known is None:
        return {}
    positions = data.positions("test")
    targets = data.targets[positions]
    groups = [data.groups[position] for position in positions]
    return {
        "calibration": calibrations.report(
            temperature, probabilities, targets, groups
        ),
        "label_sets": label_sets.measure(
            probabilities, targets, groups, known.scores, plan.config.coverage
        ),
        "unknown": unknown.report(
            known, plan.config.unknown_rate, similarities, groups
        ),
    }


def _with_threshold(
    plan: plans.Plan,
    classifier: saving.TrainedModel,
    data: datasets.Dataset,
    probabilities: Mapping[str, np.ndarray],
) -> tuple[saving.TrainedModel, dict[str, Any] | None]:
    """Returns a classifier that answers by the threshold that is wished.

    What the threshold comes to is as report.json has it, None where none is
    wished; one that no threshold fulfils leaves the classifier as it was.
    """
    wish = wishes.parse(plan.config.threshold)
    if wish is None:
        return classifier, None
    parts = []
    for split in ("validation", "test"):
        positions = data.positions(split)
        groups = [data.groups[position] for position in positions]
        parts.append((probabilities[split], data.targets[positions], groups))
    one = plans.positive(data.labels, plan.config.positive)
    found = two_classes.choose(wish, *parts[0][:2], one)
    if found is not None:
        classifier = dataclasses.replace(
            classifier, threshold=found, task=found.task
        )
    return classifier, two_classes.report(
        wish, found, data.labels[one], parts[0], parts[1]
    )


def _temperature(
    plan: plans.Plan,
    data: datasets.Dataset,
    trained: Trained,
    probabilities: np.ndarray,
) -> calibrations.Temperature:
    """Returns the temperature for a model with these validation answers."""
    positions = data.positions("validation")
    return calibrations.fit(
        probabilities,
        data.targets[positions],
        [data.groups[position] for position in positions],
        trained.results,
        wished=plan.config.calibrate == "auto",
    )


def decide(
    plan: plans.Plan,
    untrained: Untrained,
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
    batch = images_a_step(plan.config, data, untrained.placement.devices)
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
    untrained: Untrained,
    data: datasets.Dataset,
    *,
    decision: decisions.Decision | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: progresses.Progress,
) -> Trained:
    """Returns what training came to; every process of the plan's does this.

    decision: for a strategy that needs one. callbacks: as for `learn`.
    """
    config, directory, group = plan.config, plan.directory, plan.group
    model, placement = untrained.model, untrained.placement
    batch_size = images_a_step(config, data, placement.devices)
    progress.detail(placement.text(batch_size))
    # Of the training images the features are looked at, too.
    progress.pace.scored = len(data.splits) / len(data.positions("train"))
    digests = {**_settings_digests(plan), "images": datasets.digest(data)}
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
    keeper = None
    if group.processes == 1:
        keeper = unfinished.Keeper(directory, digests)
    with _leaving_the_best(plan, untrained, data, progress):
        results = all_phases.run(
            model,
            plan.strategy,
            _feed(config, data, batch_size, placement),
            setups.Setup(
                progress,
                placement,
                _storage(plan),
                lambda phase: (*_tensorboard(plan, phase.name), *callbacks),
                keeper,
            ),
            decision=decision,
            head=head,
            done=done,
            after_phase=after_phase,
        )
        if final is None and len(splits) > 1:
            before = classifiers.state(model)
            final = _fit_again(
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
    return Trained(results, final, chosen)


@contextlib.contextmanager
def _leaving_the_best(
    plan: plans.Plan,
    untrained: Untrained,
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
                _shape(plan),
                tta=plan.config.tta,
            )
            saving.save(path, best)
            progress.say(f"interrupted; the best so far is {path}")
        raise


def _fit_again(
    plan: plans.Plan,
    untrained: Untrained,
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
    batch_size = images_a_step(plan.config, data, placement.devices)
    progress.pace.planned = [each.phase for each in final_fit.recipe(results)]
    progress.pace.again = []
    return final_fit.run(
        untrained.model,
        results,
        _feed(plan.config, data, batch_size, placement, splits),
        setups.Setup(
            progress,
            placement,
            _storage(plan),
            lambda phase: (
                *_tensorboard(plan, f"final-{phase.name}"),
                *callbacks,
            ),
        ),
        choice=_feed(plan.config, data, batch_size, placement),
        start=start,
        splits=splits,
    )


def images_a_step(
    config: configs.Config, data: datasets.Dataset, devices: int
) -> int:
    """Returns the images a step, of all devices together.

    Raises `UserError` if there are not as many, because an epoch would be one
    step, and not the one that was asked for; or if they cannot be shared.
    """
    images = len(data.positions("train"))
    if config.batch_size == "auto":
        most = min(configs.AUTO_BATCH, images)
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
            f"  {errors.count(len(data.skipped), 'image')} left out because "
            f"unreadable (skipped.csv), first {path}: {reason}"
        )
    for note in notes:
        progress.say(f"  {note}")


def _follow(
    plan: plans.Plan,
    callbacks: Sequence[keras.callbacks.Callback],
    progress: progresses.Progress,
) -> Run:
    """Trains with the main process, which alone writes.

    What is stored here on the way goes at the end.
    """
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name)
        here = dataclasses.replace(plan, directory=place, cache_dir=place)
        untrained = build(here)
        with reading(here, progress=progress) as data:
            train(here, untrained, data, callbacks=callbacks, progress=progress)
    return Run(plan.directory, {})


def _settings_digests(plan: plans.Plan) -> dict[str, str]:
    """Returns what decides a run beside its images, by what it is called.

    Processes that differ in it would fail in JAX, when the model is built, and
    a killed run that goes on with it would be another one.
    """
    # Paths may differ between hosts.
    config = dataclasses.replace(
        configs.decisive(plan.config), data="", data_dir="", weights=""
    )
    file = locate.weights(plan.config.weights)
    weights = _digest(b"")
    if file is not None:
        with file.open("rb") as stream:
            weights = hashlib.file_digest(stream, _blake).hexdigest()
    return {
        "settings": _digest(configs.to_toml(config).encode()),
        "weights": weights,
        "versions": _digest(repr(devices.versions()).encode()),
    }


_blake = functools.partial(hashlib.blake2b, digest_size=16)


def _digest(data: bytes) -> str:
    return _blake(data).hexdigest()


def _storage(plan: plans.Plan) -> row_store.Storage:
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


def _shape(plan: plans.Plan) -> image_stores.Shape:
    config = plan.config
    return image_stores.Shape(plan.image_size, config.resize, config.max_pixels)


def unfreeze_notes(plan: plans.Plan, model: keras.Model) -> tuple[str, ...]:
    """Returns what `unfreeze` comes to where it is not what was asked for.

    Raises `UserError` where the base lacks the part, or what adapts it.
    """
    notes = []
    network = bases.of(model).network
    for phase in plan.strategy.planned:
        if phase.unfreeze == "none":
            continue
        cut, exact = graph.find_cut(network, phase.unfreeze)
        if phase.adapt == "lora":
            adapters.layers(network, cut)
        if exact != phase.unfreeze:
            notes.append(
                f"Phase {phase.name}: {phase.unfreeze} lies inside a block, so "
                f"the base learns from the block's start: {exact}."
            )
    return tuple(notes)


def _feed(
    config: configs.Config,
    data: datasets.Dataset,
    batch_size: int,
    placement: placements.Placement,
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
        sharding=placement.sharding,
    )


def _part(data: datasets.Dataset, splits: Sequence[str]) -> batches.Subset:
    positions = np.flatnonzero(np.isin(data.splits, splits))
    return batches.Subset(
        data.rows[positions],
        data.targets[positions].astype(tasks.SINGLE_LABEL.target_type),
        data.hashes[positions],
        np.array(data.groups)[positions],
    )


def _tensorboard(
    plan: plans.Plan, name: str
) -> tuple[keras.callbacks.Callback, ...]:
    """Returns the callback of a phase that writes for TensorBoard, if any."""
    if not plan.config.tensorboard or not plan.group.is_main:
        return ()
    place = plan.directory / "tensorboard" / name
    return (keras.callbacks.TensorBoard(place, write_graph=False),)


def _saved(
    plan: plans.Plan, untrained: Untrained, data: datasets.Dataset
) -> saving.TrainedModel:
    """Writes model.keras, and returns the classifier as it is used."""
    classifier = saving.TrainedModel(
        untrained.model, data.labels, _shape(plan), tta=plan.config.tta
    )
    path = plan.directory / "model.keras"
    saving.save(path, classifier)
    if untrained.placement.kind == "none":
        return classifier
    # Weights on several devices are in the way of all that follows: `predict`
    # and export by one process, or in one graph.
    return saving.load(path)


def _measured_before(trained: Trained) -> tuple[str, ...]:
    """Returns the splits whose figures are of the model before the final fit.

    They would else be those of images that the model has learned from.
    """
    learned = used_images.learned_splits(trained.final)
    return tuple(split for split in ("validation", "test") if split in learned)


def predict(
    classifier: saving.TrainedModel,
    data: datasets.Dataset,
    split: str,
    batch_size: int,
    progress: progresses.Progress,
) -> predicting.Answers:
    """Returns the answers to the images of `split`."""
    rows = data.rows[data.positions(split)]
    return predicting.predict_batches(
        classifier,
        batches.evaluation(
            data.images,
            rows,
            batch_size=batch_size,
            full=devices.compiles_each_shape(),
        ),
        images=len(rows),
        what=f"predicting {split}",
        progress=progress,
    )


def _quality(
    plan: plans.Plan,
    classifier: saving.TrainedModel,
    probabilities: np.ndarray,
    data: datasets.Dataset,
    split: str,
) -> dict[str, Any]:
    """Returns the metrics of a split."""
    positions = data.positions(split)
    return metrics.compute(
        probabilities,
        data.targets[positions],
        data.labels,
        groups=[data.groups[position] for position in positions],
        task=classifier.task,
        positive=plans.positive(data.labels, plan.config.positive),
    )


def samples(plan: plans.Plan, data: datasets.Dataset) -> list[bytes]:
    """Returns encoded test images to check an export on.

    All of them are decoded at once, so that of large ones there is only one.
    """
    positions = data.positions("test")
    pixels = data.sizes[positions].prod(axis=1)
    small = positions[pixels <= image_stores.LARGE][:_EXPORT_SAMPLES]
    chosen = small if len(small) else positions[:1]
    try:
        return [plan.source.read(int(data.rows[each])) for each in chosen]
    except OSError as error:
        raise errors.UserError(
            f"{error.filename} cannot be read any more: {error.strerror}. Put "
            "it back, or run again without it."
        ) from None


def say_result(
    report: Mapping[str, Any],
    directory: pathlib.Path,
    progress: progresses.Progress,
) -> None:
    """Says how good the model of a run is, and where its report is."""
    progress.say(f"test {metrics.sentence(report['test'])}")
    for what in ("folds", "final_fit"):
        if report[what]:
            progress.say(f"  {report[what]['text']}")
    if report.get("threshold"):
        progress.say(f"  {report['threshold']['text']}")
    for warning in report["test"]["warnings"]:
        progress.say(f"  {warning}")
    if report["next_steps"]:
        progress.say("what to try next:")
    for step in report["next_steps"]:
        progress.say(f"  {step['reason']}: {step['command']}")
    spent = progresses.duration(report["seconds"])
    progress.say(f"{spent} in all; report: {directory}/report.html")
    place = shlex.quote(str(directory))
    progress.say(f"use it: tlkeras predict --model={place} PHOTOS")
