"""What a model says of a data set, of encoded images and of arrays."""

import concurrent.futures
import dataclasses
import io
import itertools
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import tensorflow as tf

from tlkeras import errors
from tlkeras import files
from tlkeras import progress as progresses
from tlkeras.data import decode
from tlkeras.data import images as image_stores
from tlkeras.models import saving
from tlkeras.models import task as tasks
from tlkeras.scoring import label_sets
from tlkeras.scoring import metrics

_BATCH = 32
# Of many classes a table has those that the model finds most probable.
_TOP = 5
# Pillow's modes that a PNG file holds as they are.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a classifier says of n images.

    probabilities: [n, k]. similarity: [n] to training images, and whether that
    is enough to be `known`; None where the model says nothing of it.
    """

    probabilities: np.ndarray
    similarity: np.ndarray | None = None
    known: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a classifier says of image files.

    labels: the k classes. indices: of the images that could be read [n], in
    the order given; paths: theirs [n]; probabilities: theirs [n, k]. failed:
    (path, reason) of those that could not. similarity, known: as of `Answers`.
    needed: the probability that a label needs to stand in a set of labels; 0
    where there are none. task: what was asked, and how it is answered.
    """

    labels: tuple[str, ...]
    indices: np.ndarray
    paths: tuple[str, ...]
    probabilities: np.ndarray
    failed: tuple[tuple[str, str], ...]
    similarity: np.ndarray | None = None
    known: np.ndarray | None = None
    needed: float = 0.0
    task: tasks.Task = tasks.SINGLE_LABEL

    @property
    def columns(self) -> dict[str, list[str]]:
        """What else is said of each image, by its name in a table."""
        found = columns(self.similarity, self.known)
        if self.needed:
            found["labels"] = label_sets.words(
                self.probabilities, self.needed, self.labels
            )
        return found


def predict(
    model: str | os.PathLike,
    paths: Sequence[str],
    *,
    coverage: float = 0.0,
    tta: str = "model",
    progress: progresses.Progress,
) -> Prediction:
    """Returns what the model of a run says of image files.

    coverage: 0 or that of sets of labels, which are then a column. tta: as of
    `saving.load`. Raises `UserError` where these cannot be had.
    """
    with progress.busy("loading the model"):
        classifier = saving.load(model, tta=tta)
    needed = label_sets.needed_by(classifier, coverage) if coverage else 0.0
    found = predict_files(classifier, paths, progress=progress)
    return dataclasses.replace(found, needed=needed)


def predict_files(
    classifier: saving.TrainedModel,
    paths: Sequence[str],
    *,
    progress: progresses.Progress,
) -> Prediction:
    """Returns what `classifier` says of image files."""
    return predict_encoded(
        classifier,
        paths,
        lambda index: files.read(paths[index]),
        progress=progress,
    )


def predict_encoded(
    classifier: saving.TrainedModel,
    paths: Sequence[str],
    read: Callable[[int], bytes],
    *,
    progress: progresses.Progress,
) -> Prediction:
    """Returns what `classifier` says of encoded images.

    read: index in `paths` -> the bytes of a file; an OSError counts as
    unreadable.
    """

    indices: list[int] = []
    failed: list[tuple[str, str]] = []
    parts = [predict_squares(classifier, [])]
    progress.begin("predicting", len(paths))
    try:
        for batch, squares in decoded(
            classifier, paths, read, failed=failed, progress=progress
        ):
            indices += batch
            parts.append(predict_squares(classifier, squares))
    finally:
        progress.end()
    answers = _joined(parts)
    return Prediction(
        classifier.labels,
        np.array(indices, np.int64),
        tuple(paths[index] for index in indices),
        answers.probabilities,
        tuple(failed),
        answers.similarity,
        answers.known,
        task=classifier.task,
    )


def columns(
    similarity: np.ndarray | None, known: np.ndarray | None
) -> dict[str, list[str]]:
    """Returns how like training images each is, as columns of a table."""
    if similarity is None or known is None:
        return {}
    return {
        "similarity": [f"{each:.4f}" for each in similarity],
        "known": ["yes" if each else "no" for each in known],
    }


