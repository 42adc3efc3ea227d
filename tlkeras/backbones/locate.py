"""Which file a setting `weights` or `model` stands for; opens nothing."""

import os
import pathlib

from tlkeras import errors

MODEL = "model.keras"


def weights(setting: str) -> pathlib.Path | None:
    """Returns the file that `weights` stands for, None for a word.

    A directory stands for the model of the run in it. Raises `UserError`
    where there is no such file.
    """
    if setting in ("imagenet", "none"):
        return None
    path = pathlib.Path(setting).expanduser()
    if not path.exists():
        raise errors.UserError(
            "`weights` must be imagenet, none, a weights file or the directory"
            f" of an earlier run. Received: {setting}, which does not exist."
        )
    if path.is_dir():
        if not (path / MODEL).is_file():
            raise errors.UserError(
                "`weights` must be the directory of a finished run. Received: "
                f"{path}, which holds no {MODEL}."
            )
        return path / MODEL
    if path.suffix not in (".h5", ".keras"):
        raise errors.UserError(
            "`weights` must be a file of kind .h5, .weights.h5 or .keras. "
            f"Received: {path}."
        )
    return path


def model(setting: str | os.PathLike) -> pathlib.Path:
    """Returns the .keras file that a run directory or a file stands for.

    Raises `UserError` where there is none.
    """
    given = pathlib.Path(setting).expanduser()
    found = given / MODEL if given.is_dir() else given
    if not found.is_file():
        what = f"holds no {MODEL}" if given.is_dir() else "does not exist"
        raise errors.UserError(
            "`model` must be the directory of a finished run or a .keras "
            f"file. Received: {given}, which {what}."
        )
    return found
