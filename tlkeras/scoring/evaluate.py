"""How good a trained model is on labelled images."""

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
from tlkeras.data.sources import csv_file
from tlkeras.models import saving
from tlkeras.scoring import intervals
from tlkeras.scoring import label_sets
from tlkeras.scoring import metrics
from tlkeras.scoring import predicting
from tlkeras.scoring import scored_images
from tlkeras.scoring import used_images
from tlkeras.settings import config as configs


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How good a model is on labelled images.

    prediction: of the images that were scored; `failed` are left out.
    true_labels: of the same images. quality: the metrics. notes: what was
    done about classes and splits, in sentences.
    """

    prediction: predicting.Prediction
    true_labels: tuple[str, ...]
    quality: Mapping[str, Any]
    notes: tuple[str, ...]


def evaluate(
    model: str | os.PathLike,
    source: sources.Source,
    *,
    split: str = "auto",
    coverage: float = 0.0,
    tta: str = "model",
    slices: str = "",
    top_k: int = 0,
    cache_dir: str | os.PathLike,
    progress: progresses.Progress,
) -> Evaluation:
    """Returns how good the model of a run is on labelled images.

    split: `all`, `train`, `validation`, `test`, or `auto`: the test split of
    the data that the run was trained on, and of any other all that the model
    neither learned from nor was chosen by. coverage: 0 or that of sets of
    labels, which are then measured. tta: as of `saving.load`. cache_dir:
    where the results of a scan are kept between runs. slices: a column of the
    table that the images are listed in, for whose values the accuracy is given.
    top_k: 0, or among how many of the most probable classes the true one is
    looked for.

    Classes are matched by name. Raises `UserError` where none fits.
    """
    values = csv_file.column(source.name, slices) if slices else {}
    with progress.busy("loading the model"):
        classifier = saving.load(model, tta=tta)
    needed = label_sets.needed_by(classifier, coverage) if coverage else 0.0
    labels = classifier.labels
    if top_k >= len(labels):
        raise errors.UserError(
            f"`top_k` must be below the number of classes, {len(labels)}. "
            f"Received: {top_k}."
        )
    check_classes(labels, source)
    data = labelled_data(model, classifier, source, cache_dir, progress)
    indices, notes = scored_images.choose(data, split)
    notes += _class_notes(source, indices, labels)
    targets = {label: index for index, label in enumerate(labels)}
    known = [i for i in indices if source.examples[i].label in targets]
    prediction = predicting.predict_encoded(
        classifier,
        [source.examples[index].path for index in known],
        lambda index: source.read(known[index]),
        progress=progress,
    )
    scored = [known[index] for index in prediction.indices]
    true_labels = tuple(source.examples[index].label for index in scored)
    groups = data.groups()
    truth = np.array([targets[label] for label in true_labels], np.int64)
    own_groups = [groups[index] for index in scored]
    quality = metrics.compute(
        prediction.probabilities,
        truth,
        labels,
        groups=own_groups,
        task=classifier.task,
        positive=_positive(model, classifier),
    )
    if needed and classifier.reference is not None:
        quality["label_sets"] = label_sets.measure(
            prediction.probabilities,
            truth,
            own_groups,
            classifier.reference.scores,
            coverage,
        )
    if slices:
        answers, _ = classifier.task.answers(prediction.probabilities)
        quality["slices"] = metrics.slices(
            slices,
            [values[path] for path in prediction.paths],
            classifier.task.right(answers, truth),
            own_groups,
        )
    if top_k:
        quality["top_k"] = {
            "k": top_k,
            **_share(
                metrics.ranks(prediction.probabilities, truth) < top_k,
                own_groups,
            ),
        }
    accepted = prediction.known
    if accepted is not None:
        quality["refused"] = _share(~accepted, own_groups)
    prediction = dataclasses.replace(prediction, needed=needed)
    return Evaluation(prediction, true_labels, quality, tuple(notes))


def _share(chosen: np.ndarray, groups: Sequence[str]) -> dict[str, float]:
    """Returns the share of images that are `chosen` [n], with its interval."""
    share = intervals.share(chosen, groups)
    return {"value": share.value, "low": share.low, "high": share.high}


def _positive(model: str | os.PathLike, classifier: saving.TrainedModel) -> int:
    """Returns the class of two that the run looked for, the latter if none."""
    if classifier.threshold is not None:
        return classifier.threshold.positive
    config = config_of(model)
    name = config.positive if config is not None else ""
    return classifier.labels.index(name) if name in classifier.labels else 1


def write_metrics(evaluation: Evaluation, path: str | os.PathLike) -> None:
    """Writes the metrics as JSON."""
    skipped = len(evaluation.prediction.failed)
    files.write_json(
        path,
        {
            "quality": evaluation.quality,
            "skipped": skipped,
            "notes": evaluation.notes,
        },
    )


def check_classes(labels: Sequence[str], source: sources.Source) -> None:
    """Raises `UserError` where the data has no class of the model."""
    if not set(labels).isdisjoint(source.labels):
        return
    lower = {label.lower() for label in labels}
    case = ""
    if not lower.isdisjoint(label.lower() for label in source.labels):
        case = " They differ in upper and lower case."
    raise errors.UserError(
        f"the model knows the classes {errors.few(labels)}; {source.name} has "
        f"{errors.few(source.labels)}. None is the same.{case}"
    )


def labelled_data(
    model: str | os.PathLike,
    classifier: saving.TrainedModel,
    source: sources.Source,
    cache_dir: str | os.PathLike,
    progress: progresses.Progress,
) -> scored_images.LabelledData:
    """Returns the data with what the run of `model` knows of it."""
    config = config_of(model)
    return scored_images.LabelledData(
        source,
        config is not None and _real(config.data) == _real(source.name),
        config.split_seed if config is not None else 0,
        used_images.read(model),
        functools.cache(
            lambda: scans.scan(
                source,
                sources.stamps(source),
                max_pixels=classifier.shape.max_pixels,
                cache_dir=cache_dir,
                progress=progress,
            )
        ),
    )


def config_of(model: str | os.PathLike) -> configs.Config | None:
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
            f"{errors.count(images, 'image')} of classes that the model does "
            f"not know left out: {errors.few(unknown)}."
        )
    absent = [label for label in labels if label not in source.labels]
    if absent:
        notes.append(
            f"The model knows {errors.count(len(absent), 'class', 'classes')} "
            f"not in the data: {errors.few(absent)}. It may still predict them."
        )
    shared = [label for label in source.labels if label in labels]
    if shared != [label for label in labels if label in source.labels]:
        notes.append(
            "The classes are in another order here; they are matched by name."
        )
    return notes
