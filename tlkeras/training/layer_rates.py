"""Rates by depth: the further a block is from the head, the less it learns.

Layer-wise rates keep what the lower layers know of all images and let the
upper ones change (Howard and Ruder, arXiv:1801.06146). Scaling gradients would
do nothing: Adam divides by their size. So its update is scaled.
"""

from collections.abc import Mapping
from collections.abc import Sequence

import keras

from tlkeras.backbones import base as bases
from tlkeras.machine import keras_private
from tlkeras.models import graph


@keras.saving.register_keras_serializable("tlkeras")
class LayerwiseAdam(keras.optimizers.Adam):
    """Adam whose update of each variable is scaled.

    scales: a factor for each variable, in their order.
    """

    def __init__(self, *arguments, scales: Sequence[float] = (), **kwargs):
        super().__init__(*arguments, **kwargs)
        self.scales = tuple(scales)

    def update_step(self, gradient, variable, learning_rate):
        index = keras_private.variable_index(self, variable)
        super().update_step(
            gradient, variable, learning_rate * self.scales[index]
        )

    def get_config(self) -> dict:
        return {**super().get_config(), "scales": self.scales}


def scales(model: keras.Model, decay: float) -> dict[int, float]:
    """Returns factors of the rate of a base's variables, by their `id`.

    decay: in (0, 1]; its power is the number of blocks from the head down to
      that of the variable, 1 for the topmost. The head itself is not in it.
    """
    network = bases.of(model).network
    depths = block_depths(network)
    return {
        id(variable): decay ** depths[layer.name]
        for layer in network.layers
        for variable in layer.trainable_variables
    }


def block_depths(network: keras.Model) -> Mapping[str, int]:
    """Returns how many blocks each layer of a network is from its end.

    A block is what lies between two block cuts and has weights; the topmost
    has depth 1.
    """
    weighted = {layer.name for layer in network.layers if layer.weights}
    blocks: list[set[str]] = []
    seen: set[str] = set()
    names = {layer.name for layer in network.layers}
    for below in (*(cut.below for cut in graph.block_cuts(network)), names):
        block = (set(below) & weighted) - seen
        seen |= block
        if block:
            blocks.append(block)
    return {
        name: depth
        for depth, block in enumerate(reversed(blocks), 1)
        for name in block
    }
