"""What the phases of a run have in common."""

import dataclasses
from collections.abc import Callable

import keras

from tlkeras import progress as progresses
from tlkeras import records
from tlkeras.training import placement as placements
from tlkeras.training import row_store
from tlkeras.training import unfinished


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the phases of a run have in common.

    placement: the devices, in whose scope the model was built.
    storage: where activations of what is frozen are kept.
    callbacks: phase -> Keras callbacks beside our own.
    keeper: where a phase that is cut short leaves its epochs; None is nowhere.
    rate: by which the phases' learning rates are multiplied.
    """

    progress: progresses.Progress
    placement: placements.Placement = placements.SINGLE
    storage: row_store.Storage = row_store.NOWHERE
    callbacks: Callable[
        [records.Phase], tuple[keras.callbacks.Callback, ...]
    ] = lambda phase: ()
    keeper: unfinished.Keeper | None = None
    rate: float = 1.0
