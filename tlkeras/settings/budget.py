"""How long a training may take: in steps, seconds or epochs."""

import dataclasses
import re

from tlkeras import errors

# Steps where nothing is said: the rule of Big Transfer for fewer than 20,000
# images (arXiv:1912.11370), and for more.
_FEW_IMAGES = 20_000
_STEPS = {True: 500, False: 10_000}
PATTERN = "auto|[1-9][0-9]{0,17}[se]?"
FORM = (
    "auto, a number of steps such as 500, of seconds such as 120s, or of "
    "epochs such as 10e"
)


@dataclasses.dataclass(frozen=True)
class Budget:
    """One of the three is given; all None is Big Transfer's rule."""

    steps: int | None = None
    seconds: int | None = None
    epochs: int | None = None

    def whole_epochs(self, images: int, steps_per_epoch: int) -> int:
        """Returns the epochs that a budget in steps or epochs comes to.

        images: for training.
        """
        if self.epochs is not None:
            return self.epochs
        steps = self.steps or _STEPS[images < _FEW_IMAGES]
        return max(1, round(steps / steps_per_epoch))


def parse(text: str) -> Budget:
    """Returns the budget of `auto`, of `600` steps, `120s`, or `10e` epochs.

    Raises `UserError` for anything else.

    Example:
        >>> from tlkeras.settings import budget
        >>> budget.parse("120s").seconds
        120
        >>> budget.parse("auto").whole_epochs(images=640, steps_per_epoch=20)
        25
    """
    if not re.fullmatch(PATTERN, text):
        raise errors.UserError(f"`budget` must be {FORM}. Received: {text!r}.")
    if text == "auto":
        return Budget()
    unit = {"s": "seconds", "e": "epochs"}.get(text[-1], "steps")
    return Budget(**{unit: int(text.rstrip("se"))})
