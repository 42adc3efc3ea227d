"""What a model.keras says of itself, read without Keras.

It is a member of the archive, which Keras ignores.
"""

import dataclasses
import json
import os
import zipfile
from typing import Any

from tlkeras import errors
from tlkeras import files
from tlkeras.settings import config as configs
from tlkeras.settings import setting as setting_rules

_MEMBER = "tlkeras.json"
_SCHEMA = 1


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
        "schema": _SCHEMA,
        "outputs": "logits",
        **dataclasses.asdict(metadata),
    }
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_MEMBER, json.dumps(values, indent=1))


def read(path: str | os.PathLike) -> Metadata:
    """Returns what the archive `path` says of itself, checked.

    Raises `UserError` where it is no archive, a damaged one, was not saved by
    tlkeras, or says what cannot be.
    """
    try:
        values = _member(path, _MEMBER)
    except KeyError:
        raise errors.UserError(
            f"`model` {path} was not saved by tlkeras: it does not say its "
            "labels. Give the model.keras of a run."
        ) from None
    except OSError as error:
        raise errors.UserError(
            f"`model` {path} cannot be read: {error.strerror}."
        ) from None
    # Of a damaged archive zipfile, zlib, struct and json raise what they like.
    except Exception as error:
        raise errors.UserError(
            f"`model` {path} is no .keras file, or a damaged one."
        ) from error
    return _checked(values, f"{path}, {_MEMBER}")


def _member(path: str | os.PathLike, name: str) -> Any:
    with zipfile.ZipFile(path) as archive:
        # What takes a few bytes in an archive may fill any memory.
        if archive.getinfo(name).file_size > files.LARGEST_SETTINGS:
            raise ValueError
        return json.loads(archive.read(name))


def _checked(values: Any, origin: str) -> Metadata:
    """Returns the metadata; raises `UserError` for what cannot be."""
    if not isinstance(values, dict) or values.get("schema") != _SCHEMA:
        raise errors.UserError(
            f"{origin}: `schema` must be {_SCHEMA}. Received: "
            f"{errors.shown(values)}. It was saved by another version of "
            "tlkeras, or is damaged."
        )
    for field in dataclasses.fields(Metadata):
        if field.name not in values:
            raise errors.UserError(f"{origin} lacks `{field.name}`.")
    labels = values["labels"]
    if (
        not isinstance(labels, list)
        or not all(isinstance(label, str) for label in labels)
        or not len(set(labels)) == len(labels) >= 2
    ):
        raise errors.UserError(
            f"{origin}: `labels` must be two texts or more, all different. "
            f"Received: {errors.shown(labels)}."
        )
    known = configs.settings()
    names = ("resize", "max_pixels", "backbone")
    checked = {
        name: setting_rules.check(known[name], values[name], origin)
        for name in names
    }
    # A model has a size; `auto` is none.
    size = dataclasses.replace(
        known["image_size"],
        kinds=(int,),
        rule=dataclasses.replace(known["image_size"].rule, word=""),
    )
    checked["image_size"] = setting_rules.check(
        size, values["image_size"], origin
    )
    return Metadata(tuple(labels), **checked)
