"""The Python door: train in one call, load a run, predict."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tlkeras import errors
from tlkeras import experiment
from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras.advisor import advice as advices
from tlkeras.advisor import subject as subjects
from tlkeras.comparison import candidates
from tlkeras.comparison import comparing
from tlkeras.models import saving
from tlkeras.scoring import predicting
from tlkeras.settings import commands
from tlkeras.settings import config as configs
from tlkeras.settings import setting as setting_rules


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    model: images [n, size, size, 3], float32 in 0..255 -> logits [n, k].
    labels: the k classes, in the order of the logits.
    """

    model: keras.Model
    labels: tuple[str, ...]
    saved: saving.TrainedModel = dataclasses.field(repr=False)

    def predict(
        self, images: str | np.ndarray | Sequence[str | np.ndarray]
    ) -> list[dict[str, Any]]:
        """Returns label, score and probabilities [k] of each image.

        images: paths, globs or folders, or arrays [h, w, 3], uint8, or one
        array [n, h, w, 3].

        Raises `UserError` for a path or an array that is no image.
        """
        if isinstance(images, np.ndarray):
            several = images.ndim == 4
        else:
            several = isinstance(images, list | tuple)
        given = images if several else [images]
        if not len(given):
            return []
        if all(isinstance(each, str | os.PathLike) for each in given):
            names = plans.find_images(given)
            probabilities = self._of_files(names)
        else:
            names = [f"array {index}" for index in range(len(given))]
            probabilities = predicting.predict_arrays(self.saved, given)
        return [
            {
                "image": name,
                "label": self.labels[answer],
                "score": float(score),
                "probabilities": scores,
            }
            for name, answer, score, scores in zip(
                names,
                *self.saved.task.answers(probabilities),
                probabilities,
                strict=True,
            )
        ]

    def _of_files(self, paths: Sequence[str]) -> np.ndarray:
        prediction = predicting.predict_files(
            self.saved, paths, progress=progresses.Progress(quiet=True)
        )
        for path, reason in prediction.failed:
            raise errors.UserError(f"{path}: {reason}.")
        return prediction.probabilities


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
    given = {**settings, "data": data} if data else settings
    built = configs.resolve(config, given)
    progress = progresses.Progress(built.strategy_phases().planned, quiet=quiet)
    for sentence in configs.unused(built, given):
        progress.say(sentence)
    plan = plans.make(built, workdir, progress=progress)
    return experiment.run(plan, progress=progress)


def compare(
    data: str = "",
    *,
    strategies: str | Sequence[str] = "all",
    seeds: int = 3,
    budget: str | int = "auto",
    drop: str = "none",
    workdir: str | os.PathLike = "",
    config: str | os.PathLike = "",
    quiet: bool = False,
    **settings: Any,
) -> comparing.Result:
    """Compares several strategies on one data set and returns the comparison.

    strategies: their names, or `all`. seeds: trainings of each. budget: of
    each, as `500` steps, `120s` or `auto`. drop: `none` or `clear`. The rest
    is as for `train`, but for what the strategies decide.

    Raises `UserError` for whatever the caller can mend.
    """
    given = {**settings, "data": data} if data else settings
    built, unused = candidates.resolve(config, given)
    names = strategies if isinstance(strategies, str) else ",".join(strategies)
    asked = candidates.settings(built, names, seeds, str(budget), drop)
    progress = progresses.Progress(quiet=quiet, brief=True)
    for sentence in unused:
        progress.say(sentence)
    plan = plans.make(built, workdir, comparison=True, progress=progress)
    return comparing.run(plan, asked, progress=progress)


def advise(
    data: str = "",
    *,
    max_images: int = 1000,
    quiet: bool = False,
    **settings: Any,
) -> advices.Advice:
    """Returns what speaks for which strategy, without training.

    data: as for `train`, and divided as there; only its training part is
    looked at. max_images: at most so many of it. settings: those of
    `tlkeras advise`.

    Raises `UserError` for whatever the caller can mend.
    """
    for name in settings:
        if name not in commands.ADVISE_READS:
            raise errors.UserError(
                f"unknown setting `{name}`."
                f"{errors.nearest(name, commands.ADVISE_READS)} Known are "
                f"{', '.join(commands.ADVISE_READS)}, max_images, quiet."
            )
    setting_rules.check(commands.MAX_IMAGES, max_images, "")
    progress = progresses.Progress(quiet=quiet)
    config = configs.build({**settings, "data": data})
    return advices.give(
        subjects.make(config, progress=progress),
        max_images=max_images,
        progress=progress,
    )


def load(path: str | os.PathLike) -> Classifier:
    """Returns the classifier of a run directory or a model.keras.

    Raises `UserError` where there is none.
    """
    saved = saving.load(path)
    return Classifier(saved.model, saved.labels, saved)
