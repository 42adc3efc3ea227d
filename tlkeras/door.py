"""The Python door: train in one call, load a run, predict."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tlkeras import config as configs
from tlkeras import errors
from tlkeras import evaluation
from tlkeras import experiment
from tlkeras import plan as plans
from tlkeras import predicting
from tlkeras import progress as progresses
from tlkeras import saving


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    model: images [n, size, size, 3], float32 in 0..255 -> logits [n, k].
    labels: the k classes, in the order of the logits.
    """

    model: keras.Model
    labels: tuple[str, ...]
    saved: saving.Classifier = dataclasses.field(repr=False)

    def predict(
        self, images: str | np.ndarray | Sequence[str | np.ndarray]
    ) -> list[dict[str, Any]]:
        """Returns label, score and probabilities [k] of each image.

        images: paths, globs or folders, or arrays [h, w, 3], uint8, or one
        array [n, h, w, 3].

        Raises `UserError` for a path or an array that is no image.
        """
        if isinstance(images, str | os.PathLike):
            images = [images]
        elif isinstance(images, np.ndarray) and images.ndim == 3:
            images = [images]
        if len(images) and not isinstance(images[0], str | os.PathLike):
            names = [f"array {index}" for index in range(len(images))]
            logits = predicting.predict_arrays(self.saved, images)
        else:
            answers = predicting.predict_files(
                self.saved,
                predicting.find([os.fspath(path) for path in images]),
                progress=progresses.Progress(quiet=True),
            )
            if answers.failed:
                path, reason = answers.failed[0]
                raise errors.UserError(f"{path} is no image: {reason}.")
            names, logits = list(answers.names), answers.logits
        return [
            {
                "image": name,
                "label": self.labels[int(scores.argmax())],
                "score": float(scores.max()),
                "probabilities": scores,
            }
            for name, scores in zip(
                names, evaluation.softmax(logits), strict=True
            )
        ]


def train(
    data: str = "",
    *,
    workdir: str | os.PathLike = "",
    config: str | os.PathLike = "",
    quiet: bool = False,
    **settings: Any,
) -> experiment.Run:
    """Trains a classifier and returns the run.

    data: `folder:PATH`, `csv:PATH`, `tfds:NAME` or `builtin:digits`.
    workdir: directory for the results; '' is a new one below `runs/`.
    config: a TOML file of settings, or the name of a recipe.
    settings: those of `tlkeras train`, which overrule the file.

    Raises `UserError` for whatever the caller can mend.
    """
    values = configs.read(config) if config else {}
    if data:
        settings["data"] = data
    if "strategy" in settings:
        values.pop("phases", None)
    built = configs.build({**values, **settings})
    progress = progresses.Progress(
        built.strategy_phases().planned, quiet=quiet
    )
    plan = plans.make(built, workdir, progress=progress)
    return experiment.run(plan, progress=progress)


def load(path: str | os.PathLike) -> Classifier:
    """Returns the classifier of a run directory or a model.keras.

    Raises `UserError` where there is none.
    """
    saved = saving.load(path)
    return Classifier(saved.model, saved.labels, saved)
