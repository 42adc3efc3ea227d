"""A run, told in one function: from a plan to a directory with its results."""

import dataclasses
import pathlib
import shlex
import tempfile
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from tlkeras import errors
from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras import run_directory
from tlkeras.data import dataset as datasets
from tlkeras.data import images as image_stores
from tlkeras.experiment import delivering
from tlkeras.experiment import learning
from tlkeras.experiment import preparing
from tlkeras.export import saved_model
from tlkeras.scoring import metrics
from tlkeras.training import checkpoint

# Test images that an export is checked on.
_EXPORT_SAMPLES = 8


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: where it stands, and what its report says.

    Of several processes only the main one has a report.
    """

    directory: pathlib.Path
    report: Mapping[str, Any]


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
            untrained = preparing.build(plan)
        progress.pace.built(time.perf_counter() - began)
        with preparing.reading(plan, progress=progress) as data:
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


def learn(
    plan: plans.Plan,
    untrained: preparing.Untrained,
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
        decision = learning.decide(plan, untrained, data, progress=progress)
    trained = learning.train(
        plan,
        untrained,
        data,
        decision=decision,
        callbacks=callbacks,
        progress=progress,
    )
    return delivering.deliver(
        plan,
        untrained,
        data,
        trained,
        decision=decision,
        earlier_seconds=earlier,
        progress=progress,
    )


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
    for line in metrics.slice_lines(report["test"]):
        progress.say(f"  {line}")
    if report["next_steps"]:
        progress.say("what to try next:")
    for step in report["next_steps"]:
        progress.say(f"  {step['reason']}: {step['command']}")
    spent = progresses.duration(report["seconds"])
    progress.say(f"{spent} in all; report: {directory}/report.html")
    place = shlex.quote(str(directory))
    progress.say(f"use it: tlkeras predict --model={place} PHOTOS")


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
        untrained = preparing.build(here)
        with preparing.reading(here, progress=progress) as data:
            learning.train(
                here, untrained, data, callbacks=callbacks, progress=progress
            )
    return Run(plan.directory, {})
