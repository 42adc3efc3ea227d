"""What is done with a trained model: score it on data, hand it over."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
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
from tlkeras import seen
from tlkeras.data import facts
from tlkeras.data import scan as scans
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


@dataclasses.dataclass(frozen=True)
class _Given:
    """Data to score, and what the model's run knows of it.

    own: whether the run was trained on it. trained: the run's settings. seen:
    its pictures. facts: reads the files, once.
    """

    source: sources.Source
    own: bool
    trained: configs.Config | None
    seen: seen.Seen | None
    facts: Callable[[], Sequence[facts.Facts]]

    def has(self, split: str) -> bool:
        """Tells whether the data itself says which images are of `split`."""
        # A source that gives some splits but not this one divides the rest.
        return split != "train" and any(
            example.split == split for example in self.source.examples
        )

    def pixels(self, indices: Iterable[int]) -> list[str]:
        """Returns the hashes of images, '' where one cannot be read."""
        found = self.facts()
        return [found[index].pixels for index in indices]


def evaluate(
    model: str | os.PathLike,
    source: sources.Source,
    *,
    split: str = "auto",
    keep: str | os.PathLike,
    progress: progresses.Progress,
) -> Judgement:
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
        raise errors.UserError(
            f"the model knows the classes {_few(classifier.labels)}; "
            f"{source.name} has {_few(source.labels)}. None is the same."
        )
    trained = _config(model)
    own = trained is not None and _real(trained.data) == _real(source.name)
    given = _Given(
        source,
        own,
        trained,
        seen.read(model),
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
    indices, notes = _choose(given, split)
    examples = source.examples
    notes += _class_notes(source, indices, classifier.labels)
    answers = predicting.predict_encoded(
        classifier,
        [index for index in indices if examples[index].label in known],
        source.read,
        progress=progress,
    )
    labels = tuple(examples[index].label for index in answers.indices)
    probabilities = evaluation.softmax(answers.logits)
    commonest = None
    if own and given.seen is not None:
        # The same baseline as in the report of the run.
        commonest = int(
            np.argmax([given.seen.training[each] for each in classifier.labels])
        )
    return Judgement(
        evaluation.metrics(
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
        evaluation.softmax(answers.logits),
        tuple((paths[index], reason) for index, reason in answers.failed),
    )


def write_predictions(
    found: Prediction | Judgement, path: str | os.PathLike
) -> None:
    """Writes all probabilities as CSV, as the run's predictions.csv."""
    header, rows = evaluation.predictions_rows(
        found.paths,
        found.probabilities,
        found.labels,
        true_labels=(
            found.true_labels if isinstance(found, Judgement) else None
        ),
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
    model: str | os.PathLike, directory: str | os.PathLike
) -> export.Verified:
    """Writes the SavedModel of a run or .keras file to a new directory.

    It is checked on two photographs that come with scikit-learn, since the
    run's own images may be gone.
    """
    classifier = saving.load(model)
    folder = pathlib.Path(sklearn.datasets.__file__).parent / "images"
    samples = [
        (folder / name).read_bytes() for name in ("china.jpg", "flower.jpg")
    ]
    return export.saved_model(classifier, directory, samples=samples)


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


def _choose(given: _Given, split: str) -> tuple[list[int], list[str]]:
    """Returns the indices of the images to score, and what to know of them."""
    everything = list(range(len(given.source.examples)))
    if split == "auto" and not given.own:
        return _unseen(given, everything)
    notes = []
    if split == "auto":
        split = "test"
        notes.append(
            "This is the data that the model was trained on: its test split "
            "is scored."
        )
    indices = everything if split == "all" else _split(given, split)
    if given.own and split != "all" and not given.has(split):
        notes += _changes(given, split)
    if given.own and split in ("train", "validation"):
        return indices, notes
    known = 0
    if given.seen is not None:
        known = sum(map(given.seen.known, given.pixels(indices)))
    if known:
        notes.append(
            f"{known} of these {len(indices)} images are pictures that the "
            "model learned from, or that chose its epochs: the result is "
            "better than new images would give."
        )
    return indices, notes


def _changes(given: _Given, split: str) -> list[str]:
    """Returns what came to the data of a run since, and what is gone."""
    if given.seen is None:
        return []
    there = set(given.pixels(range(len(given.source.examples)))) - {""}
    notes = []
    new = len(there - set(given.seen.splits))
    if new:
        notes.append(
            f"{new} pictures were not there when the model was trained and "
            "are in no split; --split=all scores all."
        )
    mine = {
        pixels for pixels, name in given.seen.splits.items() if name == split
    }
    gone = len(mine - there)
    if gone:
        notes.append(
            f"{gone} of the {len(mine)} pictures of the {split} split are no "
            "longer there, or cannot be read."
        )
    return notes


def _unseen(
    given: _Given, everything: list[int]
) -> tuple[list[int], list[str]]:
    """Returns the images that the model did not learn from, and what to say.

    Raises `UserError` where there are none.
    """
    if given.seen is None:
        return everything, [
            "All images are scored. Whether the model learned from some of "
            "them is not known: it does not stand in the directory of its run."
        ]
    indices = [
        index
        for index, pixels in zip(
            everything, given.pixels(everything), strict=True
        )
        if not given.seen.known(pixels)
    ]
    if not indices:
        raise errors.UserError(
            f"all {len(everything)} images of {given.source.name} are pictures "
            "that the model learned from, or that chose its epochs. Score "
            "others, or give --split=all."
        )
    left_out = len(everything) - len(indices)
    if not left_out:
        return indices, ["All images are scored."]
    return indices, [
        f"{left_out} of {len(everything)} images are pictures that the model "
        "learned from, or that chose its epochs. They are left out; "
        "--split=all scores them, too."
    ]


def _split(given: _Given, split: str) -> list[int]:
    """Returns the indices of the images of `split`, as in a run's training."""
    if given.has(split):
        return [
            index
            for index, example in enumerate(given.source.examples)
            if example.split == split
        ]
    everything = range(len(given.source.examples))
    if given.own and given.seen is not None:
        # What cannot be read any more is known by its name, and left out and
        # told like all such images.
        return [
            index
            for index, pixels in zip(
                everything, given.pixels(everything), strict=True
            )
            if split
            == (
                given.seen.splits.get(pixels)
                if pixels
                else given.seen.paths.get(given.source.examples[index].path)
            )
        ]
    # Only the pixels tell; images that cannot be read count nowhere.
    hashes = given.pixels(everything)
    rows = [index for index, pixels in enumerate(hashes) if pixels]
    examples = [given.source.examples[index] for index in rows]
    names = splits.assign(
        [hashes[index] for index in rows],
        [example.label for example in examples],
        given=[example.split for example in examples],
        groups=[example.group for example in examples],
        seed=given.trained.split_seed if given.trained is not None else 0,
    ).names
    return [row for row, name in zip(rows, names, strict=True) if name == split]


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
