"""Batches for `fit` and for evaluation, the same for the same seed."""

import contextlib
import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tlkeras import errors
from tlkeras.data import augment as augmentation
from tlkeras.data import images as image_stores
from tlkeras.machine import keras_private

# (views [n], positions [n]) -> what was computed of them.
Read = Callable[[tf.Tensor, tf.Tensor], Any]


@dataclasses.dataclass(frozen=True)
class Views:
    """The images as they will look, for what is computed of them only once.

    pixels: what the pixels depend on, but for the image and its view.
    training: names of the ways in which a training image will look; a
      validation image looks in the way that `augment.PLAIN` names.
    train, validation: a name for the pixels of each image [n].
    load: (positions [m], `train` or `validation`, view, batch size) -> batches
      of images [b, h, w, 3], float32, in this order.
    feed: what reads that of training and of validation images -> a feed of
      what was computed, in the order in which the images would come.
    """

    pixels: str
    training: tuple[str, ...]
    train: np.ndarray
    validation: np.ndarray
    load: Callable[[np.ndarray, str, str, int], tf.data.Dataset]
    feed: Callable[[Read, Read], "Feed"]


@dataclasses.dataclass(frozen=True)
class Shares:
    """How the images of a batch are divided among devices or processes.

    count: of shares. mine: those that come here, in this order. multiple: a
    batch is divided only if it is a multiple of it; else, or if there are more
    shares than images, each share is the whole batch.
    """

    count: int = 1
    mine: tuple[int, ...] = (0,)
    multiple: int = 1

    def judging(self, images: int, usual: int) -> tuple[int, "Shares"]:
        """Returns the size and shares of batches that judge each image once.

        usual: images in a batch. Where all shares come here, all are counted: a
        whole batch in place of a share would count several times. And Keras
        wants the shares of the first batch to be equal. If there is no such
        size, all batches are whole, so that all images count as often.
        """
        if len(self.mine) == 1:
            return usual, self
        even = usual - usual % self.count
        smaller = range(even, 0, -self.count)
        larger = range(even + self.count, 2 * usual + 1, self.count)
        for size in (*smaller, *larger):
            rest = images % size
            if size <= images and not 0 < rest < self.count:
                return size, self
        # No batch is a multiple of as many.
        return usual, dataclasses.replace(self, multiple=2**62)


UNDIVIDED = Shares()


@dataclasses.dataclass(frozen=True)
class Everything:
    """All that a feed holds, at once.

    train: of each training image in each view [v, n, ...]. targets, weights:
    theirs [n]. validation: of the validation images [m, ...].
    """

    train: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    validation: np.ndarray
    validation_targets: np.ndarray


@dataclasses.dataclass(frozen=True)
class Feed:
    """What a phase trains and is judged on.

    train: (first epoch, epochs) -> batches of those epochs in a row, each of
      inputs [n, ...], targets [n] and weights [n].
    validation: batches of inputs and targets, in a fixed order; each comes in
      shares, and is counted in `validation_steps` once, as those of `train`
      are in `steps_per_epoch`.
    views: what can take the place of images where the base is frozen.
    everything: what took their place, all at once.
    """

    train: Callable[[int, int], tf.data.Dataset]
    validation: tf.data.Dataset
    steps_per_epoch: int
    validation_steps: int
    batch_size: int
    train_images: int
    validation_images: int
    views: Views | None = None
    everything: Callable[[], Everything] | None = None


