"""torchvision's names of weights beside ours, and its files read by them.

A table has one row for each array of a network. PyTorch keeps a convolution's
kernel as [out, in, h, w] and a matrix as [out, in], Keras as [h, w, in, out]
and [in, out].
"""

import dataclasses
import pathlib
import pickle
from collections.abc import Mapping

import keras
import numpy as np

from tlkeras import errors
from tlkeras.backbones import alexnet
from tlkeras.backbones import googlenet
from tlkeras.backbones import resnet
from tlkeras.backbones import squeezenet

# Kind of layer: its arrays in torchvision and in Keras, and how the one is
# made the other.
_ARRAYS = {
    "convolution": (("weight", "kernel", "kernel"), ("bias", "bias", "as is")),
    "bare convolution": (("weight", "kernel", "kernel"),),
    "dense": (("weight", "kernel", "matrix"), ("bias", "bias", "as is")),
    "dense on a map": (
        ("weight", "kernel", "map matrix"),
        ("bias", "bias", "as is"),
    ),
    "norm": (
        ("weight", "gamma", "as is"),
        ("bias", "beta", "as is"),
        ("running_mean", "moving_mean", "as is"),
        ("running_var", "moving_variance", "as is"),
    ),
}
# What a file of torchvision may hold, and no network of ours has: counters
# that its BatchNorm never reads, and GoogLeNet's auxiliary classifiers.
_COUNTER = ".num_batches_tracked"
_AUXILIARY = ("aux1.", "aux2.")
# What trainers put around the weights that they save.
_WRAPPERS = ("state_dict", "model")

# torchvision's name of a layer, ours, and its kind.
_Layer = tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class Row:
    """One array of a network.

    torch: its name in torchvision. keras: layer and name of ours.
    change: `as is`, `kernel` of a convolution, `matrix`, or `map matrix`: one
      on a map that PyTorch flattens channel by channel, Keras pixel by pixel.
    classifier: whether it belongs to the classifier, which a base is without.
    """

    torch: str
    keras: str
    change: str
    classifier: bool


def table(name: str) -> tuple[Row, ...]:
    """Returns all rows of a network of ours, in torchvision's order.

    Raises `UserError` for one that torchvision does not have.
    """
    if name not in _LAYERS:
        raise errors.UserError(
            "torchvision's weights fit its own networks only: "
            f"{', '.join(_LAYERS)}. Received: backbone = {name}."
        )
    layers, classifier = _LAYERS[name]
    return tuple(
        Row(f"{theirs}.{array}", f"{ours}/{variable}", change, last)
        for last, named in ((False, layers), (True, classifier))
        for theirs, ours, kind in named
        for array, variable, change in _ARRAYS[kind]
    )


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays in a file of PyTorch, by name.

    Only numbers are read, no code is run. `locate.weights` has seen that there
    is PyTorch. Raises `UserError` for a file that is something else.
    """
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise errors.UserError(
            f"`weights` {path} are no weights of PyTorch: "
            f"{' '.join(str(error).split())[:200]}"
        ) from None
    for wrapper in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not all(
        isinstance(each, torch.Tensor) for each in found.values()
    ):
        raise errors.UserError(
            f"`weights` {path} hold no state_dict, that is tensors by name."
        )
    return {key: each.float().numpy() for key, each in found.items()}


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
    rows = table(name)
    left = {
        key
        for key in arrays
        if not key.endswith(_COUNTER) and not key.startswith(_AUXILIARY)
    } - {row.torch for row in rows}
    if left:
        raise errors.UserError(
            f"{problem}the file's layer {min(left)} of "
            f"{arrays[min(left)].shape} has no place in it."
        )
    values = {}
    for row in rows:
        if row.keras not in variables and row.classifier:
            continue
        shape = tuple(variables[row.keras].shape)
        if row.torch not in arrays:
            raise errors.UserError(
                f"{problem}layer {row.keras} needs {shape}, the file has no "
                f"layer {row.torch}."
            )
        array = arrays[row.torch]
        if array.shape != torch_shape(row, shape):
            raise errors.UserError(
                f"{problem}layer {row.keras} needs {shape}, the file's layer "
                f"{row.torch} has {array.shape}, which should be "
                f"{torch_shape(row, shape)}."
            )
        values[row.keras] = _changed(row, array)
    made.set_weights([values[path] for path in variables])


def classifier(
    name: str, arrays: Mapping[str, np.ndarray]
) -> list[tuple[str, np.ndarray]]:
    """Returns the classifier of a network among torchvision's `arrays`.

    As names and arrays in Keras' form, as many as there are.
    """
    return [
        (row.keras, _changed(row, arrays[row.torch]))
        for row in table(name)
        if row.classifier and row.torch in arrays
    ]


def torch_shape(row: Row, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape in torchvision of what has `shape` in Keras."""
    if row.change == "kernel":
        height, width, inputs, outputs = shape
        return (outputs, inputs, height, width)
    return tuple(reversed(shape))


