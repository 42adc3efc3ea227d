"""K-fold cross-validation: all images measure, and all of them teach.

Each fold is a training of its own, as the settings say: it is tested on one
part of the images, chosen by the next and taught by the rest. The answers of
all folds together measure the settings on every image. The model that is
delivered then learns from all images, by the choice that the first fold made.
"""

import dataclasses
import gc
import json
import pathlib
import time
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
from tlkeras.data import dataset as datasets
from tlkeras.experiment import delivering
from tlkeras.experiment import learning
from tlkeras.experiment import preparing
from tlkeras.experiment import running
from tlkeras.models import classifier as classifiers
from tlkeras.models import saving
from tlkeras.scoring import calibration as calibrations
from tlkeras.scoring import metrics
from tlkeras.settings import config as configs
from tlkeras.training import checkpoint

# What a fold leaves for the others: its answers, and what its phases came to.
_ANSWERS = "answers.npz"


@dataclasses.dataclass(frozen=True)
class _Fold:
    """What a fold came to.

    answers: by split, the probabilities [n, k]. quality: of its test images.
    """

    directory: pathlib.Path
    data: datasets.Dataset
    answers: Mapping[str, np.ndarray]
    results: tuple[records.PhaseResult, ...]
    report: Mapping[str, Any]


def run(
    plan: plans.Plan,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: progresses.Progress,
) -> running.Run:
    """Returns the run that `plan` describes, with `folds`, and leaves it.

    callbacks: for the `fit` of each phase of each fold.

    Folds that an earlier, killed call finished are not trained again. Raises
    `UserError` for several processes, and as `running.run` does.
    """
    if plan.group.processes > 1:
        raise errors.UserError(
            f"`folds` needs one process. Received: {plan.config.folds} folds "
            f"and {plan.group.processes} processes. Leave one of them out."
        )
    began = time.perf_counter()
    # What it shows is known sooner than the images are read.
    preparing.build(plan)
    with (
        run_directory.undo_on_error(plan.directory, progress, ended=_ended),
        preparing.reading(plan, progress=progress) as data,
    ):
        progress.say(f"run {plan.directory}")
        # Before training, lest they be gone after it.
        samples = running.samples(plan, data)
        first = (
            f"These are the splits of the first of {plan.config.folds} folds."
        )
        running.say_data(data, [first, *data.notes], progress)
        earlier = _earlier_seconds(plan.directory)
        run_directory.write_config(plan)
        folds = _train_folds(plan, data, callbacks, progress)
        outcome = _deliver(plan, data, folds, callbacks, progress)
        outcome = dataclasses.replace(outcome, earlier_seconds=earlier)
        report = running.finish(
            plan,
            datasets.pooled(data),
            outcome,
            samples,
            began=began,
            progress=progress,
        )
    running.say_result(report, plan.directory, progress)
    return running.Run(plan.directory, report)


def _ended(directory: pathlib.Path) -> bool:
    """Tells whether a phase of a fold came to its end."""
    return any(map(run_directory.ended, directory.glob("folds/*")))


def _earlier_seconds(directory: pathlib.Path) -> float:
    """Returns what earlier calls spent on folds, finished or not."""
    seconds = 0.0
    for fold in directory.glob("folds/*"):
        if (fold / "report.json").exists():
            seconds += files.read_json(fold / "report.json")["seconds"]
            # A kill may have come between the report and this.
            checkpoint.remove(fold)
        else:
            seconds += checkpoint.seconds(fold)
    return seconds


def _train_folds(
    plan: plans.Plan,
    data: datasets.Dataset,
    callbacks: Sequence[keras.callbacks.Callback],
    progress: progresses.Progress,
) -> list[_Fold]:
    """Returns all folds; those that are not finished yet are trained."""
    count = plan.config.folds
    folds: list[_Fold] = []
    spent: list[float] = []
    for number in range(count):
        directory = plan.directory / "folds" / f"fold{number + 1}"
        part = datasets.of_fold(data, number, count)
        if not (directory / "report.json").exists():
            left = ""
            if spent:
                # The final fit is about one more.
                seconds = (count - number + 1) * float(np.mean(spent))
                left = f"; about {progresses.duration(seconds)} left"
            progress.say(f"fold {number + 1} of {count}{left}")
            spent.append(
                _train_fold(
                    _fold_plan(plan, directory), part, callbacks, progress
                )
            )
        folds.append(_load(directory, part))
    return folds


def _fold_plan(plan: plans.Plan, directory: pathlib.Path) -> plans.Plan:
    config = dataclasses.replace(plan.config, final_fit="train")
    return dataclasses.replace(plan, config=config, directory=directory)


