"""Batches for `fit` and for evaluation, the same for the same seed."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tlkeras import errors
from tlkeras import records
from tlkeras.data import augment as augmentation
from tlkeras.data import images as image_stores
from tlkeras.machine import keras_private

# Functions are traced as they are: to have their source rewritten first, for
# conditions that none of them has, takes as long as the rest of a data set.
_as_it_is = tf.autograph.experimental.do_not_convert

# Batches that are made at once, and those that wait to be taken.
_AT_ONCE = min(max(2, os.cpu_count() or 1), 16)
_AHEAD = 2
# What tunes itself has a thread that sleeps for up to a minute between two
# looks, and often is not woken when its data set has come to an end. After 5 of
# 6 trainings of 30 s TensorFlow (2.21) waited 15 to 18 s for it, cores idle.
_UNTUNED = tf.data.Options()
_UNTUNED.autotune.enabled = False

# (views [n], positions [n]) -> the features of these images in these views.
ReadFeatures = Callable[[tf.Tensor, tf.Tensor], Any]


@dataclasses.dataclass(frozen=True)
class Views:
    """The augmented images, for features that are computed only once.

    preparation: all that the pixels depend on, but for the image and its view.
    names: of the ways in which a training image is augmented; a validation
      image has the one view `augment.PLAIN`.
    train_hashes, validation_hashes: of the pixels of each image [n].
    live: a feed of images in these views and no others, as features of them
      would come.
    load: (positions [m], `train` or `validation`, view, batch size) -> batches
      of images [b, h, w, 3], uint8, in this order.
    feed: what reads features of training and of validation images -> a feed of
      features, in the order in which the images would come.
    """

    preparation: str
    names: tuple[str, ...]
    train_hashes: np.ndarray
    validation_hashes: np.ndarray
    live: "Feed"
    load: Callable[[np.ndarray, str, str, int], tf.data.Dataset]
    feed: Callable[[ReadFeatures, ReadFeatures], "Feed"]


@dataclasses.dataclass(frozen=True)
class Sharding:
    """How the images of a batch are divided among devices or processes.

    count: of shards. local: those that this process yields, in this order.
    multiple: a batch is divided only if its size is a multiple of it; else, or
    if there are more shards than images, each shard is the whole batch.
    """

    count: int = 1
    local: tuple[int, ...] = (0,)
    multiple: int = 1

    def for_evaluation(
        self, images: int, batch_size: int
    ) -> tuple[int, "Sharding"]:
        """Returns a batch size and sharding that score each image once.

        Where all shards are local, all are counted: a whole batch in place of
        a shard would count several times. And Keras wants the shards of the
        first batch to be equal. If there is no such size, no batch is divided,
        so that all images count as often.
        """
        if len(self.local) == 1:
            return batch_size, self
        even = batch_size - batch_size % self.count
        smaller = range(even, 0, -self.count)
        larger = range(even + self.count, 2 * batch_size + 1, self.count)
        for size in (*smaller, *larger):
            rest = images % size
            if size <= images and not 0 < rest < self.count:
                return size, self
        # No batch is a multiple of as many.
        return batch_size, dataclasses.replace(self, multiple=2**62)


UNSHARDED = Sharding()


@dataclasses.dataclass(frozen=True)
class FeatureArrays:
    """All features of a feed, as arrays.

    train: of each training image in each view [v, n, ...]. targets, weights,
    groups: of the training images [n]. validation: of the validation images
    [m, ...].
    """

    train: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    groups: np.ndarray | None
    validation: np.ndarray
    validation_targets: np.ndarray


@dataclasses.dataclass(frozen=True)
class Feed:
    """What a phase trains and is scored on.

    train: (first epoch, epochs) -> batches of those epochs in a row, each of
      inputs [n, ...], targets [n] and weights [n].
    validation: batches of inputs and targets, in a fixed order; where classes
      are balanced also weights by which they count the same. The last one may
      be filled up by images whose target is `records.FILLING`.
    train_images: of an epoch. train_sizes, validation_sizes: images in each
      batch of an epoch, of all its shards together; to fill the last one of
      training, some images come twice, which validation does not count.
    balanced: whether classes are balanced.
    views: of a feed of images, from which a feed of features can be made.
    arrays: of a feed of features, returns all of them.
    """

    train: Callable[[int, int], tf.data.Dataset]
    validation: tf.data.Dataset
    train_images: int
    train_sizes: tuple[int, ...]
    validation_sizes: tuple[int, ...]
    balanced: bool = False
    views: Views | None = None
    arrays: Callable[[], FeatureArrays] | None = None

    @property
    def validation_images(self) -> int:
        """Images that an epoch is scored on."""
        return sum(self.validation_sizes)


@dataclasses.dataclass(frozen=True)
class Subset:
    """The images of one split.

    indices: into the image store [n]. targets: the classes [n]. hashes: of the
    pixels [n], text of hexadecimal digits. groups: [n], equal for images that
    are one observation; without them each image is one.
    """

    indices: np.ndarray
    targets: np.ndarray
    hashes: np.ndarray
    groups: np.ndarray | None = None

    @property
    def keys(self) -> np.ndarray:
        """A number [n] for each image's pixels, int64, that seeds its draws."""
        return np.array([int(text[:15], 16) for text in self.hashes], np.int64)


