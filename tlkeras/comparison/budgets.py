"""What each candidate of a comparison may use to train, and its epochs."""

import dataclasses
import math
import re
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tlkeras import errors
from tlkeras.settings import config as configs
from tlkeras.settings import strategies

# Steps a candidate gets where nothing is said: the rule of Big Transfer for
# fewer than 20,000 images (arXiv:1912.11370), and for more.
_FEW_IMAGES = 20_000
_STEPS = {True: 500, False: 10_000}
# Of a phase, where the budget is in seconds and the images are few.
_MOST_EPOCHS = 1000
_PATTERN = re.compile(r"auto|([1-9][0-9]*)(s?)")


@dataclasses.dataclass(frozen=True)
class Budget:
    """So many steps, or so many seconds; both None is Big Transfer's rule."""

    steps: int | None = None
    seconds: int | None = None


def parse(text: str) -> Budget:
    """Returns the budget of `auto`, `600` steps or `120s` seconds.

    Raises `UserError` for anything else.
    """
    match = _PATTERN.fullmatch(text)
    if not match:
        raise errors.UserError(
            "`budget` must be auto, a number of steps such as 500, or of "
            f"seconds such as 120s. Received: {text!r}."
        )
    number, unit = match.groups()
    if not number:
        return Budget()
    return Budget(seconds=int(number)) if unit else Budget(int(number))


def epochs_of_steps(
    budget: Budget,
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
    steps = budget.steps or _STEPS[images < _FEW_IMAGES]
    epochs = max(1, round(steps / steps_per_epoch))
    most = int(configs.settings()["epochs"].rule.high)
    if epochs > most:
        raise errors.UserError(
            f"`budget` must be at most {most * steps_per_epoch:,} steps for "
            f"these images, {most:,} epochs of {steps_per_epoch:,}. Received: "
            f"{steps}."
        )
    if len(strategies.BY_NAME[name].phases) == 1:
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


def to_json(
    budget: Budget,
    epochs: Mapping[str, Sequence[int]],
    *,
    solved: bool,
    steps_per_epoch: int,
) -> dict[str, Any]:
    """Returns the budget of each candidate: what was given, what it comes to.

    epochs: of the phases of each. A candidate of two phases, whose head is not
    solved, has an epoch of each at least.
    """
    values = dataclasses.asdict(budget)
    if budget.seconds is None:
        most = max(
            phases[-1] if solved else sum(phases) for phases in epochs.values()
        )
        values |= {"epochs_each": most, "steps_each": most * steps_per_epoch}
    return values
