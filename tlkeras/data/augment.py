"""Random changes of training images, the same for the same seed.

Keras' augmentation layers under a parallel map did not agree between two
runs. Here every draw depends on (seed, epoch, image) and on nothing else.
"""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Policy:
    """How far an image may be changed; a draw is uniform in both directions.

    turn: degrees. shift: share of the side. zoom, brightness, contrast: share
    of the original, brightness of the whole range. erase: share of the side
    of a grey square, 0 for none.
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
        turn=25,
        shift=0.1,
        zoom=0.3,
        brightness=0.25,
        contrast=0.4,
        erase=0.3,
    ),
}

_DRAWS = 9


def augment(
    images: tf.Tensor, keys: tf.Tensor, *, epoch: tf.Tensor, seed: int, policy: str
) -> tf.Tensor:
    """Returns changed images [n, h, w, 3], float32 in 0..255.

    images: [n, h, w, 3], uint8. keys: [n], int64, one an image. epoch: int64
    scalar.
    """
    images = tf.cast(images, tf.float32)
    if policy == "none":
        return images
    amounts = POLICIES[policy]
    draws = _draw(keys, epoch, seed)
    images = _flip(images, draws[:, 0])
    if amounts.turn or amounts.shift or amounts.zoom:
        images = _move(images, draws[:, 1:5], amounts)
    if amounts.brightness or amounts.contrast:
        images = _tone(images, draws[:, 5], draws[:, 6], amounts)
    if amounts.erase:
        images = _erase(images, draws[:, 7], draws[:, 8], amounts.erase)
    return images


def _draw(keys: tf.Tensor, epoch: tf.Tensor, seed: int) -> tf.Tensor:
    """Returns numbers [n, draws] in [-1, 1) for each image."""
    seeds = tf.stack(
        [keys, tf.fill(tf.shape(keys), tf.cast(epoch, tf.int64) * 2**31 + seed)],
        axis=1,
    )
    return tf.map_fn(
        lambda pair: tf.random.stateless_uniform([_DRAWS], pair, -1.0, 1.0),
        seeds,
        fn_output_signature=tf.TensorSpec([_DRAWS], tf.float32),
    )


def _flip(images: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
    mirrored = tf.reverse(images, axis=[2])
    return tf.where((draw < 0)[:, None, None, None], mirrored, images)


def _move(
    images: tf.Tensor, draws: tf.Tensor, amounts: Policy
) -> tf.Tensor:
    """Turns, zooms and shifts about the centre, in one interpolation."""
    shape = tf.shape(images)
    height = tf.cast(shape[1], tf.float32)
    width = tf.cast(shape[2], tf.float32)
    angle = draws[:, 0] * amounts.turn * 3.141592653589793 / 180
    scale = tf.pow(1 + amounts.zoom, draws[:, 1])
    cosine = tf.cos(angle) * scale
    sine = tf.sin(angle) * scale
    middle_x = (width - 1) / 2
    middle_y = (height - 1) / 2
    shift_x = draws[:, 2] * amounts.shift * width
    shift_y = draws[:, 3] * amounts.shift * height
    zero = tf.zeros_like(angle)
    # An output point (x, y) is looked up at (a x + b y + c, d x + e y + f).
    transforms = tf.stack(
        [
            cosine,
            -sine,
            middle_x - cosine * middle_x + sine * middle_y + shift_x,
            sine,
            cosine,
            middle_y - sine * middle_x - cosine * middle_y + shift_y,
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


def _tone(
    images: tf.Tensor,
    brightness: tf.Tensor,
    contrast: tf.Tensor,
    amounts: Policy,
) -> tf.Tensor:
    factor = tf.pow(1 + amounts.contrast, contrast)[:, None, None, None]
    offset = (brightness * amounts.brightness * 255)[:, None, None, None]
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    changed = (images - mean) * factor + mean + offset
    return tf.clip_by_value(changed, 0.0, 255.0)


def _erase(
    images: tf.Tensor, draw_x: tf.Tensor, draw_y: tf.Tensor, share: float
) -> tf.Tensor:
    """Puts a grey square of `share` of the side at a random place."""
    shape = tf.shape(images)

    def inside(draw: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        side = tf.cast(size, tf.float32)
        start = (draw + 1) / 2 * (1 - share) * side
        place = tf.range(side, dtype=tf.float32)[None]
        return (place >= start[:, None]) & (
            place < start[:, None] + share * side
        )

    rows = inside(draw_y, shape[1])[:, :, None, None]
    columns = inside(draw_x, shape[2])[:, None, :, None]
    return tf.where(rows & columns, 127.5, images)