@dataclasses.dataclass(frozen=True)
class _Settings:
    """The arguments of `feed`, and the names of the views."""

    images: image_stores.Images
    train: Subset
    validation: Subset
    batch_size: int
    augment: str
    seed: int
    class_weights: np.ndarray
    sharding: Sharding
    full: bool
    views: tuple[str, ...]

    @property
    def train_sizes(self) -> tuple[int, ...]:
        return equal_sizes(len(self.train.targets), self.batch_size)


def equal_sizes(images: int, batch_size: int) -> tuple[int, ...]:
    """Returns the sizes of an epoch's batches, all the same.

    A last batch of one image ruins BatchNorm's statistics: with 65 images in
    batches of 32 the validation accuracy fell from 87 to 51 % (steel defects,
    MobileNet 0.25, 12 epochs). And XLA compiles a step for each size, which
    takes longer than many a phase. So an epoch's first images come once more
    at its end, fewer than there are batches. The sizes exceed `batch_size` only
    where a batch of one would be left otherwise.

    >>> equal_sizes(65, 32)
    (22, 22, 22)
    """
    steps = -(-images // batch_size)
    if batch_size > 1 and images // steps < 2:
        steps = max(1, images // 2)
    return (-(-images // steps),) * steps


def permutation(images: int, *, seed: int, epoch: int) -> np.ndarray:
    """Returns the order [images] of an epoch; the same for the same seed."""
    return np.random.default_rng([seed, epoch]).permutation(images)


def balanced(targets: np.ndarray, classes: int) -> np.ndarray:
    """Returns weights [classes] by which all classes count the same."""
    counts = np.bincount(targets, minlength=classes)
    return len(targets) / (classes * np.maximum(counts, 1))


def feed(
    images: image_stores.Images,
    train: Subset,
    validation: Subset,
    *,
    batch_size: int,
    augment: str,
    seed: int,
    class_weights: np.ndarray,
    cached_views: int = 4,
    sharding: Sharding = UNSHARDED,
    full: bool = False,
) -> Feed:
    """Returns a feed of images.

    class_weights: [classes]. cached_views: in how many views the features of a
    training image are computed, if `augment` has no end of views. sharding:
    how each batch is divided; an undivided one is filled up in validation, if
    it is to be `full`. Batches have at most `batch_size` images.
    """
    settings = _Settings(
        images,
        train,
        validation,
        batch_size,
        augment,
        seed,
        class_weights,
        sharding,
        full,
        augmentation.views(augment, seed=seed, most=cached_views),
    )
    keys = train.keys

    def few_views(epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        if settings.views[0] != augmentation.PLAIN:
            epoch = epoch % len(settings.views)
        return augmented(epoch, positions)

    def augmented(epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        return augmentation.augment(
            _pixels(images, tf.gather(train.indices, positions)),
            tf.gather(keys, positions),
            epoch=epoch,
            seed=seed,
            policy=augment,
        )

    def plain(positions: tf.Tensor) -> tf.Tensor:
        indices = tf.gather(validation.indices, positions)
        return _pixels(images, indices)

    return dataclasses.replace(
        _feed(settings, augmented, plain),
        views=Views(
            images.name,
            settings.views,
            train.hashes,
            validation.hashes,
            _feed(settings, few_views, plain),
            functools.partial(_load_view, settings),
            functools.partial(_feature_feed, settings),
        ),
    )


def _feed(
    settings: _Settings,
    train_inputs: Callable[[tf.Tensor, tf.Tensor], Any],
    validation_inputs: Callable[[tf.Tensor], Any],
) -> Feed:
    """Returns a feed of what (epoch, positions) and (positions) stand for."""
    validation = settings.validation
    images = len(validation.targets)
    size, sharding = settings.sharding.for_evaluation(
        images, settings.batch_size
    )
    filling = 0
    if settings.full and images and sharding == UNSHARDED:
        size, *more = equal_sizes(images, size)
        filling = size * (1 + len(more)) - images
    # Those that fill up have a target and a weight by which they do not count.
    targets = np.pad(
        validation.targets.astype(np.int32),
        [0, filling],
        constant_values=records.FILLING,
    )
    columns = [np.resize(np.arange(images), len(targets)), targets]
    is_balanced = len(set(settings.class_weights)) > 1
    if is_balanced:
        classes = len(settings.class_weights)
        weights = balanced(validation.targets, classes)[validation.targets]
        columns.append(np.pad(weights.astype(np.float32), [0, filling]))
    order = tf.data.Dataset.from_tensor_slices(tuple(columns))
    return Feed(
        train=_training(settings, train_inputs),
        validation=_parallel(
            _divided(order.batch(size), sharding),
            lambda batch, *others: (validation_inputs(batch), *others[:-1]),
        ),
        train_images=len(settings.train.targets),
        train_sizes=settings.train_sizes,
        validation_sizes=tuple(
            min(size, images - start) for start in range(0, images, size)
        ),
        balanced=is_balanced,
    )


def _training(
    settings: _Settings, inputs: Callable[[tf.Tensor, tf.Tensor], Any]
) -> Callable[[int, int], tf.data.Dataset]:
    """Returns (first epoch, epochs) -> batches in new orders.

    inputs: (epoch, positions [n]) -> what the model gets [n, ...].
    """
    targets = settings.train.targets.astype(np.int32)
    weights = settings.class_weights.astype(np.float32)[targets]
    steps, size = len(settings.train_sizes), settings.train_sizes[0]

    def order(epoch: np.ndarray) -> np.ndarray:
        images = permutation(len(targets), seed=settings.seed, epoch=int(epoch))
        return np.resize(images, [steps, size])

    def positions(epoch: tf.Tensor) -> tf.data.Dataset:
        one_epoch = tf.numpy_function(order, [epoch], tf.int64)
        one_epoch.set_shape([steps, size])
        whole = tf.data.Dataset.from_tensor_slices((one_epoch,))
        return _divided(whole, settings.sharding).map(
            _as_it_is(lambda batch, factor: (epoch, batch, factor))
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
            tf.data.Dataset.range(first, first + epochs).flat_map(
                _as_it_is(positions)
            ),
            load,
        )

    return make


def _load_view(
    settings: _Settings,
    positions: np.ndarray,
    split: str,
    view: str,
    batch_size: int,
) -> tf.data.Dataset:
    """Returns batches of images of `split` in one view, as `Views.load`."""
    subset = settings.train if split == "train" else settings.validation
    plain = view == augmentation.PLAIN
    keys = subset.keys

    def look(batch: tf.Tensor) -> tf.Tensor:
        return augmentation.look(
            _pixels(settings.images, tf.gather(subset.indices, batch)),
            tf.gather(keys, batch),
            number=0 if plain else settings.views.index(view),
            seed=settings.seed,
            policy="none" if plain else settings.augment,
        )

    order = tf.data.Dataset.from_tensor_slices(positions.astype(np.int64))
    return _parallel(order.batch(batch_size), look)


def _feature_feed(
    settings: _Settings,
    read_train: ReadFeatures,
    read_validation: ReadFeatures,
) -> Feed:
    """Returns a feed of features, as `Views.feed`."""
    train, validation = settings.train, settings.validation
    keys = train.keys
    count = len(settings.views)

    def train_inputs(epoch: tf.Tensor, positions: tf.Tensor) -> Any:
        views = augmentation.view(
            tf.gather(keys, positions),
            epoch=epoch,
            seed=settings.seed,
            policy=settings.augment,
            count=count,
        )
        return read_train(views, positions)

    def validation_inputs(positions: tf.Tensor) -> Any:
        return read_validation(tf.zeros_like(positions), positions)

    def arrays() -> FeatureArrays:
        positions = tf.range(len(train.targets), dtype=tf.int64)
        views = [tf.fill(positions.shape, view) for view in np.arange(count)]
        judged = tf.range(len(validation.targets), dtype=tf.int64)
        return FeatureArrays(
            np.stack([read_train(view, positions) for view in views]),
            train.targets,
            settings.class_weights[train.targets],
            train.groups,
            validation_inputs(judged).numpy(),
            validation.targets,
        )

    return dataclasses.replace(
        _feed(settings, train_inputs, validation_inputs), arrays=arrays
    )


def evaluation(
    images: image_stores.Images,
    indices: np.ndarray,
    targets: np.ndarray | None = None,
    *,
    batch_size: int,
) -> tf.data.Dataset:
    """Returns batches of all `indices`, in their order, not augmented."""

    def load(batch: tf.Tensor, *targets: tf.Tensor) -> Any:
        pixels = _pixels(images, batch)
        return (pixels, *targets) if targets else pixels

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
        message = keras_private.python_error(error, "UserError")
        if not message:
            raise
        raise errors.UserError(message) from None


def _divided(whole: tf.data.Dataset, sharding: Sharding) -> tf.data.Dataset:
    """Returns the local shards of each batch, each with its factor.

    Each shard has the mean loss of its own images, and these means count the
    same. Weights times the factor make that the mean over the batch.
    """
    if sharding.count == 1:
        return whole.map(_as_it_is(lambda *batch: (*batch, 1.0)))

    def divide(*batch: tf.Tensor) -> tf.data.Dataset:
        images = tf.shape(batch[0], tf.int64)[0]
        uneven = images % sharding.multiple != 0
        undivided = tf.logical_or(uneven, images < sharding.count)

        def shard(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
            if_divided = number * images // sharding.count
            start = tf.where(undivided, tf.zeros_like(images), if_divided)
            if_divided = (number + 1) * images // sharding.count
            end = tf.where(undivided, images, if_divided)
            # Of all shards together, each mean counts as much as its images.
            factor = (end - start) * sharding.count / images
            factor = tf.where(undivided, tf.ones_like(factor), factor)
            columns = [column[start:end] for column in batch]
            return (*columns, tf.cast(factor, tf.float32))

        return tf.data.Dataset.from_tensor_slices(
            np.array(sharding.local, np.int64)
        ).map(_as_it_is(shard))

    return whole.flat_map(_as_it_is(divide))


def _parallel(dataset: tf.data.Dataset, load: Callable) -> tf.data.Dataset:
    loaded = dataset.map(
        _as_it_is(load), num_parallel_calls=_AT_ONCE, deterministic=True
    )
    return loaded.prefetch(_AHEAD).with_options(_UNTUNED)


def _pixels(images: image_stores.Images, indices: tf.Tensor) -> tf.Tensor:
    pixels = tf.numpy_function(images.rows, [indices], tf.uint8)
    pixels.set_shape([None, images.size, images.size, 3])
    return pixels
