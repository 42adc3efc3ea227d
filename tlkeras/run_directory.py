"""What training came to, and the files that it leaves."""

import dataclasses
import shlex
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tlkeras import files
from tlkeras import plan as plans
from tlkeras import records
from tlkeras.data import dataset as datasets
from tlkeras.machine import devices
from tlkeras.models import saving
from tlkeras.models import task as tasks
from tlkeras.report import page
from tlkeras.report import summary
from tlkeras.scoring import predicting
from tlkeras.scoring import used_images
from tlkeras.settings import config as configs
from tlkeras.training import checkpoint

# How many mistakes are shown.
_MISTAKES = 24


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What training came to.

    answers: probabilities [n, k] of the images of each split. quality: their
    metrics. notes: what to know of the phases. scoring: images a second in the
    second split that was scored, with nothing traced in it.
    """

    classifier: saving.TrainedModel
    results: tuple[records.PhaseResult, ...]
    answers: Mapping[str, np.ndarray]
    quality: Mapping[str, dict[str, Any]]
    notes: tuple[str, ...]
    scoring: float


def summarise(
    plan: plans.Plan,
    data: datasets.Dataset,
    outcome: Outcome,
    *,
    seconds: float,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the content of report.json; `seconds` are those of all."""
    report = summary.build(
        task=outcome.classifier.task.name,
        strategy=plan.strategy.name,
        backbone=plan.row.name,
        weights=plan.weights,
        image_size=plan.image_size,
        dataset=data,
        results=outcome.results,
        quality=outcome.quality,
        seconds=seconds,
        notes=[*outcome.notes, *notes],
    )
    return report | {"scoring_images_per_second": outcome.scoring}


def _mistakes(
    probabilities: np.ndarray, data: datasets.Dataset, task: tasks.Task
) -> list[dict[str, Any]]:
    """Returns the test images that were answered worst, worst first."""
    positions = data.positions("test")
    targets = data.targets[positions]
    answers, scores = task.answers(probabilities)
    wrong = np.flatnonzero(~task.right(answers, targets))
    likelihood = probabilities[wrong, targets[wrong]]
    worst = wrong[np.argsort(likelihood, kind="stable")][:_MISTAKES]
    return [
        {
            "path": data.paths[positions[index]],
            "true_label": data.labels[targets[index]],
            "label": data.labels[answers[index]],
            "score": float(scores[index]),
            "png": tf.io.encode_png(
                data.images.rows(data.rows[positions[index : index + 1]])[0]
            ).numpy(),
        }
        for index in worst
    ]


def write_tables(
    plan: plans.Plan, data: datasets.Dataset, outcome: Outcome
) -> None:
    """Writes what a run leaves beside its models and its report."""
    directory, answers = plan.directory, outcome.answers
    history = _history(outcome)
    names = [field.name for field in dataclasses.fields(records.Epoch)]
    files.write_csv(
        directory / "history.csv",
        names,
        ([getattr(row, name) for name in names] for row in history),
    )
    files.write_text(
        directory / "labels.txt", "".join(f"{each}\n" for each in data.labels)
    )
    files.write_csv(directory / "skipped.csv", ("path", "reason"), data.skipped)
    used_images.write(directory, data)
    splits = ("test", "validation")
    positions = np.concatenate([data.positions(split) for split in splits])
    predicting.write(
        directory / "predictions.csv",
        {
            "path": [data.paths[index] for index in positions],
            "split": [data.splits[index] for index in positions],
            "true_label": [
                data.labels[data.targets[index]] for index in positions
            ],
        },
        np.concatenate([answers[split] for split in splits]),
        data.labels,
        task=outcome.classifier.task,
    )
    files.write_json(directory / "environment.json", devices.environment())


def finish(plan: plans.Plan, report: Mapping[str, Any]) -> None:
    """Writes report.json, which marks a run finished; nothing goes on then."""
    files.write_json(plan.directory / "report.json", report)
    checkpoint.remove(plan.directory)


def write_page(
    plan: plans.Plan,
    data: datasets.Dataset,
    outcome: Outcome,
    report: Mapping[str, Any],
) -> None:
    """Writes report.html, which shows what `report` says."""
    directory = plan.directory
    config_path = shlex.quote(str(directory / "config.toml"))
    page.write(
        directory / "report.html",
        report,
        history=_history(outcome),
        mistakes=_mistakes(
            outcome.answers["test"], data, outcome.classifier.task
        ),
        command=f"tlkeras train --config={config_path} --workdir=NEW",
        configuration=configs.to_toml(plan.config),
        environment=devices.environment(),
    )


def _history(outcome: Outcome) -> list[records.Epoch]:
    return [row for result in outcome.results for row in result.history]