def _changed(row: Row, array: np.ndarray) -> np.ndarray:
    if row.change == "kernel":
        return array.transpose(2, 3, 1, 0)
    if row.change == "map matrix":
        side = alexnet.MAP
        stacked = array.reshape(len(array), -1, side, side)
        return stacked.transpose(2, 3, 1, 0).reshape(-1, len(array))
    return array.T


def _alexnet() -> tuple[_Layer, ...]:
    layers = []
    # A convolution, a ReLU and sometimes a pooling have an index each.
    index = 0
    for number, (*_, pool) in enumerate(alexnet.CONVOLUTIONS, 1):
        layers.append((f"features.{index}", f"conv{number}", "convolution"))
        index += 3 if pool else 2
    return (
        *layers,
        ("classifier.1", "fc6", "dense on a map"),
        ("classifier.4", "fc7", "dense"),
    )


def _squeezenet(fires: tuple[tuple[int, int], ...]) -> tuple[_Layer, ...]:
    layers = [("features.0", "conv1", "convolution")]
    number = 1
    # Behind the first convolution and its ReLU.
    for index, fire in enumerate(fires, 2):
        if fire == squeezenet.POOL:
            continue
        number += 1
        layers += [
            (
                f"features.{index}.{theirs}",
                f"fire{number}_{ours}",
                "convolution",
            )
            for theirs, ours in (
                ("squeeze", "squeeze1x1"),
                ("expand1x1", "expand1x1"),
                ("expand3x3", "expand3x3"),
            )
        ]
    return tuple(layers)


def _googlenet() -> tuple[_Layer, ...]:
    names = [(f"conv{number}", f"conv{number}") for number in (1, 2, 3)]
    for number, *_ in googlenet.INCEPTIONS:
        names += [
            (f"inception{number}.{theirs}", f"inception{number}_{ours}")
            for theirs, ours in (
                ("branch1", "1"),
                ("branch2.0", "2_reduce"),
                ("branch2.1", "2"),
                ("branch3.0", "3_reduce"),
                ("branch3.1", "3"),
                ("branch4.1", "4"),
            )
        ]
    return tuple(
        (f"{theirs}.{part}", f"{ours}_{part}", kind)
        for theirs, ours in names
        for part, kind in (("conv", "bare convolution"), ("bn", "norm"))
    )


def _resnet(stages: tuple[int, ...]) -> tuple[_Layer, ...]:
    names = [("conv1", "bn1", "conv1")]
    for stage, blocks in enumerate(stages, 1):
        for block in range(blocks):
            theirs = f"layer{stage}.{block}"
            ours = f"conv{stage + 1}_block{block + 1}"
            names += [
                (f"{theirs}.conv{part}", f"{theirs}.bn{part}", f"{ours}_{part}")
                for part in (1, 2)
            ]
            if stage > 1 and not block:
                skip = f"{theirs}.downsample"
                names.append((f"{skip}.0", f"{skip}.1", f"{ours}_skip"))
    return tuple(
        layer
        for convolution, norm, ours in names
        for layer in (
            (convolution, f"{ours}_conv", "bare convolution"),
            (norm, f"{ours}_bn", "norm"),
        )
    )


_CONV10 = (("classifier.1", "conv10", "convolution"),)
_FC = (("fc", "fc", "dense"),)
# Name: layers of the base, layers of the classifier.
_LAYERS: dict[str, tuple[tuple[_Layer, ...], tuple[_Layer, ...]]] = {
    "AlexNet": (_alexnet(), (("classifier.6", "fc8", "dense"),)),
    "SqueezeNet1_0": (_squeezenet(squeezenet.FIRES_1_0), _CONV10),
    "SqueezeNet1_1": (_squeezenet(squeezenet.FIRES_1_1), _CONV10),
    "GoogLeNet": (_googlenet(), _FC),
    "ResNet18": (_resnet(resnet.STAGES_18), _FC),
    "ResNet34": (_resnet(resnet.STAGES_34), _FC),
}
