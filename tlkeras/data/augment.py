"""Random changes of training images, the same for the same seed.

Keras' augmentation layers under a parallel map did not agree between two
runs. Here every draw depends on (seed, epoch, image) and on nothing else, to
the last bit: neither on the other images of the batch nor on their order.
"""

import dataclasses
import math
from typing import NamedTuple

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Policy:
    """How far an image may be changed; a draw is uniform in both directions.

    flip: left-right, for half of the images. turn: degrees. shift: share of
    the side. zoom, contrast: share of the original. brightness: share of the
    whole range. erase: share of the side of a grey square, 0 for none.
    """

    flip: bool = True
    turn: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    erase: float = 0.0


POLICIES = {
    "none": Policy(flip=False),
    "flip": Policy(),
    "light": Policy(
        turn=10, shift=0.05, zoom=0.1, brightness=0.1, contrast=0.1
    ),
    "strong": Policy(
        turn=25, shift=0.1, zoom=0.3, brightness=0.2, contrast=0.3, erase=0.3
    ),
}


# The names of the views that are no matter of chance.
PLAIN = "plain"
MIRRORED = "mirrored"


class _Change(NamedTuple):
    """What is done to each image: numbers [n], float32."""

    flip: tf.Tensor
    cosine: tf.Tensor
    sine: tf.Tensor
    right: tf.Tensor
    down: tf.Tensor
    contrast: tf.Tensor
    brightness: tf.Tensor
    column: tf.Tensor
    row: tf.Tensor


def views(policy: str, *, seed: int, most: int) -> tuple[str, ...]:
    """Returns a name for each way in which an image will look.

    They are all the ways there are, if there is an end of them; else those of
    the first `most` epochs, which then come round again.
    """
    amounts = POLICIES[policy]
    if amounts == dataclasses.replace(Policy(), flip=amounts.flip):
        return (PLAIN, MIRRORED) if amounts.flip else (PLAIN,)
    return tuple(f"{amounts}, seed {seed}, epoch {n}" for n in range(most))


def view(
    keys: tf.Tensor, *, epoch: tf.Tensor, seed: int, policy: str, count: int
) -> tf.Tensor:
    """Returns which of `count` views [n], int64, each image takes."""
    if count > 1 and views(policy, seed=seed, most=0):
        mirrored = _draw(keys, epoch, seed, POLICIES[policy]).flip < 0
        return tf.cast(mirrored, tf.int64)
    return tf.zeros_like(keys) + tf.cast(epoch, tf.int64) % count


def look(
    images: tf.Tensor,
    keys: tf.Tensor,
    *,
    number: int,
    seed: int,
    policy: str,
) -> tf.Tensor:
    """Returns images [n, h, w, 3] in the view of this number, uint8."""
    if views(policy, seed=seed, most=0):
        return tf.reverse(images, axis=[2]) if number else images
    return augment(
        images, keys, epoch=tf.constant(number), seed=seed, policy=policy
    )


def augment(
    images: tf.Tensor,
    keys: tf.Tensor,
    *,
    epoch: tf.Tensor,
    seed: int,
    policy: str,
) -> tf.Tensor:
    """Returns changed images [n, h, w, 3], uint8, as those of a file are.

    A quarter of float32's bytes then goes to the device.

    images: [n, h, w, 3], uint8. keys: [n], int64, one an image. epoch: int64
    scalar.
    """
    amounts = POLICIES[policy]
    change = _draw(keys, epoch, seed, amounts)
    if amounts.flip:
        images = _flip(images, change)
    if amounts == Policy(flip=amounts.flip):
        return images
    result = tf.cast(images, tf.float32)
    if amounts.turn or amounts.shift or amounts.zoom:
        result = _move(result, change)
    if amounts.brightness or amounts.contrast:
        result = _tone(result, change, _mean(images))
    if amounts.erase:
        result = _erase(result, change, amounts.erase)
    return tf.saturate_cast(tf.round(result), tf.uint8)