def decoded(
    classifier: saving.TrainedModel,
    paths: Sequence[str],
    read: Callable[[int], bytes],
    *,
    failed: list[tuple[str, str]],
    progress: progresses.Progress,
) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    """Yields indices [b] and pictures [b], as the model takes them, in batches.

    read: as of `predict_encoded`. failed: takes (path, reason) of those that
    cannot be read or decoded.
    """

    def square(index: int) -> np.ndarray | str:
        encoded = b""
        try:
            encoded = read(index)
            return image_stores.square(encoded, classifier.shape)
        except (OSError, tf.errors.OpError) as error:
            return image_stores.reason(
                error, encoded, classifier.shape.max_pixels
            )

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), _BATCH):
            batch = range(start, min(start + _BATCH, len(paths)))
            indices: list[int] = []
            squares: list[np.ndarray] = []
            for index, found in zip(
                batch, pool.map(square, batch), strict=True
            ):
                if isinstance(found, str):
                    failed.append((paths[index], found))
                else:
                    indices.append(index)
                    squares.append(found)
            yield indices, squares
            progress.advance(len(batch))


def predict_arrays(
    classifier: saving.TrainedModel, arrays: Iterable[np.ndarray]
) -> Answers:
    """Returns the answers to images [h, w, 3], of any sizes.

    Raises `UserError` for an array that is not uint8, or of another shape.
    """
    squares = list(squares_of(classifier, arrays))
    batches = [
        squares[start : start + _BATCH]
        for start in range(0, len(squares), _BATCH)
    ]
    return _joined(
        [predict_squares(classifier, batch) for batch in ([], *batches)]
    )


