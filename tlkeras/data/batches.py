"""Batches for `fit` and for evaluation, the same for the same seed."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tlkeras.data import augment as augmentation
from tlkeras.data import images as image_stores


@dataclasses.dataclass(frozen=True)
class Feed:
    """What a phase trains and is judged on.

    train: (first epoch, epochs) -> batches of those epochs in a row, each of
      images [n, h, w, 3], targets [n] and weights [n].
    validation: batches of images and targets, in a fixed order.
    """

    train: Callable[[int, int], tf.data.Dataset]
    validation: tf.data.Dataset
    steps_per_epoch: int
    batch_size: int
    train_images: int
    validation_images: int


def permutation(images: int, *, seed: int, epoch: int) -> np.ndarray:
    """Returns the order [images] of an epoch; the same for the same seed."""
    return np.random.default_rng([seed, epoch]).permutation(images)


def balanced(targets: np.ndarray, classes: int) -> np.ndarray:
    """Returns weights [classes] by which all classes count the same."""
    counts = np.bincount(targets, minlength=classes)
    return len(targets) / (classes * np.maximum(counts, 1))


def training(
    images: image_stores.Images,
    indices: np.ndarray,
    targets: np.ndarray,
    keys: np.ndarray,
    *,
    batch_size: int,
    augment: str,
    seed: int,
    class_weights: np.ndarray,
) -> Callable[[int, int], tf.data.Dataset]:
    """Returns (first epoch, epochs) -> batches, augmented, in new orders.

    indices: rows of `images` to train on [n]; targets, keys: theirs [n].
    class_weights: [classes]. The last batch of an epoch may be smaller.
    """
    targets = targets.astype(np.int32)
    keys = keys.astype(np.int64)
    weights = class_weights.astype(np.float32)[targets]

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.numpy_function(
            lambda number: permutation(
                len(indices), seed=seed, epoch=int(number)
            ).astype(np.int64),
            [epoch],
            tf.int64,
        )
        order.set_shape([len(indices)])
        return (
            tf.data.Dataset.from_tensor_slices(order)
            .batch(batch_size)
            .map(lambda batch: (epoch, batch))
        )

    def load(epoch: tf.Tensor, batch: tf.Tensor):
        pixels = _gather(images, tf.gather(indices, batch))
        pixels = augmentation.augment(
            pixels,
            tf.gather(keys, batch),
            epoch=epoch,
            seed=seed,
            policy=augment,
        )
        return pixels, tf.gather(targets, batch), tf.gather(weights, batch)

    def make(first: int, epochs: int) -> tf.data.Dataset:
        return (
            tf.data.Dataset.range(first, first + epochs)
            .flat_map(epoch_batches)
            .map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .prefetch(tf.data.AUTOTUNE)
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
    batches = tf.data.Dataset.from_tensor_slices(
        np.arange(len(indices), dtype=np.int64)
    ).batch(batch_size)

    def load(batch: tf.Tensor):
        pixels = _gather(images, tf.gather(indices, batch))
        pixels = tf.cast(pixels, tf.float32)
        if targets is None:
            return pixels
        return pixels, tf.gather(targets.astype(np.int32), batch)

    return batches.map(
        load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    ).prefetch(tf.data.AUTOTUNE)


def _gather(
    images: image_stores.Images, indices: tf.Tensor
) -> tf.Tensor:
    pixels = tf.numpy_function(images.rows, [indices], tf.uint8)
    pixels.set_shape([None, images.size, images.size, 3])
    return pixels
