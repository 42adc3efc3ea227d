"""What is done with a trained model: score it on data, hand it over."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkeras import errors
from tlkeras import files
from tlkeras import progress as progresses
from tlkeras.data import scan as scans
from tlkeras.data import sources
from tlkeras.models import saving
from tlkeras.scoring import metrics
from tlkeras.scoring import predicting
from tlkeras.scoring import scored_images
from tlkeras.scoring import used_images
from tlkeras.settings import config as configs


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model says of image files.

    probabilities: [n, k], of the images in `paths`. failed: (path, reason) of
    files that are no image.
    """

    labels: tuple[str, ...]
    paths: tuple[str, ...]
    probabilities: np.ndarray
    failed: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How good a model is on labelled images.

    quality: the metrics. skipped: (path, reason) of images left out. notes:
    what was done about classes and splits, in sentences.
    """

    quality: Mapping[str, Any]
    labels: tuple[str, ...]
    paths: tuple[str, ...]
    true_labels: tuple[str, ...]
    probabilities: np.ndarray
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def evaluate(
    model: str | os.PathLike,
    source: sources.Source,
    *,
    split: str = "auto",
    keep: str | os.PathLike,
    progress: progresses.Progress,
) -> Evaluation:
    """Returns how good the model of a run is on labelled images.

    split: `all`, `train`, `validation`, `test`, or `auto`: the test split of
    the data that the run was trained on, and of any other all that the model
    neither learned from nor was chosen by. keep: the directory in which a
    scan's results are kept between runs.

    Classes are matched by name. Raises `UserError` where none fits.
    """
    classifier = saving.load(model)
    known = set(classifier.labels)
    if known.isdisjoint(source.labels):
        lower = {label.lower() for label in source.labels}
        case = " They differ in upper and lower case."
        raise errors.UserError(
            f"the model knows the classes {_few(classifier.labels)}; "
            f"{source.name} has {_few(source.labels)}. None is the same."
            f"{case if lower & {each.lower() for each in known} else ''}"
        )
    trained = _config(model)
    own = trained is not None and _real(trained.data) == _real(source.name)
    given = scored_images.Given(
        source,
        own,
        trained,
        used_images.read(model),
        functools.cache(
            lambda: scans.scan(
                source,
                sources.stamps(source),
                max_pixels=classifier.shape.max_pixels,
                keep=keep,
                progress=progress,
            )
        ),
    )
    indices, notes = scored_images.choose(given, split)
    examples = source.examples
    notes += _class_notes(source, indices, classifier.labels)
    answers = predicting.predict_encoded(
        classifier,
        [index for index in indices if examples[index].label in known],
        source.read,
        progress=progress,
    )
    labels = tuple(examples[index].label for index in answers.indices)
    probabilities = classifier.task.probabilities(answers.logits)
    commonest = None
    if own and given.seen is not None:
        # The same baseline as in the report of the run.
        commonest = int(
            np.argmax([given.seen.training[each] for each in classifier.labels])
        )
    return Evaluation(
        metrics.compute(
            probabilities,
            np.array([classifier.labels.index(label) for label in labels]),
            classifier.labels,
            majority_label_of_training=commonest,
        ),
        classifier.labels,
        tuple(examples[index].path for index in answers.indices),
        labels,
        probabilities,
        tuple(
            (examples[index].path, reason) for index, reason in answers.failed
        ),
        tuple(notes),
    )


def predict(
    model: str | os.PathLike,
    paths: Sequence[str],
    *,
    progress: progresses.Progress,
) -> Prediction:
    """Returns what the model of a run says of image files."""
    classifier = saving.load(model)
    answers = predicting.predict_files(classifier, paths, progress=progress)
    return Prediction(
        classifier.labels,
        tuple(paths[index] for index in answers.indices),
        classifier.task.probabilities(answers.logits),
        tuple((paths[index], reason) for index, reason in answers.failed),
    )


def write_predictions(
    found: Prediction | Evaluation, path: str | os.PathLike
) -> None:
    """Writes all probabilities as CSV, as the run's predictions.csv."""
    header, rows = metrics.predictions_rows(
        found.paths,
        found.probabilities,
        found.labels,
        true_labels=(
            found.true_labels if isinstance(found, Evaluation) else None
        ),
    )
    files.write_csv(path, header, rows)


def write_metrics(evaluation: Evaluation, path: str | os.PathLike) -> None:
    """Writes the metrics as JSON."""
    values = {
        "quality": evaluation.quality,
        "skipped": len(evaluation.skipped),
        "notes": evaluation.notes,
    }
    files.write_json(path, values)


def _config(model: str | os.PathLike) -> configs.Config | None:
    """Returns the settings of the run that `model` is from, if there are."""
    path = files.expand(model)
    path = path if path.is_dir() else path.parent
    try:
        return configs.build(configs.read(path / "config.toml"))
    except errors.UserError:
        return None


def _real(data: str) -> str:
    """Returns the name of a source by its real path: links do not count."""
    kind, _, place = data.partition(":")
    return f"{kind}:{os.path.realpath(place)}"


def _class_notes(
    source: sources.Source, indices: Sequence[int], labels: Sequence[str]
) -> list[str]:
    """Returns what is done about classes that are not those of the model."""
    notes = []
    unknown = [label for label in source.labels if label not in labels]
    if unknown:
        images = sum(
            source.examples[index].label in unknown for index in indices
        )
        notes.append(
            f"{images} images of classes that the model does not know are "
            f"left out: {_few(unknown)}."
        )
    absent = [label for label in labels if label not in source.labels]
    if absent:
        notes.append(
            f"The model knows {len(absent)} classes that are not in the data: "
            f"{_few(absent)}. It may still answer with them."
        )
    shared = [label for label in source.labels if label in labels]
    if shared != [label for label in labels if label in source.labels]:
        notes.append(
            "The classes stand in another order here; they are matched by name."
        )
    return notes


def _few(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
