"""Several candidates on one data set: the same splits, one budget, some seeds.

Each member, a candidate with a seed, is what `tlkeras train` makes of the same
settings. All share the scan, the decoded images and the stored features.
"""

import contextlib
import dataclasses
import gc
import json
import pathlib
import shutil
import tempfile
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tlkeras import errors
from tlkeras import files
from tlkeras import places
from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras import run_directory
from tlkeras.comparison import budgets
from tlkeras.comparison import candidates
from tlkeras.comparison import ranking
from tlkeras.data import augment as augmentation
from tlkeras.data import dataset as datasets
from tlkeras.experiment import preparing
from tlkeras.experiment import running
from tlkeras.report import comparison as page
from tlkeras.report import drawing
from tlkeras.scoring import metrics
from tlkeras.settings import config as configs
from tlkeras.settings import strategies
from tlkeras.training import checkpoint
from tlkeras.training import placement as placements

# Epochs of each phase in a trial: the first traces the graph, the second is
# measured.
_TRIAL = 2
# What a member has for itself, also where another seed changes nothing.
_OWN_FILES = ("config.toml", "report.json")


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

    plan: that of the settings all candidates share. Members that an earlier,
    killed comparison finished are not run again.

    Raises `UserError` where it holds another comparison, or a candidate does
    not work on this data.
    """
    began = time.perf_counter()
    directory = plan.directory
    with (
        run_directory.undo_on_error(directory, progress, ended=_ended),
        contextlib.ExitStack() as stack,
    ):
        _check_candidates(plan, settings)
        data = stack.enter_context(preparing.reading(plan, progress=progress))
        running.say_data(data, data.notes, progress)
        if settings.drop == "clear" and settings.seeds == 1:
            progress.say("`drop` clear has no effect with one seed")
        steps = _steps_per_epoch(plan, data, progress)
        _claim(plan, settings, data)
        epochs = _epochs(plan, settings, data, steps, progress)
        budget = budgets.to_json(
            settings.budget,
            epochs,
            solved=settings.solved,
            steps_per_epoch=steps,
        )
        if settings.budget.seconds is None:
            head = "of two phases each has half"
            if settings.solved:
                head = "a head that is solved takes none of them"
            progress.say(f"each strategy: {page.budget(budget)}; {head}")
        earlier = _seconds_of_members(directory)
        members = _train_members(plan, settings, data, epochs, progress)
        report = {
            "schema": 1,
            "data": {
                "name": data.name,
                "classes": list(data.labels),
                "images": datasets.counts(data),
            },
            "backbone": plan.config.backbone,
            "weights": plan.config.weights,
            "image_size": plan.image_size,
            "budget": budget,
            "drop": settings.drop,
            "final_fit": plan.config.final_fit,
            "seeds": settings.seeds,
            **ranking.report(
                members,
                settings.names,
                seeds=settings.seeds,
                epochs=epochs,
                margin=settings.margin,
                groups=_groups(data, "test"),
            ),
            "seconds": time.perf_counter() - began + earlier,
        }
        drawn = page.draw(report)
        files.write_text(directory / "compare.html", page.render(report, drawn))
        drawing.write(drawn, directory)
        files.write_json(directory / "compare.json", report)
    progress.say(
        f"{progresses.duration(report['seconds'])} in all; page: "
        f"{directory}/compare.html"
    )
    return Result(directory, report)


def planned(
    plan: plans.Plan, settings: candidates.Settings, *, images: int
) -> list[plans.Plan]:
    """Returns the plan of each candidate, with the epochs of its budget.

    images: for training. A budget in seconds becomes epochs by a trial, which
    is not made here: then the epochs are those of the settings.
    """
    if settings.budget.seconds is not None:
        return [_member_plan(plan, name) for name in settings.names]
    batch = plan.config.batch_size
    if batch == "auto":
        batch = preparing.auto_batch(images, plan.image_size)
    return [
        _member_plan(
            plan,
            name,
            epochs=budgets.epochs_of_steps(
                settings.budget,
                name,
                solved=settings.solved,
                images=images,
                steps_per_epoch=-(-images // int(batch)),
            ),
        )
        for name in settings.names
    ]


def _check_candidates(plan: plans.Plan, settings: candidates.Settings) -> None:
    """Raises `UserError` for what building the network shows of a candidate.

    That is known sooner than the images are read, and than the first training
    is done.
    """
    members = [_member_plan(plan, name) for name in settings.names]
    # One that begins at random reads no weights.
    first = max(members, key=lambda each: each.strategy.pretrained)
    model = preparing.build(first).model
    for member in members:
        preparing.unfreeze_notes(member, model)


def _ended(directory: pathlib.Path) -> bool:
    """Tells whether a member of the comparison is there to be kept."""
    return any(map(run_directory.ended, directory.glob("runs/*")))


def _seconds_of_members(directory: pathlib.Path) -> float:
    """Returns what earlier calls spent on members, finished or not."""
    seconds = 0.0
    for member in directory.glob("runs/*"):
        if (member / "report.json").exists():
            seconds += ranking.read_report(member)["seconds"]
            # A kill may have come between the report and this.
            checkpoint.remove(member)
        else:
            seconds += checkpoint.seconds(member)
    return seconds


def _claim(
    plan: plans.Plan, settings: candidates.Settings, data: datasets.Dataset
) -> None:
    """Notes what is compared; raises `UserError` where it was something else.

    That the settings of training are the same was looked at by the plan.
    """
    path = plan.directory / places.COMPARISON
    wanted = json.loads(json.dumps(dataclasses.asdict(settings)))
    # What is said of the members may change, they do not.
    del wanted["margin"]
    wanted["images"] = datasets.digest(data)
    if path.exists():
        earlier = files.read_json(path)
        if not isinstance(earlier, dict):
            earlier = {}
        changed = {name for name in wanted if earlier.get(name) != wanted[name]}
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


def _member_plan(
    plan: plans.Plan,
    name: str,
    *,
    seed: int | None = None,
    epochs: Sequence[int] = (),
    directory: pathlib.Path | None = None,
) -> plans.Plan:
    """Returns the plan of one candidate, by default with the first seed."""
    config = candidates.config(
        plan.config,
        name,
        seed=plan.config.seed if seed is None else seed,
        epochs=epochs,
    )
    return dataclasses.replace(
        plan, config=config, directory=directory or plan.directory
    )


def _steps_per_epoch(
    plan: plans.Plan, data: datasets.Dataset, progress: progresses.Progress
) -> int:
    """Returns the steps of an epoch, and says on which devices they run."""
    placement = placements.start(plan.config.distribute, plan.group)
    batch_size = preparing.images_a_step(plan.config, data, placement.devices)
    progress.say(placement.text(batch_size))
    return -(-len(data.positions("train")) // batch_size)


def _epochs(
    plan: plans.Plan,
    settings: candidates.Settings,
    data: datasets.Dataset,
    steps_per_epoch: int,
    progress: progresses.Progress,
) -> dict[str, tuple[int, ...]]:
    """Returns the epochs of each candidate's phases, as the budget gives them.

    A budget in seconds takes a trial of each candidate.
    """
    seconds = settings.budget.seconds
    if seconds is None:
        images = len(data.positions("train"))
        return {
            name: budgets.epochs_of_steps(
                settings.budget,
                name,
                solved=settings.solved,
                images=images,
                steps_per_epoch=steps_per_epoch,
            )
            for name in settings.names
        }
    # Kept, so that a comparison that goes on has the same budget.
    path = plan.directory / "budget.json"
    if not path.exists():
        paced = {
            name: _paced(plan, name, seconds, data, progress)
            for name in settings.names
        }
        files.write_json(path, paced)
    kept = files.read_json(path)
    return {name: tuple(kept[name]) for name in settings.names}


def _paced(
    plan: plans.Plan,
    name: str,
    seconds: int,
    data: datasets.Dataset,
    progress: progresses.Progress,
) -> tuple[int, ...]:
    """Returns the epochs that a trial of two promises to fill `seconds`."""
    progress.say(f"trial of {name}, for its pace")
    # By such a name what a kill leaves is known, and removed.
    with tempfile.TemporaryDirectory(
        prefix=files.temporary_prefix(), dir=plan.directory
    ) as folder:
        trial = _member_plan(
            plan,
            name,
            epochs=[_TRIAL] * len(strategies.BY_NAME[name].phases),
            directory=pathlib.Path(folder),
        )
        # A budget is that of the choice.
        trial = dataclasses.replace(
            trial, config=dataclasses.replace(trial.config, final_fit="train")
        )
        results = _learn(trial, data, progress).results
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
        # Stored features and solutions are there when the members run: the
        # first to ask for them would else have less time.
        once = result.seconds - result.shared_seconds
        paces.append((max(0.0, once - _TRIAL * epoch), epoch))
    epochs = budgets.epochs_of_seconds(seconds, paces)
    expected = sum(
        fixed + count * epoch
        for (fixed, epoch), count in zip(paces, epochs, strict=True)
    )
    more = ""
    if expected > 1.2 * seconds:
        more = ", more than the budget: it cannot do with less"
    progress.say(
        f"{name}: epochs {' + '.join(map(str, epochs))}, about "
        f"{expected:.0f} s{more}"
    )
    return epochs


def _train_members(
    plan: plans.Plan,
    settings: candidates.Settings,
    data: datasets.Dataset,
    epochs: Mapping[str, Sequence[int]],
    progress: progresses.Progress,
) -> list[ranking.Member]:
    """Returns all members; those that are not finished yet are trained."""
    members: list[ranking.Member] = []
    first: dict[str, ranking.Member] = {}
    names = list(settings.names)
    last_seed = plan.config.seed + settings.seeds - 1
    spent: dict[str, float] = {}
    for seed in range(plan.config.seed, last_seed + 1):
        for position, name in enumerate(names):
            directory = plan.directory / "runs" / f"{name}-seed{seed}"
            if not (directory / "report.json").exists():
                left = names[position:] + names * (last_seed - seed)
                progress.say(
                    f"run {len(members) + 1} of {len(members) + len(left)}: "
                    f"{name}, seed {seed}{_time_left(left, spent, epochs)}"
                )
                member = _member_plan(
                    plan,
                    name,
                    seed=seed,
                    epochs=epochs[name],
                    directory=directory,
                )
                if name in first and not _varies(first[name], plan.config):
                    spent[name] = _copy_member(first[name], member, progress)
                else:
                    spent[name] = _train_member(member, data, progress)
            members.append(ranking.load(directory, name, seed))
            first.setdefault(name, members[-1])
        if settings.drop == "clear" and seed < last_seed:
            for name in ranking.losers(
                members, names, groups=_groups(data, "validation")
            ):
                progress.say(
                    f"{name} is dropped: on the validation images it is worse "
                    f"than the leader with p < {ranking.DROPPED:g}"
                )
                names.remove(name)
    return members


def _varies(member: ranking.Member, config: configs.Config) -> bool:
    """Tells whether a member would answer differently under another seed.

    A solved head reads no seed, unless its images are changed at random; the
    evidence of a decision does.
    """
    solved = all(
        phase["settings"]["solver"] != "adam"
        for phase in member.report["phases"]
    )
    decides = bool(strategies.BY_NAME[member.report["strategy"]].options)
    endless = not augmentation.views(config.augment, seed=0, most=0)
    return decides or endless or not solved


def _copy_member(
    first: ranking.Member, member: plans.Plan, progress: progresses.Progress
) -> float:
    """Writes `member` as `first` with another seed; returns the seconds."""
    began = time.perf_counter()
    with run_directory.undo_on_error(member.directory, progress):
        run_directory.write_config(member)
        for path in sorted(first.directory.iterdir()):
            if path.is_file() and path.name not in _OWN_FILES:
                with files.replacing(member.directory / path.name) as copy:
                    shutil.copyfile(path, copy)
        seconds = time.perf_counter() - began
        files.write_json(
            member.directory / "report.json",
            {**first.report, "seconds": seconds},
        )
    progress.say(
        f"  as seed {first.seed}: a head that is solved is the same under "
        "every seed"
    )
    return seconds


def _groups(data: datasets.Dataset, split: str) -> list[str]:
    return [data.groups[position] for position in data.positions(split)]


def _time_left(
    left: Sequence[str],
    spent: Mapping[str, float],
    epochs: Mapping[str, Sequence[int]],
) -> str:
    """Returns in words how long the members of the names in `left` will take.

    spent: seconds of the last member of a name. Candidates that were not
    trained yet are guessed by the epochs in which their base learns; until one
    such was trained, nobody knows.
    """
    base_epochs = {
        name: epochs[name][-1] if strategies.BY_NAME[name].trains_base else 0
        for name in {*left, *spent}
    }
    seen = sum(base_epochs[name] for name in spent)
    unseen = sum(base_epochs[name] for name in left if name not in spent)
    if not spent or unseen and not seen:
        return ""
    base_seconds = sum(spent[name] for name in spent if base_epochs[name])
    seconds = sum(spent.get(name, 0.0) for name in left)
    seconds += unseen * base_seconds / max(1, seen)
    return f"; about {progresses.duration(seconds)} left"


def _learn(
    plan: plans.Plan, data: datasets.Dataset, progress: progresses.Progress
) -> run_directory.Outcome:
    return running.learn(plan, preparing.build(plan), data, progress=progress)


def _train_member(
    member: plans.Plan, data: datasets.Dataset, progress: progresses.Progress
) -> float:
    """Returns the seconds that a member took to train and to write."""
    began = time.perf_counter()
    with run_directory.undo_on_error(member.directory, progress):
        outcome = _learn(member, data, progress)
        seconds = time.perf_counter() - began
        report = run_directory.write(member, data, outcome, seconds=seconds)
    progress.say(f"  test {metrics.sentence(report['test'])}")
    del outcome
    # Models refer to themselves in circles, 0.2 GB a member.
    gc.collect()
    return time.perf_counter() - began