def _train_fold(
    plan: plans.Plan,
    data: datasets.Dataset,
    callbacks: Sequence[keras.callbacks.Callback],
    progress: progresses.Progress,
) -> float:
    """Returns the seconds that a fold took to train and to write."""
    began = time.perf_counter()
    with run_directory.undo_on_error(plan.directory, progress):
        outcome = running.learn(
            plan,
            preparing.build(plan),
            data,
            callbacks=callbacks,
            progress=progress,
        )
        content = {
            "images": datasets.digest(data),
            "phases": [dataclasses.asdict(each) for each in outcome.results],
        }
        with (
            files.replacing(plan.directory / _ANSWERS) as temporary,
            # By a stream, because NumPy adds a suffix to a name.
            temporary.open("wb") as stream,
        ):
            arrays: dict[str, Any] = {**outcome.probabilities}
            np.savez(stream, content=json.dumps(content), **arrays)
        seconds = time.perf_counter() - began
        report = run_directory.write(plan, data, outcome, seconds=seconds)
    progress.say(f"  test {metrics.sentence(report['test'])}")
    del outcome
    # Models refer to themselves in circles.
    gc.collect()
    return time.perf_counter() - began


def _load(directory: pathlib.Path, data: datasets.Dataset) -> _Fold:
    """Returns what a fold left; `UserError` where it was of other images."""
    path = directory / _ANSWERS
    try:
        with np.load(path) as saved:
            answers = {name: saved[name] for name in ("validation", "test")}
            content = json.loads(str(saved["content"]))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise errors.UserError(
            f"{path} cannot be read: {error}. Remove its directory: then the "
            "fold is trained again."
        ) from None
    if content["images"] != datasets.digest(data):
        raise errors.UserError(
            f"`workdir` {directory.parents[1]} holds a run that was killed, "
            "and whose images have changed since: it cannot go on. Choose "
            "another directory, or remove it."
        )
    return _Fold(
        directory,
        data,
        answers,
        tuple(map(checkpoint.result, content["phases"])),
        files.read_json(directory / "report.json"),
    )


def _deliver(
    plan: plans.Plan,
    data: datasets.Dataset,
    folds: Sequence[_Fold],
    callbacks: Sequence[keras.callbacks.Callback],
    progress: progresses.Progress,
) -> run_directory.Outcome:
    """Returns the outcome of all folds, with the model that learns from all.

    Where its final fit comes to nothing, the model is that of the first fold.
    """
    first = folds[0]
    classifier, final, notes = _fit_on_all(plan, first, callbacks, progress)
    calibration = first.report["calibration"]
    temperature = calibrations.Temperature(
        calibration["temperature"], calibration["images"], calibration["text"]
    )
    scores = np.concatenate(
        [delivering.true_scores(fold.data, fold.answers) for fold in folds]
    )
    batch_size = preparing.images_a_step(plan.config, first.data, 1)
    views = None
    if delivering.base_stayed(first.results):
        views = learning.feed(plan.config, first.data, batch_size).views
    classifier = delivering.remembering(
        plan, classifier, first.data, views, batch_size, progress
    )
    # It has learned from them, too, and of folds nothing else is left.
    similarities = delivering.predict(
        classifier, first.data, "validation", batch_size, progress
    ).similarity
    classifier = delivering.complete(
        plan,
        classifier,
        # That of the first fold has it already.
        1.0 if final.kept else temperature.value,
        scores,
        similarities,
    )
    pooled = datasets.pooled(data)
    probabilities = {}
    for split in ("validation", "test"):
        answers = np.concatenate([fold.answers[split] for fold in folds])
        at = np.concatenate([fold.data.positions(split) for fold in folds])
        # Each image is in one fold's test split, and in one's validation.
        probabilities[split] = answers[np.argsort(at)]
    quality = {
        # Of both splits: all images.
        split: delivering.quality(
            plan, classifier, probabilities[split], pooled, "test"
        )
        for split in probabilities
    }
    return run_directory.Outcome(
        classifier,
        first.results,
        {**probabilities, "validation": probabilities["validation"][:0]},
        quality,
        notes,
        first.report["scoring_images_per_second"],
        final=final,
        taught=first.data,
        trust=delivering.trust(
            plan, pooled, classifier, temperature, probabilities["test"], None
        ),
        folds=tuple(
            {
                "accuracy": fold.report["test"]["accuracy"],
                "balanced_accuracy": fold.report["test"]["balanced_accuracy"],
                "validation_accuracy": fold.report["validation"]["accuracy"][
                    "value"
                ],
                "seconds": fold.report["seconds"],
                "directory": str(fold.directory),
            }
            for fold in folds
        ),
    )


def _fit_on_all(
    plan: plans.Plan,
    fold: _Fold,
    callbacks: Sequence[keras.callbacks.Callback],
    progress: progresses.Progress,
) -> tuple[saving.TrainedModel, records.FinalFit, tuple[str, ...]]:
    """Returns the model that learns from all images, saved, and its final fit.

    It does what the phases of `fold` came to; where that comes to nothing, its
    model is taken. Notes on the phases come with it.
    """
    untrained = preparing.build(plan)
    start = classifiers.state(untrained.model)
    untrained.model.set_weights(saving.load(fold.directory).model.get_weights())
    final = learning.fit_again(
        plan,
        untrained,
        fold.data,
        fold.results,
        start,
        configs.LEARNED["all"],
        callbacks=callbacks,
        progress=progress,
    )
    return (
        delivering.undistributed(plan, untrained, fold.data),
        final,
        untrained.notes,
    )
