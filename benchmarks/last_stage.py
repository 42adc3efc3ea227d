"""Tuning the base's last stage: on stored activations, live, and all of it.

All begin with the same trained head. `cached` and `live` are tlkeras' phase
with `feature_cache` memory and off; `bare suffix` is Keras' own fit of the last
stage and the head on the activations below them, as arrays in memory: what no
cache can beat; `full` is tlkeras' phase of the whole base. Stages end where
the resolution falls; --unfreeze may name another part.

  python benchmarks/last_stage.py --data=folder:PHOTOS --weights=FILE

Validation accuracy is that of the best epoch, which it also chose, so it is
good for comparing these, and for nothing else.
"""

import tempfile
import time

import keras
import measuring
import numpy as np
import tensorflow as tf
from absl import app
from absl import flags

from tlkeras import records
from tlkeras.backbones import base as bases
from tlkeras.data import batches
from tlkeras.data import dataset as datasets
from tlkeras.models import classifier as classifiers
from tlkeras.models import graph
from tlkeras.training import phase as one_phase
from tlkeras.training import row_store
from tlkeras.training import setup as setups

_DATA = flags.DEFINE_string("data", None, "labelled images", required=True)
_WEIGHTS = flags.DEFINE_string("weights", "imagenet", "of the base; or a file")
_BACKBONE = flags.DEFINE_string("backbone", "MobileNetV2", "the network")
_SIZE = flags.DEFINE_integer("image_size", 160, "pixels")
_BATCH = flags.DEFINE_integer("batch_size", 32, "images a step")
_UNFREEZE = flags.DEFINE_string("unfreeze", "stages:1", "what learns")
_AUGMENT = flags.DEFINE_enum(
    "augment", "flip", ["none", "flip"], "random changes of the images"
)
_HEAD_EPOCHS = flags.DEFINE_integer("head_epochs", 20, "of the head before")
_EPOCHS = flags.DEFINE_integer(
    "epochs", 10, "of tuning, at least 2", lower_bound=2
)
_RATE = flags.DEFINE_float("learning_rate", 1e-4, "Adam's highest rate")
_MEMORY = row_store.Storage("memory", memory_bytes=8e9)
_REPEATS = flags.DEFINE_integer("repeats", 3, "how often each is measured")


def main(arguments: list[str]) -> None:
    """Trains the head, measures all in turn and prints the table."""
    del arguments
    with tempfile.TemporaryDirectory() as folder:
        data = measuring.prepare(
            _DATA.value, image_size=_SIZE.value, directory=folder
        )
        feed = measuring.feed(
            data, batch_size=_BATCH.value, augment=_AUGMENT.value
        )
        start, head = _train_head(data, feed)
        cut, unfreeze = graph.find_cut(
            bases.of(_build(data)).network, _UNFREEZE.value
        )
        if cut is None:
            raise app.UsageError(
                "--unfreeze must leave some of the base frozen. Received: "
                f"{_UNFREEZE.value}."
            )
        found = measuring.main_first(
            {
                "live": lambda repeat: _phase(data, feed, start, unfreeze),
                "cached": lambda repeat: _phase(
                    data, feed, start, unfreeze, _MEMORY
                ),
                "bare suffix": lambda repeat: _bare(data, feed, start),
                "full": lambda repeat: _phase(data, feed, start, "all"),
            },
            _REPEATS.value,
        )
    _show(found, feed, head, cut, unfreeze)


def _build(data: datasets.Dataset) -> keras.Model:
    keras.utils.set_random_seed(0)
    return classifiers.build_classifier(
        len(data.labels),
        backbone=_BACKBONE.value,
        weights=_WEIGHTS.value,
        image_size=_SIZE.value,
    )


def _train_head(
    data: datasets.Dataset, feed: batches.Feed
) -> tuple[list[np.ndarray], records.Score]:
    """Returns the state of a classifier whose head has been trained."""
    model = _build(data)
    result = one_phase.fit(
        model,
        records.Phase("head", "none", _HEAD_EPOCHS.value, 1e-3),
        feed,
        setups.Setup(measuring.QUIET, storage=_MEMORY),
    )
    return classifiers.state(model), result.score


def _tuning(unfreeze: str) -> records.Phase:
    return records.Phase(
        name="finetune",
        unfreeze=unfreeze,
        epochs=_EPOCHS.value,
        learning_rate=_RATE.value,
        schedule="cosine",
        patience=_EPOCHS.value,
    )


