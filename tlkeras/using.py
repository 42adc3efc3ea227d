"""What is done with a trained model: score it on data, hand it over."""

import dataclasses
import os
import pathlib
import tomllib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn.datasets

from tlkeras import config as configs
from tlkeras import errors
from tlkeras import evaluation
from tlkeras import export
from tlkeras import files
from tlkeras import predicting
from tlkeras import progress as progresses
from tlkeras import saving
from tlkeras.data import batches
from tlkeras.data import images as image_stores
from tlkeras.data import sources
from tlkeras.data import splits


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
class Judgement:
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
    data: str,
    *,
    data_dir: str = "",
    split: str = "auto",
    progress: progresses.Progress,
) -> Judgement:
    """Returns how good the model of a run is on labelled images.

    split: `all`, `train`, `validation`, `test`, or `auto`: the test split of
    the data that the run was trained on, all of any other.

    Classes are matched by name. Raises `UserError` where none fits.
    """
    classifier = saving.load(model)
    source = sources.open(
        sources.absolute(data), data_dir=data_dir, progress=progress
    )
    known = [label for label in source.labels if label in classifier.labels]
    if not known:
        raise errors.UserError(
            f"the model knows the classes {_few(classifier.labels)}; {data} "
            f"has {_few(source.labels)}. None is the same."
        )
    notes = _class_notes(source, classifier.labels)
    trained = _config(model)
    own = trained is not None and trained.data == source.name
    if split == "auto":
        split = "test" if own else "all"
        notes.append(
            "This is the data that the model was trained on: its test split "
            "is scored."
            if own
            else "All images are scored."
        )
    scan = image_stores.scan(
        source,
        size=classifier.image_size,
        resize=classifier.resize,
        store_bytes=0,
        directory=".",
        progress=progress,
    )
    rows = [index for index, reason in enumerate(scan.reasons) if not reason]
    if split != "all":
        seed = trained.split_seed if trained is not None else 0
        names = splits.assign(
            [scan.hashes[index] for index in rows],
            [source.examples[index].label for index in rows],
            given=[source.examples[index].split for index in rows],
            groups=[source.examples[index].group for index in rows],
            seed=seed,
        ).names
        rows = [
            row for row, name in zip(rows, names, strict=True) if name == split
        ]
    rows = [row for row in rows if source.examples[row].label in known]
    logits = predicting.logits(
        classifier.model,
        batches.evaluation(scan.images, np.array(rows, np.int64), batch_size=32),
        what="predicting",
        progress=progress,
    )
    probabilities = evaluation.softmax(logits)
    labels = tuple(source.examples[row].label for row in rows)
    targets = np.array([classifier.labels.index(label) for label in labels])
    return Judgement(
        evaluation.metrics(probabilities, targets, classifier.labels),
        classifier.labels,
        tuple(source.examples[row].path for row in rows),
        labels,
        probabilities,
        tuple(
            (example.path, reason)
            for example, reason in zip(
                source.examples, scan.reasons, strict=True
            )
            if reason
        ),
        tuple(notes),
    )


def predict(
    model: str | os.PathLike,
    paths: Sequence[str],
    *,
    progress: progresses.Progress,
) -> Prediction:
    """Returns what the model of a run says of files, folders and globs."""
    found = predicting.find(paths)
    classifier = saving.load(model)
    answers = predicting.predict_files(classifier, found, progress=progress)
    return Prediction(
        classifier.labels,
        answers.names,
        evaluation.softmax(answers.logits),
        answers.failed,
    )


def write_predictions(
    prediction: Prediction, path: str | os.PathLike
) -> None:
    """Writes all probabilities as CSV, as the run's predictions.csv."""
    header, rows = evaluation.predictions_rows(
        prediction.paths, prediction.probabilities, prediction.labels
    )
    files.write_csv(path, header, rows)


def write_judgement(judgement: Judgement, path: str | os.PathLike) -> None:
    """Writes the metrics as JSON."""
    values = {
        "quality": judgement.quality,
        "skipped": len(judgement.skipped),
        "notes": judgement.notes,
    }
    files.write_json(path, values)


def export_model(
    model: str | os.PathLike, output: str | os.PathLike
) -> export.Verified:
    """Writes the SavedModel of a run or .keras file to a new directory.

    It is checked on two photographs that come with scikit-learn, since the
    run's own images may be gone. Raises `UserError` where `output` is not
    empty.
    """
    directory = files.check_directory(output, "output")
    if directory.exists() and any(directory.iterdir()):
        raise errors.UserError(
            f"`output` {directory} is not empty, and nothing is overwritten. "
            "Choose another."
        )
    classifier = saving.load(model)
    folder = pathlib.Path(sklearn.datasets.__file__).parent / "images"
    samples = [
        (folder / name).read_bytes() for name in ("china.jpg", "flower.jpg")
    ]
    return export.saved_model(classifier, directory, samples=samples)


def _config(model: str | os.PathLike) -> configs.Config | None:
    """Returns the settings of the run that `model` is from, if there are."""
    path = pathlib.Path(model).expanduser()
    path = path if path.is_dir() else path.parent
    try:
        text = (path / "config.toml").read_text(encoding="utf-8")
        return configs.build(tomllib.loads(text))
    except (OSError, ValueError):
        return None


def _class_notes(
    source: sources.Source, labels: Sequence[str]
) -> list[str]:
    notes = []
    unknown = [label for label in source.labels if label not in labels]
    if unknown:
        images = sum(example.label in unknown for example in source.examples)
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
    if not unknown and not absent and tuple(source.labels) != tuple(labels):
        notes.append(
            "The classes stand in another order here; they are matched by "
            "name."
        )
    return notes


def _few(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
