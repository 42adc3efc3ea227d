"""Whether a phase changed what it may change, and nothing else.

What is frozen must be equal to the bit. A wrong order of `trainable` and
`compile`, or BatchNorm in training mode, would otherwise pass unnoticed.
"""

import dataclasses
import math

import keras
import numpy as np

from tlkeras import records
from tlkeras.backbones import base as bases
from tlkeras.machine import keras_private
from tlkeras.models import classifier as classifiers

# Below this many steps a variable may stand still for a good reason: a base
# under a head that starts at zero gets no gradient in the first step.
_STEPS_TO_MOVE = 20


class ClaimError(RuntimeError):
    """A phase changed what it must not, or nothing of what it should change."""


@dataclasses.dataclass(frozen=True)
class Variables:
    """The variables of a classifier, by what a phase may do to them.

    frozen: of the base, must not change. base, head: learn. moving: all that
    may change, which beside what learns are BatchNorm's moving statistics and
    the seeds of dropout.
    """

    frozen: list[keras.Variable]
    base: list[keras.Variable]
    head: list[keras.Variable]
    moving: list[keras.Variable]

    @property
    def learning(self) -> list[keras.Variable]:
        """What learns, of base and head."""
        return self.base + self.head

    @property
    def parameters(self) -> int:
        """How many numbers learn."""
        return sum(math.prod(variable.shape) for variable in self.learning)


def variables(model: keras.Model, phase: records.Phase) -> Variables:
    """Returns the variables of `model`, sorted by what `phase` may change."""
    base = bases.of(model)
    of_base = {id(variable) for variable in base.variables}
    trainable = model.trainable_variables
    may_change = {id(variable) for variable in trainable}
    if phase.batch_norm == "training":
        for layer in keras_private.flatten_layers(base.network):
            # A model's own list holds the weights of its frozen layers, too.
            if layer.trainable and not isinstance(layer, keras.Model):
                may_change |= {
                    id(variable) for variable in layer.non_trainable_variables
                }
    frozen: list[keras.Variable] = []
    moving: list[keras.Variable] = []
    for variable in model.variables:
        fixed = id(variable) in of_base and id(variable) not in may_change
        (frozen if fixed else moving).append(variable)
    return Variables(
        frozen=frozen,
        base=[each for each in trainable if id(each) in of_base],
        head=[each for each in trainable if id(each) not in of_base],
        moving=moving,
    )


def check(
    model: keras.Model,
    phase: records.Phase,
    sorted_variables: Variables,
    before: list[np.ndarray],
    *,
    steps: int,
) -> int:
    """Returns how many learning variables are equal to their start.

    before: the state of `model` when the phase began. steps: that it took.

    Raises `ClaimError` if something frozen changed, be it by one bit, or if
    nothing of a learning part changed in 20 `steps` or more.
    """
    start = {
        id(variable): array
        for variable, array in zip(model.variables, before, strict=True)
    }

    def changed(variable: keras.Variable) -> bool:
        now = classifiers.to_array(variable)
        return start[id(variable)].tobytes() != now.tobytes()

    broken = [each.path for each in sorted_variables.frozen if changed(each)]
    if broken:
        raise ClaimError(
            f"phase {phase.name} moved {len(broken)} variables that are "
            f"frozen, {broken[0]} among them."
        )
    unmoved = 0
    for name in ("base", "head"):
        learning = getattr(sorted_variables, name)
        still = sum(not changed(variable) for variable in learning)
        if learning and still == len(learning) and steps >= _STEPS_TO_MOVE:
            raise ClaimError(
                f"phase {phase.name} moved none of the {still} variables of "
                f"the {name} in {steps} steps."
            )
        unmoved += still
    return unmoved
