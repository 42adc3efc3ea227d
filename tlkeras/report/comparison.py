"""A comparison of several strategies as one HTML file."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import markupsafe

from tlkeras import progress as progresses
from tlkeras.report import comparison_plots
from tlkeras.report import templates

# Which models the figures are of, by `final_fit`.
_FINAL = {
    "auto": "",
    "train": "",
    "train_and_validation": (
        " The test figures are those of models that learned once more, from "
        "training and validation; the order is that of the choice before."
    ),
    "all": (
        " All figures are those of the models before their final fit: those "
        "that are delivered have learned from all images, and nothing measures "
        "them."
    ),
}


def render(report: Mapping[str, Any]) -> str:
    """Returns what compare.json holds as a page."""
    rows = report["ways"]
    text = templates.load("comparison.html").render(
        report=report,
        title=templates.title(report["data"]["name"]),
        rows=[
            {**row, "verdict": verdict(row, report["claimed"])} for row in rows
        ],
        leader=rows[0],
        cheapest=next(
            row for row in rows if row["way"] == report["cheapest_as_good"]
        ),
        conclusion=conclusion(report),
        again=again(report),
        budget=budget(report["budget"]),
        duration=progresses.duration,
        costs=markupsafe.Markup(comparison_plots.costs(rows)),
        courses=markupsafe.Markup(comparison_plots.courses(rows)),
    )
    return templates.writable(text)


def verdict(row: Mapping[str, Any], claimed: float) -> str:
    """Returns how a strategy stands against the best one, in words.

    claimed: the p value below which a difference is claimed.
    """
    against = row.get("against_leader")
    if against is None:
        return "best on the validation images"
    points, low, high = (
        # Adding 0 makes a negative nothing a nothing.
        round(-100 * against[name], 1) + 0.0
        for name in ("behind", "high", "low")
    )
    told = f"{points:+.1f} points ({low:+.1f} to {high:+.1f})"
    if row["dropped"]:
        return f"dropped, worse on the validation images: {told}"
    if not against["distinguishable"]:
        if against["p_images"] < claimed and row["seeds"] > 1:
            return f"{told}, which the seeds could have made"
        return f"not distinguishable: {told}"
    return f"{told}, p = {against['p']:.2g}"


def conclusion(report: Mapping[str, Any]) -> str:
    """Returns what a person should take from it, in a few sentences."""
    return f"{_advice(report)}{_FINAL[report.get('final_fit', 'train')]}"


def _advice(report: Mapping[str, Any]) -> str:
    rows = report["ways"]
    leader, cheapest = report["leader"], report["cheapest_as_good"]
    if report["seeds"] < 2:
        return (
            f"{leader} is best on the validation images. With one seed no "
            "difference between strategies can be claimed: give --seeds=3."
        )
    left = [row["way"] for row in rows if row["dropped"]]
    dropped = f" {', '.join(left)} dropped out." if left else ""
    equal = [row["way"] for row in rows[1:] if row["as_good"]]
    if not equal:
        return (
            f"Take {leader}: it is best on the validation images, and no "
            f"other strategy is as good on the test images.{dropped}"
        )
    same = (
        f"the test images do not show it to be better than {', '.join(equal)}"
    )
    if cheapest == leader:
        return (
            f"Take {leader}: it is best on the validation images, {same}, and "
            f"it is the cheapest of these.{dropped}"
        )
    seconds = {row["way"]: row["seconds"] for row in rows}
    short, long = (
        progresses.duration(seconds[name]) for name in (cheapest, leader)
    )
    return (
        f"Take {cheapest}: it learns in {short}, {leader} in {long}. {leader} "
        f"is {_ahead(rows, cheapest)}, but {same}.{dropped}"
    )


def _ahead(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Returns how the leader, the first of `rows`, is ahead of `name`."""
    validation = {row["way"]: row["validation_accuracy"] for row in rows}
    points = 100 * (rows[0]["validation_accuracy"] - validation[name])
    if points < 0.05:
        return (
            "equal on the validation images, with a lower cross-entropy there"
        )
    return f"{points:.1f} points ahead on the validation images"


def again(report: Mapping[str, Any]) -> str:
    """Returns the directory of a member of the strategy that is to be taken."""
    row = next(
        row
        for row in report["ways"]
        if row["way"] == report["cheapest_as_good"]
    )
    return row["members"][0]["directory"]


def budget(given: Mapping[str, Any]) -> str:
    """Returns the budget of each in words; `given` as compare.json has it.

    Whole epochs are trained, so that it seldom is what was asked for.
    """
    if given["seconds"]:
        return f"about {given['seconds']} s of training each"
    epochs, steps = given["epochs_each"], given["steps_each"]
    asked = "the rule of Big Transfer"
    if given["steps"]:
        asked = f"{given['steps']:,} asked for"
    plural = "s" if epochs > 1 else ""
    return (
        f"{steps:,} steps each at most, {epochs} epoch{plural} of "
        f"{steps // epochs:,} ({asked})"
    )
