"""What is asked of an image: one row for each kind of question.

No other module assumes how many labels an image has. Keras is imported only
where a model is compiled.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
import scipy.special

from tlkeras import errors
from tlkeras import records

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Task:
    """A kind of question, and what depends on it.

    target_type: NumPy's name for the type of the targets.
    loss, metrics: what a model that gives logits is compiled with; `accuracy`
      and `cross_entropy` are among the metrics.
    balanced_metrics: for images that are weighed so that all classes count the
      same; `balanced_accuracy` is among them.
    score: (logits [n, k], targets [n]) -> the same two, without a model.
    activation: Keras' name of what turns logits into probabilities.
    probabilities: logits [n, k] -> probabilities [n, k], float64. Raises
      `UserError` where one is not finite.
    answers: probabilities [n, k] -> the classes [n] answered, and the
      probabilities [n] of these.
    right: (answers [n], targets [n]) -> which answers are right [n].
    page: the sections on the answers that a report's page shows.
    """

    name: str
    target_type: str
    loss: "Callable[[], keras.losses.Loss]"
    metrics: "Callable[[], list[keras.metrics.Metric]]"
    balanced_metrics: "Callable[[], list[keras.metrics.Metric]]"
    score: Callable[[np.ndarray, np.ndarray], records.Score]
    activation: str
    probabilities: Callable[[np.ndarray], np.ndarray]
    answers: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    right: Callable[[Any, Any], Any]
    page: tuple[str, ...]


def _loss() -> "keras.losses.Loss":
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _metrics() -> "list[keras.metrics.Metric]":
    import keras

    return [
        _of_scored(keras.metrics.SparseCategoricalAccuracy)(name="accuracy"),
        _of_scored(keras.metrics.SparseCategoricalCrossentropy)(
            from_logits=True, name="cross_entropy"
        ),
    ]


def _balanced_metrics() -> "list[keras.metrics.Metric]":
    import keras

    return [
        _of_scored(keras.metrics.SparseCategoricalAccuracy)(
            name="balanced_accuracy"
        )
    ]


def _of_scored(
    kind: "type[keras.metrics.Metric]",
) -> "type[keras.metrics.Metric]":
    """Returns `kind` but for images that only fill up a batch.

    There are such only where each size of a batch is compiled by itself.
    """
    import keras

    from tlkeras.machine import devices

    if not devices.compiles_each_shape():
        return kind

    class OfScored(kind):
        def update_state(self, y_true, y_pred, sample_weight=None):
            scored = keras.ops.not_equal(y_true, records.FILLING)
            counts = keras.ops.cast(scored, self.dtype)
            if sample_weight is not None:
                counts *= keras.ops.cast(sample_weight, self.dtype)
            return super().update_state(y_true, y_pred, counts)

    return OfScored


def _score(logits: np.ndarray, targets: np.ndarray) -> records.Score:
    chosen = logits[np.arange(len(targets)), targets]
    right = logits.argmax(axis=1) == targets
    recalls = [right[targets == each].mean() for each in np.unique(targets)]
    return records.Score(
        float(right.mean()),
        float((scipy.special.logsumexp(logits, axis=1) - chosen).mean()),
        len(targets),
        float(np.mean(recalls)),
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    # Narrow formats (float16, bfloat16) are widened first, so that neither
    # the exponentials nor their sum lose digits.
    logits = np.asarray(logits).astype(np.float64)
    # What overflowed is told below, by the number of images.
    with np.errstate(invalid="ignore"):
        probabilities = scipy.special.softmax(logits, axis=-1)
    check_finite(probabilities)
    return probabilities


def check_finite(scores: np.ndarray) -> None:
    """Raises `UserError` unless all `scores` [n, k] are finite numbers.

    The largest of NaN is the first class, which nobody answered.
    """
    broken = int((~np.isfinite(scores)).any(axis=-1).sum())
    if broken:
        raise errors.UserError(
            f"the model gives no finite scores for {broken} of {len(scores)} "
            "images: its training diverged, or its weights are damaged. Train "
            "it again, with a lower learning rate."
        )


def _highest(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return probabilities.argmax(axis=-1), probabilities.max(axis=-1)


# Exactly one of k classes is right for an image.
SINGLE_LABEL = Task(
    name="single_label",
    target_type="int32",
    loss=_loss,
    metrics=_metrics,
    balanced_metrics=_balanced_metrics,
    score=_score,
    activation="softmax",
    probabilities=_softmax,
    answers=_highest,
    right=np.equal,
    page=("confusion", "mistakes", "classes", "reliability"),
)
TASKS = {task.name: task for task in (SINGLE_LABEL,)}
