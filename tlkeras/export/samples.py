"""The images that an export is proved on, and those that calibrate it."""

import dataclasses
import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import sklearn.datasets
import tensorflow as tf

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.data import images as image_stores
from tlkeras.data import sources
from tlkeras.export import picture
from tlkeras.models import saving
from tlkeras.scoring import evaluate
from tlkeras.scoring import scored_images

# Encoded ones, on which a SavedModel's own decoder is tried.
ENCODED = 8
# Images that the ranges of integers are chosen by: Google's guides use 100 to
# 500.
_CALIBRATION = 200
# Of all squares together [bytes].
_MOST = 2**28


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images that an export is proved on.

    source: which they are, in words. encoded: some of them as files. squares:
    [n, size, size, 3], uint8, as the package decodes them; pillow: the same as
    Pillow does, None where it cannot. targets: their classes [n], None where
    they are not known; groups: names of what belongs together [n].
    calibration: images [n, size, size, 3], uint8, to choose integers by.
    """

    source: str
    encoded: tuple[bytes, ...]
    squares: np.ndarray
    pillow: tuple[np.ndarray | None, ...]
    targets: np.ndarray | None = None
    groups: tuple[str, ...] | None = None
    calibration: np.ndarray | None = None


def photographs(classifier: saving.TrainedModel) -> Samples:
    """Returns the two photographs that come with scikit-learn."""
    folder = pathlib.Path(sklearn.datasets.__file__).parent / "images"
    encoded = tuple(
        (folder / name).read_bytes() for name in ("china.jpg", "flower.jpg")
    )
    shape = classifier.shape
    return Samples(
        "photographs",
        encoded,
        np.stack([image_stores.square(each, shape) for each in encoded]),
        tuple(_pillow(each, shape) for each in encoded),
    )


def of_run(
    model: str | os.PathLike,
    classifier: saving.TrainedModel,
    *,
    max_images: int,
    cache_dir: str | os.PathLike,
    progress: progresses.Progress,
) -> Samples | None:
    """Returns test images of the run of `model`; None where they are gone."""
    source = _source(model, progress)
    if source is None:
        return None
    found = _labelled(
        model, classifier, source, "test", cache_dir, max_images, progress
    )
    if not len(found.squares):
        return None
    return dataclasses.replace(found, source="test images of the run")


def of_data(
    model: str | os.PathLike,
    classifier: saving.TrainedModel,
    data: str,
    *,
    data_dir: str,
    max_images: int,
    cache_dir: str | os.PathLike,
    progress: progresses.Progress,
) -> Samples:
    """Returns images of `data`, a source whose classes the model knows.

    Raises `UserError` where there are none.
    """
    source = sources.open(
        sources.absolute(data), data_dir=data_dir, progress=progress
    )
    evaluate.check_classes(classifier.labels, source)
    found = _labelled(
        model, classifier, source, "all", cache_dir, max_images, progress
    )
    if not len(found.squares):
        raise errors.UserError(f"no image of {data} can be read.")
    return dataclasses.replace(found, source=f"images of {source.name}")


def calibration(
    model: str | os.PathLike,
    classifier: saving.TrainedModel,
    data: str,
    *,
    cache_dir: str | os.PathLike,
) -> np.ndarray:
    """Returns images [n, size, size, 3], uint8, to choose integers by.

    data: a source; '' takes the training images of the run.

    Raises `UserError` where there are none.
    """
    # The run's images were scanned, and that was said.
    progress = progresses.Progress(quiet=True)
    if data:
        source = sources.open(
            sources.absolute(data), data_dir="", progress=progress
        )
        indices = list(range(len(source.examples)))
    else:
        found = _source(model, progress)
        if found is None:
            raise errors.UserError(
                "litert_int8 chooses its integers by the training images of "
                "the run, and they are not there. Give others: "
                "--calibration=folder:PATH."
            )
        source = found
        indices, _ = scored_images.choose(
            evaluate.labelled_data(
                model, classifier, source, cache_dir, progress
            ),
            "train",
        )
    squares = [
        decoded[1]
        for index in _spread(indices, _CALIBRATION, classifier.shape)
        if (decoded := _decode(source, index, classifier.shape)) is not None
    ]
    if not squares:
        raise errors.UserError(
            f"`calibration` {source.name} has no image that can be read."
        )
    return np.stack(squares)


def _source(
    model: str | os.PathLike, progress: progresses.Progress
) -> sources.Source | None:
    """Returns the data that the run of `model` was trained on, if there."""
    config = evaluate.config_of(model)
    if config is None:
        return None
    try:
        return sources.open(
            config.data, data_dir=config.data_dir, progress=progress
        )
    except errors.UserError:
        return None


def _labelled(
    model: str | os.PathLike,
    classifier: saving.TrainedModel,
    source: sources.Source,
    split: str,
    cache_dir: str | os.PathLike,
    max_images: int,
    progress: progresses.Progress,
) -> Samples:
    data = evaluate.labelled_data(
        model, classifier, source, cache_dir, progress
    )
    targets = {label: index for index, label in enumerate(classifier.labels)}
    chosen, _ = scored_images.choose(data, split)
    chosen = [i for i in chosen if source.examples[i].label in targets]
    shape = classifier.shape
    indices: list[int] = []
    encoded: list[bytes] = []
    squares: list[np.ndarray] = []
    pillow: list[np.ndarray | None] = []
    for index in _spread(chosen, max_images, shape):
        decoded = _decode(source, index, shape)
        if decoded is None:
            continue
        indices.append(index)
        squares.append(decoded[1])
        pillow.append(_pillow(decoded[0], shape))
        if len(encoded) < ENCODED:
            encoded.append(decoded[0])
    groups = data.groups()
    return Samples(
        source.name,
        tuple(encoded),
        np.array(squares),
        tuple(pillow),
        np.array([targets[source.examples[index].label] for index in indices]),
        tuple(groups[index] for index in indices),
    )


def _decode(
    source: sources.Source, index: int, shape: image_stores.Shape
) -> tuple[bytes, np.ndarray] | None:
    """Returns a file and its square; None where it cannot be read."""
    try:
        encoded = source.read(index)
        return encoded, image_stores.square(encoded, shape)
    except (OSError, tf.errors.OpError):
        return None


def _pillow(encoded: bytes, shape: image_stores.Shape) -> np.ndarray | None:
    try:
        return picture.square(io.BytesIO(encoded), shape.size, shape.resize)
    except (OSError, ValueError):
        return None


def _spread(
    indices: Sequence[int], most: int, shape: image_stores.Shape
) -> list[int]:
    """Returns at most so many of `indices`, from all over them."""
    most = min(most, len(indices), _MOST // (3 * shape.size**2))
    if most == len(indices):
        return list(indices)
    places = np.linspace(0, len(indices) - 1, max(most, 1)).round().astype(int)
    return [indices[place] for place in places]
