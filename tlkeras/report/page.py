"""A run as one HTML file that needs nothing but itself."""

import math
import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import markupsafe

from tlkeras import files
from tlkeras import progress as progresses
from tlkeras import records
from tlkeras.data import sources
from tlkeras.models import task as tasks
from tlkeras.report import plots
from tlkeras.report import templates

# A space that keeps a number and its unit on one line.
_SPACE = "\u00a0"
_NOTHING = "\u2013"
_CONFUSED = 12

_STOPPED = {
    "patience": "It stopped when validation no longer got better.",
    "solved": "Its minimum was solved for.",
    "budget": "It used all of its epochs.",
    "diverged": "It stopped because the loss was no longer finite: it "
    "diverged.",
    "interrupted": "It was interrupted.",
}


def write(
    path: str | os.PathLike,
    report: Mapping[str, Any],
    *,
    history: Sequence[records.Epoch],
    mistakes: Sequence[Mapping[str, Any]],
    command: str,
    configuration: str,
    environment: Mapping[str, str],
) -> None:
    """Writes the run as one HTML file to `path`, whole or not at all.

    `report` is what report.json holds; `mistakes` are the worst answers,
    worst first, each with `path`, `true_label`, `label`, `score` [0, 1] and
    its picture `png`; `command` makes the run again; `configuration` is its
    TOML.
    """
    files.write_text(
        path,
        render(
            report,
            history=history,
            mistakes=mistakes,
            command=command,
            configuration=configuration,
            environment=environment,
        ),
    )


def render(
    report: Mapping[str, Any],
    *,
    history: Sequence[records.Epoch],
    mistakes: Sequence[Mapping[str, Any]],
    command: str,
    configuration: str,
    environment: Mapping[str, str],
) -> str:
    """Returns what `write` writes."""
    template = templates.load(
        "page.html",
        percent=_percent,
        decimal=_decimal,
        whole=_whole,
        rate=_rate,
        duration=_duration,
    )
    test = report["test"]
    sections = tasks.TASKS[report["task"]].page if test else ()
    phases = report["phases"]
    text = template.render(
        report=report,
        test=test,
        validation=report["validation"],
        data=report["data"],
        phases=phases,
        title=_title(report["data"]["name"]),
        warnings=_warnings(report),
        story=_story(phases, report["strategy"]),
        splits=_splits(report["data"]["images"]),
        classes=_classes(test),
        confused=_confused(test),
        wrong=_wrong(test),
        # Drawn here from checked values, so markup and not text.
        curves=[
            markupsafe.Markup(svg) for svg in plots.curves(history, phases)
        ],
        sections=sections,
        confusion=_drawn(test, _confusion),
        reliability=_drawn(test, _reliability),
        mistakes=mistakes,
        command=command,
        configuration=configuration,
        environment=environment,
    )
    return templates.writable(text)


def _title(name: str) -> str:
    path = sources.file_place(name)
    if path:
        return os.path.basename(os.path.normpath(path)) or path
    return name.partition(":")[2] or name


def _warnings(report: Mapping[str, Any]) -> list[str]:
    found = list((report["test"] or {}).get("warnings", ()))
    # Law 10: the validation split chose the epochs; its own size warns of
    # choices made by chance.
    found += [
        f"Validation: {warning[:1].lower()}{warning[1:]}"
        for warning in (report["validation"] or {}).get("warnings", ())
    ]
    duplicates = report["data"]["duplicates"]
    across = duplicates["across_given_splits"]
    if across:
        found.append(
            f"{_groups(across)} in more than one of the given splits: the "
            "results are better than new images would give."
        )
    twice = duplicates["under_two_labels"]
    if twice:
        found.append(
            f"{_groups(twice)} under two labels: at most one of the two can "
            "be right."
        )
    return found


def _groups(count: int) -> str:
    if count == 1:
        return "1 group of equal images stands"
    return f"{count:,} groups of equal images stand"


def _story(
    phases: Sequence[Mapping[str, Any]], strategy: str
) -> list[dict[str, Any]]:
    """Returns for each phase what was done and what came of it."""
    told = []
    standing: Mapping[str, Any] | None = None
    for phase in phases:
        text = f"{_learned(phase, strategy)} {_ending(phase)}"
        result = _result(phase, standing)
        told.append(
            {
                "name": phase["name"],
                "text": f"{text} {result}",
                "rolled_back": phase["rolled_back"],
                "improved": phase["improved"] and not phase["rolled_back"],
                "diverged": phase["stopped"] == "diverged",
            }
        )
        if not phase["rolled_back"]:
            standing = phase
    return told


