"""The last finished phase of a run, so that a killed one goes on there."""

import contextlib
import dataclasses
import json
import os
import pathlib
import textwrap
import zipfile
from collections.abc import Callable
from collections.abc import Iterator
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
# What a phase had come to when it was cut short.
PHASE = "phase.npz"
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
        values: dict[str, Any] = {**before, "content": json.dumps(content)}
        np.savez(temporary, *state, **values)
    # It is of a phase before.
    pathlib.Path(directory, PHASE).unlink(missing_ok=True)


def exists(directory: str | os.PathLike) -> bool:
    """Tells whether a run left phases in `directory`, whole or cut short."""
    return any(
        pathlib.Path(directory, name).is_file() for name in (_NAME, PHASE)
    )


def share(
    directory: str | os.PathLike, broadcast: Callable[[bytes], bytes]
) -> None:
    """Gives the other processes what a run left in the main one's directory.

    broadcast: returns to all processes what the main one gave it.
    """
    path = pathlib.Path(directory, _NAME)
    saved = broadcast(path.read_bytes() if path.exists() else b"")
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
    if not path.exists():
        return ()
    with reading(path) as (content, saved):
        check(directory, content["digests"], digests)
        classifiers.restore(model, arrays(saved, _STATE))
        return tuple(result(values) for values in content["phases"])


@contextlib.contextmanager
def reading(
    path: pathlib.Path,
) -> Iterator[tuple[dict[str, Any], Mapping[str, np.ndarray]]]:
    """Yields what a file says, and its arrays by name.

    Raises `UserError` where the file is damaged.
    """
    try:
        with np.load(path) as saved:
            yield json.loads(str(saved["content"])), saved
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
            f"`workdir` {path.parent} holds a run that cannot go on, because "
            f"{path.name} is damaged ({textwrap.shorten(str(error), 200)}). "
            "Choose another directory, or remove it."
        ) from error


def check(
    directory: str | os.PathLike,
    found: Mapping[str, str],
    digests: Mapping[str, str],
) -> None:
    """Raises `UserError` where `found` are the digests of another run."""
    changed = [name for name in digests if found.get(name) != digests[name]]
    if changed:
        raise errors.UserError(
            f"`workdir` {directory} holds a run that was stopped, and whose "
            f"{' and '.join(changed)} have changed since: it cannot go on. "
            "Choose another directory, or remove it."
        )


def load_final(
    directory: str | os.PathLike,
) -> tuple[records.FinalFit | None, list[np.ndarray]]:
    """Returns what the final fit came to, and the state of before, if any.

    For a file that `load` has read.
    """
    if not pathlib.Path(directory, _NAME).exists():
        return None, []
    with np.load(pathlib.Path(directory, _NAME)) as saved:
        values = json.loads(str(saved["content"])).get("final")
        chosen = arrays(saved, _CHOSEN)
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
    """Returns the seconds of the phases that a stopped run has left.

    0 without any, and for a damaged file, which `load` refuses.
    """
    spent = 0.0
    for name in (_NAME, PHASE):
        path = pathlib.Path(directory, name)
        if not path.exists():
            continue
        with (
            contextlib.suppress(errors.UserError),
            reading(path) as (
                content,
                _,
            ),
        ):
            phases = content.get("phases", [content])
            if content.get("final"):
                phases += content["final"]["results"]
            spent += float(sum(phase["seconds"] for phase in phases))
    return spent


def remove(directory: str | os.PathLike) -> None:
    """Removes all that a stopped run has left of its phases."""
    for name in (_NAME, PHASE):
        pathlib.Path(directory, name).unlink(missing_ok=True)


def arrays(saved: Mapping[str, Any], name: str) -> list[np.ndarray]:
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