def _phase(
    data: datasets.Dataset,
    feed: batches.Feed,
    start: list[np.ndarray],
    unfreeze: str,
    storage: row_store.Storage = row_store.NOWHERE,
) -> measuring.Parts:
    model = _build(data)
    classifiers.restore(model, start)
    clock = measuring.Clock()
    result = one_phase.fit(
        model,
        _tuning(unfreeze),
        feed,
        setups.Setup(
            measuring.QUIET, storage=storage, callbacks=lambda phase: (clock,)
        ),
        first_epoch=_HEAD_EPOCHS.value,
    )
    return {
        **clock.parts(),
        "accuracy": result.score.accuracy,
        "views": result.views_cached,
    }


class _Held(keras.layers.Layer):
    """Calls a network in inference mode, which `fit` otherwise overrides."""

    def __init__(self, network: keras.Model):
        super().__init__(dtype=network.dtype_policy)
        self.network = network

    def call(self, inputs):
        return self.network(inputs, training=False)


def _bare(
    data: datasets.Dataset, feed: batches.Feed, start: list[np.ndarray]
) -> measuring.Parts:
    """Tunes the suffix on arrays of the images as they are, not mirrored."""
    model = _build(data)
    classifiers.restore(model, start)
    base = bases.of(model)
    classifiers.unfreeze(base, _UNFREEZE.value)
    cut, _ = graph.find_cut(base.network, _UNFREEZE.value)
    prefix, suffix = graph.split(base.network, cut)
    began = time.perf_counter()

    def activations(split: str) -> list[np.ndarray]:
        pixels = batches.evaluation(
            data.images,
            data.rows[data.positions(split)],
            batch_size=_BATCH.value,
        )
        if base.scaling != "none":
            pixels = pixels.map(
                lambda images: (
                    keras.applications.imagenet_utils.preprocess_input(
                        tf.cast(images, tf.float32), mode=base.scaling
                    )
                )
            )
        found = prefix.predict(pixels, verbose=0)
        return found if isinstance(found, list) else [found]

    stored = {split: activations(split) for split in ("train", "validation")}
    computed = time.perf_counter() - began
    inputs = [keras.Input(shape) for shape in cut.shapes]
    features = _Held(suffix)(inputs if len(inputs) > 1 else inputs[0])
    learner = keras.Model(inputs, model.get_layer("head")(features))
    clock = measuring.Clock()
    steps = _EPOCHS.value * len(feed.train_sizes)
    one_phase.compile(learner, _tuning(_UNFREEZE.value), steps)
    targets = {split: data.targets[data.positions(split)] for split in stored}
    history = learner.fit(
        stored["train"],
        targets["train"],
        batch_size=_BATCH.value,
        epochs=_EPOCHS.value,
        validation_data=(stored["validation"], targets["validation"]),
        callbacks=[clock],
        verbose=0,
    )
    parts = clock.parts()
    parts["before"] += computed
    parts["all"] += computed
    accuracy = max(history.history["val_accuracy"])
    return {**parts, "accuracy": accuracy, "views": 1}


def _show(
    found: dict[str, list[measuring.Parts]],
    feed: batches.Feed,
    head: records.Score,
    cut: graph.Cut,
    unfreeze: str,
) -> None:
    live = found["live"]
    images = feed.train_images * len(feed.views.names)
    stored = (images + feed.validation_images) * cut.image_bytes() / 1e6
    shapes = " and ".join(str(shape) for shape in cut.shapes)
    notes = [
        "Medians of the repeats; in brackets the smallest and the largest. An "
        "epoch is one after the first, with its",
        "validation. The head before it all: "
        f"{100 * head.accuracy:.1f} %. The cut lies behind {cut.layer}, "
        f"{shapes}; an image",
        f"takes {cut.image_bytes() / 1000:.0f} kB there in float32, all views "
        f"of all images {stored:.0f} MB. The bare suffix sees no image "
        "mirrored.",
    ]
    measuring.show(
        f"{_BACKBONE.value} at {_SIZE.value} pixels, {unfreeze} learns: "
        f"{feed.train_images} images to train on, {feed.validation_images} "
        f"for validation, augmentation {_AUGMENT.value}; {_EPOCHS.value} "
        f"epochs, {_REPEATS.value} repeats",
        (
            "seconds",
            "before epochs",
            "an epoch",
            "all",
            "live/this: epoch",
            "all",
            "validation, %",
        ),
        [
            (
                name,
                measuring.spread(measured, "before"),
                measuring.spread(measured, "epoch"),
                measuring.spread(measured, "all"),
                measuring.ratio(live, measured, "epoch"),
                measuring.ratio(live, measured, "all"),
                f"{100 * measuring.median(measured, 'accuracy'):.1f}",
            )
            for name, measured in found.items()
        ],
        notes,
    )


if __name__ == "__main__":
    app.run(main)
