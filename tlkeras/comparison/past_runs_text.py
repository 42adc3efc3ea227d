"""Past runs on the terminal: a list of them, and two side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.report import tables

if TYPE_CHECKING:
    from tlkeras.comparison import past_runs

# Above it, chance explains the difference of two models.
_CLAIMED = 0.05


def listed(runs: Sequence["past_runs.PastRun"]) -> None:
    """Prints a line for each run."""
    header = ("run", "when", "data", "network", "strategy", "accuracy")
    tables.show(
        (*header, "95 % interval", "images", "time"),
        [
            (
                run.directory.name,
                f"{run.when:%Y-%m-%d %H:%M}",
                run.data,
                run.config.backbone,
                run.strategy,
                *_result(run),
            )
            for run in runs
        ],
        right=("accuracy", "95 % interval", "images", "time"),
    )


def _result(run: "past_runs.PastRun") -> tuple[str, ...]:
    if run.report is None:
        return ("unfinished", "", "", "")
    accuracy = run.report["test"]["accuracy"]
    return (
        f"{100 * accuracy['value']:.1f} %",
        f"{100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f}",
        f"{accuracy['n']:,}",
        progresses.duration(run.report["seconds"]),
    )


def pair(
    one: "past_runs.PastRun",
    other: "past_runs.PastRun",
    found: "past_runs.Pair",
) -> None:
    """Prints two runs, the settings that differ, and which model is better."""
    listed([one, other])
    print()
    if found.settings:
        tables.show(
            ("setting", "the first", "the second"),
            [(name, *values) for name, values in found.settings.items()],
        )
    else:
        errors.say("no setting differs")
    print()
    errors.say(verdict(one, other, found))


def verdict(
    one: "past_runs.PastRun",
    other: "past_runs.PastRun",
    found: "past_runs.Pair",
) -> str:
    """Returns in a sentence which of two models is better, and how sure."""
    compared = found.compared
    if compared is None:
        first, second = found.images
        return (
            f"The test images are not the same ({first:,} and {second:,}, "
            f"{found.shared:,} of them in both), so the two accuracies are of "
            "different questions: score both models on one data set with "
            "`tlkeras evaluate`."
        )
    names = [one.directory.name, other.directory.name]
    if compared.difference < 0:
        names.reverse()
    points = abs(100 * compared.difference)
    low, high = sorted(
        100 * bound * (1 if compared.difference >= 0 else -1)
        for bound in (compared.low, compared.high)
    )
    counts = sorted((compared.wins, compared.losses), reverse=True)
    test = (
        f"McNemar's test on the same {found.images[0]:,} test images, "
        f"{counts[0]} to {counts[1]} of them: p = {compared.p_images:.2g}"
    )
    if compared.p_images >= _CLAIMED:
        return (
            f"Neither model is proved better: {points:.1f} points (95 % "
            f"interval {low:.1f} to {high:.1f}) are within chance ({test})."
        )
    return (
        f"The model of {names[0]} is better by {points:.1f} points (95 % "
        f"interval {low:.1f} to {high:.1f}; {test}). That is of these two "
        "models: of their settings `tlkeras compare` tells, with several seeds."
    )
