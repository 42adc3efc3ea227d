"""What a threshold between two classes is chosen for."""

import dataclasses
import re

from tlkeras import errors

_NUMBER = r"[0-9]*\.?[0-9]+"
PATTERN = rf"none|(cost|precision|recall):{_NUMBER}"
FORM = (
    "none, cost:5 (one that is missed costs as much as 5 false alarms), "
    "precision:0.9 or recall:0.95"
)


@dataclasses.dataclass(frozen=True)
class Wish:
    """Of two classes, what the answers on one are wished to be.

    kind: `cost` of one that is missed, in false alarms; or the least
    `precision` or `recall`. value: above 0, and below 1 but for costs.
    """

    kind: str
    value: float


def parse(text: str) -> Wish | None:
    """Returns the wish that a text such as `recall:0.95` says; None of none.

    Raises `UserError` for anything else.

    Example:
        >>> from tlkeras.settings import wish
        >>> wish.parse("recall:0.95").value
        0.95
    """
    if text == "none":
        return None
    if not re.fullmatch(PATTERN, text):
        raise errors.UserError(
            f"`threshold` must be {FORM}. Received: {text!r}."
        )
    kind, _, number = text.partition(":")
    value = float(number)
    if value <= 0 or (kind != "cost" and value >= 1):
        high = "" if kind == "cost" else " and below 1"
        raise errors.UserError(
            f"`threshold` {kind}: must be above 0{high}. Received: {text!r}."
        )
    return Wish(kind, value)
