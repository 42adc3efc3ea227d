"""The ways to a classifier that are compared, and the budget each has."""

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tlkeras import config as configs
from tlkeras import errors

# What makes each way one, over the settings that all of them share. What is
# fine-tuned starts from a solved head: one that Adam had half of the steps for
# would not have converged. The two rates are a factor of ten apart.
_WAYS: Mapping[str, Mapping[str, str]] = {
    "feature_extraction": {
        "strategy": "feature_extraction",
        "head_solver": "adam",
    },
    "converged_head": {
        "strategy": "feature_extraction",
        "head_solver": "logistic",
    },
    "last_stage": {
        "strategy": "fine_tuning",
        "head_solver": "logistic",
        "unfreeze": "stages:1",
    },
    "fine_tuning": {
        "strategy": "fine_tuning",
        "head_solver": "logistic",
        "unfreeze": "all",
    },
    "fine_tuning_low": {
        "strategy": "fine_tuning",
        "head_solver": "logistic",
        "unfreeze": "all",
    },
    "pretrained_init": {"strategy": "pretrained_init"},
    "scratch": {"strategy": "scratch"},
}
_LOWER = 10.0
NAMES = tuple(_WAYS)

# Settings that the ways, the seeds and the budget decide.
DECIDED = (
    "strategy",
    "unfreeze",
    "head_solver",
    "head_epochs",
    "finetune_epochs",
    "epochs",
)

# Several processes cannot share members yet.
ONE_PROCESS = ("coordinator", "num_processes", "process_id")

