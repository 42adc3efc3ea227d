"""What a run is going to do, and about how long it takes; then it stops."""

import concurrent.futures
import dataclasses
import time
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tlkeras import errors
from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras import records
from tlkeras.advisor import costs
from tlkeras.backbones import base as bases
from tlkeras.data import augment
from tlkeras.data import images as image_stores
from tlkeras.experiment import preparing
from tlkeras.machine import pace as paces
from tlkeras.models import classifier as classifiers
from tlkeras.settings import budget as budgets
from tlkeras.settings import config as configs
from tlkeras.settings import strategies
from tlkeras.training import claims
from tlkeras.training import phase as one_phase

# Images that the measurement is made on, at most.
_SAMPLE = 16


@dataclasses.dataclass(frozen=True)
class Member:
    """One of the runs that are going to be made; its plan, and how often."""

    plan: plans.Plan
    times: int = 1


@dataclasses.dataclass(frozen=True)
class _Speed:
    """Seconds that this machine takes.

    read, forward, step, stage: for an image that is decoded, computed, or
    learned from with all of the base, or its last stages. graph: to build a
    step.
    """

    read: float
    forward: float
    step: float
    stage: float
    graph: float


@dataclasses.dataclass(frozen=True)
class _Choice:
    """What a strategy that decides might find."""

    steps: tuple[str, ...]
    epochs: int


def show(
    members: Sequence[Member],
    *,
    full: bool = False,
    progress: progresses.Progress,
) -> None:
    """Says what `members` come to: settings, phases, data, disk, time.

    full: whether the settings at their default are shown, too. All members are
    of one network and data set. Nothing is written. Raises `UserError` for what
    building the network shows.
    """
    plan = members[0].plan
    _say_settings(plan.config, full, progress)
    sizes = plans.split_sizes(plan)
    with progress.busy("building the network"):
        began = time.perf_counter()
        built = max(members, key=lambda each: each.plan.strategy.pretrained)
        untrained = preparing.build(built.plan)
        building = time.perf_counter() - began
    total = sum(sizes.values())
    progress.say(
        f"reads: {total:,} images in {len(plan.source.labels)} classes of "
        f"{plan.source.name}, of which {_split_text(plan, sizes)}"
    )
    for member in members:
        _say_phases(member, untrained.model, sizes, progress)
    _say_kept(plan, untrained.model, sizes, progress)
    with progress.busy("measuring the speed of this machine"):
        trains = any(
            phase.unfreeze != "none"
            for member in members
            for phases in _courses(member.plan, sizes).values()
            for phase in phases
        )
        speed = _measure(plan, untrained.model, building, trains)
    # What all share is read and computed once.
    shared = (
        building + 2 * total * speed.read + _views(plan, sizes) * speed.forward
    )
    shortest, longest = shared, shared
    for member in members:
        spans = [
            member.times
            * _seconds(
                member.plan, phases, sizes, speed, exports=len(members) == 1
            )
            for phases in _courses(member.plan, sizes).values()
        ]
        shortest, longest = shortest + min(spans), longest + max(spans)
    span = progresses.duration(shortest)
    budget = budgets.parse(plan.config.budget)
    if longest > shortest and budget.seconds:
        longest = min(longest, shortest + budget.seconds)
    if longest > shortest:
        span += (
            f" where the head is enough, up to {progresses.duration(longest)} "
            "where all of the base has to learn,"
        )
    progress.say(
        f"takes: about {span} on this machine, judged by at most {_SAMPLE} "
        "images and a few steps; less where an earlier run has left what it "
        "computed, or a phase ends early"
    )
    progress.say("Nothing was written.")


def _say_settings(
    config: configs.Config, full: bool, progress: progresses.Progress
) -> None:
    rest = "" if full else ", without those at their default (--verbose)"
    progress.say(f"settings{rest}:")
    default = configs.Config()
    for line in configs.to_toml(config).splitlines():
        name = line.partition(" = ")[0]
        ours = getattr(config, name, None)
        if full or not hasattr(default, name) or ours != getattr(default, name):
            progress.say(f"  {line}")


def _split_text(plan: plans.Plan, sizes: dict[str, int]) -> str:
    about = "" if plan.source.examples[0].split else "about "
    return about + ", ".join(f"{size:,} {name}" for name, size in sizes.items())


def _phases(plan: plans.Plan) -> tuple[records.Phase, ...]:
    return plan.strategy.planned


def _courses(
    plan: plans.Plan, sizes: dict[str, int]
) -> dict[str, tuple[records.Phase, ...]]:
    """Returns the phases that may come, by what a strategy may decide."""
    strategy = plan.strategy
    if not strategy.decides:
        return {strategy.name: strategy.planned}
    budget = budgets.parse(plan.config.budget)
    epochs = budget.whole_epochs(sizes["train"], _steps(plan, sizes))
    found = {strategy.name: strategy.planned}
    for name in strategies.BY_NAME[strategy.name].options:
        if name != "feature_extraction":
            choice = _Choice((name,), epochs)
            found[name] = strategies.expected(strategy, choice)
    return found


