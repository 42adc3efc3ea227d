"""A comparison of several strategies as one HTML file."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import markupsafe

from tlkeras import progress as progresses
from tlkeras.report import comparison_plots
from tlkeras.report import drawing
from tlkeras.report import templates
from tlkeras.settings import strategies

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


def draw(report: Mapping[str, Any]) -> dict[str, drawing.Picture]:
    """Returns the pictures of a comparison by name.

    report: as compare.json has it.
    """
    return comparison_plots.draw(report["strategies"])


def render(
    report: Mapping[str, Any], drawn: Mapping[str, drawing.Picture]
) -> str:
    """Returns what compare.json holds as a page, with what `draw` made."""
    rows = report["strategies"]
    text = templates.load("comparison.html").render(
        report=report,
        title=templates.title(report["data"]["name"]),
        rows=[
            {
                **row,
                "verdict": verdict(row, report),
                "short": short_budget(row),
            }
            for row in rows
        ],
        leader=rows[0],
        cheapest=next(
            row for row in rows if row["strategy"] == report["cheapest_as_good"]
        ),
        conclusion=conclusion(report),
        margin=_points(report["margin"]),
        again=again(report),
        budget=budget(report["budget"]),
        duration=progresses.duration,
        drawn={
            name: markupsafe.Markup(each.svg) for name, each in drawn.items()
        },
    )
    return templates.writable(text)


def verdict(row: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Returns how a strategy stands against the best one, in words.

    row, report: as compare.json has them.
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
    return f"{_standing(row, report)}: {told}"


def _standing(row: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Returns what is proved of a strategy against the best, or likely."""
    against = row["against_leader"]
    if row["dropped"]:
        return "dropped, worse on the validation images"
    if against["distinguishable"]:
        what = "worse" if against["behind"] > 0 else "better on the test images"
        return f"{what}, p = {against['p']:.2g}"
    if row["as_good"]:
        return (
            f"as good within {_points(report['margin'])}, "
            f"p = {against['p_worse']:.2g}"
        )
    if report["seeds"] < 2:
        return "not tested with one seed"
    if not _likely(row, report):
        return "undecided"
    if against["p_images"] < report["claimed"]:
        return "probably worse, but the seeds could have made it"
    return "probably worse, not proved"


def _likely(row: Mapping[str, Any], report: Mapping[str, Any]) -> bool:
    """Tells whether validation and test images both are for the best one."""
    lead = _lead(row, report)
    return lead > 0 and row["against_leader"]["behind"] > 0


def _lead(row: Mapping[str, Any], report: Mapping[str, Any]) -> float:
    """Returns how far the best is ahead on the validation images [points]."""
    best = report["strategies"][0]["validation_accuracy"]
    return round(100 * (best - row["validation_accuracy"]), 1) + 0.0


def conclusion(report: Mapping[str, Any]) -> str:
    """Returns what is proved and what is likely, in a few sentences."""
    leader, *others = report["strategies"]
    name = leader["strategy"]
    taken = next(
        row
        for row in report["strategies"]
        if row["strategy"] == report["cheapest_as_good"]
    )
    rest = [row for row in others if row is not taken and not row["dropped"]]
    proved = [row for row in rest if row["against_leader"]["distinguishable"]]
    better = [row for row in proved if row["against_leader"]["behind"] < 0]
    proved = [row for row in proved if row not in better]
    equal = [
        row for row in rest if row["as_good"] and row not in (*better, *proved)
    ]
    open_ = [row for row in rest if row not in (*proved, *better, *equal)]
    likely = [row for row in open_ if _likely(row, report)]
    sentences = [_take(report, taken)]
    if proved:
        sentences.append(f"{name} is better than {_names(proved)}.")
    if better:
        sentences.append(
            f"{_names(better)} did better on the test images, which choose "
            "nothing."
        )
    if equal:
        margin = _points(report["margin"])
        sentences.append(f"{_names(equal)}: as good within {margin}.")
    if report["seeds"] < 2:
        sentences.append(
            "With one seed no difference between strategies can be claimed: "
            "give --seeds=3."
        )
    else:
        sentences += _unproved(report, likely, open_)
    dropped = [row for row in others if row["dropped"]]
    if dropped:
        sentences.append(f"{_names(dropped)} dropped out.")
    told = " ".join(sentences)
    return f"{told}{_FINAL[report.get('final_fit', 'train')]}"


def _take(report: Mapping[str, Any], taken: Mapping[str, Any]) -> str:
    leader = report["strategies"][0]
    if taken is leader:
        return (
            f"Take {leader['strategy']}: it is best on the validation images."
        )
    against = taken["against_leader"]
    good = f"as good as {leader['strategy']} within {_points(report['margin'])}"
    if against["distinguishable"]:
        good = f"on the test images better than {leader['strategy']}"
    return (
        f"Take {taken['strategy']}: it is {good} (p = "
        f"{against['p_worse']:.2g}), and {_cheaper(taken, leader)}."
    )


def _unproved(
    report: Mapping[str, Any],
    likely: Sequence[Mapping[str, Any]],
    undecided: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Returns what is likely, what is not even that, and what is cheaper.

    likely: those of `undecided` that are probably worse than the best.
    """
    leader, sentences = report["strategies"][0], []
    open_ = [row for row in undecided if row not in likely]
    accuracy = leader["accuracy"]
    images = f"{accuracy['n']:,} test images"
    if accuracy["groups"] < accuracy["n"]:
        images += f" in {accuracy['groups']:,} groups"
    known = f"with {images} and {report['seeds']} seeds"
    if likely:
        ahead = ", ".join(
            f"{row['strategy']} ({_lead(row, report):+.1f} points on "
            "validation)"
            for row in likely
        )
        sentences.append(
            f"{leader['strategy']} is probably better than {ahead}: not proved "
            f"{known}."
        )
    if open_:
        sentences.append(
            f"Whether it is better than {_names(open_)} is open {known}."
        )
    cheap = [row for row in undecided if _cheaper(row, leader)]
    if cheap:
        costs = ", ".join(
            f"{row['strategy']} is {_cheaper(row, leader)}" for row in cheap
        )
        sentences.append(f"{costs}.")
    return sentences


def _cheaper(row: Mapping[str, Any], leader: Mapping[str, Any]) -> str:
    """Returns by how much a strategy takes less training, '' if it does not."""
    times = leader["seconds"] / max(row["seconds"], 0.05)
    if times < 1.5:
        return "cheaper" if times > 1 and row.get("as_good") else ""
    return f"{min(times, 100):.0f} times cheaper"


def _names(rows: Sequence[Mapping[str, Any]]) -> str:
    names = [row["strategy"] for row in rows]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _points(margin: float) -> str:
    return f"{margin:g} point{'' if margin == 1 else 's'}"


def short_budget(row: Mapping[str, Any]) -> str:
    """Returns what to say beside a number that a small budget has made."""
    if not row["too_few_steps"]:
        return ""
    start = (
        ""
        if strategies.BY_NAME[row["strategy"]].pretrained
        else " from scratch"
    )
    return f"only {row['base_steps']:,} steps{start}"


def again(report: Mapping[str, Any]) -> str:
    """Returns the directory of a run of the strategy that is to be taken."""
    row = next(
        row
        for row in report["strategies"]
        if row["strategy"] == report["cheapest_as_good"]
    )
    return row["runs"][0]["directory"]


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
