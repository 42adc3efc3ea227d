"""Images a second of the input pipeline alone, without any network.

tlkeras' training batches, from its store of decoded images and decoding in
each epoch, against `keras.utils.image_dataset_from_directory`, as it is, with
antialiasing, which it has no argument for, and with `.cache()` behind it, which
keeps float32 pixels in memory. All crop to the same square; nothing is done
with the batches but waiting for them. Where other work keeps cores busy, the
milliseconds of a core say more than those of the clock.

  python benchmarks/pipeline.py --data=PHOTOS

PHOTOS holds one folder for each class. tlkeras takes its training split of
them, Keras all of them: what counts is images a second.
"""

import pathlib
import tempfile
import time
from collections.abc import Iterable

import keras
import measuring
import tensorflow as tf
from absl import app
from absl import flags

from tlkeras.data import dataset as datasets
from tlkeras.data import sources

_DATA = flags.DEFINE_string("data", None, "folder of images", required=True)
_SIZE = flags.DEFINE_integer("image_size", 160, "pixels")
_BATCH = flags.DEFINE_integer("batch_size", 32, "images a step")
_EPOCHS = flags.DEFINE_integer("epochs", 3, "of each measurement")
_AUGMENT = flags.DEFINE_enum(
    "augment", "flip", ["none", "flip"], "random changes of the images"
)
_REPEATS = flags.DEFINE_integer("repeats", 5, "how often each is measured")


def main(arguments: list[str]) -> None:
    """Measures all of them in turn and prints the table."""
    del arguments
    name = f"folder:{_DATA.value}"
    source = sources.open(name, progress=measuring.QUIET)
    for index in range(len(source.examples)):
        # So that the first to be measured does not read from a cold disk.
        source.read(index)
    with tempfile.TemporaryDirectory() as folder:

        def prepare(place: str, **options) -> datasets.Dataset:
            # What a scan has found is kept there, and not looked for again.
            (pathlib.Path(folder) / place).mkdir()
            return measuring.prepare(
                name,
                image_size=_SIZE.value,
                directory=pathlib.Path(folder, place),
                **options,
            )

        stored = prepare("first")  # traces
        filling = measuring.seconds(lambda: prepare("again"))
        decoding = prepare("none", store_bytes=0)
        found = measuring.main_first(
            {
                "tlkeras, from its store": lambda repeat: _ours(stored),
                "tlkeras, decoding": lambda repeat: _ours(decoding),
                "Keras, decoding": lambda repeat: _keras(),
                "the same, antialiased": lambda repeat: _keras(smooth=True),
                "Keras, cached": lambda repeat: _keras(cache=True),
            },
            _REPEATS.value,
        )
    _show(found, len(source.examples), filling)


def _ours(data: datasets.Dataset) -> measuring.Parts:
    feed = measuring.feed(data, batch_size=_BATCH.value, augment=_AUGMENT.value)
    return _rate(feed.train(0, _EPOCHS.value), 1)


def _keras(*, cache: bool = False, smooth: bool = False) -> measuring.Parts:
    data = keras.utils.image_dataset_from_directory(
        _DATA.value,
        image_size=(_SIZE.value, _SIZE.value),
        batch_size=_BATCH.value,
        crop_to_aspect_ratio=True,
        shuffle=True,
        seed=0,
        verbose=False,
    )
    if smooth:
        data = _antialiased(data.file_paths)
    if cache:
        data = data.cache()
        # The first epoch fills it, and is not counted.
        _rate(data, 1)
    if _AUGMENT.value == "flip":
        flip = keras.layers.RandomFlip("horizontal")
        data = data.map(
            lambda images, labels: (flip(images, training=True), labels),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    return _rate(data.prefetch(tf.data.AUTOTUNE), _EPOCHS.value)


def _antialiased(paths: list[str]) -> tf.data.Dataset:
    """Returns batches as Keras makes them, but for how it resizes."""

    def load(path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = tf.io.decode_image(
            tf.io.read_file(path), channels=3, expand_animations=False
        )
        shape = tf.shape(pixels)
        side = tf.reduce_min(shape[:2])
        top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
        pixels = pixels[top : top + side, left : left + side]
        size = [_SIZE.value, _SIZE.value]
        return tf.image.resize(pixels, size, antialias=True), tf.constant(0)

    data = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths))
    return data.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(
        _BATCH.value
    )


def _rate(data: Iterable, epochs: int) -> measuring.Parts:
    images = 0

    def run() -> None:
        nonlocal images
        for _ in range(epochs):
            for batch in data:
                images += len(batch[1])

    spent = time.process_time()
    seconds = measuring.seconds(run)
    spent = time.process_time() - spent
    return {
        "rate": images / seconds,
        "milliseconds": 1000 * seconds / images,
        "of a core": 1000 * spent / images,
        "images a core's second": images / spent,
    }


def _show(
    found: dict[str, list[measuring.Parts]], images: int, filling: float
) -> None:
    plain = found["Keras, decoding"]
    measuring.show(
        f"{images} images as squares of {_SIZE.value} pixels in batches of "
        f"{_BATCH.value}, augmentation {_AUGMENT.value}; {_EPOCHS.value} "
        f"epochs, {_REPEATS.value} repeats",
        (
            "",
            "images/s",
            "ms an image",
            "x Keras, decoding",
            "ms of a core",
            "x Keras, decoding",
        ),
        [
            (
                name,
                f"{measuring.median(measured, 'rate'):,.0f}",
                measuring.spread(measured, "milliseconds"),
                measuring.ratio(measured, plain, "rate"),
                measuring.time_text(measuring.median(measured, "of a core")),
                measuring.ratio(measured, plain, "images a core's second"),
            )
            for name, measured in found.items()
        ],
        (
            "Medians of the repeats; in brackets the smallest and the "
            "largest. The store is filled once, before the first",
            f"epoch: {filling:.1f} s, {images / filling:,.0f} images/s; this "
            "also looks for broken and for equal images.",
        ),
    )


if __name__ == "__main__":
    app.run(main)
