"""The transfer-learning guide of Keras against tlkeras, on the same images.

The guide's recipe as https://keras.io/guides/transfer_learning has it: images
resized, augmented, batched by 64, prefetched and cached, in this order; base
frozen and called with `training=False`, average pooling, dropout 0.2, one
Dense; Adam() at first, then Adam(1e-5) for all of it. Its workflow gives 20
epochs and 10 (the example beside it runs 2 and 1, to be quick). The loss is
that of k classes in the place of two.

  python benchmarks/guide.py --data=folder:PHOTOS --weights=FILE

Both get the same base, image size, batch size, epochs, and in each repeat the
same split, another one than before; all else is their own. Neither stops
early. `head` is the time from the first image read to the trained head, with
decoding in it; building the network comes before, for both. `limit` is what no
cached head phase can beat: decoding, one forward pass, epochs on arrays.
"""

import csv
import dataclasses
import importlib
import pathlib
import tempfile
import time

import keras
import measuring
import numpy as np
import tensorflow as tf
from absl import app
from absl import flags

from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras import records
from tlkeras.backbones import catalog
from tlkeras.data import sources
from tlkeras.experiment import running
from tlkeras.scoring import metrics
from tlkeras.settings import config as configs

_DATA = flags.DEFINE_string("data", None, "labelled images", required=True)
_WEIGHTS = flags.DEFINE_string("weights", "imagenet", "of the base; or a file")
_BACKBONE = flags.DEFINE_string("backbone", "MobileNetV2", "the network")
_SIZE = flags.DEFINE_integer("image_size", 160, "pixels")
_IMAGES = flags.DEFINE_integer("images", 0, "how many to use; 0 is all")
_BATCH = flags.DEFINE_integer("batch_size", 64, "images a step")
_HEAD_EPOCHS = flags.DEFINE_integer("head_epochs", 20, "of the head alone")
_FINETUNE_EPOCHS = flags.DEFINE_integer(
    "finetune_epochs", 10, "of the whole; 0 leaves it out"
)
_AUGMENT = flags.DEFINE_string("augment", "flip", "tlkeras' own augmentation")
_SOLVER = flags.DEFINE_enum(
    "head_solver", "adam", ["adam", "logistic"], "how tlkeras finds the head"
)
_REPEATS = flags.DEFINE_integer("repeats", 3, "how often each is measured")

# Shares of the images; the rest is for training.
_VALIDATION = _TEST = 0.15


@dataclasses.dataclass(frozen=True)
class Split:
    """The same images for both: (path, index of its class) by split."""

    labels: tuple[str, ...]
    train: tuple[tuple[str, int], ...]
    validation: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]


def main(arguments: list[str]) -> None:
    """Measures both and the limit in turn and prints the table."""
    del arguments
    row = catalog.find(_BACKBONE.value)
    if row.scaling != "tf":
        raise app.UsageError(
            "The guide scales to [-1, 1], so --backbone must be a network that "
            f"takes that. Received: {row.name}."
        )
    source = sources.open(_DATA.value, progress=measuring.QUIET)
    splits = [_split(source, repeat) for repeat in range(_REPEATS.value)]
    for index in range(len(source.examples)):
        # So that the first to be measured does not read from a cold disk.
        source.read(index)
    found = measuring.main_first(
        {
            "guide": lambda repeat: _guide(row, splits[repeat], repeat),
            "tlkeras": lambda repeat: _tlkeras(row, splits[repeat], repeat),
            "limit": lambda repeat: _limit(row, splits[repeat]),
        },
        _REPEATS.value,
    )
    _show(found, splits)


