"""What tlkeras' phase costs beside a bare `model.fit` of the same graph.

Both train the whole classifier on the same batches of the same feed, with the
same optimizer, loss and metrics, with validation after each epoch; tlkeras
watches for the best epoch, keeps it, and checks afterwards that only what may
learn has moved.

  python benchmarks/fine_tuning.py

Images are noise of 4 classes and weights are random unless --data and
--weights say otherwise: neither changes the time.
"""

import tempfile

import keras
import measuring
import numpy as np
from absl import app
from absl import flags

from tlkeras import records
from tlkeras.data import batches
from tlkeras.data import images as image_stores
from tlkeras.models import classifier as classifiers
from tlkeras.training import phase as one_phase
from tlkeras.training import setup as setups

_DATA = flags.DEFINE_string("data", "", "labelled images; none is noise")
_WEIGHTS = flags.DEFINE_string("weights", "none", "of the base; or a file")
_BACKBONE = flags.DEFINE_string("backbone", "MobileNetV2", "the network")
_SIZE = flags.DEFINE_integer("image_size", 96, "pixels")
_IMAGES = flags.DEFINE_integer("images", 512, "of noise, to train on")
_BATCH = flags.DEFINE_integer("batch_size", 32, "images a step")
_EPOCHS = flags.DEFINE_integer("epochs", 4, "of each fit", lower_bound=2)
_UNFREEZE = flags.DEFINE_string("unfreeze", "all", "what of the base learns")
_REPEATS = flags.DEFINE_integer("repeats", 3, "how often each is measured")

_NOISE_CLASSES = 4


def main(arguments: list[str]) -> None:
    """Measures both in turn and prints the table."""
    del arguments
    with tempfile.TemporaryDirectory() as folder:
        feed, classes = _noise() if not _DATA.value else _real(folder)
        found = measuring.main_first(
            {
                "bare fit": lambda repeat: _bare(feed, classes),
                "tlkeras": lambda repeat: _tlkeras(feed, classes),
            },
            _REPEATS.value,
        )
    _show(found, feed)


def _bare(feed: batches.Feed, classes: int) -> measuring.Parts:
    model = _build(classes)
    clock = measuring.Clock()
    classifiers.unfreeze(model, _UNFREEZE.value)
    one_phase.compile(model, _phase(), _EPOCHS.value * len(feed.train_sizes))
    model.fit(
        feed.train(0, _EPOCHS.value),
        epochs=_EPOCHS.value,
        steps_per_epoch=len(feed.train_sizes),
        validation_data=feed.validation,
        callbacks=[clock],
        shuffle=False,
        verbose=0,
    )
    return clock.parts()


def _tlkeras(feed: batches.Feed, classes: int) -> measuring.Parts:
    model = _build(classes)
    clock = measuring.Clock()
    one_phase.fit(
        model,
        _phase(),
        feed,
        setups.Setup(measuring.QUIET, callbacks=lambda phase: (clock,)),
    )
    parts = clock.parts()
    # Of what the phase adds, the copies: one before it, one where an epoch is
    # the best so far.
    parts["copy"] = measuring.seconds(lambda: classifiers.state(model))
    parts["copied"] = (
        sum(each.nbytes for each in classifiers.state(model)) / 1e6
    )
    return parts


def _phase() -> records.Phase:
    return records.Phase(
        name="finetune",
        unfreeze=_UNFREEZE.value,
        epochs=_EPOCHS.value,
        learning_rate=1e-4,
        schedule="cosine",
        patience=_EPOCHS.value,
    )


def _build(classes: int) -> keras.Model:
    keras.utils.set_random_seed(0)
    return classifiers.build_classifier(
        classes,
        backbone=_BACKBONE.value,
        weights=_WEIGHTS.value,
        image_size=_SIZE.value,
    )


def _noise() -> tuple[batches.Feed, int]:
    """Returns a feed of noise, a quarter of it for validation."""
    generator = np.random.default_rng(0)
    train = _IMAGES.value
    count = train + train // 4
    shape = (count, _SIZE.value, _SIZE.value, 3)
    pixels = generator.integers(0, 256, shape, np.uint8)
    targets = np.arange(count) % _NOISE_CLASSES
    rows = np.arange(count)
    hashes = np.array([f"{row:015x}" for row in rows])
    parts = [
        batches.Subset(rows[part], targets[part], hashes[part])
        for part in (slice(train), slice(train, None))
    ]
    feed = batches.feed(
        image_stores.Images(_SIZE.value, pixels.__getitem__),
        *parts,
        batch_size=_BATCH.value,
        augment="flip",
        seed=0,
        class_weights=np.ones(_NOISE_CLASSES),
    )
    return feed, _NOISE_CLASSES


def _real(folder: str) -> tuple[batches.Feed, int]:
    """Returns a feed of --data, whose decoded images are kept in `folder`."""
    data = measuring.prepare(
        _DATA.value, image_size=_SIZE.value, directory=folder
    )
    return measuring.feed(data, batch_size=_BATCH.value), len(data.labels)


def _show(found: dict[str, list[measuring.Parts]], feed: batches.Feed) -> None:
    bare, ours = found["bare fit"], found["tlkeras"]
    measuring.show(
        f"{_BACKBONE.value} at {_SIZE.value} pixels, {_UNFREEZE.value} of the "
        f"base learns: {feed.train_images} images to train on in batches of "
        f"{max(feed.train_sizes)}, {feed.validation_images} for validation; "
        f"{_EPOCHS.value} epochs, {_REPEATS.value} repeats",
        ("seconds", "bare fit", "tlkeras", "tlkeras/bare fit"),
        [
            (
                what,
                measuring.spread(bare, part),
                measuring.spread(ours, part),
                measuring.ratio(ours, bare, part) if compared else "-",
            )
            for what, part, compared in (
                ("an epoch after the first", "epoch", True),
                ("the first, with tracing", "first", True),
                # A few milliseconds of the bare one are no measure.
                ("before the first", "before", False),
                ("after the last", "after", False),
                ("all", "all", True),
            )
        ],
        (
            "Medians of the repeats; in brackets the smallest and the "
            "largest. Validation is part of an epoch. Before and",
            "after stand compile, the copy of the state at the start and the "
            "check that nothing frozen moved. One copy of",
            f"the state ({measuring.median(ours, 'copied'):.0f} MB) takes "
            f"{measuring.spread(ours, 'copy')} s; an epoch that is the best "
            "so far makes one, too.",
        ),
    )


if __name__ == "__main__":
    app.run(main)
