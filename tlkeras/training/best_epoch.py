"""The callback of a phase: keeps its best epoch, ends it in time."""

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np

from tlkeras import progress as progresses
from tlkeras import records
from tlkeras.models import classifier as classifiers

if TYPE_CHECKING:
    from tlkeras.data import batches


def validation_score(
    values: Mapping[str, float], feed: "batches.Feed"
) -> records.Score:
    """Returns the score that the compiled metrics of a model say."""
    if not feed.validation_images:
        return records.UNSCORED
    balanced = values.get("balanced_accuracy")
    return records.Score(
        float(values["accuracy"]),
        float(values["cross_entropy"]),
        feed.validation_images,
        None if balanced is None else float(balanced),
    )


class BestEpoch(keras.callbacks.Callback):
    """Keeps the best epoch, and ends the phase when it has converged.

    moving: the variables of which it keeps those of the best epoch; where no
    image is there to validate with, that is the last one. floor: the score
    that half of the epochs must not be clearly behind.

    Afterwards `best` holds their values and `score` how good they are, both
    None where no epoch came to its end; `stopped` says why the phase ended.
    """

    def __init__(
        self,
        phase: records.Phase,
        feed: "batches.Feed",
        moving: list[keras.Variable],
        progress: progresses.Progress,
        floor: records.Score | None = None,
    ):
        super().__init__()
        self.phase = phase
        self.feed = feed
        self.moving = moving
        self.progress = progress
        self.floor = floor
        self.history: list[records.Epoch] = []
        self.score: records.Score | None = None
        self.best: list[np.ndarray] | None = None
        self.best_epoch = 0
        self.steps = 0
        self.step_begun = False
        self.stopped = "budget"

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_began = self.epoch_ended = time.perf_counter()

    def on_train_batch_begin(self, batch, logs=None):
        # Where a callback asks for the end of a batch, Keras waits for each
        # step's loss before it asks for the next step: ResNet50 on an H200 is
        # then idle for a fifth of the time.
        self._step_ends()
        self.step_begun = True

    def on_test_begin(self, logs=None):
        self._training_ends()

    def _training_ends(self) -> None:
        """Notes when the last step of an epoch came to its end."""
        if self.step_begun:
            # A device works behind the caller's back until it is asked.
            classifiers.to_array(self.model.metrics[0].variables[0])
            self._step_ends()
            self.epoch_ended = time.perf_counter()

    def _step_ends(self) -> None:
        if self.step_begun:
            self.step_begun = False
            self.steps += 1
            self.progress.step_ends(self.feed.train_sizes[-1])

    def on_epoch_end(self, epoch, logs=None):
        self._training_ends()
        seconds = self.epoch_ended - self.epoch_began
        values = {
            name.removeprefix("val_"): value
            for name, value in logs.items()
            if name.startswith("val_")
        }
        score = validation_score(values, self.feed)
        rate = self.model.optimizer.learning_rate
        result = records.Epoch(
            phase=self.phase.name,
            epoch=epoch + 1,
            learning_rate=float(keras.ops.convert_to_numpy(rate)),
            loss=float(logs["loss"]),
            accuracy=float(logs["accuracy"]),
            validation_accuracy=score.accuracy,
            validation_cross_entropy=score.cross_entropy,
            seconds=seconds,
            images_per_second=self.feed.train_images / seconds,
            validation_balanced_accuracy=score.balanced_accuracy,
        )
        if not math.isfinite(result.loss):
            self._stop("diverged")
            return
        self.history.append(result)
        judged = self.feed.validation_images > 0
        if (
            self.score is None
            or not judged
            or records.better(score, self.score)
        ):
            self.score = score
            self.best = [classifiers.to_array(each) for each in self.moving]
            self.best_epoch = epoch + 1
        self.progress.epoch_ends(result)
        # The rate of cosine comes down only at the end, and with it the loss.
        patient = self.phase.schedule == "constant"
        waited = epoch + 1 - self.best_epoch
        if (
            patient
            and waited >= self.phase.patience
            and epoch + 1 < self.phase.epochs
        ):
            self._stop("patience")
        half = epoch + 1 == self.phase.epochs // 2
        if (
            half
            and self.floor is not None
            and records.clearly_worse(self.score, self.floor)
        ):
            self._stop("hopeless")

    def on_train_end(self, logs=None):
        # Such as Keras' EarlyStopping.
        if self.stopped == "budget" and len(self.history) < self.phase.epochs:
            self.stopped = "callback"

    def _stop(self, why: str) -> None:
        self.stopped = why
        self.model.stop_training = True
