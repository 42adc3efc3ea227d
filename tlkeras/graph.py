"""Where a network can be divided: cuts, block cuts, stages, splits.

A cut is a tensor that every path from the input to the output goes through.
A block cut is one that ends a block: it leaves an addition, a concatenation,
an activation, a pooling, or the BatchNorm of a linear bottleneck. Between a
convolution and its BatchNorm lies a cut, too, but no place to divide.
"""

import dataclasses
import weakref

import keras

_ENDINGS = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
)
_ACTIVATIONS = _ENDINGS[:5]
# ConvNeXt adds with `+`, which is an operation and not a layer, and the class
# of that operation is not public.
_MERGES = ("Add", "Concatenate")
_splits = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class Cut:
    """A block cut, behind the layer of this name.

    shape: of one image's tensor there, (height, width, channels) or
      (channels,).
    below: the names of the layers that the tensor depends on, itself included.
    tensor: the symbolic tensor itself.
    """

    layer: str
    shape: tuple[int, ...]
    below: frozenset[str] = dataclasses.field(repr=False)
    tensor: keras.KerasTensor = dataclasses.field(repr=False, compare=False)


@dataclasses.dataclass(frozen=True)
class Stage:
    """The layers from one resolution's last block cut to that of the next."""

    begin: Cut | None
    end: Cut


def block_cuts(network: keras.Model) -> tuple[Cut, ...]:
    """Returns the block cuts of a functional `network`, lowest first."""
    nodes = _nodes(network)
    consumers: dict[int, list] = {}
    for node in nodes:
        for tensor in node.input_tensors:
            consumers.setdefault(id(tensor), []).append(node)
    outputs = {id(tensor) for tensor in network.outputs}
    live: dict[int, int] = {}
    below: list[str] = []
    cuts = []
    for node in nodes:
        for tensor in node.input_tensors:
            live[id(tensor)] -= 1
            if not live[id(tensor)]:
                del live[id(tensor)]
        for tensor in node.outputs:
            uses = len(consumers.get(id(tensor), ())) + (id(tensor) in outputs)
            if uses:
                live[id(tensor)] = uses
        below.append(node.operation.name)
        if len(live) == 1 and len(node.outputs) == 1 and node.input_tensors:
            tensor = node.outputs[0]
            above = [each.operation for each in consumers.get(id(tensor), ())]
            if id(tensor) in live and _ends_block(node.operation, above):
                shape = tuple(int(size) for size in tensor.shape[1:])
                cuts.append(
                    Cut(node.operation.name, shape, frozenset(below), tensor)
                )
    return tuple(cuts)


def stages(network: keras.Model) -> tuple[Stage, ...]:
    """Returns the stages of `network`, lowest first.

    A resolution counts as a new one when it is at most three quarters of the
    stage's first: unpadded convolutions nibble at the border (Inception: 47,
    45) without a new stage. What has no weights, such as the last pooling,
    belongs to the stage below it.
    """
    ends: list[Cut] = []
    first = 0
    for cut in block_cuts(network):
        height = cut.shape[0] if len(cut.shape) == 3 else first
        weights = any(
            layer.weights
            for layer in network.layers
            if layer.name in cut.below - (ends[-1].below if ends else set())
        )
        if ends and not (weights and 4 * height <= 3 * first):
            ends[-1] = cut
        else:
            ends.append(cut)
            first = height
    return tuple(
        Stage(begin, end)
        for begin, end in zip([None] + ends[:-1], ends, strict=True)
    )


def split(network: keras.Model, cut: Cut) -> tuple[keras.Model, keras.Model]:
    """Returns the prefix below `cut` and the suffix above it.

    They share the network's layers and weights. A split adds nodes to the
    layers, so the same one is made only once.
    """
    made = _splits.setdefault(network, {})
    if cut.layer not in made:
        made[cut.layer] = (
            keras.Model(network.input, cut.tensor),
            keras.Model(cut.tensor, network.output),
        )
    return made[cut.layer]


def _nodes(network: keras.Model) -> list:
    """Returns the nodes that lead to the outputs, each behind its inputs."""
    ordered = []
    done = set()
    pending = [_node(tensor) for tensor in network.outputs]
    while pending:
        node = pending[-1]
        needed = [_node(tensor) for tensor in node.input_tensors]
        waiting = [each for each in needed if id(each) not in done]
        if waiting:
            pending.extend(waiting)
            continue
        pending.pop()
        if id(node) not in done:
            done.add(id(node))
            ordered.append(node)
    return ordered


def _node(tensor: keras.KerasTensor) -> object:
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def _ends_block(layer: keras.layers.Layer, above: list) -> bool:
    if isinstance(layer, _ENDINGS) or type(layer).__name__ in _MERGES:
        return True
    if isinstance(layer, keras.layers.BatchNormalization):
        # MobileNetV2 and EfficientNet end a block without skip so.
        return bool(above) and not any(_activates(each) for each in above)
    return _activates(layer)


def _activates(layer: keras.layers.Layer) -> bool:
    if isinstance(layer, _ACTIVATIONS):
        return True
    activation = getattr(layer, "activation", None)
    return activation not in (None, keras.activations.linear)
