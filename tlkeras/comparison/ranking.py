"""From the members of a comparison to what is said of the ways."""

import collections
import csv
import dataclasses
import json
import pathlib
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkeras import records
from tlkeras.comparison import significance
from tlkeras.models import task as tasks
from tlkeras.scoring import metrics

# A way is dropped where its validation answers are worse than the leader's
# with this probability of chance. Strict, because it is asked after each seed.
DROPPED = 0.01
# A difference is claimed below this, all pairs with the leader together.
CLAIMED = 0.05


@dataclasses.dataclass(frozen=True)
class Member:
    """What a way came to with one seed.

    right: by split, whether each image was answered right [n].
    """

    way: str
    seed: int
    directory: pathlib.Path
    report: Mapping[str, Any]
    right: Mapping[str, np.ndarray]
    history: tuple[Mapping[str, float], ...]

    def shared(self) -> dict[tuple[str, ...], float]:
        """Returns the seconds for what other members find, by what it is."""
        return {
            (
                phase["cached_at"],
                str(phase["views_cached"]),
                phase["settings"]["solver"],
            ): phase["shared_seconds"]
            for phase in self.report["phases"]
            if phase["views_cached"]
        }

    def seconds(self, costs: Mapping[tuple[str, ...], float]) -> float:
        """Returns seconds of training, without reading, scoring and saving.

        costs: as `shared` has them. Whichever way comes first computes what
        others then find, so each is charged the same.
        """
        phases = self.report["phases"]
        own = sum(each["seconds"] - each["shared_seconds"] for each in phases)
        return own + sum(costs[each] for each in self.shared())


def load(directory: pathlib.Path, way: str, seed: int) -> Member:
    """Returns what a member left in its directory."""
    report = json.loads((directory / "report.json").read_text("utf-8"))
    right: dict[str, list[bool]] = {"validation": [], "test": []}
    is_right = tasks.SINGLE_LABEL.right
    with (directory / "predictions.csv").open(
        encoding="utf-8", errors="surrogateescape", newline=""
    ) as stream:
        for row in csv.DictReader(stream):
            right[row["split"]].append(
                bool(is_right(row["label"], row["true_label"]))
            )
    with (directory / "history.csv").open(encoding="utf-8") as stream:
        history = tuple(
            {
                "seconds": float(row["seconds"]),
                "validation_accuracy": float(row["validation_accuracy"]),
            }
            for row in csv.DictReader(stream)
        )
    return Member(
        way,
        seed,
        directory,
        report,
        {split: np.array(answers) for split, answers in right.items()},
        history,
    )


def _answers(members: Iterable[Member], way: str, split: str) -> np.ndarray:
    """Returns [seeds, images], whether a way was right."""
    return np.stack(
        [member.right[split] for member in members if member.way == way]
    )


def losers(members: Sequence[Member], names: Sequence[str]) -> list[str]:
    """Returns the ways that the leader beats clearly on validation images."""
    leader = _order(members, names)[0]
    best = _answers(members, leader, "validation")
    losers = []
    for way in names:
        if way != leader:
            found = significance.compare(
                best, _answers(members, way, "validation")
            )
            if found.difference > 0 and found.p_images < DROPPED:
                losers.append(way)
    return losers


def _score(members: Sequence[Member], way: str) -> records.Score:
    """Returns the mean validation score of a way over its seeds."""
    own = [each.report["validation"] for each in members if each.way == way]
    return records.Score(
        float(np.mean([each["accuracy"]["value"] for each in own])),
        float(np.mean([each["cross_entropy"] for each in own])),
        own[0]["accuracy"]["n"],
    )


def _order(members: Sequence[Member], names: Sequence[str]) -> list[str]:
    """Returns the ways, best on validation images first.

    What was dropped comes last: it has fewer seeds, which may have been lucky.
    """
    count = collections.Counter(member.way for member in members)
    most = max(count[name] for name in names)
    rest = list(names)
    ordered = []
    while rest:
        best = rest[0]
        for way in rest[1:]:
            dropped, other = count[way] < most, count[best] < most
            if dropped < other or (
                dropped == other
                and records.better(_score(members, way), _score(members, best))
            ):
                best = way
        ordered.append(best)
        rest.remove(best)
    return ordered


