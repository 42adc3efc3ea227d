"""Of two classes, the probability from which on one is answered."""

import dataclasses

import numpy as np

from tlkeras.models import task as tasks


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The least probability, in [0, 1], of an answer that is `positive`.

    positive: the index of the class, 0 or 1.
    """

    positive: int
    probability: float

    @property
    def task(self) -> tasks.Task:
        """The question of one label, answered by the threshold."""
        return dataclasses.replace(tasks.SINGLE_LABEL, answers=self._answers)

    def _answers(
        self, probabilities: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        found = probabilities[..., self.positive] >= self.probability
        answers = np.where(found, self.positive, 1 - self.positive)
        scores = np.take_along_axis(probabilities, answers[..., None], axis=-1)
        return answers, scores[..., 0]
