"""The last finished phase of a run, so that a killed one goes on there."""

import dataclasses
import json
import os
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tlkeras import files
from tlkeras import records
from tlkeras.models import classifier as classifiers

# One file, so that weights and results cannot come from different phases.
_NAME = "checkpoint.npz"


def save(
    directory: str | os.PathLike,
    model: keras.Model,
    results: tuple[records.PhaseResult, ...],
) -> None:
    """Writes what the phases came to and the model, whole or not at all.

    Keras' own weights files lack the state of dropout's seeds, without which
    the next phase would not be that of an unbroken run.
    """
    values = [dataclasses.asdict(result) for result in results]
    with files.replacing(pathlib.Path(directory, _NAME)) as temporary:
        np.savez(
            temporary, *classifiers.state(model), phases=json.dumps(values)
        )


def exists(directory: str | os.PathLike) -> bool:
    """Tells whether a run left finished phases in `directory`."""
    return pathlib.Path(directory, _NAME).is_file()


def share(
    directory: str | os.PathLike, from_first: Callable[[bytes], bytes]
) -> None:
    """Gives the other processes what a run left in the first one's directory.

    from_first: returns to all processes what the first one gave it.
    """
    path = pathlib.Path(directory, _NAME)
    saved = from_first(path.read_bytes() if path.exists() else b"")
    if saved and not path.exists():
        path.write_bytes(saved)


def load(
    directory: str | os.PathLike, model: keras.Model
) -> tuple[records.PhaseResult, ...]:
    """Returns the results of finished phases, with their weights in `model`.

    Raises ValueError where the file is damaged or of another model.
    """
    if not exists(directory):
        return ()
    path = pathlib.Path(directory, _NAME)
    try:
        with np.load(path) as saved:
            phases = json.loads(str(saved["phases"]))
            arrays = [saved[f"arr_{each}"] for each in range(len(saved) - 1)]
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    classifiers.restore(model, arrays)
    return tuple(_result(values) for values in phases)


def remove(directory: str | os.PathLike) -> None:
    """Removes what `save` wrote."""
    pathlib.Path(directory, _NAME).unlink(missing_ok=True)


def _result(values: dict[str, Any]) -> records.PhaseResult:
    return records.PhaseResult(
        **{
            **values,
            "phase": records.Phase(**values["phase"]),
            "score": records.Score(**values["score"]),
            "history": tuple(records.Epoch(**row) for row in values["history"]),
        }
    )
