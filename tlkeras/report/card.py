"""model_card.md: a run for whoever is given its model.

In the form of Hugging Face's hub: metadata in YAML first, then Markdown
(Mitchell and others, 2019: Model cards for model reporting, arXiv:1810.03993).
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tlkeras.backbones import hub
from tlkeras.backbones import origins
from tlkeras.data import sources
from tlkeras.report import templates


def render(
    report: Mapping[str, Any],
    *,
    sizes: np.ndarray,
    resize: str,
    environment: Mapping[str, str],
) -> str:
    """Returns the card of a run.

    `report` is what report.json holds; `sizes` are width and height of the
    pictures [n, 2], in pixels; `resize` is the policy. Of a place on a disk
    only its last name is told.
    """
    template = templates.load(
        "card.md",
        cell=_cell,
        json=json.dumps,
        percent=_percent,
        source=_source,
    )
    data, test = report["data"], report["test"]
    text = template.render(
        report=report,
        test=test,
        data=data,
        title=templates.title(data["name"]),
        sizes=_sizes(sizes),
        resize=resize,
        limits=[
            *(test["warnings"] if test else ()),
            *data["notes"],
        ],
        environment=environment,
        backbone=hub.title(report["backbone"]),
        weights=origins.describe(report["backbone"], report["weights"]),
    )
    return templates.writable(text)


def _cell(text: str) -> str:
    """Returns text as a cell of a table or a sentence shows it, as it is."""
    for sign in "\\`*_|[]<>":
        text = text.replace(sign, f"\\{sign}")
    return text


def _source(name: str) -> str:
    if not sources.file_place(name):
        return name
    return f"{name.partition(':')[0]}:{templates.title(name)}"


def _sizes(sizes: np.ndarray) -> str:
    low, high = sizes.min(axis=0), sizes.max(axis=0)
    if (low == high).all():
        return f"{low[0]:,} x {low[1]:,} pixels"
    return (
        f"{low[0]:,} to {high[0]:,} pixels in width and {low[1]:,} to "
        f"{high[1]:,} in height"
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