def _learned(phase: Mapping[str, Any], strategy: str) -> str:
    unfreeze = phase["unfreeze"]
    if unfreeze == "none":
        who = "The head learned on the frozen base"
    elif unfreeze == "all" and strategy == "scratch":
        who = "All of the network learned, from random weights"
    elif unfreeze == "all":
        who = "The head and all of the base learned"
    elif unfreeze.startswith("stages:"):
        number = unfreeze.removeprefix("stages:")
        top = "topmost stage" if number == "1" else f"{number} topmost stages"
        who = f"The head and the {top} of the base learned"
    else:
        layer = unfreeze.removeprefix("from:")
        who = f"The head and the base from layer {layer} upwards learned"
    if phase["stopped"] == "solved":
        return f"{who}, solved for with an L2 penalty of {phase['l2']:.2g}."
    epochs = phase["epochs"]
    often = "1 epoch" if epochs == 1 else f"{epochs:,} epochs"
    return f"{who} for {often}, at a rate of {_rate(phase['learning_rate'])}."


def _ending(phase: Mapping[str, Any]) -> str:
    return _STOPPED.get(phase["stopped"], f"It ended: {phase['stopped']}.")


def _result(phase: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    accuracy = phase["validation_accuracy"]
    earlier = "the start" if before is None else f"'{before['name']}'"
    if accuracy is None:
        found = "No epoch gave a finite result"
        if phase["rolled_back"]:
            found += f", so the weights of {earlier} stand"
        return f"{found}."
    if phase["rolled_back"]:
        against = "" if before is None else f" the {_both(before)} of"
        return (
            f"Its best epoch reached {_both(phase)} on validation, not better "
            f"than{against} {earlier}, so it was rolled back: the weights of "
            f"{earlier} stand."
        )
    reached = (
        f"Its best epoch, {phase['best_epoch']}, has a validation accuracy "
        f"of {_percent(accuracy)}"
    )
    if not phase["best_epoch"]:
        reached = (
            "No epoch was better than its start, with a validation accuracy "
            f"of {_percent(accuracy)}"
        )
    if before is None or before["validation_accuracy"] is None:
        return f"{reached}."
    points = 100 * (accuracy - before["validation_accuracy"])
    verdict = (
        "an improvement beyond one standard error"
        if phase["improved"]
        else "no improvement beyond one standard error"
    )
    return f"{reached}: {points:+.1f} points against {earlier}, {verdict}."


def _both(phase: Mapping[str, Any]) -> str:
    return (
        f"{_percent(phase['validation_accuracy'])} (cross-entropy "
        f"{_decimal(phase['validation_cross_entropy'])})"
    )


def _splits(
    images: Mapping[str, Mapping[str, int]],
) -> dict[str, dict[str, int]]:
    """Returns for each split its images, and their sum under ''."""
    return {
        name: {**counts, "": sum(counts.values())}
        for name, counts in images.items()
    }


def _classes(test: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Returns the classes, those the model knows worst first."""
    return sorted(
        test["per_class"] if test else (),
        key=lambda row: math.inf if row["f1"] is None else row["f1"],
    )


def _confused(test: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Returns the commonest mistakes as true label, answer and count."""
    if not test:
        return []
    labels = [row["label"] for row in test["per_class"]]
    pairs = [
        {
            "true_label": labels[row],
            "label": labels[column],
            "n": count,
            "share": count / sum(counts),
        }
        for row, counts in enumerate(test["confusion"])
        for column, count in enumerate(counts)
        if count and row != column
    ]
    pairs.sort(key=lambda pair: (-pair["n"], -pair["share"]))
    return pairs[:_CONFUSED]


def _wrong(test: Mapping[str, Any] | None) -> int:
    if not test:
        return 0
    return sum(
        count
        for row, counts in enumerate(test["confusion"])
        for column, count in enumerate(counts)
        if row != column
    )


def _drawn(test: Mapping[str, Any] | None, draw: Any) -> Any:
    return markupsafe.Markup(draw(test)) if test else None


def _confusion(test: Mapping[str, Any]) -> str:
    labels = [row["label"] for row in test["per_class"]]
    return plots.confusion(test["confusion"], labels)


def _reliability(test: Mapping[str, Any]) -> str:
    return plots.reliability(test["reliability"])


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
