"""From the members of a comparison to what is said of the candidates."""

import csv
import dataclasses
import functools
import io
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkeras import errors
from tlkeras import files
from tlkeras import records
from tlkeras.comparison import budgets
from tlkeras.comparison import significance
from tlkeras.models import task as tasks
from tlkeras.scoring import intervals

# A candidate is dropped where its validation answers are worse than the
# leader's with this probability of chance. Strict: asked after each seed.
DROPPED = 0.01
# A difference is claimed below this, all pairs with the leader together.
CLAIMED = 0.05
_SPLITS = ("validation", "test")


@dataclasses.dataclass(frozen=True)
class Member:
    """What a strategy came to with one seed.

    right: by split, whether each image was answered right [n].
    """

    strategy: str
    seed: int
    directory: pathlib.Path
    report: Mapping[str, Any]
    right: Mapping[str, np.ndarray]
    history: tuple[Mapping[str, float], ...]

    @property
    def accuracy(self) -> float:
        """On the test images."""
        return self.report["test"]["accuracy"]["value"]

    @property
    def base_steps(self) -> int:
        """Steps in which the base learned, or part of it."""
        return sum(
            phase["steps"]
            for phase in self.report["phases"]
            if phase["unfreeze"] != "none"
        )

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

        costs: as `shared` has them. Whichever candidate comes first computes
        what others then find, so each is charged the same.
        """
        own = sum(
            phase["seconds"] - phase["shared_seconds"]
            for phase in self.report["phases"]
        )
        return own + sum(costs[what] for what in self.shared())


@dataclasses.dataclass(frozen=True)
class Candidate:
    """All members of one strategy."""

    name: str
    members: tuple[Member, ...]

    @property
    def score(self) -> records.Score:
        """The mean validation score over the seeds."""
        scores = [member.report["validation"] for member in self.members]
        return records.Score(
            float(np.mean([score["accuracy"]["value"] for score in scores])),
            float(np.mean([score["cross_entropy"] for score in scores])),
            scores[0]["accuracy"]["n"],
        )

    def right(self, split: str) -> np.ndarray:
        """Returns which images of a split were answered right [seeds, n]."""
        return np.stack([member.right[split] for member in self.members])

    def mean(self, name: str) -> float:
        """Returns the mean of a test metric over the seeds."""
        return float(
            np.mean([member.report["test"][name] for member in self.members])
        )


def load(directory: pathlib.Path, name: str, seed: int) -> Member:
    """Returns what a member left in its directory."""
    report = read_report(directory)
    right: dict[str, list[bool]] = {split: [] for split in _SPLITS}
    is_right = tasks.SINGLE_LABEL.right
    for image in _rows(directory / "predictions.csv"):
        answered = is_right(image["label"], image["true_label"])
        right[image["split"]].append(bool(answered))
    history = tuple(
        {
            column: float(epoch[column])
            for column in ("seconds", "validation_accuracy")
        }
        for epoch in _rows(directory / "history.csv")
    )
    return Member(
        name,
        seed,
        directory,
        report,
        {split: np.array(answers) for split, answers in right.items()},
        history,
    )


# What is read of a report, by where it stands there.
_OF_REPORT = ("seconds", "strategy", "scoring_images_per_second", "phases")
_OF_SPLIT = ("accuracy", "cross_entropy", "balanced_accuracy", "macro_f1")
_OF_PHASE = (
    "seconds",
    "shared_seconds",
    "views_cached",
    "cached_at",
    "settings",
    "trainable_parameters",
    "rolled_back",
    "unfreeze",
    "steps",
)


def read_report(directory: pathlib.Path) -> dict[str, Any]:
    """Returns report.json of a member; `UserError` where it is not whole."""
    path = directory / "report.json"
    report = files.read_json(path)
    try:
        for table, names in (
            (report, _OF_REPORT),
            (report["test"], (*_OF_SPLIT, "majority")),
            (report["validation"], _OF_SPLIT),
            *((phase, _OF_PHASE) for phase in report["phases"]),
            *((report[name]["accuracy"], ("value", "n")) for name in _SPLITS),
        ):
            for name in names:
                table[name]
    except (KeyError, TypeError) as error:
        lack = f"{error} is missing" if isinstance(error, KeyError) else error
        raise errors.UserError(
            f"{path} is not whole: {lack}. Remove its directory: then it is "
            "made again."
        ) from None
    return report


def _rows(path: pathlib.Path) -> csv.DictReader:
    try:
        text = files.read(path).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise errors.UserError(
            f"{path} cannot be read: {error.strerror}. Remove its directory: "
            "then it is made again."
        ) from None
    return csv.DictReader(io.StringIO(text, newline=""))


def losers(
    members: Sequence[Member],
    names: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
) -> list[str]:
    """Returns the names that the leader beats clearly on validation images.

    groups: of these, as `significance.compare` has them.
    """
    leader, *others = _ranked(members, names)
    against = {
        other.name: significance.compare(
            leader.right("validation"),
            other.right("validation"),
            groups=groups,
        )
        for other in others
    }
    return [
        name
        for name in names
        if name in against
        and against[name].difference > 0
        and against[name].p_images < DROPPED
    ]


def _ranked(members: Sequence[Member], names: Sequence[str]) -> list[Candidate]:
    """Returns the candidates, best on validation images first.

    What was dropped comes last: it has fewer seeds, which may have been lucky.
    """
    candidates = [
        Candidate(
            name,
            tuple(member for member in members if member.strategy == name),
        )
        for name in names
    ]

    def compare(one: Candidate, other: Candidate) -> int:
        seeds = len(other.members) - len(one.members)
        if seeds:
            return seeds
        return records.better(other.score, one.score) - records.better(
            one.score, other.score
        )

    return sorted(candidates, key=functools.cmp_to_key(compare))


def report(
    members: Sequence[Member],
    names: Sequence[str],
    *,
    seeds: int,
    epochs: Mapping[str, Sequence[int]],
    margin: float = 1.0,
    groups: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Returns what compare.json says of the candidates.

    Test images choose nothing. seeds: trainings of a candidate that was not
    dropped. epochs: of the phases of each. margin: how much worse than the
    leader is as good [points]. groups: of the test images, as
    `significance.compare` has them.
    """
    leader, *others = candidates = _ranked(members, names)
    costs: dict[tuple[str, ...], float] = {}
    for member in members:
        for what, seconds in member.shared().items():
            costs[what] = max(seconds, costs.get(what, 0.0))
    # A candidate that was dropped has fewer seeds; all of each are used.
    tests = [
        significance.compare(
            leader.right("test"), other.right("test"), groups=groups
        )
        for other in others
    ]
    corrected = significance.holm([test.p for test in tests])
    worse = significance.holm(
        [
            significance.p_worse(
                leader.right("test"),
                other.right("test"),
                margin=margin / 100,
                groups=groups,
            )
            for other in others
        ]
    )
    against = {
        other.name: _against(test, p, p_worse)
        for other, test, p, p_worse in zip(
            others, tests, corrected, worse, strict=True
        )
    }
    speed = float(
        # All end in the same network; what differs between them is noise.
        np.median(
            [member.report["scoring_images_per_second"] for member in members]
        )
    )
    rows = []
    for candidate in candidates:
        row = {
            **_summary(candidate, costs, groups),
            "epochs": list(epochs[candidate.name]),
            "dropped": len(candidate.members) < seeds,
            "images_per_second": speed,
            "as_good": candidate is leader,
        }
        if candidate is not leader:
            row["against_leader"] = against[candidate.name]
            # What cannot be claimed to be worse is not as good yet, nor is
            # what was dropped because it was worse.
            row["as_good"] = (
                not row["dropped"]
                and against[candidate.name]["p_worse"] < CLAIMED
            )
        rows.append(row)
    return {
        "selection_metric": "mean validation accuracy over the seeds",
        "leader": leader.name,
        "claimed": CLAIMED,
        "margin": margin,
        "cheapest_as_good": min(
            (row for row in rows if row["as_good"]),
            key=lambda row: row["seconds"],
        )["strategy"],
        "strategies": rows,
    }


