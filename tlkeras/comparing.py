"""Several ways on one data set: the same splits, one budget, several seeds.

Each member, a way with a seed, is what `tlkeras train` makes of the same
settings. All share the scan, the decoded images and the stored activations.
"""

import csv
import dataclasses
import gc
import json
import pathlib
import tempfile
import time
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkeras import config as configs
from tlkeras import distribution
from tlkeras import errors
from tlkeras import evaluation
from tlkeras import experiment
from tlkeras import files
from tlkeras import outcomes
from tlkeras import paired
from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras import records
from tlkeras import ways
from tlkeras.data import batches
from tlkeras.data import dataset as datasets
from tlkeras.report import comparison as page

# A way is dropped where its validation answers are worse than the leader's
# with this probability of chance. Strict, because it is asked after each seed.
_DROPPED = 0.01
# A difference is claimed below this, all pairs with the leader together.
_CLAIMED = 0.05
# Epochs of each phase in a trial: the first traces, the second tells.
_TRIAL = 2


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished comparison: where it stands, and what compare.json says."""

    directory: pathlib.Path
    report: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class _Member:
    """What a way came to with one seed.

    right: by split, whether each image was answered right [n].
    """

    way: str
    seed: int
    directory: pathlib.Path
    report: Mapping[str, Any]
    right: Mapping[str, np.ndarray]
    history: tuple[Mapping[str, float], ...]

    @property
    def seconds(self) -> float:
        """Seconds of training, without reading, scoring and saving."""
        return sum(phase["seconds"] for phase in self.report["phases"])


def run(
    plan: plans.Plan,
    settings: ways.Settings,
    *,
    progress: progresses.Progress,
) -> Result:
    """Returns the comparison that `settings` describe, and writes it.

    plan: that of the settings all ways share. Members that an earlier, killed
    comparison finished are not run again.

    Raises `UserError` where it holds another comparison, or a way does not
    work on this data.
    """
    began = time.perf_counter()
    directory = plan.directory
    with files.directory(directory), batches.user_errors():
        _claim(plan, settings)
        data = experiment.read(plan, progress=progress)
        experiment.say_data(data, data.notes, progress)
        steps = _steps_per_epoch(plan, data, progress)
        epochs = _epochs(plan, settings, data, steps, progress)
        earlier = _spent(plan.directory)
        members = _members(plan, settings, data, epochs, progress)
        allowed = _allowed(plan, settings, steps, epochs)
        report = _report(plan, settings, data, epochs, allowed, members)
        report["seconds"] = time.perf_counter() - began + earlier
        page.write(directory / "compare.html", report)
        files.write_json(directory / "compare.json", report)
    progress.say(
        f"{report['seconds']:.0f} s in all; page: {directory}/compare.html"
    )
    return Result(directory, report)


def _claim(plan: plans.Plan, settings: ways.Settings) -> None:
    """Notes what is compared; raises `UserError` where it was something else.

    That the settings of training are the same was looked at by the plan.
    """
    path = plan.directory / "compare_settings.json"
    wanted = json.loads(json.dumps(dataclasses.asdict(settings)))
    if path.exists() and json.loads(path.read_text("utf-8")) != wanted:
        raise errors.UserError(
            f"`workdir` {plan.directory} holds an unfinished comparison of "
            "other ways, seeds or budgets. Choose another, or remove it."
        )
    files.write_text(
        plan.directory / "config.toml", configs.to_toml(plan.config)
    )
    files.write_json(path, wanted)


def _spent(directory: pathlib.Path) -> float:
    """Returns the seconds of the members that are finished already."""
    return sum(
        json.loads(path.read_text("utf-8"))["seconds"]
        for path in directory.glob("members/*/report.json")
    )


def _member_plan(
    plan: plans.Plan,
    way: str,
    seed: int,
    epochs: Sequence[int],
    directory: pathlib.Path,
) -> plans.Plan:
    config = ways.config(plan.config, way, seed=seed, epochs=epochs)
    strategy = config.strategy_phases()
    return dataclasses.replace(
        plan,
        config=config,
        directory=directory,
        strategy=strategy,
        weights=config.weights if strategy.pretrained else "none",
    )


def _epochs(
    plan: plans.Plan,
    settings: ways.Settings,
    data: datasets.Dataset,
    steps: int,
    progress: progresses.Progress,
) -> dict[str, tuple[int, ...]]:
    """Returns the epochs of each way's phases, as the budget gives them.

    steps: of an epoch.
    """
    images = len(data.positions("train"))
    if settings.budget.seconds is None:
        found = {
            way: ways.split(
                way,
                settings.budget,
                solved=ways.solves(plan.config),
                images=images,
                steps_per_epoch=steps,
            )
            for way in settings.names
        }
        head = "of two phases each has half"
        if ways.solves(plan.config):
            head = "a head that is solved takes none of them"
        allowed = _allowed(plan, settings, steps, found)
        progress.say(f"each way: {page.budget(allowed)}; {head}")
        return found
    # Kept, so that a comparison that goes on has the same budget.
    path = plan.directory / "budget.json"
    if path.exists():
        kept = json.loads(path.read_text("utf-8"))
        return {way: tuple(kept[way]) for way in settings.names}
    found = {}
    for way in settings.names:
        progress.say(f"trial of {way}, for its pace")
        found[way] = _paced(plan, settings, data, way, progress)
    files.write_json(path, found)
    return found


def _steps_per_epoch(
    plan: plans.Plan, data: datasets.Dataset, progress: progresses.Progress
) -> int:
    """Returns the steps of an epoch, and says on which devices they run."""
    spread = distribution.start(plan.config.distribute, plan.team)
    batch_size = experiment.images_a_step(plan.config, data, spread.devices)
    progress.say(spread.text(batch_size))
    return -(-len(data.positions("train")) // batch_size)


def _allowed(
    plan: plans.Plan,
    settings: ways.Settings,
    steps: int,
    epochs: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    """Returns the budget of each way: what was given, and what it comes to.

    steps: of an epoch.
    """
    allowed = dataclasses.asdict(settings.budget)
    if settings.budget.seconds is None:
        each = sum(epochs[settings.names[0]])
        if ways.solves(plan.config):
            each = epochs[settings.names[0]][-1]
        allowed |= {"epochs_each": each, "steps_each": each * steps}
    return allowed


def _paced(
    plan: plans.Plan,
    settings: ways.Settings,
    data: datasets.Dataset,
    way: str,
    progress: progresses.Progress,
) -> tuple[int, ...]:
    """Returns the epochs that a trial of two promises to fill the budget."""
    with tempfile.TemporaryDirectory(dir=plan.directory) as folder:
        trial = _member_plan(
            plan,
            way,
            plan.config.seed,
            [_TRIAL] * ways.phases(way),
            pathlib.Path(folder),
        )
        results = experiment.learn(
            trial,
            experiment.build(trial),
            data,
            whole=True,
            progress=progress,
        ).results
    validated = 1 + len(data.positions("validation")) / len(
        data.positions("train")
    )
    paces = []
    for result in results:
        # The validation of an epoch costs no more than training would.
        epoch = result.history[-1].seconds * validated
        if result.phase.solver != "adam":
            epoch = 0.0  # it is solved, in no epochs
        paces.append((max(0.0, result.seconds - _TRIAL * epoch), epoch))
    found = ways.pace(settings.budget.seconds, paces)
    expected = sum(
        fixed + count * epoch
        for (fixed, epoch), count in zip(paces, found, strict=True)
    )
    more = ""
    if expected > 1.2 * settings.budget.seconds:
        more = ", more than the budget: it cannot do with less"
    progress.say(
        f"{way}: epochs {' + '.join(map(str, found))}, about "
        f"{expected:.0f} s{more}"
    )
    return found


def _members(
    plan: plans.Plan,
    settings: ways.Settings,
    data: datasets.Dataset,
    epochs: Mapping[str, Sequence[int]],
    progress: progresses.Progress,
) -> list[_Member]:
    """Returns all members, those that are not finished yet after running."""
    found: list[_Member] = []
    names = list(settings.names)
    seeds = range(plan.config.seed, plan.config.seed + settings.seeds)
    spent: dict[str, float] = {}
    for round_, seed in enumerate(seeds):
        for position, way in enumerate(names):
            place = plan.directory / "members" / f"{way}-seed{seed}"
            member = _member_plan(plan, way, seed, epochs[way], place)
            if not (place / "report.json").exists():
                rest = names[position:]
                rest += names * (len(seeds) - round_ - 1)
                left = _left(rest, spent, epochs)
                number = len(found) + 1
                progress.say(
                    f"member {number} of {number - 1 + len(rest)}: {way}, seed "
                    f"{seed}{left}"
                )
                began = time.perf_counter()
                _run_member(member, data, progress)
                spent[way] = time.perf_counter() - began
            found.append(_load(member, way, seed))
        if settings.drop == "clear" and round_ < len(seeds) - 1:
            for way in _losers(found, names):
                progress.say(
                    f"{way} is dropped: on the validation images it is worse "
                    f"than the leader with p < {_DROPPED:g}"
                )
                names.remove(way)
    return found


def _left(
    rest: Sequence[str],
    spent: Mapping[str, float],
    epochs: Mapping[str, Sequence[int]],
) -> str:
    """Returns in words how long the members in `rest` will take.

    Ways that were not run yet are guessed by their epochs of a base that
    learns; until one of these was run, nobody knows.
    """

    def live(way: str) -> int:
        heads = ("feature_extraction", "converged_head", "last_stage")
        return 0 if way in heads else epochs[way][-1]

    seen = sum(map(live, spent))
    if not seen and any(live(way) for way in rest if way not in spent):
        return ""
    unit = sum(spent[way] for way in spent if live(way)) / max(1, seen)
    seconds = sum(spent.get(way, unit * live(way)) for way in rest)
    return f"; about {progresses.duration(seconds)} left"


def _run_member(
    member: plans.Plan, data: datasets.Dataset, progress: progresses.Progress
) -> None:
    began = time.perf_counter()
    progress.planned = list(member.strategy.planned)
    with experiment.nothing_half_done(member.directory, progress):
        # A phase that was cut short would be compared with whole ones.
        outcome = experiment.learn(
            member,
            experiment.build(member),
            data,
            whole=True,
            progress=progress,
        )
        seconds = time.perf_counter() - began
        report = outcomes.summarise(member, data, outcome, seconds=seconds)
        outcomes.write_tables(member, data, outcome)
        outcomes.finish(member, report)
    progress.say(f"  test {evaluation.sentence(report['test'])}")
    del outcome
    # Models hold themselves in circles, 0.2 GB a member.
    gc.collect()


def _load(member: plans.Plan, way: str, seed: int) -> _Member:
    """Returns what a member left in its directory."""
    report = json.loads((member.directory / "report.json").read_text("utf-8"))
    right: dict[str, list[bool]] = {"validation": [], "test": []}
    with (member.directory / "predictions.csv").open(
        encoding="utf-8", errors="surrogateescape", newline=""
    ) as stream:
        for row in csv.DictReader(stream):
            right[row["split"]].append(row["label"] == row["true_label"])
    with (member.directory / "history.csv").open(encoding="utf-8") as stream:
        history = tuple(
            {
                "seconds": float(row["seconds"]),
                "validation_accuracy": float(row["validation_accuracy"]),
            }
            for row in csv.DictReader(stream)
        )
    return _Member(
        way,
        seed,
        member.directory,
        report,
        {split: np.array(answers) for split, answers in right.items()},
        history,
    )


def _answers(members: Iterable[_Member], way: str, split: str) -> np.ndarray:
    """Returns [seeds, images], whether a way was right."""
    return np.stack(
        [member.right[split] for member in members if member.way == way]
    )


def _losers(members: Sequence[_Member], names: Sequence[str]) -> list[str]:
    """Returns the ways that the leader beats clearly on validation images."""
    leader = _order(members, names)[0]
    best = _answers(members, leader, "validation")
    losers = []
    for way in names:
        if way != leader:
            found = paired.compare(best, _answers(members, way, "validation"))
            if found.difference > 0 and found.p_images < _DROPPED:
                losers.append(way)
    return losers


def _score(members: Sequence[_Member], way: str) -> records.Score:
    """Returns the mean validation score of a way over its seeds."""
    own = [each.report["validation"] for each in members if each.way == way]
    return records.Score(
        float(np.mean([each["accuracy"]["value"] for each in own])),
        float(np.mean([each["cross_entropy"] for each in own])),
        own[0]["accuracy"]["n"],
    )


def _order(members: Sequence[_Member], names: Sequence[str]) -> list[str]:
    """Returns the ways, best on validation images first."""
    rest = list(names)
    ordered = []
    while rest:
        best = rest[0]
        for way in rest[1:]:
            if records.better(_score(members, way), _score(members, best)):
                best = way
        ordered.append(best)
        rest.remove(best)
    return ordered


def _report(
    plan: plans.Plan,
    settings: ways.Settings,
    data: datasets.Dataset,
    epochs: Mapping[str, Sequence[int]],
    allowed: Mapping[str, Any],
    members: Sequence[_Member],
) -> dict[str, Any]:
    """Returns the content of compare.json; the test images choose nothing."""
    order = _order(members, settings.names)
    leader = order[0]
    # A way that was dropped has fewer seeds; all of each are used.
    best = _answers(members, leader, "test")
    found = {
        way: paired.compare(best, _answers(members, way, "test"))
        for way in order[1:]
    }
    corrected = paired.holm([each.p for each in found.values()])
    rows = []
    for way in order:
        row = _row(way, members, epochs[way], settings)
        if way != leader:
            against = found[way]
            p = corrected[list(found).index(way)]
            row["against_leader"] = {
                "behind": against.difference,
                "low": against.low,
                "high": against.high,
                "wins": against.losses,
                "losses": against.wins,
                "p_images": against.p_images,
                "p_seeds": against.p_seeds,
                "p": p,
                "distinguishable": p < _CLAIMED,
            }
        rows.append(row)
    # With one seed nothing is told apart, so nothing is known to be as good.
    equal = [
        row
        for row in rows
        if row is rows[0]
        or settings.seeds > 1
        and not row["against_leader"]["distinguishable"]
    ]
    return {
        "schema": 1,
        "data": {
            "name": data.name,
            "classes": list(data.labels),
            "images": datasets.counts(data),
        },
        "backbone": plan.row.name,
        "weights": plan.weights,
        "image_size": plan.image_size,
        "budget": allowed,
        "drop": settings.drop,
        "seeds": settings.seeds,
        "selection_metric": "mean validation accuracy over the seeds",
        "leader": leader,
        "cheapest_as_good": min(equal, key=lambda row: row["seconds"])["way"],
        "ways": rows,
    }


def _row(
    way: str,
    members: Sequence[_Member],
    epochs: Sequence[int],
    settings: ways.Settings,
) -> dict[str, Any]:
    own = [member for member in members if member.way == way]
    first = own[0].report
    accuracies = [each.report["test"]["accuracy"]["value"] for each in own]
    images = first["test"]["accuracy"]["n"]
    accuracy = float(np.mean(accuracies))
    # More seeds are no more images: the interval is that of these.
    low, high = evaluation.wilson(round(accuracy * images), images)

    def mean(split: str, name: str) -> float:
        return float(np.mean([each.report[split][name] for each in own]))

    return {
        "way": way,
        "epochs": list(epochs),
        "seeds": len(own),
        "dropped": len(own) < settings.seeds,
        "validation_accuracy": _score(members, way).accuracy,
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
        "seconds": float(np.mean([each.seconds for each in own])),
        "trainable_parameters": max(
            phase["trainable_parameters"] for phase in first["phases"]
        ),
        "megabytes": (own[0].directory / "model.keras").stat().st_size / 1e6,
        # All ways end in the same network; what differs between them is noise.
        "images_per_second": float(
            np.median(
                [each.report["scoring_images_per_second"] for each in members]
            )
        ),
        "rolled_back": sum(
            any(phase["rolled_back"] for phase in each.report["phases"])
            for each in own
        ),
        "members": [
            {
                "seed": each.seed,
                "directory": str(each.directory),
                "accuracy": each.report["test"]["accuracy"]["value"],
                "seconds": each.seconds,
                "history": list(each.history),
            }
            for each in own
        ],
    }
