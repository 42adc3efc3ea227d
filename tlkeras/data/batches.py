"""Batches for `fit` and for evaluation, the same for the same seed."""

import contextlib
import dataclasses
import re
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tlkeras import errors
from tlkeras.data import augment as augmentation
from tlkeras.data import images as image_stores


@dataclasses.dataclass(frozen=True)
class Feed:
    """What a phase trains and is judged on.

    train: (first epoch, epochs) -> batches of those epochs in a row, each of
      inputs [n, ...], targets [n] and weights [n].
    validation: batches of inputs and targets, in a fixed order.
    views: the training images [n, h, w, 3] in each way they can look, in a
      fixed order; none where there is no end of ways, or none are wanted.
    on_features: (features of the views [v, n, c], of the validation images
      [m, c]) -> a feed of features in the place of images.
    """

    train: Callable[[int, int], tf.data.Dataset]
    validation: tf.data.Dataset
    steps_per_epoch: int
    batch_size: int
    train_images: int
    validation_images: int
    views: Callable[[], tuple[tf.data.Dataset, ...]] = tuple
    on_features: Callable[[np.ndarray, np.ndarray], "Feed"] | None = None


@dataclasses.dataclass(frozen=True)
class Part:
    """The images of one split.

    rows: theirs in the image store [n]. targets, keys: theirs [n].
    """

    rows: np.ndarray
    targets: np.ndarray
    keys: np.ndarray


def permutation(images: int, *, seed: int, epoch: int) -> np.ndarray:
    """Returns the order [images] of an epoch; the same for the same seed."""
    return np.random.default_rng([seed, epoch]).permutation(images)


def balanced(targets: np.ndarray, classes: int) -> np.ndarray:
    """Returns weights [classes] by which all classes count the same."""
    counts = np.bincount(targets, minlength=classes)
    return len(targets) / (classes * np.maximum(counts, 1))


def feed(
    images: image_stores.Images,
    train: Part,
    validation: Part,
    *,
    batch_size: int,
    augment: str,
    seed: int,
    class_weights: np.ndarray,
    cache: bool = True,
) -> Feed:
    """Returns a feed of images.

    class_weights: [classes]. cache: whether features may take the place of
    images where the base is frozen. The last batch of an epoch may be smaller.
    """
    common = {
        "batch_size": batch_size,
        "steps_per_epoch": -(-len(train.rows) // batch_size),
        "train_images": len(train.rows),
        "validation_images": len(validation.rows),
    }
    count = augmentation.views(augment) if cache else 0

    def pixels(epoch: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        return augmentation.augment(
            _rows(images, tf.gather(train.rows, batch)),
            tf.gather(train.keys, batch),
            epoch=epoch,
            seed=seed,
            policy=augment,
        )

    def views() -> tuple[tf.data.Dataset, ...]:
        plain = evaluation(images, train.rows, batch_size=batch_size)
        mirrored = plain.map(lambda batch: tf.reverse(batch, axis=[2]))
        return (plain, mirrored)[:count]

    def on_features(views: np.ndarray, judged: np.ndarray) -> Feed:
        def features(epoch: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
            chosen = augmentation.view(
                tf.gather(train.keys, batch),
                epoch=epoch,
                seed=seed,
                policy=augment,
            )
            found = tf.numpy_function(
                lambda view, row: views[view, row], [chosen, batch], tf.float32
            )
            found.set_shape([None, *views.shape[2:]])
            return found

        return Feed(
            train=_training(features, train, batch_size, seed, class_weights),
            validation=tf.data.Dataset.from_tensor_slices(
                (judged, validation.targets.astype(np.int32))
            ).batch(batch_size),
            **common,
        )

    return Feed(
        train=_training(pixels, train, batch_size, seed, class_weights),
        validation=evaluation(
            images, validation.rows, validation.targets, batch_size=batch_size
        ),
        views=views,
        on_features=on_features,
        **common,
    )


def _training(
    inputs: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    train: Part,
    batch_size: int,
    seed: int,
    class_weights: np.ndarray,
) -> Callable[[int, int], tf.data.Dataset]:
    """Returns (first epoch, epochs) -> batches in new orders.

    inputs: (epoch, positions [n]) -> what the model gets [n, ...].
    """
    targets = train.targets.astype(np.int32)
    weights = class_weights.astype(np.float32)[targets]

    def order(epoch: np.ndarray) -> np.ndarray:
        return permutation(len(targets), seed=seed, epoch=int(epoch))

    def positions(epoch: tf.Tensor) -> tf.data.Dataset:
        one_epoch = tf.numpy_function(order, [epoch], tf.int64)
        one_epoch.set_shape([len(targets)])
        return (
            tf.data.Dataset.from_tensor_slices(one_epoch)
            .batch(batch_size)
            .map(lambda batch: (epoch, batch))
        )

    def load(epoch: tf.Tensor, batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return (
            inputs(epoch, batch),
            tf.gather(targets, batch),
            tf.gather(weights, batch),
        )

    def make(first: int, epochs: int) -> tf.data.Dataset:
        return _parallel(
            tf.data.Dataset.range(first, first + epochs).flat_map(positions),
            load,
        )

    return make


def evaluation(
    images: image_stores.Images,
    indices: np.ndarray,
    targets: np.ndarray | None = None,
    *,
    batch_size: int,
) -> tf.data.Dataset:
    """Returns batches of all `indices`, in their order, as they are."""

    def load(batch: tf.Tensor, *others: tf.Tensor) -> Any:
        pixels = tf.cast(_rows(images, batch), tf.float32)
        return (pixels, *others) if others else pixels

    columns = [indices.astype(np.int64)]
    if targets is not None:
        columns.append(targets.astype(np.int32))
    rows = tf.data.Dataset.from_tensor_slices(tuple(columns))
    return _parallel(rows.batch(batch_size), load)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Raises a `UserError` from within batches as the `UserError` it was.

    TensorFlow wraps what Python code in a data set raises, here for an image
    that can no longer be read, into an error of its own and fifty lines.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = re.search(r"UserError: (.*)\nTraceback", str(error))
        if not found:
            raise
        raise errors.UserError(found[1]) from None


def _parallel(dataset: tf.data.Dataset, load: Callable) -> tf.data.Dataset:
    return dataset.map(
        load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    ).prefetch(tf.data.AUTOTUNE)


def _rows(images: image_stores.Images, indices: tf.Tensor) -> tf.Tensor:
    pixels = tf.numpy_function(images.rows, [indices], tf.uint8)
    pixels.set_shape([None, images.size, images.size, 3])
    return pixels
