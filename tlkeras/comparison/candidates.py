"""The candidates of a comparison, and the budget that each has.

A candidate is a strategy with its settings; `tlkeras train` trains it under
the same name.
"""

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tlkeras import errors
from tlkeras.settings import commands
from tlkeras.settings import config as configs
from tlkeras.settings import setting as setting_rules
from tlkeras.settings import strategies

# Steps a candidate gets where nothing is said: the rule of Big Transfer for
# fewer than 20,000 images (arXiv:1912.11370), and for more.
_FEW_IMAGES = 20_000
_STEPS = {True: 500, False: 10_000}
# Of a phase, where the budget is in seconds and the images are few.
_MOST_EPOCHS = 1000
_BUDGET = re.compile(r"auto|([1-9][0-9]*)(s?)")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is compared.

    names: of the strategies. seeds: trainings of each; the first seed is that
    of the settings. drop: `none`, or `clear` to leave a strategy after a seed
    that it clearly loses. solved: whether heads that are fine-tuned are solved
    first.
    """

    names: tuple[str, ...]
    seeds: int
    budget: "Budget"
    drop: str
    solved: bool


@dataclasses.dataclass(frozen=True)
class Budget:
    """What each candidate may use to train: so many steps, or so many seconds.

    Both None is the rule of Big Transfer.
    """

    steps: int | None = None
    seconds: int | None = None


def resolve(
    path: str | os.PathLike, given: Mapping[str, Any]
) -> tuple[configs.Config, list[str]]:
    """Returns the settings all candidates share, and what of a file is unused.

    path: a TOML file or the name of a recipe; '' is none. Raises `UserError`
    as `config.resolve` does, and for what the candidates decide.
    """
    decided = (*commands.DECIDED, "phases")
    for name in given:
        if name in decided:
            raise errors.UserError(
                f"`{name}` is decided by each strategy that is compared. Leave "
                "it out; `strategies` and `budget` say what is compared."
            )
    config = configs.resolve(path, given, without=decided)
    for name in commands.ONE_PROCESS:
        if getattr(config, name) != getattr(configs.Config(), name):
            raise errors.UserError(
                f"`{name}` cannot be given here: a comparison runs in one "
                "process. Leave it out."
            )
    values = configs.read(path) if path else {}
    return config, [
        f"`{name}` of {path} is not used: each strategy decides it."
        for name in values
        if name in decided
    ]


def budget(text: str) -> Budget:
    """Returns the budget of `auto`, `600` steps or `120s` seconds.

    Raises `UserError` for anything else.
    """
    match = _BUDGET.fullmatch(text)
    if not match:
        raise errors.UserError(
            "`budget` must be auto, a number of steps such as 500, or of "
            f"seconds such as 120s. Received: {text!r}."
        )
    number, unit = match.groups()
    if not number:
        return Budget()
    return Budget(seconds=int(number)) if unit else Budget(int(number))


def choose(text: str, base: configs.Config) -> tuple[str, ...]:
    """Returns the strategies that a list with commas names.

    text: `all` is all that differ from each other under the settings `base`:
      where heads are solved anyway, feature_extraction stands for
      converged_head, too.

    Raises `UserError` for an unknown name, for one given twice, for fewer than
    two, and for one that needs weights where there are none.
    """
    pretrained = base.weights != "none"
    if text == "all":
        if not pretrained:
            raise errors.UserError(
                "`weights` none leaves nothing to compare: every strategy but "
                "scratch starts from pretrained weights. Give --weights."
            )
        if base.head_solver == "adam" or not solves(base):
            return strategies.NAMES
        return tuple(
            name for name in strategies.NAMES if name != "converged_head"
        )
    names = tuple(each.strip() for each in text.split(","))
    for name in names:
        if name not in strategies.NAMES:
            raise errors.UserError(
                "`strategies` must be all, or some of "
                f"{', '.join(strategies.NAMES)}, with commas between them. "
                f"Received: {name!r}.{errors.nearest(name, strategies.NAMES)}"
            )
        if strategies.BY_NAME[name].pretrained and not pretrained:
            raise errors.UserError(
                f"`strategies` {name} starts from pretrained weights. "
                "Received: weights = 'none'. Give --weights."
            )
    if len(set(names)) < max(2, len(names)):
        raise errors.UserError(
            "`strategies` must name two different strategies or more. "
            f"Received: {text!r}."
        )
    return names


def settings(
    base: configs.Config, names: str, seeds: int, allowed: str, drop: str
) -> Settings:
    """Returns what is compared, checked; as the flags of their names say.

    base: the settings that all candidates share. Raises `UserError` for what
    is not allowed, and where `base` contradicts one of the strategies.
    """
    given = {"seeds": seeds, "drop": drop}
    for setting in commands.COMPARISON:
        if setting.name in given:
            setting_rules.check(setting, given[setting.name], "")
    chosen = choose(names, base)
    for name in chosen:
        try:
            config(base, name, seed=base.seed)
        except errors.UserError as error:
            raise errors.UserError(
                f"{name} of `strategies`: {error} Or leave it out."
            ) from None
    return Settings(
        chosen,
        seeds,
        budget(allowed),
        drop,
        solves(base) and base.head_solver != "adam",
    )


def config(
    base: configs.Config, name: str, *, seed: int, epochs: Sequence[int] = ()
) -> configs.Config:
    """Returns the settings of `tlkeras train` that train this strategy.

    base: the settings that all candidates share. epochs: of its phases, as
    `split` and `pace` give them.

    Raises `UserError` where `base` contradicts the strategy.
    """
    row = strategies.BY_NAME[name]
    values = {
        setting: getattr(base, setting)
        for setting in configs.settings()
        if setting not in commands.DECIDED
    }
    values |= {"strategy": name, "seed": seed}
    if not row.pretrained:
        values["weights"] = "none"
    for kind, count in zip(row.phases, epochs, strict=False):
        values[strategies.PHASES[kind].epochs] = count
    return configs.build(values)


def solves(base: configs.Config) -> bool:
    """Tells whether these settings allow a head to be solved."""
    return base.head == "linear" and base.feature_cache != "off"


def phases(name: str) -> int:
    """Returns how many phases a strategy has."""
    return len(strategies.BY_NAME[name].phases)


def split(
    name: str,
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
    if phases(name) == 1:
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
