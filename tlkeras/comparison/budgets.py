"""What each candidate of a comparison may use to train, and its epochs."""

import dataclasses
import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tlkeras import errors
from tlkeras.settings import budget as budget_setting
from tlkeras.settings import config as configs
from tlkeras.settings import strategies

# Fewer steps than these say more of the budget than of the strategy. On this
# project's grids 80 and 150 steps were enough to see what transfer is worth,
# and from random weights 80 were not, by 46 points (benchmarks/grid.md).
_LEAST = 80
_LEAST_FROM_SCRATCH = 2000
# Of a phase, where the budget is in seconds and the images are few.
_MOST_EPOCHS = 1000


def epochs_of_steps(
    budget: budget_setting.Budget,
    name: str,
    *,
    solved: bool,
    images: int,
    steps_per_epoch: int,
) -> tuple[int, ...]:
    """Returns the epochs of each phase of a strategy for a budget of steps.

    solved: whether the head of two phases is solved. It then takes none of the
    steps, and its phase counts as one epoch; else it gets half. images: for
    training. Raises `UserError` for a budget of too many epochs.
    """
    epochs = budget.whole_epochs(images, steps_per_epoch)
    most = int(configs.settings()["epochs"].rule.high)
    if epochs > most:
        raise errors.UserError(
            f"`budget` must be at most {most * steps_per_epoch:,} steps for "
            f"these images, {most:,} epochs of {steps_per_epoch:,}. Received: "
            f"{epochs:,} epochs."
        )
    row = strategies.BY_NAME[name]
    if len(row.phases) == 1 and not row.options:
        return (epochs,)
    if solved:
        return 1, epochs
    return max(1, epochs - epochs // 2), max(1, epochs // 2)


def epochs_of_seconds(
    seconds: float, trial: Sequence[tuple[float, float]]
) -> tuple[int, ...]:
    """Returns the epochs of each phase that about fill a budget of seconds.

    trial: what each phase took in a trial: seconds before and after its
      epochs, and seconds an epoch; 0 for a head that is solved, not trained,
      and whose phase counts as one epoch.

    A head that is trained gets half of the time where a phase follows.
    """
    epochs: list[int] = []
    left = seconds
    for number, (fixed, epoch) in enumerate(trial, 1):
        left -= fixed
        share = left / 2 if number < len(trial) else left
        count = math.floor(share / epoch) if epoch else 1
        epochs.append(min(max(1, count), _MOST_EPOCHS))
        left -= epochs[-1] * epoch
    return tuple(epochs)


def too_few(name: str, steps: int) -> bool:
    """Tells whether `steps` in which the base learns do not show a strategy.

    0 steps are a strategy whose base did not learn, which needs none.
    """
    scratch = not strategies.BY_NAME[name].pretrained
    return 0 < steps < (_LEAST_FROM_SCRATCH if scratch else _LEAST)


def to_json(
    budget: budget_setting.Budget,
    epochs: Mapping[str, Sequence[int]],
    *,
    solved: bool,
    steps_per_epoch: int,
) -> dict[str, Any]:
    """Returns the budget of each candidate: what was given, what it comes to.

    epochs: of the phases of each. A candidate of two phases, whose head is not
    solved, has an epoch of each at least.
    """
    values: dict[str, Any] = dataclasses.asdict(budget)
    if budget.seconds is None:
        most = max(
            phases[-1] if solved else sum(phases) for phases in epochs.values()
        )
        values |= {"epochs_each": most, "steps_each": most * steps_per_epoch}
    return values