def _split(source: sources.Source, seed: int) -> Split:
    """Returns some images of `source` in random order, split at random.

    Random, because the guide trains in the order of its files; TFDS keeps
    those in random order, a folder class by class.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(source.examples))
    order = order[: _IMAGES.value or None]
    number = {label: index for index, label in enumerate(source.labels)}
    rows = [
        (source.examples[index].path, number[source.examples[index].label])
        for index in order
    ]
    first = round(_TEST * len(rows))
    second = first + round(_VALIDATION * len(rows))
    return Split(
        source.labels,
        test=tuple(rows[:first]),
        validation=tuple(rows[first:second]),
        train=tuple(rows[second:]),
    )


def _guide(row: catalog.Backbone, split: Split, seed: int) -> measuring.Parts:
    keras.utils.set_random_seed(seed)
    base = _network(row)
    base.trainable = False
    images = keras.Input((_SIZE.value, _SIZE.value, 3))
    x = keras.layers.Rescaling(scale=1 / 127.5, offset=-1)(images)
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(images, keras.layers.Dense(len(split.labels))(x))
    # Alone, from first to last; once more inside the first epoch.
    decoding = measuring.seconds(
        lambda: [None for part in _guide_data(split)[:2] for _ in part]
    )
    train, validation, test = _guide_data(split)

    def fit(optimizer: keras.optimizers.Optimizer, epochs: int) -> float:
        model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
        return measuring.seconds(
            lambda: model.fit(
                train,
                epochs=epochs,
                validation_data=validation,
                verbose=0,
                shuffle=False,
            )
        )

    def accuracy() -> float:
        return model.evaluate(test, verbose=0, return_dict=True)["accuracy"]

    parts = {"decoding": decoding}
    parts["head"] = fit(keras.optimizers.Adam(), _HEAD_EPOCHS.value)
    parts["accuracy"] = parts["head accuracy"] = accuracy()
    parts["finetune"] = 0.0
    if _FINETUNE_EPOCHS.value:
        base.trainable = True
        parts["finetune"] = fit(
            keras.optimizers.Adam(1e-5), _FINETUNE_EPOCHS.value
        )
        parts["accuracy"] = accuracy()
    return parts


def _guide_data(split: Split) -> list[tf.data.Dataset]:
    """Returns the guide's three data sets, steps in the guide's order.

    TFDS decodes in parallel, and so does the first step here; the others are
    not parallel there.
    """
    resize = keras.layers.Resizing(_SIZE.value, _SIZE.value)
    augmentation = [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomRotation(0.1),
    ]

    def augment(image: tf.Tensor) -> tf.Tensor:
        for layer in augmentation:
            image = layer(image)
        return image

    made = []
    for rows in (split.train, split.validation, split.test):
        data = _decoded(rows)
        data = data.map(lambda image, label: (resize(image), label))
        if rows is split.train:
            data = data.map(lambda image, label: (augment(image), label))
        data = data.batch(_BATCH.value).prefetch(tf.data.AUTOTUNE).cache()
        made.append(data)
    return made


def _decoded(rows: tuple[tuple[str, int], ...]) -> tf.data.Dataset:
    def read(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return (
            tf.io.decode_image(
                tf.io.read_file(path), channels=3, expand_animations=False
            ),
            label,
        )

    paths, labels = zip(*rows, strict=True)
    data = tf.data.Dataset.from_tensor_slices((list(paths), list(labels)))
    return data.map(read, num_parallel_calls=tf.data.AUTOTUNE)


def _network(row: catalog.Backbone) -> keras.Model:
    module, name = row.constructor.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(
        include_top=False,
        weights=None if _WEIGHTS.value == "none" else _WEIGHTS.value,
        input_shape=(_SIZE.value, _SIZE.value, 3),
        **dict(row.arguments),
    )


class _Clock(progresses.Progress):
    """Notes when images are first read, and when phases end."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.first = self.decoded = 0.0
        self.ended: list[float] = []

    def begin(self, what: str, total: int, note: str = "") -> None:
        super().begin(what, total, note)
        if what == "reading images":
            self.first = time.perf_counter()

    def end(self) -> None:
        super().end()
        if self.first and not self.decoded:
            self.decoded = time.perf_counter()

    def phase_ends(
        self, result: records.PhaseResult, before: records.Score | None
    ) -> None:
        super().phase_ends(result, before)
        self.ended.append(time.perf_counter())


def _tlkeras(row: catalog.Backbone, split: Split, seed: int) -> measuring.Parts:
    clock = _Clock()
    finetunes = bool(_FINETUNE_EPOCHS.value)
    settings = {
        "backbone": row.name,
        "weights": _WEIGHTS.value,
        "image_size": _SIZE.value,
        "batch_size": _BATCH.value,
        "augment": _AUGMENT.value,
        "strategy": "fine_tuning" if finetunes else "feature_extraction",
        "head_epochs": _HEAD_EPOCHS.value,
        "head_solver": _SOLVER.value,
        "patience": _HEAD_EPOCHS.value + _FINETUNE_EPOCHS.value,
        "seed": seed,
    }
    if finetunes:
        settings["finetune_epochs"] = _FINETUNE_EPOCHS.value
    with tempfile.TemporaryDirectory() as folder:
        table = pathlib.Path(folder, "images.csv")
        with table.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("path", "label", "split"))
            for name in ("train", "validation", "test"):
                for path, label in getattr(split, name):
                    writer.writerow((path, split.labels[label], name))
        plan = plans.make(
            configs.resolve(
                "",
                {
                    **settings,
                    "data": f"csv:{table}",
                    # Empty, so that nothing is known from an earlier repeat.
                    "cache_dir": str(pathlib.Path(folder, "cache")),
                },
            ),
            pathlib.Path(folder, "run"),
            progress=clock,
        )
        report = running.run(plan, progress=clock).report
    return {
        "decoding": clock.decoded - clock.first,
        "head": clock.ended[0] - clock.first,
        "finetune": clock.ended[1] - clock.ended[0] if finetunes else 0.0,
        "accuracy": report["test"]["accuracy"]["value"],
    }


