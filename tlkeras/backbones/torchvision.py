"""torchvision's names of weights beside ours, and its files read by them.

The table has an entry for each array of a network. PyTorch keeps a
convolution's kernel as [out, in, h, w] and a matrix as [out, in], Keras as
[h, w, in, out] and [in, out].
"""

import dataclasses
import pathlib
import pickle
from collections.abc import Iterable
from collections.abc import Mapping

import keras
import numpy as np

from tlkeras import errors
from tlkeras.backbones import alexnet
from tlkeras.backbones import googlenet
from tlkeras.backbones import resnet
from tlkeras.backbones import squeezenet

# Kind of layer: the names of its arrays in torchvision and in Keras.
_ARRAYS = {
    "layer": {"weight": "kernel", "bias": "bias"},
    "layer without bias": {"weight": "kernel"},
    "norm": {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    },
}
# It reads a map that PyTorch flattens channel by channel, Keras pixel by pixel.
_ON_A_MAP = "fc6/kernel"
# What a file of torchvision may hold, and no network of ours has: counters
# that its BatchNorm never reads, and GoogLeNet's auxiliary classifiers.
_COUNTER = ".num_batches_tracked"
_AUXILIARY = ("aux1.", "aux2.")
# What trainers put around the weights that they save.
_WRAPPERS = ("state_dict", "model")

# torchvision's name of a layer, ours, and its kind.
_Layer = tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of a network.

    torch: its name in torchvision. keras: layer and name of ours.
    """

    torch: str
    keras: str


def table(name: str) -> tuple[Array, ...]:
    """Returns all arrays of a network of ours, those of its classifier last.

    Raises `UserError` for one that torchvision does not have.
    """
    if name not in _LAYERS:
        raise errors.UserError(
            "torchvision's weights fit its own networks only: "
            f"{', '.join(_LAYERS)}. Received: backbone = {name}."
        )
    return tuple(
        Array(f"{theirs}.{array}", f"{ours}/{variable}")
        for theirs, ours, kind in _LAYERS[name]
        for array, variable in _ARRAYS[kind].items()
    )


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays in a file of PyTorch, by name.

    Only numbers are read, no code is run. `locate.weights` has seen that there
    is PyTorch. Raises `UserError` for a file that is something else.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise errors.UserError(
            f"`weights` {path} are no weights of PyTorch: "
            f"{' '.join(str(error).split())[:200]}"
        ) from None
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise errors.UserError(
            f"`weights` {path} hold no state_dict, that is tensors by name."
        )
    return {key: value.float().numpy() for key, value in content.items()}


def assign(
    made: keras.Model, name: str, arrays: Mapping[str, np.ndarray], source: str
) -> None:
    """Puts torchvision's `arrays` into a network of this name.

    The classifier is left aside where `made` has none. Raises `UserError` for
    arrays that are missing, left over or of another shape; source: what they
    are called in it.
    """
    variables = {
        variable.path.removeprefix(f"{made.name}/"): variable
        for variable in made.weights
    }
    problem = f"`weights` {source} do not fit {made.name}: "
    known = table(name)
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
        if array.shape != torch_shape(shape):
            raise errors.UserError(
                f"{needs}'s layer {entry.torch} has {array.shape}, which "
                f"should be {torch_shape(shape)}."
            )
        values[entry.keras] = _to_keras(entry, array)
    made.set_weights([values[path] for path in variables])


def classifier(
    name: str, arrays: Mapping[str, np.ndarray]
) -> list[tuple[str, np.ndarray]]:
    """Returns the classifier of a network among torchvision's `arrays`.

    As names and arrays in Keras' form, as many as there are.
    """
    return [
        (entry.keras, _to_keras(entry, arrays[entry.torch]))
        for entry in table(name)[-2:]
        if entry.torch in arrays
    ]


def torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape in torchvision of what has `shape` in Keras."""
    if len(shape) == 4:
        height, width, inputs, outputs = shape
        return (outputs, inputs, height, width)
    return tuple(reversed(shape))


