"""Several ways on one data set: the same splits, one budget, several seeds.

Each member, a way with a seed, is what `tlkeras train` makes of the same
settings. All share the scan, the decoded images and the stored activations.
"""

import dataclasses
import gc
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tlkeras import errors
from tlkeras import experiment
from tlkeras import files
from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras import run_directory
from tlkeras.comparison import candidates
from tlkeras.comparison import ranking
from tlkeras.data import batches
from tlkeras.data import dataset as datasets
from tlkeras.report import comparison as page
from tlkeras.scoring import metrics
from tlkeras.settings import config as configs
from tlkeras.training import placement as placements

# Epochs of each phase in a trial: the first traces, the second tells.
_TRIAL = 2


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished comparison: where it stands, and what compare.json says."""

    directory: pathlib.Path
    report: Mapping[str, Any]


def run(
    plan: plans.Plan,
    settings: candidates.Settings,
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
    with (
        experiment.undo_on_error(directory, progress, ended=_ended),
        batches.user_errors(),
    ):
        # Whether the base can be built is known sooner than the images.
        first = settings.names[0]
        experiment.build(
            _member_plan(plan, first, plan.config.seed, (), directory)
        )
        data = experiment.read(plan, progress=progress)
        experiment.say_data(data, data.notes, progress)
        if settings.drop == "clear" and settings.seeds == 1:
            progress.say("`drop` clear has no effect with one seed")
        steps = _steps_per_epoch(plan, data, progress)
        _claim(plan, settings, data)
        epochs = _epochs(plan, settings, data, steps, progress)
        earlier = _spent(plan.directory)
        members = _members(plan, settings, data, epochs, progress)
        report = {
            "schema": 1,
            "data": {
                "name": data.name,
                "classes": list(data.labels),
                "images": datasets.counts(data),
            },
            "backbone": plan.row.name,
            "weights": plan.weights,
            "image_size": plan.image_size,
            "budget": _allowed(settings, steps, epochs),
            "drop": settings.drop,
            "seeds": settings.seeds,
            **ranking.report(
                members, settings.names, seeds=settings.seeds, epochs=epochs
            ),
            "seconds": time.perf_counter() - began + earlier,
        }
        page.write(directory / "compare.html", report)
        files.write_json(directory / "compare.json", report)
    progress.say(
        f"{report['seconds']:.0f} s in all; page: {directory}/compare.html"
    )
    return Result(directory, report)


def _ended(directory: pathlib.Path) -> bool:
    """Tells whether a member of the comparison is there to be kept."""
    return any(map(experiment.ended, directory.glob("members/*")))


def _claim(
    plan: plans.Plan, settings: candidates.Settings, data: datasets.Dataset
) -> None:
    """Notes what is compared; raises `UserError` where it was something else.

    That the settings of training are the same was looked at by the plan.
    """
    path = plan.directory / plans.COMPARISON
    wanted = json.loads(json.dumps(dataclasses.asdict(settings)))
    wanted["images"] = datasets.digest(data)
    if path.exists():
        try:
            found = dict(json.loads(path.read_text("utf-8")))
        except ValueError:
            found = {}
        changed = {name for name in wanted if found.get(name) != wanted[name]}
        what = f"with other settings ({', '.join(sorted(changed))})"
        if changed == {"images"}:
            what = "whose images were other ones: some were added or changed"
        if changed:
            raise errors.UserError(
                f"`workdir` {plan.directory} holds an unfinished comparison "
                f"{what}. Choose another, or remove it."
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
    config = candidates.config(plan.config, way, seed=seed, epochs=epochs)
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
    settings: candidates.Settings,
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
            way: candidates.split(
                way,
                settings.budget,
                solved=settings.solved,
                images=images,
                steps_per_epoch=steps,
            )
            for way in settings.names
        }
        head = "of two phases each has half"
        if settings.solved:
            head = "a head that is solved takes none of them"
        allowed = _allowed(settings, steps, found)
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
    placement = placements.start(plan.config.distribute, plan.group)
    batch_size = experiment.images_a_step(plan.config, data, placement.devices)
    progress.say(placement.text(batch_size))
    return -(-len(data.positions("train")) // batch_size)


def _allowed(
    settings: candidates.Settings,
    steps: int,
    epochs: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    """Returns the budget of each way: what was given, and what it comes to.

    steps: of an epoch. A way of two phases, whose head is not solved, has an
    epoch of each at least.
    """
    allowed = dataclasses.asdict(settings.budget)
    if settings.budget.seconds is None:
        each = max(
            epochs[way][-1] if settings.solved else sum(epochs[way])
            for way in settings.names
        )
        allowed |= {"epochs_each": each, "steps_each": each * steps}
    return allowed


def _paced(
    plan: plans.Plan,
    settings: candidates.Settings,
    data: datasets.Dataset,
    way: str,
    progress: progresses.Progress,
) -> tuple[int, ...]:
    """Returns the epochs that a trial of two promises to fill the budget."""
    # By such a name what a kill leaves is known, and removed.
    with tempfile.TemporaryDirectory(
        prefix=f".{os.getpid()}-", dir=plan.directory
    ) as folder:
        trial = _member_plan(
            plan,
            way,
            plan.config.seed,
            [_TRIAL] * candidates.phases(way),
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
        epoch = 0.0
        # One that is solved has no epochs, nor has one that diverged at once.
        if result.phase.solver == "adam" and result.history:
            # The validation of an epoch costs no more than training would.
            epoch = result.history[-1].seconds * validated
        # Activations and solutions are there when the members run: who asks
        # for them first would else have less time.
        once = result.seconds - result.shared_seconds
        paces.append((max(0.0, once - _TRIAL * epoch), epoch))
    found = candidates.pace(settings.budget.seconds, paces)
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
    settings: candidates.Settings,
    data: datasets.Dataset,
    epochs: Mapping[str, Sequence[int]],
    progress: progresses.Progress,
) -> list[ranking.Member]:
    """Returns all members, those that are not finished yet after running."""
    found: list[ranking.Member] = []
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
            found.append(ranking.load(place, way, seed))
        if settings.drop == "clear" and round_ < len(seeds) - 1:
            for way in ranking.losers(found, names):
                progress.say(
                    f"{way} is dropped: on the validation images it is worse "
                    f"than the leader with p < {ranking.DROPPED:g}"
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
    if (
        not spent
        or not seen
        and any(live(way) for way in rest if way not in spent)
    ):
        return ""
    unit = sum(spent[way] for way in spent if live(way)) / max(1, seen)
    seconds = sum(spent.get(way, unit * live(way)) for way in rest)
    return f"; about {progresses.duration(seconds)} left"


def _run_member(
    member: plans.Plan, data: datasets.Dataset, progress: progresses.Progress
) -> None:
    began = time.perf_counter()
    progress.planned = list(member.strategy.planned)
    with experiment.undo_on_error(
        member.directory, progress, ended=experiment.ended
    ):
        # A phase that was cut short would be compared with whole ones.
        outcome = experiment.learn(
            member,
            experiment.build(member),
            data,
            whole=True,
            progress=progress,
        )
        seconds = time.perf_counter() - began
        report = run_directory.summarise(member, data, outcome, seconds=seconds)
        run_directory.write_tables(member, data, outcome)
        run_directory.finish(member, report)
    progress.say(f"  test {metrics.sentence(report['test'])}")
    del outcome
    # Models hold themselves in circles, 0.2 GB a member.
    gc.collect()
