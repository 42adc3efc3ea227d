"""Where a network can be divided: cuts, block cuts, stages, splits.

A cut divides the layers of a network into those below and those above, which
depend on the ones below through few tensors; mostly through one, that every
path from the input to the output goes through. A block cut is a cut where a
block ends: its tensor leaves an addition, a concatenation, an activation, a
pooling, or the BatchNorm of a linear bottleneck. Between a convolution and its
BatchNorm lies a cut, too, but no place to divide.

In NASNet each cell reads the two before it, and nearly all its cuts go
through two tensors. They are block cuts where both tensors leave an addition
or a concatenation, and where one-tensor cuts leave out a resolution.
"""

import dataclasses
import math
import weakref
from typing import Any

import keras

from tlkeras import errors
from tlkeras.backbones import base as bases
from tlkeras.backbones import hub
from tlkeras.machine import keras_private

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
# Those of keras-hub that are a layer each, and what pools their tokens.
_BLOCKS = hub.BLOCKS | {"TokenPooling"}
_splits: weakref.WeakKeyDictionary[Any, dict[str, Any]] = (
    weakref.WeakKeyDictionary()
)


@dataclasses.dataclass(frozen=True)
class Cut:
    """A block cut, behind the layer of this name.

    shapes: of one image's tensors there, oldest first, each (height, width,
      channels) or (channels,). Of one tensor, in NASNet of two.
    below: the names of the layers below it, `layer` included.
    tensors: the symbolic tensors themselves.
    """

    layer: str
    shapes: tuple[tuple[int, ...], ...]
    below: frozenset[str] = dataclasses.field(repr=False)
    tensors: tuple[keras.KerasTensor, ...] = dataclasses.field(
        repr=False, compare=False
    )

    def image_bytes(self, itemsize: int = 4) -> int:
        """Returns the bytes that one image's tensors take here.

        itemsize: bytes of one number; 4 for float32, 2 for the halves.
        """
        return itemsize * sum(math.prod(shape) for shape in self.shapes)


@dataclasses.dataclass(frozen=True)
class Stage:
    """The layers from one resolution's last block cut to that of the next.

    begin: the cut below it, of the stage before; None for the first.
    end: its last cut.
    cuts: all its cuts, lowest first, `end` the last of them.
    """

    begin: Cut | None
    end: Cut
    cuts: tuple[Cut, ...] = dataclasses.field(repr=False)


def block_cuts(network: keras.Model) -> tuple[Cut, ...]:
    """Returns the block cuts of a functional `network`, lowest first.

    network: a base's own, as `model.get_layer("base").network`. Where it can
      be divided nowhere, the answer is empty.

    Raises ValueError if the network leaves the size of its images open.

    Example:
        >>> import tlkeras
        >>> model = tlkeras.build_classifier(
        ...     5, backbone="SmallResNet", weights="none", image_size=32
        ... )
        >>> cuts = tlkeras.cuts(model.get_layer("base").network)
        >>> cuts[-1].layer, cuts[-1].shapes
        ('pool', ((128,),))
    """
    for tensor in _network(network).inputs:
        if None in tensor.shape[1:]:
            raise ValueError(
                "`network` must have a fixed image size. Received: "
                f"{network.name}, with the input shape {tensor.shape}."
            )
    nodes = _nodes(network)
    consumers: dict[int, list] = {}
    for node in nodes:
        for tensor in node.input_tensors:
            consumers.setdefault(id(tensor), []).append(node.operation)
    outputs = {id(tensor) for tensor in network.outputs}
    live: dict[int, keras.KerasTensor] = {}
    uses: dict[int, int] = {}
    last_calls = {id(node.operation): at for at, node in enumerate(nodes)}
    last_call = 0
    below: list[str] = []
    cuts = []
    for at, node in enumerate(nodes):
        for tensor in node.input_tensors:
            uses[id(tensor)] -= 1
            if not uses[id(tensor)]:
                del live[id(tensor)]
        for tensor in node.outputs:
            used = len(consumers.get(id(tensor), ()))
            uses[id(tensor)] = used + (id(tensor) in outputs)
            if uses[id(tensor)]:
                live[id(tensor)] = tensor
        below.append(node.operation.name)
        last_call = max(last_call, last_calls[id(node.operation)])
        # No block ends in an input or in several outputs of one layer, nor
        # where a layer below is called again above.
        going_on = sum(id(tensor) in live for tensor in node.outputs)
        if not node.input_tensors or going_on != 1 or at < last_call:
            continue
        tensors = tuple(live.values())
        if len(tensors) == 1:
            above = consumers.get(id(tensors[0]), [])
            ends = _ends_block(node.operation, above)
        else:
            ends = len(tensors) == 2 and all(map(_is_merged, tensors))
        if ends and tensors[-1] is node.outputs[0]:
            shapes = tuple(
                tuple(int(size) for size in tensor.shape[1:])
                for tensor in tensors
            )
            name = node.operation.name
            cuts.append(Cut(name, shapes, frozenset(below), tensors))
    return _needed(cuts, network.inputs[-1].shape[1])


