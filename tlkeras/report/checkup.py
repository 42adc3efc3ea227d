"""What the doctor found in a data set, as one HTML file with pictures."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tlkeras.check import audit
from tlkeras.check import checks
from tlkeras.data import images as image_stores
from tlkeras.report import templates

# What of a finding is shown: groups, pictures of a group, side of a picture in
# pixels, lines of a table.
_GROUPS = 24
_PICTURES = 8
_SIDE = 144
_LINES = 1000


def render(checkup: audit.Checkup) -> str:
    """Returns the page of a check, without images that are gone by now."""
    name = checkup.source.name
    text = templates.load("checkup.html").render(
        title=templates.title(name),
        name=name,
        decisions=checkup.decisions,
        images=len(checkup.facts),
        readable=sum(not each.reason for each in checkup.facts),
        labels=checkup.source.labels,
        counts=checkup.counts,
        findings=[_shown(checkup, each) for each in checkup.findings],
    )
    return templates.writable(text)


def _shown(checkup: audit.Checkup, finding: checks.Finding) -> dict[str, Any]:
    """Returns a finding as the template takes it."""
    pictures = finding.name != "unreadable"
    most = _GROUPS if pictures else _LINES
    notes = finding.notes or [""] * len(finding.groups)
    groups = [
        {
            "images": _images(checkup, group[:_PICTURES], pictures),
            "more": len(group[_PICTURES:]),
            "note": note,
        }
        for group, note in zip(finding.groups[:most], notes, strict=False)
    ]
    return {
        "name": finding.name,
        "decision": finding.decision,
        "title": finding.title,
        "text": finding.text,
        "pictures": pictures and bool(groups),
        "loose": pictures and all(len(each) == 1 for each in finding.groups),
        "groups": groups,
        "more": len(finding.groups[most:]),
    }


def _images(
    checkup: audit.Checkup, group: Sequence[int], pictures: bool
) -> list[dict[str, Any]]:
    shown = []
    for index in group:
        example = checkup.source.examples[index]
        image: dict[str, Any] = {
            "path": templates.short(checkup.source.name, example.path),
            "label": example.label,
            "split": example.split,
        }
        if pictures:
            jpeg = _jpeg(checkup, index)
            if jpeg is None:
                continue
            image["jpeg"] = jpeg
        shown.append(image)
    return shown


def _jpeg(checkup: audit.Checkup, index: int) -> bytes | None:
    shape = image_stores.Shape(_SIDE, "pad")
    try:
        pixels = image_stores.square(checkup.source.read(index), shape)
    except (OSError, tf.errors.OpError):
        return None
    return tf.io.encode_jpeg(pixels, quality=85).numpy()
