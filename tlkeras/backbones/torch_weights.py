"""Weights by PyTorch's names put into networks of ours.

PyTorch keeps a convolution's kernel as [out, in, h, w] and a matrix as [out,
in], Keras as [h, w, in, out] and [in, out]; a depthwise kernel is [c, 1, h, w]
there and [h, w, c, 1] here.
"""

import dataclasses
import re
from collections.abc import Iterable
from collections.abc import Mapping

import keras
import numpy as np

from tlkeras import errors
from tlkeras.backbones import catalog
from tlkeras.backbones import torch_tables

# Kind of layer: the names of its arrays in PyTorch and in Keras.
_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_WHOLE = {"weight": "kernel", "bias": "bias"}
_ARRAYS = {
    "layer": _WHOLE,
    "on a map of 6": _WHOLE,
    "on a map of 7": _WHOLE,
    "layer without bias": {"weight": "kernel"},
    "depthwise without bias": {"weight": "kernel"},
    "norm": _NORM,
    "layer norm": {"weight": "gamma", "bias": "beta"},
    # It has no layer around it.
    "scale": {"": "variable"},
}
# What a file may hold, and no network of ours has: counters that BatchNorm
# never reads, and GoogLeNet's auxiliary classifiers.
_COUNTER = ".num_batches_tracked"
_AUXILIARY = ("aux1.", "aux2.")


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of a network.

    torch: its name in PyTorch. keras: layer and name of ours. kind: of its
    layer, which says how its axes lie.
    """

    torch: str
    keras: str
    kind: str


def table(name: str, names: Iterable[str] = ()) -> tuple[Array, ...]:
    """Returns all arrays of a network of ours, those of its classifier last.

    names: of the arrays that there are, by which it is known whose they are.
    Raises `UserError` for a network that no PyTorch library has.
    """
    return _best(name, names)[1]


def scaling(name: str, names: Iterable[str]) -> str:
    """Returns how the pixels must be scaled for weights of these names.

    As in the catalogue. Raises `UserError` as `table` does.
    """
    return _best(name, names)[0].scaling or catalog.find(name).scaling


def tables(
    name: str,
) -> list[tuple[torch_tables.Scheme, tuple[Array, ...]]]:
    """Returns each scheme of a network of ours, with all its arrays.

    Raises `UserError` as `table` does.
    """
    if name not in torch_tables.SCHEMES:
        why = torch_tables.OTHERS.get(catalog.find(name).family)
        raise errors.UserError(
            f"weights of PyTorch do not fit {name}: "
            f"{why or 'no library of it has that network'}."
        )
    return [
        (
            scheme,
            tuple(
                Array(f"{theirs}.{array}".strip("."), f"{ours}/{own}", kind)
                for theirs, ours, kind in scheme.layers
                for array, own in _ARRAYS[kind].items()
            ),
        )
        for scheme in torch_tables.SCHEMES[name]
    ]


def _best(
    name: str, names: Iterable[str]
) -> tuple[torch_tables.Scheme, tuple[Array, ...]]:
    names = set(names)
    return max(
        tables(name),
        key=lambda each: sum(row.torch in names for row in each[1]),
    )


def assign(
    made: keras.Model, name: str, arrays: Mapping[str, np.ndarray], source: str
) -> None:
    """Puts PyTorch's `arrays` into a network of this name.

    The classifier is left aside where `made` has none. Raises `UserError` for
    arrays that are missing, left over or of another shape; source: what they
    are called in it.
    """
    variables = places(made)
    problem = f"`weights` {source} do not fit {made.name}: "
    known = table(name, arrays)
    unknown = {
        key
        for key in arrays
        if not key.endswith(_COUNTER) and not key.startswith(_AUXILIARY)
    } - {entry.torch for entry in known}
    if unknown:
        raise errors.UserError(
            f"{problem}the file's layer {min(unknown)} of "
            f"{arrays[min(unknown)].shape} has no place in it."
        )
    values = {}
    for entry in known:
        if entry.keras not in variables:
            continue
        shape = tuple(variables[entry.keras].shape)
        needs = f"{problem}layer {entry.keras} needs {shape}, the file"
        if entry.torch not in arrays:
            raise errors.UserError(f"{needs} has no layer {entry.torch}.")
        array = arrays[entry.torch]
        if entry.kind == "scale":
            # torchvision has it as [c, 1, 1].
            array = array.reshape(-1)
        wanted = torch_shape(entry, shape)
        if array.shape != wanted:
            raise errors.UserError(
                f"{needs}'s layer {entry.torch} has {array.shape}, which "
                f"should be {wanted}."
            )
        values[entry.keras] = _to_keras(entry, array)
    made.set_weights([values[path] for path in variables])


def classifier(
    name: str, arrays: Mapping[str, np.ndarray]
) -> list[tuple[str, np.ndarray]]:
    """Returns the classifier of a network among PyTorch's `arrays`.

    As names and arrays in Keras' form, as many as there are.
    """
    return [
        (entry.keras, _to_keras(entry, arrays[entry.torch]))
        for entry in table(name, arrays)[-2:]
        if entry.torch in arrays
    ]


def places(made: keras.Model) -> dict[str, keras.Variable]:
    """Returns a network's variables as the tables call them: `layer/name`.

    Of what Keras numbers anew in each process the number is left out.
    """
    found = {}
    for variable in made.weights:
        layer, name = variable.path.split("/")[-2:]
        layer = re.sub(r"^(layer_normalization)_\d+$", r"\1", layer)
        found[f"{layer}/{re.sub(r'^(variable)_[0-9]+$', 'variable', name)}"] = (
            variable
        )
    return found


def torch_shape(entry: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape in PyTorch of what has `shape` in Keras."""
    if len(shape) == 4:
        height, width, inputs, outputs = shape
        if entry.kind.startswith("depthwise"):
            inputs, outputs = outputs, inputs
        return (outputs, inputs, height, width)
    return tuple(reversed(shape))


def _to_keras(entry: Array, array: np.ndarray) -> np.ndarray:
    # It reads a map that PyTorch flattens channel by channel, Keras pixel by
    # pixel.
    if entry.kind.startswith("on a map of ") and array.ndim == 2:
        side = int(entry.kind.removeprefix("on a map of "))
        maps = array.reshape(len(array), -1, side, side)
        return maps.transpose(2, 3, 1, 0).reshape(-1, len(array))
    if entry.kind.startswith("depthwise"):
        return array.transpose(2, 3, 0, 1)
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
