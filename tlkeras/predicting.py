"""Logits for a data set; labels for files and arrays."""

import dataclasses
import glob
import pathlib
from collections.abc import Iterable
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras import saving
from tlkeras.data import decode
from tlkeras.data import images as image_stores
from tlkeras.data import sources


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a classifier says of images.

    names: of the images that could be read [n]; logits: theirs [n, k].
    failed: (name, reason) of those that could not.
    """

    names: tuple[str, ...]
    logits: np.ndarray
    failed: tuple[tuple[str, str], ...] = ()


def logits(
    model: keras.Model,
    batches: tf.data.Dataset,
    *,
    what: str,
    progress: progresses.Progress,
) -> np.ndarray:
    """Returns the logits [n, k] of all images in `batches`, in their order."""
    progress.begin(what, int(batches.cardinality()))
    try:
        return model.predict(batches, verbose=0, callbacks=[_Watch(progress)])
    finally:
        progress.end()


class _Watch(keras.callbacks.Callback):
    """Moves the bar with each batch."""

    def __init__(self, progress: progresses.Progress):
        super().__init__()
        self.progress = progress

    def on_predict_batch_end(self, batch, logs=None):
        self.progress.advance()


def find(paths: Iterable[str]) -> list[str]:
    """Returns the files that paths, globs and folders stand for, in order.

    Raises `UserError` where one of them stands for none.
    """
    found = []
    for path in paths:
        given = pathlib.Path(path).expanduser()
        if given.is_dir():
            some = [str(each) for each in sources.files(given)]
        elif given.exists():
            some = [str(given)]
        else:
            some = sorted(glob.glob(str(given), recursive=True))
            some = [each for each in some if pathlib.Path(each).is_file()]
        if not some:
            raise errors.UserError(
                f"there is no image to predict at {path}. Give files, folders "
                "or globs."
            )
        found += some
    return list(dict.fromkeys(found))


def predict_files(
    classifier: saving.Classifier,
    paths: Sequence[str],
    *,
    batch_size: int = 32,
    progress: progresses.Progress,
) -> Answers:
    """Returns what `classifier` says of image files."""
    decoder = image_stores.decoder(classifier.image_size, classifier.resize)
    names: list[str] = []
    failed: list[tuple[str, str]] = []
    parts = []
    progress.begin("predicting", len(paths))
    for start in range(0, len(paths), batch_size):
        squares = []
        for path in paths[start : start + batch_size]:
            encoded = b""
            try:
                encoded = pathlib.Path(path).read_bytes()
                squares.append(decoder(encoded)[1].numpy())
                names.append(path)
            except OSError as error:
                failed.append((path, f"cannot be read: {error.strerror}"))
            except tf.errors.OpError as error:
                failed.append((path, image_stores.reason(error, encoded)))
            progress.advance()
        if squares:
            parts.append(_predict(classifier, np.stack(squares)))
    progress.end()
    empty = np.zeros([0, len(classifier.labels)], np.float32)
    return Answers(
        tuple(names),
        np.concatenate(parts) if parts else empty,
        tuple(failed),
    )


def predict_arrays(
    classifier: saving.Classifier, arrays: Iterable[np.ndarray]
) -> np.ndarray:
    """Returns the logits [n, k] of images [h, w, 3], uint8, of any sizes.

    Raises `UserError` for an array of another type or shape.
    """
    squares = []
    for number, array in enumerate(arrays):
        array = np.asarray(array)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
            raise errors.UserError(
                "an image must be uint8 [height, width, 3], RGB in 0..255. "
                f"Received: image {number} of type {array.dtype} and shape "
                f"{list(array.shape)}."
            )
        square = decode.resize(
            tf.constant(array), classifier.image_size, classifier.resize
        )
        squares.append(square.numpy())
    if not squares:
        return np.zeros([0, len(classifier.labels)], np.float32)
    return _predict(classifier, np.stack(squares))


def _predict(classifier: saving.Classifier, squares: np.ndarray) -> np.ndarray:
    return classifier.model.predict(
        squares.astype(np.float32), verbose=0, batch_size=32
    )