# Steps a way gets where nothing is said: the rule of Big Transfer for fewer
# than 20,000 images (arXiv:1912.11370), and for more.
_FEW_IMAGES = 20_000
_STEPS = {True: 500, False: 10_000}
# Of a phase, where the budget is in seconds and the images are few.
_MOST_EPOCHS = 1000
_BUDGET = re.compile(r"auto|([1-9][0-9]*)(s?)")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is compared.

    seeds: trainings of each way; the first seed is that of the settings.
    drop: `none`, or `clear` to leave a way after a seed that it clearly loses.
    solved: whether heads that are fine-tuned are solved first.
    """

    names: tuple[str, ...]
    seeds: int
    budget: "Budget"
    drop: str
    solved: bool


@dataclasses.dataclass(frozen=True)
class Budget:
    """What each way may use to train: so many steps, or so many seconds.

    Both None is the rule of Big Transfer.
    """

    steps: int | None = None
    seconds: int | None = None


def resolve(
    path: str | os.PathLike, given: Mapping[str, Any]
) -> tuple[configs.Config, list[str]]:
    """Returns the settings all ways share, and what of a file they are not.

    path: a TOML file or the name of a recipe; '' is none. Raises `UserError`
    as `config.resolve` does, and for what the ways decide.
    """
    decided = (*DECIDED, "phases")
    for name in given:
        if name in decided:
            raise errors.UserError(
                f"`{name}` is decided by each way that is compared. Leave it "
                "out; `strategies` and `budget` say what is compared."
            )
    config = configs.resolve(path, given, without=decided)
    for name in ONE_PROCESS:
        if getattr(config, name) != getattr(configs.Config(), name):
            raise errors.UserError(
                f"`{name}` cannot be given here: a comparison runs in one "
                "process. Leave it out."
            )
    values = configs.read(path) if path else {}
    return config, [
        f"`{name}` of {path} is not used: each way decides it."
        for name in values
        if name in decided
    ]


def budget(text: str) -> Budget:
    """Returns the budget of `auto`, `600` steps or `120s` seconds.

    Raises `UserError` for anything else.
    """
    found = _BUDGET.fullmatch(text)
    if not found:
        raise errors.UserError(
            "`budget` must be auto, a number of steps such as 500, or of "
            f"seconds such as 120s. Received: {text!r}."
        )
    number, unit = found.groups()
    if not number:
        return Budget()
    return Budget(seconds=int(number)) if unit else Budget(int(number))


def choose(text: str, *, pretrained: bool) -> tuple[str, ...]:
    """Returns the ways that a list with commas names; `all` is all there are.

    pretrained: whether there are weights to start from. Raises `UserError` for
    an unknown name, for one given twice, for fewer than two, and for one that
    needs weights where there are none.
    """
    if text == "all":
        if not pretrained:
            raise errors.UserError(
                "`weights` none leaves nothing to compare: every way but "
                "scratch starts from pretrained weights. Give --weights."
            )
        return NAMES
    names = tuple(each.strip() for each in text.split(","))
    for name in names:
        if name not in NAMES:
            raise errors.UserError(
                f"`strategies` must be all, or some of {', '.join(NAMES)}, "
                f"with commas between them. Received: {name!r}."
                f"{errors.nearest(name, NAMES)}"
            )
        if name != "scratch" and not pretrained:
            raise errors.UserError(
                f"`strategies` {name} starts from pretrained weights. "
                "Received: weights = 'none'. Give --weights."
            )
    if len(set(names)) < max(2, len(names)):
        raise errors.UserError(
            "`strategies` must name two different ways or more. Received: "
            f"{text!r}."
        )
    return names


def settings(
    base: configs.Config, names: str, seeds: int, allowed: str, drop: str
) -> Settings:
    """Returns what is compared, checked; as the flags of their names say.

    base: the settings that all ways share. Raises `UserError` for what is not
    allowed, and where `base` contradicts one of the ways.
    """
    if type(seeds) is not int or not 1 <= seeds <= 100:
        raise errors.UserError(
            f"`seeds` must be a whole number in [1, 100]. Received: {seeds!r}."
        )
    if drop not in ("none", "clear"):
        raise errors.UserError(
            f"`drop` must be one of none, clear. Received: {drop!r}."
        )
    chosen = choose(names, pretrained=base.weights != "none")
    for way in chosen:
        try:
            config(base, way, seed=base.seed)
        except errors.UserError as error:
            raise errors.UserError(
                f"way {way} of `strategies`: {error} Or leave the way out."
            ) from None
    return Settings(chosen, seeds, budget(allowed), drop, solves(base))


def config(
    base: configs.Config, way: str, *, seed: int, epochs: Sequence[int] = ()
) -> configs.Config:
    """Returns the settings of `tlkeras train` that are this way.

    base: the settings that all ways share. epochs: of its phases, as `split`
    and `pace` give them.

    Raises `UserError` where `base` contradicts the way.
    """
    values = {
        name: getattr(base, name)
        for name in configs.settings()
        if name not in DECIDED
    }
    values |= {**_WAYS[way], "seed": seed}
    if values["strategy"] == "fine_tuning" and not solves(base):
        values["head_solver"] = "adam"
    if way == "scratch":
        values["weights"] = "none"
    if way == "fine_tuning_low":
        values["finetune_learning_rate"] = base.finetune_learning_rate / _LOWER
    names = {
        "fine_tuning": ("head_epochs", "finetune_epochs"),
        "feature_extraction": ("head_epochs",),
    }.get(values["strategy"], ("epochs",))
    values |= dict(zip(names, epochs, strict=False))
    return configs.build(values)


def solves(base: configs.Config) -> bool:
    """Tells whether these settings allow a head to be solved."""
    return base.head == "linear" and base.feature_cache != "off"


def phases(way: str) -> int:
    """Returns how many phases a way has."""
    return 2 if _WAYS[way]["strategy"] == "fine_tuning" else 1


def split(
    way: str,
    allowed: Budget,
    *,
    solved: bool,
    images: int,
    steps_per_epoch: int,
) -> tuple[int, ...]:
    """Returns the epochs of each phase for a budget of steps.

    solved: whether the head of two phases is, as `solves` tells. It then takes
    none of the steps, and its phase counts as one epoch; else it gets half.
    images: for training. Raises `UserError` for a budget of too many epochs.
    """
    steps = allowed.steps or _STEPS[images < _FEW_IMAGES]
    epochs = max(1, round(steps / steps_per_epoch))
    most = int(configs.settings()["epochs"].rule.high)
    if epochs > most:
        raise errors.UserError(
            f"`budget` must be at most {most * steps_per_epoch:,} steps for "
            f"these images, {most:,} epochs of {steps_per_epoch:,}. Received: "
            f"{steps}."
        )
    if phases(way) == 1:
        return (epochs,)
    if solved:
        return 1, epochs
    return max(1, epochs - epochs // 2), max(1, epochs // 2)


def pace(
    seconds: float, trial: Sequence[tuple[float, float]]
) -> tuple[int, ...]:
    """Returns the epochs of each phase that about fill a budget of seconds.

    trial: what each phase took in a trial: seconds before and after its
      epochs, and seconds an epoch; 0 for a head that is solved, not trained,
      and whose phase counts as one epoch.

    A head that is trained gets half of the time where a phase follows.
    """
    found = []
    left = seconds
    for number, (fixed, epoch) in enumerate(trial):
        left -= fixed
        share = left / 2 if number < len(trial) - 1 else left
        count = math.floor(share / epoch) if epoch else 1
        found.append(min(max(1, count), _MOST_EPOCHS))
        left -= found[-1] * epoch
    return tuple(found)