def _to_keras(entry: Array, array: np.ndarray) -> np.ndarray:
    if entry.keras == _ON_A_MAP:
        maps = array.reshape(len(array), -1, alexnet.MAP, alexnet.MAP)
        return maps.transpose(2, 3, 1, 0).reshape(-1, len(array))
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _alexnet() -> list[_Layer]:
    layers = []
    # A convolution, a ReLU and sometimes a pooling have an index each.
    index = 0
    for number, (*_, pool) in enumerate(alexnet.CONVOLUTIONS, 1):
        layers.append((f"features.{index}", f"conv{number}", "layer"))
        index += 3 if pool else 2
    return [
        *layers,
        ("classifier.1", "fc6", "layer"),
        ("classifier.4", "fc7", "layer"),
    ]


def _squeezenet(fires: tuple[int, ...]) -> list[_Layer]:
    # Behind the first convolution and its ReLU.
    indices = [
        index for index, fire in enumerate(fires, 2) if fire != squeezenet.POOL
    ]
    return [("features.0", "conv1", "layer")] + [
        (f"features.{index}.{theirs}", f"fire{number}_{ours}", "layer")
        for number, index in enumerate(indices, 2)
        for theirs, ours in (
            ("squeeze", "squeeze1x1"),
            ("expand1x1", "expand1x1"),
            ("expand3x3", "expand3x3"),
        )
    ]


def _googlenet() -> list[_Layer]:
    names = [(f"conv{number}", f"conv{number}") for number in (1, 2, 3)]
    names += [
        (f"inception{number}.branch{theirs}", f"inception{number}_{ours}")
        for number, *_ in googlenet.INCEPTIONS
        for theirs, ours in (
            ("1", "1"),
            ("2.0", "2_reduce"),
            ("2.1", "2"),
            ("3.0", "3_reduce"),
            ("3.1", "3"),
            ("4.1", "4"),
        )
    ]
    return _normalized(
        (f"{theirs}.conv", f"{theirs}.bn", ours) for theirs, ours in names
    )


def _resnet(stages: tuple[int, ...]) -> list[_Layer]:
    names = [("conv1", "bn1", "conv1")]
    for stage, blocks in enumerate(stages, 1):
        for block in range(blocks):
            theirs = f"layer{stage}.{block}"
            ours = f"conv{stage + 1}_block{block + 1}"
            names += [
                (
                    f"{theirs}.conv{index}",
                    f"{theirs}.bn{index}",
                    f"{ours}_{index}",
                )
                for index in (1, 2)
            ]
            if stage > 1 and not block:
                skip = f"{theirs}.downsample"
                names.append((f"{skip}.0", f"{skip}.1", f"{ours}_skip"))
    return _normalized(names)


def _normalized(names: Iterable[tuple[str, str, str]]) -> list[_Layer]:
    """Returns convolutions and their BatchNorms.

    names: torchvision's of both, and what ours begin with.
    """
    return [
        layer
        for convolution, norm, ours in names
        for layer in (
            (convolution, f"{ours}_conv", "layer without bias"),
            (norm, f"{ours}_bn", "norm"),
        )
    ]


_CONV10 = ("classifier.1", "conv10", "layer")
_FC = ("fc", "fc", "layer")
# Their layers, the classifier last.
_LAYERS: dict[str, list[_Layer]] = {
    "AlexNet": [*_alexnet(), ("classifier.6", "fc8", "layer")],
    "SqueezeNet1_0": [*_squeezenet(squeezenet.FIRES_1_0), _CONV10],
    "SqueezeNet1_1": [*_squeezenet(squeezenet.FIRES_1_1), _CONV10],
    "GoogLeNet": [*_googlenet(), _FC],
    "ResNet18": [*_resnet(resnet.STAGES_18), _FC],
    "ResNet34": [*_resnet(resnet.STAGES_34), _FC],
}