def _draw(
    keys: tf.Tensor, epoch: tf.Tensor, seed: int, amounts: Policy
) -> _Change:
    second = tf.cast(epoch, tf.int64) * 2**31 + seed
    count = len(_Change._fields)

    def draw(key: tf.Tensor) -> tf.Tensor:
        numbers = tf.random.stateless_uniform(
            [count], tf.stack([key, second]), -1.0, 1.0, alg="philox"
        )
        flip, turn, zoom, right, down, bright, contrast, column, row = (
            tf.unstack(numbers)
        )
        angle = turn * math.radians(amounts.turn)
        scale = tf.pow(1 + amounts.zoom, zoom)
        return tf.stack(
            _Change(
                flip=flip,
                cosine=tf.cos(angle) * scale,
                sine=tf.sin(angle) * scale,
                right=right * amounts.shift,
                down=down * amounts.shift,
                contrast=tf.pow(1 + amounts.contrast, contrast),
                brightness=bright * amounts.brightness * 255,
                column=column,
                row=row,
            )
        )

    # One image at a time: of a whole batch, sine, cosine and power are
    # computed eight at a time, with other last bits than the rest.
    drawn = tf.map_fn(
        draw, keys, fn_output_signature=tf.TensorSpec([count], tf.float32)
    )
    return _Change(*tf.unstack(drawn, axis=1))


def _flip(images: tf.Tensor, change: _Change) -> tf.Tensor:
    # `tf.where` of both takes seven times as long, most of it to broadcast.
    return tf.map_fn(
        lambda each: tf.cond(
            each[1] < 0, lambda: tf.reverse(each[0], [1]), lambda: each[0]
        ),
        (images, change.flip),
        fn_output_signature=tf.TensorSpec(images.shape[1:], tf.uint8),
    )


def _move(images: tf.Tensor, change: _Change) -> tf.Tensor:
    """Turns, zooms and shifts about the centre, in one interpolation."""
    shape = tf.shape(images)
    height = tf.cast(shape[1], tf.float32)
    width = tf.cast(shape[2], tf.float32)
    cosine, sine = change.cosine, change.sine
    middle_x = (width - 1) / 2
    middle_y = (height - 1) / 2
    right = change.right * width
    down = change.down * height
    zero = tf.zeros_like(sine)
    # An output point (x, y) is looked up at (a x + b y + c, d x + e y + f).
    transforms = tf.stack(
        [
            cosine,
            -sine,
            middle_x - cosine * middle_x + sine * middle_y + right,
            sine,
            cosine,
            middle_y - sine * middle_x - cosine * middle_y + down,
            zero,
            zero,
        ],
        axis=1,
    )
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def _mean(images: tf.Tensor) -> tf.Tensor:
    """Returns the mean of each image [n], summed in whole numbers.

    A sum of floats depends in its last bits on how the batch is shared among
    cores (at 299 pixels on 2 cores, not at 224).
    """
    lines = tf.reduce_sum(tf.cast(images, tf.int32), axis=[2, 3])
    total = tf.reduce_sum(tf.cast(lines, tf.int64), axis=1)
    values = tf.reduce_prod(tf.shape(images)[1:])
    return tf.cast(total, tf.float32) / tf.cast(values, tf.float32)


def _tone(images: tf.Tensor, change: _Change, mean: tf.Tensor) -> tf.Tensor:
    """Spreads the values about `mean` [n], and makes them lighter."""
    offset = mean - mean * change.contrast + change.brightness
    changed = images * _each(change.contrast) + _each(offset)
    return tf.clip_by_value(changed, 0.0, 255.0)


def _erase(images: tf.Tensor, change: _Change, share: float) -> tf.Tensor:
    """Puts a grey square of `share` of the side at a random place."""
    shape = tf.shape(images)

    def inside(draw: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        side = tf.cast(size, tf.float32)
        start = (draw + 1) / 2 * (1 - share) * side
        place = tf.range(side, dtype=tf.float32)[None]
        return (place >= start[:, None]) & (
            place < start[:, None] + share * side
        )

    rows = inside(change.row, shape[1])[:, :, None, None]
    columns = inside(change.column, shape[2])[:, None, :, None]
    return tf.where(rows & columns, 127.5, images)


def _each(numbers: tf.Tensor) -> tf.Tensor:
    """Returns numbers [n] in a shape that fits images."""
    return numbers[:, None, None, None]
