"""A phase that was cut short: its last whole epoch, from which it goes on."""

import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tlkeras import files
from tlkeras import records
from tlkeras.models import classifier as classifiers
from tlkeras.training import best_epoch
from tlkeras.training import checkpoint

# A kill costs no more than so many seconds, and an epoch.
_EVERY = 60.0


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """What a phase had come to when an epoch ended.

    moving, optimizer: values of the variables that it moves, and of its
    optimizer. best: those of the former at the best epoch. seconds: spent.
    """

    moving: Sequence[np.ndarray]
    optimizer: Sequence[np.ndarray]
    best: Sequence[np.ndarray]
    history: tuple[records.Epoch, ...]
    best_epoch: int
    score: records.Score | None
    steps: int
    seconds: float


class Keeper:
    """Keeps what the phases of a run had come to, in its directory.

    digests: of all that decides the run, by what it is called. Raises
    `UserError` where they are others than those of the run that was cut short.
    """

    def __init__(
        self, directory: str | os.PathLike, digests: Mapping[str, str]
    ):
        self.path = pathlib.Path(directory, checkpoint.PHASE)
        self.directory = directory
        self.digests = dict(digests)
        if self.path.exists():
            with checkpoint.reading(self.path) as (content, _):
                checkpoint.check(directory, content["digests"], digests)

    def load(self, phase: records.Phase, first_epoch: int) -> Unfinished | None:
        """Returns what `phase` had come to, None where it has not begun.

        first_epoch: number of epochs that went before it.
        """
        if not self.path.exists():
            return None
        with checkpoint.reading(self.path) as (content, saved):
            if content["phase"] != self._key(phase, first_epoch):
                return None
            score = content["score"]
            return Unfinished(
                moving=checkpoint.arrays(saved, "moving_"),
                optimizer=checkpoint.arrays(saved, "optimizer_"),
                best=checkpoint.arrays(saved, "best_"),
                history=tuple(
                    records.Epoch(**row) for row in content["history"]
                ),
                best_epoch=content["best_epoch"],
                score=None if score is None else records.Score(**score),
                steps=content["steps"],
                seconds=content["seconds"],
            )

    def save(
        self, phase: records.Phase, first_epoch: int, found: Unfinished
    ) -> None:
        """Writes what `phase` has come to, whole or not at all."""
        content = dataclasses.asdict(found)
        values = {
            f"{name}_{at}": array
            for name in _ARRAYS
            for at, array in enumerate(content.pop(name))
        }
        content |= {
            "phase": self._key(phase, first_epoch),
            "digests": self.digests,
        }
        with files.replacing(self.path) as temporary:
            arrays: dict[str, Any] = {**values, "content": json.dumps(content)}
            np.savez(temporary, **arrays)

    @staticmethod
    def _key(phase: records.Phase, first_epoch: int) -> list[object]:
        return [dataclasses.asdict(phase), first_epoch]


_ARRAYS = ("moving", "optimizer", "best")


class Keep(keras.callbacks.Callback):
    """Notes after each epoch what a phase has come to, and writes it at times.

    best: the callback that judges the epochs of it. earlier: the seconds that
    it had before.
    """

    def __init__(
        self,
        keeper: Keeper,
        phase: records.Phase,
        first_epoch: int,
        best: best_epoch.BestEpoch,
        earlier: float,
    ):
        super().__init__()
        self.keeper = keeper
        self.phase = phase
        self.first_epoch = first_epoch
        self.best = best
        self.began = time.perf_counter() - earlier
        self.written = time.perf_counter()
        self.found: Unfinished | None = None

    def on_epoch_end(self, epoch, logs=None):
        # With the epoch that ends the phase the next step is another.
        if self.model.stop_training or epoch + 1 == self.phase.epochs:
            return
        best = self.best
        self.found = Unfinished(
            [classifiers.to_array(each) for each in best.moving],
            [
                classifiers.to_array(each)
                for each in self.model.optimizer.variables
            ],
            best.best or (),
            tuple(best.history),
            best.best_epoch,
            best.score,
            best.steps,
            time.perf_counter() - self.began,
        )
        if time.perf_counter() - self.written > _EVERY:
            self.write()

    def write(self) -> None:
        """Writes what was noted last, if anything was."""
        if self.found is not None:
            self.keeper.save(self.phase, self.first_epoch, self.found)
            self.written = time.perf_counter()


def go_on(
    found: Unfinished, best: best_epoch.BestEpoch, optimizer: keras.Optimizer
) -> None:
    """Puts what was kept of a phase into its variables and its optimizer."""
    best.history = list(found.history)
    best.best = list(found.best) or None
    best.best_epoch = found.best_epoch
    best.score = found.score
    best.steps = found.steps
    for variables, arrays in (
        (best.moving, found.moving),
        (optimizer.variables, found.optimizer),
    ):
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