def _against(
    test: significance.Comparison, p: float, p_worse: float
) -> dict[str, Any]:
    """Returns how a candidate stands against the leader, the first of `test`.

    p, p_worse: corrected for the number of candidates.
    """
    return {
        "behind": test.difference,
        "low": test.low,
        "high": test.high,
        "wins": test.losses,
        "losses": test.wins,
        "p_images": test.p_images,
        "p_seeds": test.p_seeds,
        "p": p,
        "p_worse": p_worse,
        "distinguishable": p < CLAIMED,
    }


def _summary(
    candidate: Candidate,
    costs: Mapping[tuple[str, ...], float],
    groups: Sequence[str] | None,
) -> dict[str, Any]:
    """Returns what all members of a candidate came to."""
    members = candidate.members
    first = members[0].report
    # More seeds are no more images: the interval is that of these.
    accuracy = intervals.share(candidate.right("test").mean(0), groups)
    seconds = [member.seconds(costs) for member in members]
    steps = max(member.base_steps for member in members)
    return {
        "strategy": candidate.name,
        "seeds": len(members),
        "validation_accuracy": candidate.score.accuracy,
        "accuracy": {
            "value": accuracy.value,
            "low": accuracy.low,
            "high": accuracy.high,
            "n": accuracy.images,
            "groups": accuracy.groups,
            "by_seed": [member.accuracy for member in members],
        },
        "balanced_accuracy": candidate.mean("balanced_accuracy"),
        "macro_f1": candidate.mean("macro_f1"),
        "cross_entropy": candidate.mean("cross_entropy"),
        "majority": first["test"]["majority"],
        "seconds": float(np.mean(seconds)),
        "base_steps": steps,
        "too_few_steps": budgets.too_few(candidate.name, steps),
        "trainable_parameters": max(
            phase["trainable_parameters"] for phase in first["phases"]
        ),
        "megabytes": (members[0].directory / "model.keras").stat().st_size
        / 1e6,
        "rolled_back": sum(
            any(phase["rolled_back"] for phase in member.report["phases"])
            for member in members
        ),
        "runs": [
            {
                "seed": member.seed,
                "directory": str(member.directory),
                "accuracy": member.accuracy,
                "seconds": spent,
                "history": list(member.history),
            }
            for member, spent in zip(members, seconds, strict=True)
        ],
    }
