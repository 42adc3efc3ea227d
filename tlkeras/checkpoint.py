"""The last finished phase of a run, so that a killed one goes on there."""

import dataclasses
import json
import os
import pathlib
import shutil
from typing import Any

import keras

from tlkeras import files
from tlkeras import records

_NAME = "checkpoint"


def save(
    directory: str | os.PathLike,
    model: keras.Model,
    results: tuple[records.PhaseResult, ...],
) -> None:
    """Writes what the phases came to and the weights, whole or not at all."""
    with files.replacing(pathlib.Path(directory, _NAME)) as temporary:
        temporary.mkdir()
        model.save_weights(temporary / "model.weights.h5")
        values = [dataclasses.asdict(result) for result in results]
        (temporary / "phases.json").write_text(json.dumps(values))


def exists(directory: str | os.PathLike) -> bool:
    """Tells whether a run left finished phases in `directory`."""
    return pathlib.Path(directory, _NAME, "phases.json").is_file()


def load(
    directory: str | os.PathLike, model: keras.Model
) -> tuple[records.PhaseResult, ...]:
    """Returns the results of finished phases, with their weights in `model`."""
    place = pathlib.Path(directory, _NAME)
    if not exists(directory):
        return ()
    model.load_weights(place / "model.weights.h5")
    return tuple(
        _result(values)
        for values in json.loads((place / "phases.json").read_text())
    )


def remove(directory: str | os.PathLike) -> None:
    """Removes what `save` wrote."""
    shutil.rmtree(pathlib.Path(directory, _NAME), ignore_errors=True)


def _result(values: dict[str, Any]) -> records.PhaseResult:
    return records.PhaseResult(
        **{
            **values,
            "phase": records.Phase(**values["phase"]),
            "score": records.Score(**values["score"]),
            "history": tuple(
                records.Epoch(**row) for row in values["history"]
            ),
        }
    )