def stages(network: keras.Model) -> tuple[Stage, ...]:
    """Returns the stages of `network`, lowest first.

    A resolution counts as a new one when it is at most three quarters of the
    stage's first: unpadded convolutions nibble at the border (Inception: 47,
    45) without a new stage. Of two tensors the newer one counts. Vectors have
    a height of 1, so that AlexNet's fc6 and fc7 are a stage. What has no
    weights, such as the last pooling, belongs to the stage below it.

    Tokens [t, c] have one resolution from the first block to the last: their
    stages are quarters of the depth.
    """
    weighted = {layer.name for layer in network.layers if layer.weights}
    groups: list[list[Cut]] = []
    first = 0
    for cut in block_cuts(network):
        height = _height(cut)
        lower = groups[-1][-1].below if groups else frozenset()
        learns = not weighted.isdisjoint(cut.below - lower)
        reduced = _is_reduced(height, first) and not _pools_tokens(cut, groups)
        if groups and not (learns and reduced):
            groups[-1].append(cut)
        else:
            groups.append([cut])
            first = height
    if len(groups) == 1 and len(groups[0][0].shapes[-1]) == 2:
        groups = _quarters(groups[0])
    ends = [group[-1] for group in groups]
    return tuple(
        Stage(begin, end, tuple(group))
        for begin, end, group in zip([None, *ends], ends, groups, strict=False)
    )


def find_cut(network: keras.Model, what: str) -> tuple[Cut | None, str]:
    """Returns the highest block cut below `what`, and `what` made exact.

    what: `all`, `stages:N` (the N topmost stages) or `from:LAYER`. The cut is
    None where nothing of the network is below.

    Raises `UserError` for a stage or a layer that the network does not have.
    """
    kind, _, value = what.partition(":")
    if kind == "all":
        return None, what
    if kind == "stages":
        known = stages(network)
        if int(value) > len(known):
            raise errors.UserError(
                f"`unfreeze` stages:N must have N of at most {len(known)} "
                f"for {network.name}. Received: {what}."
            )
        return known[-int(value)].begin, what
    names = [layer.name for layer in network.layers]
    if value not in names:
        raise errors.UserError(
            f"`unfreeze` from:LAYER must name a layer of {network.name}. "
            f"Received: {what}.{errors.nearest(value, names)}"
        )
    below = [cut for cut in block_cuts(network) if value not in cut.below]
    if not below:
        return None, "all"
    first = next(name for name in names if name not in below[-1].below)
    return below[-1], f"from:{first}"


def split(
    network: keras.Model, cut: Cut | str
) -> tuple[keras.Model, keras.Model]:
    """Returns the prefix below `cut` and the suffix above it.

    They share the network's layers and weights. What the prefix gives, the
    suffix takes: a tensor, or a list where the cut has several. A split adds
    nodes to the layers, so the same one is made only once.

    cut: one of `tlkeras.cuts(network)`, or what the suffix is: `stages:N`, the
      N topmost stages, or `from:LAYER`, the block with this layer and all
      above it.

    Raises `UserError` where there is no such stage or layer, or nothing is
    below it.

    Example:
        >>> import tlkeras
        >>> model = tlkeras.build_classifier(
        ...     5, backbone="SmallResNet", weights="none", image_size=32
        ... )
        >>> network = model.get_layer("base").network
        >>> prefix, suffix = tlkeras.split(network, "stages:1")
        >>> prefix.output_shape, suffix.output_shape
        ((None, 16, 16, 64), (None, 128))
    """
    _network(network)
    if isinstance(cut, str):
        found, _ = find_cut(network, cut)
        if found is None:
            raise errors.UserError(
                f"`cut` {cut} leaves nothing of {network.name} below it. "
                "tlkeras.cuts(network) lists where it can be divided."
            )
        cut = found
    if not isinstance(cut, Cut):
        raise errors.UserError(
            "`cut` must be one of tlkeras.cuts(network), stages:N or "
            f"from:LAYER. Received: {errors.shown(cut)}."
        )
    made = _splits.setdefault(network, {})
    if cut.layer not in made:
        several = len(cut.tensors) > 1
        tensors = list(cut.tensors) if several else cut.tensors[0]
        upper = (tensors, network.output)
        if tensors is network.output:
            # Keras finds no way from a tensor to itself, unless it is an input.
            features = keras.Input(cut.shapes[0], dtype=tensors.dtype)
            upper = (features, features)
        made[cut.layer] = (
            keras.Model(network.input, tensors),
            keras.Model(*upper),
        )
    return made[cut.layer]


