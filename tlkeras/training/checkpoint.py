"""The last finished phase of a run, so that a killed one goes on there."""

import dataclasses
import json
import os
import pathlib
import textwrap
import zipfile
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tlkeras import errors
from tlkeras import files
from tlkeras import records
from tlkeras.models import classifier as classifiers

# One file, so that weights and results cannot come from different phases.
_NAME = "checkpoint.npz"
# Names of arrays in it, before a number: NumPy's own, and ours.
_STATE = "arr_"
_CHOSEN = "chosen_"


def save(
    directory: str | os.PathLike,
    model: keras.Model,
    results: tuple[records.PhaseResult, ...],
    digests: Mapping[str, str],
    *,
    final: records.FinalFit | None = None,
    chosen: Sequence[np.ndarray] = (),
) -> None:
    """Writes what the phases came to and the model, whole or not at all.

    digests: of all that decides the run, by what it is called. final: what the
    final fit came to, and `chosen` the state of the model before it.

    Keras' own weights files lack the state of dropout's seeds, without which
    the next phase would not be that of an unbroken run.
    """
    content = {
        "phases": [dataclasses.asdict(result) for result in results],
        "digests": dict(digests),
        "final": None if final is None else dataclasses.asdict(final),
    }
    before = {f"{_CHOSEN}{at}": array for at, array in enumerate(chosen)}
    with files.replacing(pathlib.Path(directory, _NAME)) as temporary:
        state = classifiers.state(model)
        arrays: dict[str, Any] = {**before, "content": json.dumps(content)}
        np.savez(temporary, *state, **arrays)


def exists(directory: str | os.PathLike) -> bool:
    """Tells whether a run left finished phases in `directory`."""
    return pathlib.Path(directory, _NAME).is_file()


def share(
    directory: str | os.PathLike, broadcast: Callable[[bytes], bytes]
) -> None:
    """Gives the other processes what a run left in the main one's directory.

    broadcast: returns to all processes what the main one gave it.
    """
    path = pathlib.Path(directory, _NAME)
    saved = broadcast(path.read_bytes() if exists(directory) else b"")
    if saved and not path.exists():
        path.write_bytes(saved)


def load(
    directory: str | os.PathLike, model: keras.Model, digests: Mapping[str, str]
) -> tuple[records.PhaseResult, ...]:
    """Returns the results of finished phases, with their weights in `model`.

    digests: of all that decides the run that wants to go on. Raises `UserError`
    where they are others than those of the run that was killed, or the file is
    damaged.
    """
    path = pathlib.Path(directory, _NAME)
    if not exists(directory):
        return ()
    try:
        with np.load(path) as saved:
            content = json.loads(str(saved["content"]))
            arrays = _arrays(saved, _STATE)
        found = content["digests"]
        changed = [name for name in digests if found.get(name) != digests[name]]
        if changed:
            raise errors.UserError(
                f"`workdir` {directory} holds a run that was killed, and whose "
                f"{' and '.join(changed)} have changed since: it cannot go on. "
                "Choose another directory, or remove it."
            )
        classifiers.restore(model, arrays)
        return tuple(result(values) for values in content["phases"])
    except errors.UserError:
        raise
    except (
        ValueError,
        KeyError,
        TypeError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
    ) as error:
        raise errors.UserError(
            f"`workdir` {directory} holds a run that cannot go on, because "
            f"{_NAME} is damaged ({textwrap.shorten(str(error), 200)}). Choose "
            "another directory, or remove it."
        ) from error


def load_final(
    directory: str | os.PathLike,
) -> tuple[records.FinalFit | None, list[np.ndarray]]:
    """Returns what the final fit came to, and the state of before, if any.

    For a file that `load` has read.
    """
    if not exists(directory):
        return None, []
    with np.load(pathlib.Path(directory, _NAME)) as saved:
        values = json.loads(str(saved["content"])).get("final")
        chosen = _arrays(saved, _CHOSEN)
    if values is None:
        return None, []
    final = records.FinalFit(
        **{
            **values,
            "splits": tuple(values["splits"]),
            "results": tuple(map(result, values["results"])),
        }
    )
    return final, chosen


def seconds(directory: str | os.PathLike) -> float:
    """Returns the seconds of the phases that a killed run finished.

    0 without any; of a damaged file, which `load` refuses.
    """
    if not exists(directory):
        return 0.0
    try:
        with np.load(pathlib.Path(directory, _NAME)) as saved:
            content = json.loads(str(saved["content"]))
        phases = content["phases"]
        if content.get("final"):
            phases += content["final"]["results"]
        return float(sum(phase["seconds"] for phase in phases))
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile):
        return 0.0


def remove(directory: str | os.PathLike) -> None:
    """Removes what `save` wrote."""
    pathlib.Path(directory, _NAME).unlink(missing_ok=True)


def _arrays(saved: Mapping[str, Any], name: str) -> list[np.ndarray]:
    """Returns the arrays that are numbered behind `name`, in order."""
    count = sum(each.startswith(name) for each in saved)
    return [saved[f"{name}{at}"] for at in range(count)]


def result(values: dict[str, Any]) -> records.PhaseResult:
    """Returns what `dataclasses.asdict` made of the result of a phase."""
    return records.PhaseResult(
        **{
            **values,
            "phase": records.Phase(**values["phase"]),
            "score": records.Score(**values["score"]),
            "history": tuple(records.Epoch(**row) for row in values["history"]),
        }
    )
