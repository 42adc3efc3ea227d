"""model.keras with what belongs to it: labels, resize policy, meaning."""

import dataclasses
import json
import os
import zipfile

import keras

from tlkeras import errors
from tlkeras import files
from tlkeras.backbones import base as bases
from tlkeras.backbones import locate
from tlkeras.backbones import weights

_MEMBER = "tlkeras.json"


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained model and what is needed to use it.

    model: images [n, size, size, 3], float32 in 0..255 -> logits [n, k].
    labels: the k classes, in the order of the logits.
    resize: the policy by which an image becomes square.
    image_size: side in pixels.
    """

    model: keras.Model
    labels: tuple[str, ...]
    resize: str
    image_size: int
    path: str = ""


def save(path: str | os.PathLike, classifier: Classifier) -> None:
    """Writes `classifier` to `path`, a .keras file, whole or not at all.

    The metadata is a further member of the archive, which Keras ignores.
    """
    metadata = {
        "schema": 1,
        "outputs": "logits",
        "labels": classifier.labels,
        "resize": classifier.resize,
        "image_size": classifier.image_size,
        "backbone": bases.of(classifier.model).backbone,
    }
    with files.replacing(path) as temporary:
        classifier.model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(_MEMBER, json.dumps(metadata, indent=1))


def load(path: str | os.PathLike) -> Classifier:
    """Returns the classifier in a run directory or a .keras file.

    Raises `UserError` where there is none, or it lacks its metadata.
    """
    path = locate.model(path)
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read(_MEMBER))
    except zipfile.BadZipFile:
        raise errors.UserError(
            f"`model` {path} is no .keras file, or a damaged one."
        ) from None
    except KeyError:
        raise errors.UserError(
            f"`model` {path} was not saved by tlkeras: it does not say its "
            "labels. Give the model.keras of a run."
        ) from None
    return Classifier(
        weights.open_model(path),
        tuple(metadata["labels"]),
        metadata["resize"],
        metadata["image_size"],
        str(path),
    )