def _say_phases(
    member: Member,
    model: keras.Model,
    sizes: dict[str, int],
    progress: progresses.Progress,
) -> None:
    plan = member.plan
    times = f", {member.times} times" if member.times > 1 else ""
    progress.say(f"strategy {plan.strategy.name}{times}:")
    base = bases.of(model)
    for phase in _phases(plan):
        classifiers.unfreeze(base, phase.unfreeze)
        with one_phase.adapted(model, phase):
            learning = claims.variables(model, phase).parameters
        classifiers.freeze(base)
        how = f"{phase.epochs} epochs of {_steps(plan, sizes)} steps at most"
        how += f", at {phase.learning_rate:g} ({phase.schedule})"
        if phase.solver != "adam":
            how = "solved for on stored features"
        progress.say(
            f"  phase {phase.name}: {learning:,} parameters learn (base: "
            f"{phase.unfreeze}), {how}"
        )
    if plan.strategy.decides:
        progress.say("  then what the evidence says pays, within the budget")
    if plan.config.folds:
        progress.say(f"  {plan.config.folds} folds, then once on all images")
    elif len(configs.learned(plan.config, _known(sizes))) > 1:
        progress.say("  then the chosen phases once more, on more images")


def _say_kept(
    plan: plans.Plan,
    model: keras.Model,
    sizes: dict[str, int],
    progress: progresses.Progress,
) -> None:
    total = sum(sizes.values())
    square = plan.image_size**2 * 3
    fitting = int(plan.config.image_store_gb * 1e9 // square)
    store = min(total, fitting) * square
    features = _views(plan, sizes) * bases.of(model).output.shape[-1] * 4
    progress.say(
        f"computes: {_views(plan, sizes):,} views by the frozen base "
        f"once, and keeps {_bytes(features)} of them in {plan.cache_dir}"
    )
    progress.say(
        f"writes: {plan.directory}, about "
        f"{_bytes(3 * 4 * model.count_params())}; while it runs also "
        f"{_bytes(store)} of decoded images"
    )


def _bytes(count: float) -> str:
    if count < 1e6:
        return f"{count / 1e3:.0f} KB"
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def _known(sizes: dict[str, int]) -> int:
    return sizes["train"] + sizes["validation"]


def _batch(plan: plans.Plan, sizes: dict[str, int]) -> int:
    if plan.config.batch_size != "auto":
        return int(plan.config.batch_size)
    return max(1, preparing.auto_batch(sizes["train"], plan.image_size))


def _steps(plan: plans.Plan, sizes: dict[str, int]) -> int:
    return -(-sizes["train"] // _batch(plan, sizes))


def _views(plan: plans.Plan, sizes: dict[str, int]) -> int:
    """Returns the views of images whose activations are stored."""
    phases = _phases(plan)
    if plan.config.feature_cache == "off" or all(
        phase.unfreeze == "all" for phase in phases
    ):
        return 0
    config = plan.config
    kinds = augment.views(config.augment, seed=config.seed, most=0)
    ways = len(kinds) or config.cached_views
    return sizes["train"] * ways + sizes["validation"]


def _measure(
    plan: plans.Plan, model: keras.Model, building: float, trains: bool
) -> _Speed:
    count = len(plan.source.examples)
    picked = np.unique(np.linspace(0, count - 1, _SAMPLE).astype(int))
    shape = image_stores.Shape(
        plan.image_size, plan.config.resize, plan.config.max_pixels
    )

    def square(index: int) -> np.ndarray | None:
        try:
            return image_stores.square(plan.source.read(int(index)), shape)
        except (OSError, tf.errors.OpError):
            return None

    # The first one builds the decoder.
    square(int(picked[0]))
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        squares = [
            each for each in pool.map(square, picked) if each is not None
        ]
    read = (time.perf_counter() - began) / len(picked)
    if not squares:
        raise errors.UserError(
            f"none of {len(picked)} images of {plan.source.name} can be read; "
            "`tlkeras check` says why."
        )
    images = np.stack(squares)
    model.predict_on_batch(images)
    began = time.perf_counter()
    model.predict_on_batch(images)
    forward = (time.perf_counter() - began) / len(images)
    pace = paces.Pace()
    pace.built(building)
    if not trains:
        return _Speed(read, forward, 0.0, 0.0, pace.graph)
    phase = records.Phase("measured", "all", 1, 1e-9)
    classifiers.unfreeze(bases.of(model), "all")
    one_phase.compile(model, phase, 1)
    spent = []
    for _ in range(3):
        began = time.perf_counter()
        model.train_on_batch(images, np.zeros(len(images), np.int32))
        spent.append(time.perf_counter() - began)
    step = min(spent[1:])
    stage = costs.ratio(plan.config.backbone).last_stage * forward
    return _Speed(read, forward, step / len(images), stage, spent[0] - step)


def _seconds(
    plan: plans.Plan,
    phases: tuple[records.Phase, ...],
    sizes: dict[str, int],
    speed: _Speed,
    *,
    exports: bool,
) -> float:
    """Returns the seconds of a run, without what all runs share."""
    seconds = 0.0
    for phase in phases:
        if phase.unfreeze == "none":
            if phase.solver == "adam" and plan.config.feature_cache == "off":
                seconds += phase.epochs * _known(sizes) * speed.forward
            continue
        epoch = _known(sizes) * speed.stage
        if phase.unfreeze == "all" or plan.config.feature_cache == "off":
            epoch = (
                sizes["train"] * speed.step
                + sizes["validation"] * speed.forward
            )
        seconds += speed.graph + phase.epochs * epoch
    if plan.config.folds:
        seconds *= plan.config.folds + 1
    elif len(configs.learned(plan.config, _known(sizes))) > 1:
        # Up to the best epochs, half of all where nothing is known.
        seconds *= 1.5
    seconds += sum(sizes.values()) * speed.forward
    return seconds + speed.graph * (
        paces.FINISHING if exports else paces.SCORING
    )
