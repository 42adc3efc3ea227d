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
from tlkeras.backbones import catalog
from tlkeras.backbones import hub
from tlkeras.data import sources
from tlkeras.models import threshold as thresholds
from tlkeras.settings import config as configs
from tlkeras.settings import setting as setting_rules

_MEMBER = "tlkeras.json"
_SCHEMA = 1
_OUTPUTS = "logits"


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What is needed to use a model.

    labels: the classes, in the order of the logits.
    resize: the policy by which an image becomes square.
    image_size: side in pixels.
    max_pixels: larger images are refused.
    backbone: the base's name in the catalogue.
    tta: what answers are averaged over.
    threshold: of two classes, from which probability on one is answered.
    """

    labels: tuple[str, ...]
    resize: str
    image_size: int
    max_pixels: int
    backbone: str
    # Models of earlier versions do not say it.
    tta: str = "none"
    threshold: thresholds.Threshold | None = None


_FIELDS = dataclasses.fields(Metadata)


def append(path: str | os.PathLike, metadata: Metadata) -> None:
    """Adds `metadata` to the archive `path`."""
    values = {
        "schema": _SCHEMA,
        "outputs": _OUTPUTS,
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
    schema = values.get("schema") if isinstance(values, dict) else None
    if type(schema) is not int or schema != _SCHEMA:
        raise errors.UserError(
            f"{origin}: `schema` must be {_SCHEMA}. Received: "
            f"{errors.shown(values)}. It was saved by another version of "
            "tlkeras, or is damaged."
        )
    values = {"tta": "none", "threshold": None, **values}
    for name in ("outputs", *(each.name for each in _FIELDS)):
        if name not in values:
            raise errors.UserError(f"{origin} lacks `{name}`.")
    if values["outputs"] != _OUTPUTS:
        raise errors.UserError(
            f"{origin}: `outputs` must be {_OUTPUTS}. Received: "
            f"{errors.shown(values['outputs'])}."
        )
    labels = _labels(values["labels"])
    if labels is None:
        raise errors.UserError(
            f"{origin}: `labels` must be two texts or more, of one line of "
            "UTF-8 each, all different, also where accents are written "
            f"otherwise. Received: {errors.shown(values['labels'])}."
        )
    known = configs.settings()
    names = ("resize", "max_pixels", "backbone", "tta")
    checked = {
        name: setting_rules.check(known[name], values[name], origin)
        for name in names
    }
    backbones = [row.name for row in catalog.BACKBONES]
    # A preset's files need not be where the model is.
    of_hub = checked["backbone"].startswith(hub.PREFIX)
    if checked["backbone"] not in backbones and not of_hub:
        raise errors.UserError(
            f"{origin}: `backbone` must be a network that `tlkeras backbones` "
            f"lists. Received: {errors.shown(checked['backbone'])}."
            f"{errors.nearest(checked['backbone'], backbones)}"
        )
    # A model has a size; `auto` is none.
    size = dataclasses.replace(
        known["image_size"],
        kinds=(int,),
        rule=dataclasses.replace(known["image_size"].rule, word=""),
    )
    checked["image_size"] = setting_rules.check(
        size, values["image_size"], origin
    )
    return Metadata(
        labels,
        **checked,
        threshold=_threshold(values["threshold"], len(labels), origin),
    )


def _threshold(
    values: Any, classes: int, origin: str
) -> thresholds.Threshold | None:
    """Returns the threshold; raises `UserError` for what cannot be."""
    if values is None:
        return None
    try:
        found = thresholds.Threshold(**values)
        right = found.positive in (0, 1) and 0 <= found.probability <= 1
    except TypeError:
        right = False
    if not right or classes != 2:
        raise errors.UserError(
            f"{origin}: `threshold` must name one of two classes and a "
            f"probability. Received: {errors.shown(values)}."
        )
    return found


def _labels(values: Any) -> tuple[str, ...] | None:
    """Returns the classes in the form of sources, None if they cannot be."""
    if not isinstance(values, list) or not all(
        isinstance(value, str) and sources.is_label(value) for value in values
    ):
        return None
    labels = tuple(map(sources.normal_form, values))
    return labels if len(set(labels)) == len(labels) >= 2 else None