def _limit(row: catalog.Backbone, split: Split) -> measuring.Parts:
    """Returns what the parts of the head's phase take, each by itself."""
    base = keras.Sequential(
        [_network(row), keras.layers.GlobalAveragePooling2D()]
    )
    size = (_SIZE.value, _SIZE.value)
    rows = (*split.train, *split.validation)
    began = time.perf_counter()
    data = _decoded(rows).map(
        lambda image, label: tf.image.resize(image, size),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    pixels = np.stack(list(data.prefetch(_BATCH.value).as_numpy_iterator()))
    decoded = time.perf_counter()
    features = base.predict(
        pixels / 127.5 - 1, batch_size=_BATCH.value, verbose=0
    )
    computed = time.perf_counter()
    head = keras.Sequential(
        [
            keras.Input(features.shape[1:]),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(len(split.labels)),
        ]
    )
    head.compile(
        keras.optimizers.Adam(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    targets = np.array([label for _, label in rows])
    train = len(split.train)
    head.fit(
        features[:train],
        targets[:train],
        batch_size=_BATCH.value,
        epochs=_HEAD_EPOCHS.value,
        validation_data=(features[train:], targets[train:]),
        verbose=0,
    )
    ended = time.perf_counter()
    return {
        "decoding": decoded - began,
        "forward": computed - decoded,
        "epochs": ended - computed,
        "head": ended - began,
    }


def _show(found: dict[str, list[measuring.Parts]], splits: list[Split]) -> None:
    guide, ours, limit = found["guide"], found["tlkeras"], found["limit"]
    rows = []
    for part, what in (
        ("decoding", "decoding alone, s"),
        ("head", f"head, {_HEAD_EPOCHS.value} epochs, s"),
        ("finetune", f"fine-tuning, {_FINETUNE_EPOCHS.value} epochs, s"),
    ):
        if part == "finetune" and not _FINETUNE_EPOCHS.value:
            continue
        has_limit = part != "finetune"
        rows.append(
            (
                what,
                measuring.spread(guide, part),
                measuring.spread(ours, part),
                measuring.spread(limit, part) if has_limit else "-",
                measuring.ratio(guide, ours, part),
                measuring.ratio(ours, limit, part) if has_limit else "-",
            )
        )
    images = len(splits[0].test)
    rows.append(
        (
            "test accuracy, %",
            _accuracy(guide, images),
            _accuracy(ours, images),
            *("-" * 3),
        )
    )
    measuring.show(
        f"{_BACKBONE.value} at {_SIZE.value} pixels, "
        f"{len(splits[0].labels)} classes: {len(splits[0].train)} images to "
        f"train on, {len(splits[0].validation)} for validation, {images} for "
        f"the test; {len(splits)} repeats, each with its own split",
        ("", "guide", "tlkeras", "limit", "guide/tlkeras", "tlkeras/limit"),
        rows,
        (
            "Seconds and ratios are medians; in brackets the smallest and "
            "the largest. The guide decodes in its first",
            "epoch, so that its head has the decoding in it, which was "
            "measured in a pass by itself, too. tlkeras decodes",
            "the test images, too, looks for equal ones, and keeps the best "
            "epoch. Limit of the head: decoding, one forward",
            f"pass ({measuring.median(limit, 'forward'):.2f} s) and epochs on "
            f"arrays ({measuring.median(limit, 'epochs'):.2f} s). Accuracy "
            "over all repeats, with its 95 % interval.",
        ),
    )


def _accuracy(measured: list[measuring.Parts], images: int) -> str:
    right = sum(round(each["accuracy"] * images) for each in measured)
    total = images * len(measured)
    low, high = metrics.wilson(right, total)
    return f"{100 * right / total:.1f} ({100 * low:.1f} to {100 * high:.1f})"


if __name__ == "__main__":
    app.run(main)
