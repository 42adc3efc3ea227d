"""A classifier and a data set so small that a phase takes a second."""

import keras
import numpy as np

from tlkeras import progress as progresses
from tlkeras.backbones import base as bases
from tlkeras.data import batches
from tlkeras.data import images as image_stores
from tlkeras.models import classifier as classifiers

SIZE = 8
CLASSES = 3
QUIET = progresses.Progress(quiet=True)


def network(dropout: float = 0.5) -> keras.Model:
    """Two blocks with BatchNorm, and dropout in and between them."""
    images = keras.Input((SIZE, SIZE, 3))
    x = images
    for number in (1, 2):
        if number == 2:
            x = keras.layers.Dropout(dropout, name="between")(x)
        # BatchNorm takes off what a bias adds: it would learn from rounding.
        x = keras.layers.Conv2D(
            4, 3, strides=2, use_bias=False, name=f"conv{number}"
        )(x)
        if number == 1:
            x = keras.layers.Dropout(dropout / 5, name="early")(x)
        x = keras.layers.BatchNormalization(name=f"bn{number}")(x)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
    features = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, features, name="tiny")


def classifier(seed: int = 0, *, dropout: float = 0.5) -> keras.Model:
    """What `build_classifier` makes, on the network above."""
    keras.utils.set_random_seed(seed)
    # A name that a saved model may have.
    base = bases.Base(
        network(dropout), backbone="SmallResNet", scaling="tf", name="base"
    )
    images = keras.Input((SIZE, SIZE, 3))
    head = classifiers.build_head(4, CLASSES, dropout=dropout)
    model = keras.Model(images, head(base(images)))
    base.owned_by(model)
    classifiers.freeze(base)
    return model


def feed(
    images: int = 24,
    *,
    size: int = SIZE,
    batch_size: int = 8,
    classes: int = CLASSES,
) -> batches.Feed:
    """Noise of another brightness for each class, mirrored at random."""
    generator = np.random.default_rng(0)
    targets = np.arange(images) % classes
    noise = generator.integers(0, 60, (images, size, size, 3))
    pixels = noise + (190 // classes * targets)[:, None, None, None]
    return of(
        pixels.astype(np.uint8),
        targets,
        batch_size=batch_size,
        classes=classes,
    )


def of(
    pixels: np.ndarray,
    targets: np.ndarray,
    *,
    validation: slice = slice(None),
    train: slice = slice(None),
    batch_size: int = 8,
    classes: int = CLASSES,
    augment: str = "flip",
    cached_views: int = 4,
    class_weights: np.ndarray | None = None,
    sharding: batches.Sharding = batches.UNSHARDED,
    full: bool = False,
) -> batches.Feed:
    """Trains on one slice of the images and validates on the other."""
    images = image_stores.Images(
        pixels.shape[1], pixels.__getitem__, "as they are"
    )
    rows = np.arange(len(pixels))

    def part(chosen: slice) -> batches.Subset:
        hashes = [f"{row:015x}" for row in rows[chosen]]
        return batches.Subset(rows[chosen], targets[chosen], np.array(hashes))

    return batches.feed(
        images,
        part(train),
        part(validation),
        batch_size=batch_size,
        augment=augment,
        seed=0,
        class_weights=(
            np.ones(classes) if class_weights is None else class_weights
        ),
        cached_views=cached_views,
        sharding=sharding,
        full=full,
    )
