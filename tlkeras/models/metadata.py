"""What a model.keras says of itself, read without Keras.

It is a member of the archive, which Keras ignores.
"""

import dataclasses
import json
import os
import zipfile

from tlkeras import errors

_MEMBER = "tlkeras.json"


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What is needed to use a model.

    labels: the classes, in the order of the logits.
    resize: the policy by which an image becomes square.
    image_size: side in pixels.
    max_pixels: larger images are refused.
    backbone: the base's name in the catalogue.
    """

    labels: tuple[str, ...]
    resize: str
    image_size: int
    max_pixels: int
    backbone: str


def append(path: str | os.PathLike, metadata: Metadata) -> None:
    """Adds `metadata` to the archive `path`."""
    values = {
        "schema": 1,
        "outputs": "logits",
        **dataclasses.asdict(metadata),
    }
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_MEMBER, json.dumps(values, indent=1))


def read(path: str | os.PathLike) -> Metadata:
    """Returns what the archive `path` says of itself.

    Raises `UserError` where it is no archive, or was not saved by tlkeras.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            values = json.loads(archive.read(_MEMBER))
    except zipfile.BadZipFile:
        raise errors.UserError(
            f"`model` {path} is no .keras file, or a damaged one."
        ) from None
    except KeyError:
        raise errors.UserError(
            f"`model` {path} was not saved by tlkeras: it does not say its "
            "labels. Give the model.keras of a run."
        ) from None
    except OSError as error:
        raise errors.UserError(
            f"`model` {path} cannot be read: {error.strerror}."
        ) from None
    return Metadata(
        tuple(values["labels"]),
        values["resize"],
        values["image_size"],
        values["max_pixels"],
        values["backbone"],
    )