def squares_of(
    classifier: saving.TrainedModel, arrays: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """Yields images [h, w, 3] as the model takes them.

    Raises `UserError` for an array that is not uint8, or of another shape.
    """
    count = 0
    # Not by `enumerate`, which holds an image until it has the next one.
    for array in arrays:
        array = np.asarray(array)
        rgb = array.ndim == 3 and array.shape[2] == 3 and array.size
        if array.dtype != np.uint8 or not rgb:
            raise errors.UserError(
                "an image must be uint8 [height, width, 3], RGB in 0..255. "
                f"Received: image {count} of type {array.dtype} and "
                f"shape {list(array.shape)}."
            )
        square = decode.resize(
            tf.constant(array), classifier.shape.size, classifier.shape.resize
        )
        count += 1
        del array
        yield square.numpy()


def predict_batches(
    classifier: saving.TrainedModel,
    batches: tf.data.Dataset,
    *,
    what: str,
    progress: progresses.Progress,
) -> Answers:
    """Returns the answers to images in `batches`, uint8 [b, size, size, 3]."""
    parts = [predict_squares(classifier, [])]
    progress.begin(what, int(batches.cardinality()))
    try:
        for found in classifier.forward.over(batches):
            parts.append(_answers(classifier, *found))
            progress.advance()
    finally:
        progress.end()
    return _joined(parts)


def pillow_pixels(
    classifier: saving.TrainedModel, image: PIL.Image.Image
) -> np.ndarray:
    """Returns a Pillow image as `predict_arrays` takes it, turned as EXIF says.

    It is written as a PNG file in memory and decoded, so that 16 bits,
    palettes and transparency are treated as in any file. Raises `UserError`
    where the decoder refuses it.
    """
    file = io.BytesIO()
    try:
        image = PIL.ImageOps.exif_transpose(image)
        if image.mode == "F" or image.mode.startswith("I"):
            image = _sixteen_bits(image)
        elif image.mode not in _PNG_MODES:
            transparent = image.has_transparency_data
            image = image.convert("RGBA" if transparent else "RGB")
        image.save(file, "PNG", compress_level=0)
    except (OSError, ValueError) as error:
        # Pillow reads a file when its pixels are first asked for.
        raise errors.UserError(f"a Pillow image: {error}.") from None
    encoded = file.getvalue()
    try:
        return image_stores.decoder(classifier.shape)(encoded)[0].numpy()
    except tf.errors.OpError as error:
        reason = image_stores.reason(
            error, encoded, classifier.shape.max_pixels
        )
        raise errors.UserError(f"a Pillow image: {reason}.") from None


def _sixteen_bits(image: PIL.Image.Image) -> PIL.Image.Image:
    """Returns an image of whole numbers of 16 bits in Pillow's mode for them.

    Its own `convert` would make white of all above 255. Raises ValueError
    where the numbers are others.
    """
    low, high = 0, 0
    if image.mode != "F":
        values = np.asarray(image.convert("I"))
        low, high = values.min(initial=0), values.max(initial=0)
    if image.mode == "F" or low < 0 or high > 65535:
        received = f", values {low} to {high}" if image.mode != "F" else ""
        raise ValueError(
            "grey values must be whole numbers in 0..65535 (white), or 0..255 "
            f"in mode L. Received: mode {image.mode}{received}. Scale and "
            "convert it"
        )
    return PIL.Image.fromarray(values.astype(np.uint16))


def predict_squares(
    classifier: saving.TrainedModel, squares: Sequence[np.ndarray]
) -> Answers:
    """Returns the answers to one batch, be it empty."""
    if squares:
        return _answers(classifier, *classifier.forward(np.stack(squares)))
    outputs = classifier.answering.outputs
    empty = [np.zeros([0, *each.shape[1:]], np.float32) for each in outputs]
    return _answers(classifier, *empty)


def _answers(
    classifier: saving.TrainedModel, features: np.ndarray, logits: np.ndarray
) -> Answers:
    """Returns what features [n, c] and logits [n, k] say of n images."""
    probabilities = classifier.task.probabilities(logits)
    known = classifier.reference
    if known is None or not classifier.tells_unknown:
        return Answers(probabilities)
    similarity = known.similarities(features)
    return Answers(probabilities, similarity, similarity >= known.similarity)


def _joined(parts: Sequence[Answers]) -> Answers:
    """Returns the answers of all parts, one after the other."""
    similarities = [
        part.similarity for part in parts if part.similarity is not None
    ]
    known = [part.known for part in parts if part.known is not None]
    return Answers(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate(similarities) if similarities else None,
        np.concatenate(known) if known else None,
    )


def write(
    path: str | os.PathLike,
    columns: Mapping[str, Sequence[str]],
    probabilities: np.ndarray,
    labels: Sequence[str],
    *,
    after: Mapping[str, Sequence[str]] | None = None,
    task: tasks.Task = tasks.SINGLE_LABEL,
    all_classes: bool = False,
    top: int = 1,
) -> None:
    """Writes predictions as CSV, whole or not at all.

    columns: what stands before the answer by its name, such as `path`, with an
    entry for each image of `probabilities` [n, k]. `label` and `score` follow,
    and the probability of every class as `p_<class>`. With more than 100
    classes the next most probable ones stand in their place, as `label_2`,
    `score_2` and so on, unless `all_classes`; `top` asks for so many of them
    whatever their number. after: columns behind all these.

    Probabilities carry nine significant digits, which is what a float32 needs
    to be read back. Raises ValueError where the lengths differ.
    """
    scores = np.asarray(probabilities)
    after = after or {}
    for name, column in (*columns.items(), *after.items()):
        if scores.shape != (len(column), len(labels)):
            raise ValueError(
                f"`probabilities` must be [n, k] for n `{name}` and k labels. "
                f"Received: shape {scores.shape}, {len(column)} of `{name}`, "
                f"{len(labels)} labels."
            )
    every = all_classes or len(labels) <= metrics.MANY_CLASSES
    header = [*columns, "label", "score"]
    top = min(max(top, 1 if every else _TOP), len(labels))
    for rank in range(2, top + 1):
        header += [f"label_{rank}", f"score_{rank}"]
    if every:
        header += [f"p_{label}" for label in labels]
    header += after
    ends = zip(*after.values(), strict=True) if after else itertools.repeat(())

    def rows() -> Iterator[list[Any]]:
        # One row at a time: 50,000 images of 1,000 classes would take
        # gigabytes as Python's numbers.
        for index, (image, end) in enumerate(
            zip(zip(*columns.values(), strict=True), ends, strict=False)
        ):
            shares = scores[index].astype(np.float64)
            (answer,), (score,) = task.answers(shares[None])
            row = [*image, labels[answer], _rounded(score)]
            for other in _others(shares, answer, top):
                row += [labels[other], _rounded(shares[other])]
            if every:
                row += map(_rounded, shares)
            yield [*row, *end]

    files.write_csv(path, header, rows())


def best(
    prediction: Prediction, index: int, top: int
) -> list[tuple[str, float]]:
    """Returns the `top` most probable labels of an image, and their scores.

    The first is its answer.
    """
    shares = prediction.probabilities[index].astype(np.float64)
    (answer,), (score,) = prediction.task.answers(shares[None])
    return [
        (prediction.labels[answer], float(score)),
        *(
            (prediction.labels[other], float(shares[other]))
            for other in _others(shares, answer, top)
        ),
    ]


def _others(shares: np.ndarray, answer: int, top: int) -> np.ndarray:
    """Returns the most probable classes beside the answer, `top` with it."""
    if top == 1:
        return np.array([], np.int64)
    order = np.argsort(-shares, kind="stable")
    return order[order != answer][: top - 1]


def _rounded(probability: float) -> float:
    return float(f"{probability:.9g}")
