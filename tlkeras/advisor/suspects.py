"""Pictures whose label is contradicted by all the other pictures.

A linear head on the base's features is solved five times, each time without a
fifth of the images, and asked of that fifth (Northcutt et al., 2021, Confident
Learning, https://arxiv.org/abs/1911.00068, begin with the same answers). The
image whose label is least probable comes first: by planted errors no worse than
by the distance to the answer (docs/guide/data.md).
"""

import csv
import dataclasses
import io
import os
import pathlib
import warnings

import keras
import numpy as np
import scipy.special
import sklearn.model_selection

from tlkeras import errors
from tlkeras import files
from tlkeras import progress as progresses
from tlkeras.advisor import subject as subjects
from tlkeras.data import batches
from tlkeras.data import dataset as datasets
from tlkeras.data import images as image_stores
from tlkeras.models import classifier as classifiers
from tlkeras.training import feature_cache
from tlkeras.training import row_store
from tlkeras.training import solver

_FOLDS = 5
# Pictures of each class that are shown beside a suspect.
_NEAREST = 3
# Bytes that the features may take in memory, and all that is kept on the disk.
_MEMORY, _DISK = 4e9, 20e9
# Columns of the table that a person marks.
_HEADER = (
    "leave_out",
    "path",
    "label",
    "answer",
    "label_probability",
    "answer_probability",
)
_MARKS = {"": False, "no": False, "0": False, "x": True, "yes": True, "1": True}


@dataclasses.dataclass(frozen=True)
class Suspect:
    """An image whose label is contradicted.

    position: in the data set. answer: the class that is more probable, of the
    probability `score`; `own` is that of the label. like_label, like_answer:
    positions of the nearest images of these classes.
    """

    position: int
    answer: int
    own: float
    score: float
    like_label: tuple[int, ...]
    like_answer: tuple[int, ...]


def prepare(
    subject: subjects.Subject, *, progress: progresses.Progress
) -> datasets.Dataset:
    """Returns the images of `subject`, to be closed; all that can be read."""
    return datasets.prepare(
        subject.source,
        shape=image_stores.Shape(
            subject.image_size, subject.resize, subject.max_pixels
        ),
        split_seed=subject.split_seed,
        store_bytes=_DISK,
        directory=subject.cache_dir,
        cache_dir=subject.cache_dir,
        progress=progress,
    )


def find(
    subject: subjects.Subject,
    data: datasets.Dataset,
    *,
    progress: progresses.Progress,
) -> tuple[Suspect, ...]:
    """Returns the images whose label is contradicted, the surest first.

    Raises `UserError` where the features do not fit into memory.
    """
    features = _features(subject, data, progress)
    progress.say("asking a head that has not seen them of each fifth")
    probabilities = out_of_fold(
        features, data.targets, np.asarray(data.groups), len(data.labels)
    )
    return rank(features, probabilities, data.targets)


def out_of_fold(
    features: np.ndarray, targets: np.ndarray, groups: np.ndarray, classes: int
) -> np.ndarray:
    """Returns probabilities [n, k] by heads that have not seen the image.

    features: [n, c]. groups: [n], equal for images that no two folds share.
    """
    weights = np.ones(len(targets))
    # One strength for all folds: a number chosen on all images tells a fold
    # nothing about one of them.
    strength = solver.logistic(
        features[None], targets, weights, classes=classes, groups=groups
    ).strength
    folds = sklearn.model_selection.StratifiedGroupKFold(
        min(_FOLDS, len(np.unique(groups))), shuffle=True, random_state=0
    )
    logits = np.zeros([len(targets), classes])
    with warnings.catch_warnings():
        # A class may have fewer images than there are folds.
        warnings.simplefilter("ignore", UserWarning)
        parts = list(folds.split(features, targets, groups))
    for learn, ask in parts:
        head = solver.logistic(
            features[learn][None],
            targets[learn],
            weights[learn],
            classes=classes,
            l2=strength,
        )
        logits[ask] = features[ask] @ head.kernel + head.bias
    return scipy.special.softmax(logits, axis=1)