@dataclasses.dataclass(frozen=True)
class Part:
    """The images of one split.

    rows: theirs in the image store [n]. targets: theirs [n]. hashes: of their
    pixels [n], text of hexadecimal digits.
    """

    rows: np.ndarray
    targets: np.ndarray
    hashes: np.ndarray

    @property
    def keys(self) -> np.ndarray:
        """A number [n] of each image's pixels, int64, for its draws."""
        return np.array([int(each[:15], 16) for each in self.hashes], np.int64)


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
    cached_views: int = 4,
    shares: Shares = UNDIVIDED,
) -> Feed:
    """Returns a feed of images.

    class_weights: [classes]. cached_views: in how many ways a training image
    looks where what was computed of it takes its place, if it can look in any
    number of ways. shares: how each batch of `batch_size` images is divided.
    The last batch of an epoch may be smaller.
    """
    keys = train.keys
    names = augmentation.views(augment, seed=seed, most=cached_views)

    def pixels(epoch: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        return augmentation.augment(
            _rows(images, tf.gather(train.rows, batch)),
            tf.gather(keys, batch),
            epoch=epoch,
            seed=seed,
            policy=augment,
        )

    def load(
        positions: np.ndarray, part: str, view: str, size: int
    ) -> tf.data.Dataset:
        training = part == "train"
        chosen = train if training else validation
        draws = chosen.keys

        def look(batch: tf.Tensor) -> tf.Tensor:
            return augmentation.look(
                _rows(images, tf.gather(chosen.rows, batch)),
                tf.gather(draws, batch),
                number=names.index(view) if training else 0,
                seed=seed,
                policy=augment if training else "none",
            )

        order = tf.data.Dataset.from_tensor_slices(positions.astype(np.int64))
        return _parallel(order.batch(size), look)

    def computed(read_train: Read, read_validation: Read) -> Feed:
        def rows(epoch: tf.Tensor, batch: tf.Tensor) -> Any:
            views = augmentation.view(
                tf.gather(keys, batch),
                epoch=epoch,
                seed=seed,
                policy=augment,
                count=len(names),
            )
            return read_train(views, batch)

        def judged(
            batch: tf.Tensor, targets: tf.Tensor, _: tf.Tensor
        ) -> tuple[Any, ...]:
            return read_validation(tf.zeros_like(batch), batch), targets

        def everything() -> Everything:
            each = tf.range(len(train.targets), dtype=tf.int64)
            return Everything(
                np.stack(
                    [
                        read_train(tf.fill(each.shape, view), each)
                        for view in np.arange(len(names))
                    ]
                ),
                train.targets,
                class_weights[train.targets],
                read_validation(
                    *[tf.range(len(validation.targets), dtype=tf.int64)] * 2
                ).numpy(),
                validation.targets,
            )

        order = tf.data.Dataset.from_tensor_slices(
            (
                np.arange(len(validation.targets)),
                validation.targets.astype(np.int32),
            )
        )
        return dataclasses.replace(
            live,
            train=_training(
                rows, train, batch_size, seed, class_weights, shares
            ),
            validation=_parallel(
                _divided(order.batch(judged_at_once), judged_shares), judged
            ),
            views=None,
            everything=everything,
        )

    judged_at_once, judged_shares = shares.judging(
        len(validation.rows), batch_size
    )
    live = Feed(
        train=_training(pixels, train, batch_size, seed, class_weights, shares),
        validation=evaluation(
            images,
            validation.rows,
            validation.targets,
            batch_size=judged_at_once,
            shares=judged_shares,
        ),
        steps_per_epoch=-(-len(train.rows) // batch_size),
        validation_steps=-(-len(validation.rows) // judged_at_once),
        batch_size=batch_size,
        train_images=len(train.rows),
        validation_images=len(validation.rows),
        views=Views(
            images.name,
            names,
            train.hashes,
            validation.hashes,
            load,
            computed,
        ),
    )
    return live


def _training(
    inputs: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    train: Part,
    batch_size: int,
    seed: int,
    class_weights: np.ndarray,
    shares: Shares,
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
        ordered = tf.data.Dataset.from_tensor_slices((one_epoch,))
        return _divided(ordered.batch(batch_size), shares).map(
            lambda batch, factor: (epoch, batch, factor)
        )

    def load(
        epoch: tf.Tensor, batch: tf.Tensor, factor: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        return (
            inputs(epoch, batch),
            tf.gather(targets, batch),
            tf.gather(weights, batch) * factor,
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
    shares: Shares = UNDIVIDED,
) -> tf.data.Dataset:
    """Returns batches of all `indices`, in their order, as they are."""

    def load(batch: tf.Tensor, *others: tf.Tensor) -> Any:
        *others, _ = others
        pixels = tf.cast(_rows(images, batch), tf.float32)
        return (pixels, *others) if others else pixels

    columns = [indices.astype(np.int64)]
    if targets is not None:
        columns.append(targets.astype(np.int32))
    rows = tf.data.Dataset.from_tensor_slices(tuple(columns))
    return _parallel(_divided(rows.batch(batch_size), shares), load)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Raises a `UserError` from within batches as the `UserError` it was.

    TensorFlow wraps what Python code in a data set raises, here for an image
    that can no longer be read, into an error of its own and fifty lines.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        message = keras_private.python_error(error, "UserError")
        if not message:
            raise
        raise errors.UserError(message) from None


def _divided(whole: tf.data.Dataset, shares: Shares) -> tf.data.Dataset:
    """Returns the shares of batches that come here, each with its factor.

    Each share has the mean loss of its own images, and these means count the
    same. Weights times the factor make that the mean over the batch.
    """
    if shares.count == 1:
        return whole.map(lambda *batch: (*batch, 1.0))

    def divide(*batch: tf.Tensor) -> tf.data.Dataset:
        images = tf.shape(batch[0], tf.int64)[0]
        uneven = images % shares.multiple != 0
        undivided = tf.logical_or(uneven, images < shares.count)

        def share(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
            if_divided = number * images // shares.count
            start = tf.where(undivided, tf.zeros_like(images), if_divided)
            if_divided = (number + 1) * images // shares.count
            end = tf.where(undivided, images, if_divided)
            # Of all shares together, each mean counts as much as its images.
            factor = (end - start) * shares.count / images
            factor = tf.where(undivided, tf.ones_like(factor), factor)
            rows = [each[start:end] for each in batch]
            return (*rows, tf.cast(factor, tf.float32))

        return tf.data.Dataset.from_tensor_slices(
            np.array(shares.mine, np.int64)
        ).map(share)

    return whole.flat_map(divide)


def _parallel(dataset: tf.data.Dataset, load: Callable) -> tf.data.Dataset:
    return dataset.map(
        load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    ).prefetch(tf.data.AUTOTUNE)


def _rows(images: image_stores.Images, indices: tf.Tensor) -> tf.Tensor:
    pixels = tf.numpy_function(images.rows, [indices], tf.uint8)
    pixels.set_shape([None, images.size, images.size, 3])
    return pixels