def report(
    members: Sequence[Member],
    names: Sequence[str],
    *,
    seeds: int,
    epochs: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    """Returns what compare.json says of the ways; test images choose nothing.

    seeds: trainings of a way that was not dropped. epochs: of each way's
    phases.
    """
    order = _order(members, names)
    leader = order[0]
    costs: dict[tuple[str, ...], float] = {}
    for member in members:
        for place, seconds in member.shared().items():
            costs[place] = max(seconds, costs.get(place, 0.0))
    # A way that was dropped has fewer seeds; all of each are used.
    best = _answers(members, leader, "test")
    found = {
        way: significance.compare(best, _answers(members, way, "test"))
        for way in order[1:]
    }
    corrected = significance.holm([each.p for each in found.values()])
    speed = float(
        # All ways end in the same network; what differs between is noise.
        np.median(
            [each.report["scoring_images_per_second"] for each in members]
        )
    )
    rows = []
    for way in order:
        own = [member for member in members if member.way == way]
        row = _row(own, _score(members, way), costs)
        row |= {
            "epochs": list(epochs[way]),
            "dropped": len(own) < seeds,
            "images_per_second": speed,
        }
        if way != leader:
            row["against_leader"] = _against(
                found[way], corrected[list(found).index(way)]
            )
        # What cannot be claimed to be worse is not as good yet: neither with
        # one seed, nor where the images alone speak against it, nor what was
        # left because it was worse.
        row["as_good"] = way == leader or (
            seeds > 1
            and not row["dropped"]
            and row["against_leader"]["p_images"] >= CLAIMED
        )
        rows.append(row)
    equal = [row for row in rows if row["as_good"]]
    return {
        "selection_metric": "mean validation accuracy over the seeds",
        "leader": leader,
        "claimed": CLAIMED,
        "cheapest_as_good": min(equal, key=lambda row: row["seconds"])["way"],
        "ways": rows,
    }


def _against(found: significance.Comparison, p: float) -> dict[str, Any]:
    """Returns how a way stands against the leader, whom `found` compares.

    p: corrected for the number of ways.
    """
    return {
        "behind": found.difference,
        "low": found.low,
        "high": found.high,
        "wins": found.losses,
        "losses": found.wins,
        "p_images": found.p_images,
        "p_seeds": found.p_seeds,
        "p": p,
        "distinguishable": p < CLAIMED,
    }


def _row(
    own: Sequence[Member],
    score: records.Score,
    costs: Mapping[tuple[str, ...], float],
) -> dict[str, Any]:
    """Returns what all members of a way, `own`, came to."""
    first = own[0].report
    accuracies = [each.report["test"]["accuracy"]["value"] for each in own]
    images = first["test"]["accuracy"]["n"]
    accuracy = float(np.mean(accuracies))
    # More seeds are no more images: the interval is that of these.
    low, high = metrics.wilson(round(accuracy * images), images)
    seconds = [member.seconds(costs) for member in own]

    def mean(split: str, name: str) -> float:
        return float(np.mean([each.report[split][name] for each in own]))

    return {
        "way": own[0].way,
        "seeds": len(own),
        "validation_accuracy": score.accuracy,
        "accuracy": {
            "value": accuracy,
            "low": low,
            "high": high,
            "n": images,
            "by_seed": accuracies,
        },
        "balanced_accuracy": mean("test", "balanced_accuracy"),
        "macro_f1": mean("test", "macro_f1"),
        "cross_entropy": mean("test", "cross_entropy"),
        "majority": first["test"]["majority"],
        "seconds": float(np.mean(seconds)),
        "trainable_parameters": max(
            phase["trainable_parameters"] for phase in first["phases"]
        ),
        "megabytes": (own[0].directory / "model.keras").stat().st_size / 1e6,
        "rolled_back": sum(
            any(phase["rolled_back"] for phase in each.report["phases"])
            for each in own
        ),
        "members": [
            {
                "seed": each.seed,
                "directory": str(each.directory),
                "accuracy": each.report["test"]["accuracy"]["value"],
                "seconds": spent,
                "history": list(each.history),
            }
            for each, spent in zip(own, seconds, strict=True)
        ],
    }
