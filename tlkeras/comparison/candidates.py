"""The candidates of a comparison: strategies with their settings.

`tlkeras train` trains a candidate under the same name.
"""

import dataclasses
import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tlkeras import errors
from tlkeras.settings import budget as budgets
from tlkeras.settings import commands
from tlkeras.settings import config as configs
from tlkeras.settings import setting as setting_rules
from tlkeras.settings import strategies


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is compared.

    names: of the strategies. seeds: trainings of each; the first seed is that
    of the settings. drop: `none`, or `clear` to leave a strategy after a seed
    that it clearly loses. solved: whether heads that are fine-tuned are solved
    first. margin: how much worse than the best is as good [points].
    """

    names: tuple[str, ...]
    seeds: int
    budget: budgets.Budget
    drop: str
    solved: bool
    margin: float


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
    base = configs.resolve(path, given, without=decided)
    for name in commands.ONE_PROCESS:
        if getattr(base, name) != getattr(configs.Config(), name):
            raise errors.UserError(
                f"`{name}` cannot be given here: a comparison runs in one "
                "process. Leave it out."
            )
    for name in commands.ONE_SPLIT:
        if getattr(base, name) != getattr(configs.Config(), name):
            raise errors.UserError(
                f"`{name}` cannot be given here: all candidates of a "
                "comparison share one split. Leave it out."
            )
    in_file = configs.read(path) if path else {}
    return base, [
        f"`{name}` of {path} is not used: each strategy decides it."
        for name in in_file
        if name in decided
    ]


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
        same = {"converged_head"} if _solves_heads(base) else set()
        return tuple(name for name in strategies.NAMES if name not in same)
    names = tuple(name.strip() for name in text.split(","))
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
    base: configs.Config,
    names: str,
    *,
    seeds: int,
    budget: str,
    drop: str,
    margin: float,
) -> Settings:
    """Returns what is compared, checked; as the flags of their names say.

    base: the settings that all candidates share. Raises `UserError` for what
    is not allowed, and where `base` contradicts one of the strategies.
    """
    given = {"seeds": seeds, "drop": drop, "margin": margin}
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
        budgets.parse(budget),
        drop,
        _solves_heads(base),
        float(margin),
    )


def config(
    base: configs.Config, name: str, *, seed: int, epochs: Sequence[int] = ()
) -> configs.Config:
    """Returns the settings of `tlkeras train` that train this candidate.

    base: the settings that all candidates share. epochs: of its phases.

    Raises `UserError` where `base` contradicts the strategy.
    """
    strategy = strategies.BY_NAME[name]
    values = {
        setting: getattr(base, setting)
        for setting in configs.settings()
        if setting not in commands.DECIDED
    }
    values |= {"strategy": name, "seed": seed}
    if not strategy.pretrained:
        values["weights"] = "none"
    if strategy.options and epochs:
        values["budget"] = f"{epochs[-1]}e"
        epochs = epochs[:-1]
    for kind, count in zip(strategy.phases, epochs, strict=False):
        values[strategies.PHASES[kind].epochs] = count
    return configs.build(values)


def _solves_heads(base: configs.Config) -> bool:
    return (
        base.head == "linear"
        and base.feature_cache != "off"
        and base.head_solver != "adam"
    )
