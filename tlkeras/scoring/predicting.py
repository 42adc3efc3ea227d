"""Logits for a data set, for encoded images and for arrays."""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.data import decode
from tlkeras.data import images as image_stores
from tlkeras.models import saving

_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a classifier says of images, by their index.

    indices: of the images that could be read [n]; logits: theirs [n, k].
    failed: (index, reason) of those that could not.
    """

    indices: np.ndarray
    logits: np.ndarray
    failed: tuple[tuple[int, str], ...] = ()


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
        return model.predict(batches, verbose=0, callbacks=[_MoveBar(progress)])
    finally:
        progress.end()


class _MoveBar(keras.callbacks.Callback):
    """Moves the bar with each batch."""

    def __init__(self, progress: progresses.Progress):
        super().__init__()
        self.progress = progress

    def on_predict_batch_end(self, batch, logs=None):
        self.progress.advance()


def predict_encoded(
    classifier: saving.TrainedModel,
    indices: Iterable[int],
    read: Callable[[int], bytes],
    *,
    progress: progresses.Progress,
) -> Answers:
    """Returns what `classifier` says of encoded images.

    read: index -> the bytes of a file; an OSError counts as unreadable.
    """
    decoder = image_stores.decoder(classifier.shape)

    def square(index: int) -> np.ndarray | str:
        encoded = b""
        try:
            encoded = read(index)
            return decoder(encoded)[1].numpy()
        except (OSError, tf.errors.OpError) as error:
            return image_stores.reason(
                error, encoded, classifier.shape.max_pixels
            )

    indices = np.fromiter(indices, np.int64)
    good: list[int] = []
    failed: list[tuple[int, str]] = []
    parts = [_predict(classifier, [])]
    progress.begin("predicting", len(indices))
    try:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for start in range(0, len(indices), _BATCH):
                batch = indices[start : start + _BATCH].tolist()
                squares = []
                for index, found in zip(
                    batch, pool.map(square, batch), strict=True
                ):
                    if isinstance(found, str):
                        failed.append((index, found))
                    else:
                        good.append(index)
                        squares.append(found)
                parts.append(_predict(classifier, squares))
                progress.advance(len(batch))
    finally:
        progress.end()
    return Answers(
        np.array(good, np.int64), np.concatenate(parts), tuple(failed)
    )


def predict_files(
    classifier: saving.TrainedModel,
    paths: Sequence[str],
    *,
    progress: progresses.Progress,
) -> Answers:
    """Returns what `classifier` says of image files."""
    return predict_encoded(
        classifier,
        range(len(paths)),
        lambda index: pathlib.Path(paths[index]).read_bytes(),
        progress=progress,
    )


def predict_arrays(
    classifier: saving.TrainedModel, arrays: Iterable[np.ndarray]
) -> np.ndarray:
    """Returns the logits [n, k] of images [h, w, 3], uint8, of any sizes.

    Raises `UserError` for an array of another type or shape.
    """
    squares = []
    for number, array in enumerate(arrays):
        array = np.asarray(array)
        rgb = array.ndim == 3 and array.shape[2] == 3 and array.size
        if array.dtype != np.uint8 or not rgb:
            raise errors.UserError(
                "an image must be uint8 [height, width, 3], RGB in 0..255. "
                f"Received: image {number} of type {array.dtype} and shape "
                f"{list(array.shape)}."
            )
        square = decode.resize(
            tf.constant(array), classifier.shape.size, classifier.shape.resize
        )
        squares.append(square.numpy())
    starts = range(0, len(squares), _BATCH)
    parts = [
        _predict(classifier, squares[start : start + _BATCH])
        for start in starts
    ]
    return np.concatenate([_predict(classifier, []), *parts])


def _predict(
    classifier: saving.TrainedModel, squares: list[np.ndarray]
) -> np.ndarray:
    """Returns the logits [n, k] of one batch, be it empty."""
    if not squares:
        return np.zeros([0, len(classifier.labels)], np.float32)
    # `predict` costs 50 ms a call, be the batch ever so small.
    return classifier.model.predict_on_batch(
        np.stack(squares).astype(np.float32)
    )
