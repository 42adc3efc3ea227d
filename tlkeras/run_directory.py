"""What a run leaves in its directory, and how it is written."""

import contextlib
import dataclasses
import pathlib
import shlex
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkeras import files
from tlkeras import places
from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras import records
from tlkeras.advisor import decision as decisions
from tlkeras.data import dataset as datasets
from tlkeras.export import saved_model
from tlkeras.machine import devices
from tlkeras.models import saving
from tlkeras.report import card
from tlkeras.report import drawing
from tlkeras.report import next_steps
from tlkeras.report import page
from tlkeras.report import pictures
from tlkeras.report import summary
from tlkeras.scoring import predicting
from tlkeras.scoring import used_images
from tlkeras.settings import config as configs
from tlkeras.training import checkpoint

_REPORT = "report.json"
# What the advisor decided, for strategies that ask, until the run is finished.
DECISION = "decision.json"
# What a run or a comparison writes before a phase of it has ended, and what
# the copy of a member is; a folder goes where it is then empty. A person may
# put other files beside them at any time, so nothing else is removed.
_WRITTEN = (
    "budget.json",
    places.COMPARISON,
    "config.toml",
    DECISION,
    "environment.json",
    "history.csv",
    "images.csv",
    "labels.txt",
    "thumbnails.npy",
    "model.keras",
    "predictions.csv",
    "skipped.csv",
    "tensorboard/*/*/events.out.tfevents.*",
    "tensorboard/*/*/",
    "tensorboard/*/",
    "tensorboard/",
)
# The second is what Hugging Face's hub shows of a directory.
_CARDS = ("model_card.md", "README.md")
# A label to which the model gives less than this is worth a look.
_DOUBTFUL = 0.01


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What training came to.

    probabilities: [n, k] of the images of each split. quality: their metrics.
    notes: what to know of the phases. scoring_speed: images a second, with
    nothing traced in that time. earlier_seconds: of the phases that earlier,
    killed calls finished. final: the final fit, None without one. folds: of
    cross-validation, what is said of each. taught: the images with the splits
    by which the model learned, where those that are scored are others.
    decision: of the advisor, where it was asked. trust: how far answers can be
    trusted, by what report.json calls it. similarities: [n] of the images of
    each split to training images; None where that is not known.
    """

    classifier: saving.TrainedModel
    results: tuple[records.PhaseResult, ...]
    probabilities: Mapping[str, np.ndarray]
    quality: Mapping[str, dict[str, Any]]
    notes: tuple[str, ...]
    scoring_speed: float
    earlier_seconds: float = 0.0
    final: records.FinalFit | None = None
    folds: tuple[Mapping[str, Any], ...] = ()
    taught: datasets.Dataset | None = None
    decision: decisions.Decision | None = None
    trust: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    similarities: Mapping[str, np.ndarray | None] = dataclasses.field(
        default_factory=dict
    )


def ended(directory: pathlib.Path) -> bool:
    """Tells whether a phase of the run in `directory` came to its end."""
    return (directory / _REPORT).exists() or checkpoint.exists(directory)


@contextlib.contextmanager
def undo_on_error(
    directory: pathlib.Path,
    progress: progresses.Progress,
    *,
    ended: Callable[[pathlib.Path], bool] = ended,
) -> Iterator[None]:
    """Makes `directory`; if the block raises, removes what it wrote there.

    ended: whether the directory holds something that is worth keeping.

    Raises `UserError` where another process works in it.
    """
    with files.directory(directory), files.alone(directory):
        files.remove_unfinished(directory)
        before = _written(directory)
        try:
            yield
        except BaseException:
            if (directory / _REPORT).exists():
                # It is finished, and the checkpoint was to be removed.
                checkpoint.remove(directory)
            elif not ended(directory):
                files.remove_unfinished(directory)
                for path in _written(directory):
                    if path not in before:
                        with contextlib.suppress(OSError):
                            path.rmdir() if path.is_dir() else path.unlink()
            raise
        finally:
            # A terminal shows no cursor beside a bar.
            progress.end()


def _written(directory: pathlib.Path) -> list[pathlib.Path]:
    """Returns what of `_WRITTEN` is there, what a folder holds before it."""
    return [path for name in _WRITTEN for path in directory.glob(name)]


def write_config(plan: plans.Plan) -> None:
    """Writes config.toml, which makes the run again."""
    files.write_text(
        plan.directory / "config.toml", configs.to_toml(plan.config)
    )


def write(
    plan: plans.Plan,
    data: datasets.Dataset,
    outcome: Outcome,
    *,
    seconds: float,
    export: saved_model.Verified | None = None,
) -> dict[str, Any]:
    """Writes what a run leaves beside its model; returns report.json's content.

    export: how the SavedModel was checked; None is a member of a comparison,
    which has none, and no page either. seconds: of the whole call.

    report.json comes last: it marks a run as finished.
    """
    notes = list(outcome.notes)
    if export is not None:
        notes.append(
            "The SavedModel predicts as the model does on "
            f"{export.images} test images, given as files and as pixels "
            f"(largest difference {export.largest_difference:.1g})."
        )
    report = summary.build(
        task=outcome.classifier.task.name,
        strategy=plan.strategy.name,
        backbone=plan.config.backbone,
        weights=plan.config.weights,
        image_size=plan.image_size,
        dataset=data,
        results=outcome.results,
        quality=outcome.quality,
        seconds=outcome.earlier_seconds + seconds,
        notes=notes,
        final=outcome.final,
        folds=outcome.folds,
        decision=outcome.decision,
        given_splits=any(example.split for example in plan.source.examples),
        doubtful_labels=_doubtful_labels(data, outcome),
    )
    report |= outcome.trust
    report["scoring_images_per_second"] = outcome.scoring_speed
    _write_tables(plan.directory, data, outcome)
    if export is not None:
        report["next_steps"] = next_steps.find(
            report, plan.config, str(plan.directory / "config.toml")
        )
        _write_page(plan, data, outcome, report)
        text = card.render(
            report,
            sizes=data.sizes,
            resize=plan.config.resize,
            environment=devices.environment(),
        )
        for name in _CARDS:
            files.write_text(plan.directory / name, text)
    files.write_json(plan.directory / _REPORT, report)
    checkpoint.remove(plan.directory)
    # The report holds it.
    (plan.directory / DECISION).unlink(missing_ok=True)
    return report


def _write_tables(
    directory: pathlib.Path, data: datasets.Dataset, outcome: Outcome
) -> None:
    """Writes what a run leaves beside its models and its report."""
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
    used_images.write(
        directory,
        outcome.taught or data,
        used_images.learned_splits(outcome.final),
    )
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
        np.concatenate([outcome.probabilities[split] for split in splits]),
        data.labels,
        after=_known(outcome, splits),
        task=outcome.classifier.task,
    )
    files.write_json(directory / "environment.json", devices.environment())


def _known(outcome: Outcome, splits: Sequence[str]) -> dict[str, list[str]]:
    """Returns columns on how like training images those of `splits` are."""
    reference = outcome.classifier.reference
    found = [outcome.similarities.get(split) for split in splits]
    there = [each for each in found if each is not None]
    if reference is None or len(there) < len(found):
        return {}
    similarity = np.concatenate(there)
    if not len(reference.features):
        return {}
    return predicting.columns(similarity, similarity >= reference.similarity)


def _write_page(
    plan: plans.Plan,
    data: datasets.Dataset,
    outcome: Outcome,
    report: Mapping[str, Any],
) -> None:
    """Writes report.html, which shows what `report` says, and its pictures."""
    mistakes, right = pictures.choose(
        outcome.classifier, outcome.probabilities["test"], data
    )
    config_path = shlex.quote(str(plan.directory / "config.toml"))
    drawn = page.draw(report, _history(outcome))
    html = page.render(
        report,
        drawn=drawn,
        mistakes=mistakes,
        right=right,
        command=f"tlkeras train --config={config_path} --workdir=NEW",
        configuration=configs.to_toml(plan.config),
        environment=devices.environment(),
    )
    files.write_text(plan.directory / "report.html", html)
    drawing.write(drawn, plan.directory)


def _doubtful_labels(data: datasets.Dataset, outcome: Outcome) -> int:
    """Returns how many labels the model finds next to impossible.

    Of the images that it did not learn from.
    """
    count = 0
    for split, probabilities in outcome.probabilities.items():
        targets = data.targets[data.positions(split)]
        chances = probabilities[np.arange(len(targets)), targets]
        count += int((chances < _DOUBTFUL).sum())
    return count


def _history(outcome: Outcome) -> list[records.Epoch]:
    return [row for result in outcome.results for row in result.history]
