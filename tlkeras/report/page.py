"""A run as one HTML file that needs nothing but itself."""

import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import markupsafe

from tlkeras import progress as progresses
from tlkeras import records
from tlkeras.models import task as tasks
from tlkeras.report import answer
from tlkeras.report import drawing
from tlkeras.report import plots
from tlkeras.report import templates

# A space that keeps a number and its unit on one line.
_SPACE = "\u00a0"
_NOTHING = "\u2013"
# How many of the pairs of classes that are confused most are listed.
_CONFUSED = 12


def draw(
    report: Mapping[str, Any], history: Sequence[records.Epoch]
) -> dict[str, drawing.Picture]:
    """Returns the pictures of a run by name, those there are.

    report: as report.json has it.
    """
    test = report["test"]
    found: dict[str, drawing.Picture | None] = {}
    # A head that was solved has one epoch: a dot is no curve.
    if len(history) > 1:
        found |= plots.curves(history, report["phases"])
    if test:
        found["confusion"] = plots.confusion(test)
        found["reliability"] = plots.reliability(test["reliability"])
        if test.get("two_classes"):
            found |= plots.two_classes(test["two_classes"])
    return {name: each for name, each in found.items() if each is not None}


def render(
    report: Mapping[str, Any],
    *,
    drawn: Mapping[str, drawing.Picture],
    mistakes: Sequence[Mapping[str, Any]],
    right: Sequence[Mapping[str, Any]] = (),
    command: str,
    configuration: str,
    environment: Mapping[str, str],
) -> str:
    """Returns the page of a run.

    `report` is what report.json holds; `drawn` is what `draw` made of it;
    `mistakes` are the worst answers,
    worst first, and `right` some right ones, each with `path`, `true_label`,
    `label`, `score` [0, 1], its picture `png`, and `maps` of the evidence, as
    `pictures.choose` returns them; `command` makes the run again;
    `configuration` is its TOML.
    """
    template = templates.load(
        "page.html",
        percent=_percent,
        decimal=_decimal,
        whole=_whole,
        rate=_rate,
        duration=_duration,
    )
    test = report["test"]
    phases = report["phases"]
    text = template.render(
        report=report,
        answer=answer.sentences(report),
        test=test,
        validation=report["validation"],
        data=report["data"],
        phases=phases,
        title=templates.title(report["data"]["name"]),
        sections=tasks.TASKS[report["task"]].page if test else (),
        classes=_classes(test),
        confused=_confused(test),
        # Drawn from checked values, so markup and not text.
        drawn={
            name: markupsafe.Markup(each.svg) for name, each in drawn.items()
        },
        mistakes=mistakes,
        right=right,
        command=command,
        configuration=configuration,
        environment=environment,
    )
    return templates.writable(text)


def _classes(test: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Returns the classes, those the model knows worst first."""
    return sorted(
        test["per_class"] if test else (),
        key=lambda row: math.inf if row["f1"] is None else row["f1"],
    )


def _confused(test: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Returns the commonest mistakes, with their share of the true class."""
    if not test:
        return []
    images = {row["label"]: row["n"] for row in test["per_class"]}
    pairs = [
        {**pair, "share": pair["n"] / images[pair["true_label"]]}
        for pair in test["confused"]
    ]
    pairs.sort(key=lambda pair: (-pair["n"], -pair["share"]))
    return pairs[:_CONFUSED]


def _percent(share: float | None) -> str:
    if share is None:
        return _NOTHING
    percent = 100 * share
    # Not perfect is not 100.0, and not never is not 0.0.
    if 0 < share < 1:
        percent = min(99.9, max(0.1, percent))
    return f"{percent:.1f}{_SPACE}%"


def _decimal(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return _NOTHING
    return f"{value:.3f}"


def _whole(value: int | None) -> str:
    return _NOTHING if value is None else f"{value:,}"


def _rate(value: float) -> str:
    return f"{value:g}".replace("e-0", "e-")


def _duration(seconds: float) -> str:
    return progresses.duration(seconds).replace(" ", _SPACE)