def inputs(network: keras.Model) -> dict[str, keras.KerasTensor]:
    """Returns what each layer of `network` is called with, by its name.

    A layer's own `input` may be of another network that it stands in, too.
    """
    return {
        node.operation.name: node.input_tensors[0]
        for node in _nodes(network)
        if node.input_tensors
    }


def describe(network: keras.Model) -> str:
    """Returns what `network` computes, but for its weights, as text.

    The names of layers do not count: Keras numbers many of them anew in each
    process.
    """
    places: dict[int, int] = {}
    lines = []
    for node in _nodes(network):
        operation = node.operation
        try:
            config = dict(operation.get_config())
        # Of Keras' own, and of keras-hub's, not all layers can say it.
        except (NotImplementedError, TypeError):
            config = {}
        config.pop("name", None)
        inputs = [places[id(tensor)] for tensor in node.input_tensors]
        for tensor in node.outputs:
            places[id(tensor)] = len(places)
        lines.append(f"{type(operation).__name__} {inputs} {config}")
    outputs = [places[id(tensor)] for tensor in network.outputs]
    return "\n".join([*lines, f"{outputs}"])


def _needed(cuts: list[Cut], height: int) -> tuple[Cut, ...]:
    """Returns `cuts` without those through two tensors that need not be.

    Between two cuts through one tensor they are needed where they have a
    resolution in between, which otherwise had no cut.

    height: of the image, in pixels.
    """
    needed: list[Cut] = []
    double: list[Cut] = []
    lower = height
    for cut in cuts:
        if len(cut.tensors) > 1:
            double.append(cut)
            continue
        upper = _height(cut)
        if any(
            _is_reduced(_height(each), lower)
            and _is_reduced(upper, _height(each))
            for each in double
        ):
            needed += double
        needed.append(cut)
        double = []
        lower = upper
    return tuple(needed)


def _network(network: keras.Model) -> keras.Model:
    """Returns `network`; raises `UserError` where it has no graph."""
    if not getattr(network, "inputs", None) or bases.is_in(network):
        raise errors.UserError(
            "`network` must be a functional keras.Model, as "
            "model.get_layer('base').network is. Received: "
            f"{errors.shown(network)}."
        )
    return network


def _quarters(cuts: list[Cut]) -> list[list[Cut]]:
    """Returns the cuts of tokens, and the pooling's, in four groups.

    The groups have the same number of blocks, but for one, as long as there
    are four blocks.
    """
    blocks = sum(len(cut.shapes[-1]) == 2 for cut in cuts)
    groups: list[list[Cut]] = [[] for _ in range(min(4, blocks))]
    for at, cut in enumerate(cuts):
        groups[min(at, blocks - 1) * len(groups) // blocks].append(cut)
    return groups


def _pools_tokens(cut: Cut, groups: list[list[Cut]]) -> bool:
    """Tells whether a cut has vectors, and the one below it tokens."""
    below = groups[-1][-1].shapes[-1] if groups else ()
    return len(cut.shapes[-1]) == 1 and len(below) == 2


def _height(cut: Cut) -> int:
    """Returns the rows of a map, or of the square that tokens lie in."""
    shape = cut.shapes[-1]
    if len(shape) == 2:
        return math.isqrt(shape[0])
    return shape[0] if len(shape) == 3 else 1


def _is_reduced(height: int, first: int) -> bool:
    return 4 * height <= 3 * first


def _nodes(network: keras.Model) -> list:
    """Returns the nodes that lead to the outputs, each behind its inputs.

    Those of the network's inputs come first: all are live from the start.
    """
    ordered = []
    done = set()
    pending = [keras_private.node(tensor) for tensor in network.outputs]
    while pending:
        node = pending[-1]
        needed = [keras_private.node(tensor) for tensor in node.input_tensors]
        waiting = [each for each in needed if id(each) not in done]
        if waiting:
            pending.extend(waiting)
            continue
        pending.pop()
        if id(node) not in done:
            done.add(id(node))
            ordered.append(node)
    return sorted(ordered, key=lambda node: bool(node.input_tensors))


def _is_merged(tensor: keras.KerasTensor) -> bool:
    return type(keras_private.node(tensor).operation).__name__ in _MERGES


def _ends_block(layer: keras.layers.Layer, above: list) -> bool:
    kind = type(layer).__name__
    if isinstance(layer, _ENDINGS) or kind in _MERGES or kind in _BLOCKS:
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
