"""Copies of pictures, sorted into a folder for each label."""

import os
import pathlib
import shutil

from tlkeras import errors
from tlkeras import files
from tlkeras.scoring import predicting


def copy(prediction: predicting.Prediction, directory: pathlib.Path) -> None:
    """Copies the images into `directory`/LABEL, whole or not at all.

    Of several with one name the later ones get a number. Raises `UserError`
    where one cannot be read any more, or the disk is full.
    """
    answers, _ = prediction.task.answers(prediction.probabilities)
    with files.replacing(directory) as temporary:
        temporary.mkdir()
        for path, answer in zip(prediction.paths, answers, strict=True):
            folder = temporary / folder_name(prediction.labels[answer])
            folder.mkdir(exist_ok=True)
            source = pathlib.Path(path)
            target, number = folder / source.name, 2
            while os.path.lexists(target):
                target = folder / f"{source.stem}-{number}{source.suffix}"
                number += 1
            try:
                shutil.copy2(source, target)
            except OSError as error:
                raise errors.UserError(
                    f"{path} cannot be copied to {directory}: {error.strerror}."
                ) from None


def folder_name(label: str) -> str:
    """Returns a label as the name of one folder that can be seen."""
    name = label.replace("/", "%2F").replace("\0", "%00")
    return f"%2E{name[1:]}" if name.startswith(".") else name