def rank(
    features: np.ndarray, probabilities: np.ndarray, targets: np.ndarray
) -> tuple[Suspect, ...]:
    """Returns the images whose answer is not their label.

    First the one whose label is least probable.
    """
    answers = probabilities.argmax(axis=1)
    own = probabilities[np.arange(len(targets)), targets]
    scores = probabilities.max(axis=1)
    order = np.argsort(own, kind="stable")
    rows = features - features.mean(axis=0)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    def nearest(position: int, target: int) -> tuple[int, ...]:
        others = np.flatnonzero(targets == target)
        others = others[others != position]
        cosines = rows[others] @ rows[position]
        best = np.argsort(-cosines, kind="stable")[:_NEAREST]
        return tuple(others[best].tolist())

    return tuple(
        Suspect(
            position,
            int(answers[position]),
            float(own[position]),
            float(scores[position]),
            nearest(position, targets[position]),
            nearest(position, answers[position]),
        )
        for position in order[answers[order] != targets[order]].tolist()
    )


def write(
    path: str | os.PathLike,
    data: datasets.Dataset,
    suspects: tuple[Suspect, ...],
) -> None:
    """Writes the table whose first column a person marks, surest first."""
    files.write_csv(
        path,
        _HEADER,
        (
            (
                "",
                data.paths[each.position],
                data.labels[data.targets[each.position]],
                data.labels[each.answer],
                f"{each.own:.4f}",
                f"{each.score:.4f}",
            )
            for each in suspects
        ),
    )


def marked(path: pathlib.Path) -> frozenset[str]:
    """Returns the paths that a person marked in a table of `write`.

    Raises `UserError` where it is none, or holds a mark that says neither yes
    nor no.
    """
    try:
        text = files.read(path).decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise errors.UserError(
            f"`marked` {path} cannot be read: {error.strerror}."
        ) from None
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    if not rows or not {"leave_out", "path"} <= set(rows[0]):
        raise errors.UserError(
            f"`marked` {path} must be a CSV file with the columns leave_out "
            "and path, as check --labels writes it."
        )
    chosen = set()
    for row in rows:
        mark = (row["leave_out"] or "").strip().lower()
        if mark not in _MARKS:
            raise errors.UserError(
                f"`marked` {path}: `leave_out` must be x or empty. Received: "
                f"{errors.shown(row['leave_out'])}, for {row['path']}."
            )
        if _MARKS[mark]:
            chosen.add(files.cell_text(row["path"]))
    return frozenset(chosen)


def _features(
    subject: subjects.Subject,
    data: datasets.Dataset,
    progress: progresses.Progress,
) -> np.ndarray:
    """Returns the base's features [n, c], as training keeps them."""
    keras.utils.set_random_seed(subject.seed)
    model = classifiers.build_classifier(
        len(data.labels),
        backbone=subject.backbone,
        weights=subject.weights,
        image_size=subject.image_size,
    )
    everything = batches.Subset(
        data.rows, data.targets, data.hashes, np.asarray(data.groups)
    )
    nothing = batches.Subset(
        data.rows[:0],
        data.targets[:0],
        data.hashes[:0],
        np.asarray(data.groups)[:0],
    )
    feed = batches.feed(
        data.images,
        everything,
        nothing,
        batch_size=32,
        augment="none",
        seed=0,
        class_weights=np.ones(len(data.labels)),
    )
    storage = row_store.Storage(
        mode="disk",
        directory=subject.cache_dir / row_store.FOLDER,
        memory_bytes=_MEMORY,
        disk_bytes=_DISK,
    )
    with feature_cache.features(
        model, None, feed, epochs=1, storage=storage, progress=progress
    ) as stored:
        if stored is None or stored.arrays is None:
            raise errors.UserError(
                f"`labels` takes the features of {len(data.paths):,} images, "
                "and they do not fit on the disk. Give another --cache_dir, or "
                "a part of the images."
            )
        return stored.arrays().train[0]
