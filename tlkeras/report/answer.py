"""The first screen of a run's page: how good, whether to trust it, what next.

Three plain sentences, each from what was measured.
"""

from collections.abc import Mapping
from typing import Any

from tlkeras import errors

# A class is the weakest only with so many images, and so far below the rest.
_IMAGES = 5
_BELOW = 0.1
# Groups of images below which a figure is a rough one.
_FEW = 200


def sentences(report: Mapping[str, Any]) -> tuple[str, str, str]:
    """Returns the three sentences on a run, as report.json describes it."""
    return _how_good(report), _trust(report), _what_next(report)


def _how_good(report: Mapping[str, Any]) -> str:
    test = report["test"]
    if not test:
        return "There is no test image, so how good it is is not known."
    accuracy, majority = test["accuracy"], test["majority"]
    said = (
        f"Of 100 new images like these it answers about "
        f"{100 * accuracy['value']:.0f} rightly, and {_span(accuracy)} is "
        "possible"
    )
    if accuracy["low"] <= majority:
        return (
            f"{said}: that is not clearly better than always answering the "
            f"most common class ({100 * majority:.0f})."
        )
    return (
        f"{said}; always the most common class would be {100 * majority:.0f}."
    )


def _trust(report: Mapping[str, Any]) -> str:
    test = report["test"]
    if not test:
        return "Nothing that was measured can be trusted to hold elsewhere."
    copies = report["data"]["duplicates"]
    alike, accuracy = copies["alike_across_splits"], test["accuracy"]
    if copies["across_given_splits"] or 20 * alike > accuracy["n"]:
        said = (
            "Do not trust it yet: the test asks what training has shown, for "
            "some images are in both or look alike"
        )
    elif accuracy["low"] <= test["majority"]:
        said = "Do not use it yet: it may know no more than how common each is"
    elif accuracy["groups"] < _FEW:
        said = (
            "Trust the figure roughly: it rests on "
            f"{errors.count(accuracy['groups'], 'test image')}"
        )
    else:
        said = (
            "The figure can be trusted for images like these: it rests on "
            f"{accuracy['groups']:,} test images that chose nothing"
        )
    return f"{said}; {_scores(report)}."


def _scores(report: Mapping[str, Any]) -> str:
    """Returns whether the scores mean what they say."""
    error = report["test"]["expected_calibration_error"]
    after = report["calibration"]["after"]
    if after["low"] > after["chance"]:
        return (
            f"its scores are {100 * error:.0f} points off on average, so do "
            "not read them as probabilities"
        )
    return f"its scores mean what they say, within {100 * error:.0f} points"


def _what_next(report: Mapping[str, Any]) -> str:
    parts = [step["reason"] for step in report["next_steps"][:1]]
    weak = _weakest(report)
    if weak:
        found = (
            f"of {weak['label']} only {100 * weak['recall']:.0f} % are found"
        )
        parts.append(
            f"{found}, so more images of it may help"
            if parts
            else f"{found[:1].upper()}{found[1:]}: more images of it may help"
        )
    if not parts:
        return "Nothing that was measured asks for a change."
    return f"{'; '.join(parts)}."


def _weakest(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the class that is found least often, if that stands out."""
    test = report["test"]
    if not test:
        return None
    rows = [
        row
        for row in test["per_class"]
        if row["recall"] is not None and row["n"] >= _IMAGES
    ]
    if len(rows) < 2:
        return None
    weak = min(rows, key=lambda row: row["recall"])
    stands_out = weak["recall"] < test["balanced_accuracy"] - _BELOW
    return weak if stands_out else None


def _span(share: Mapping[str, float]) -> str:
    return f"{100 * share['low']:.0f} to {100 * share['high']:.0f}"
