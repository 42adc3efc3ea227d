"""Adapters: small changes that learn in the place of a base's dense layers.

LoRA (Hu et al., 2021, https://arxiv.org/abs/2106.09685) adds to a kernel the
product of two thin matrices, of which one begins at zero, so that nothing
changes at first. Only they learn, and the optimizer keeps nothing of the rest.
When a phase ends they are added to the kernels for good: what is saved,
exported and trained on is a network without adapters.
"""

import contextlib
from collections.abc import Iterator

import keras

from tlkeras import errors
from tlkeras.backbones import base as bases
from tlkeras.machine import keras_private
from tlkeras.models import graph

_ADAPTED = (keras.layers.Dense, keras.layers.EinsumDense)
_PARTS = ("lora_kernel_a", "lora_kernel_b")


def layers(
    network: keras.Model, cut: graph.Cut | None
) -> list[keras.layers.Layer]:
    """Returns the dense layers of `network` above `cut`, at any depth.

    Raises `UserError` where there is none.
    """
    below = cut.below if cut else frozenset()
    found = [
        deep
        for layer in network.layers
        if layer.name not in below
        for deep in keras_private.flatten_layers(layer)
        if isinstance(deep, _ADAPTED)
    ]
    if not found:
        raise errors.UserError(
            "`adapt` lora needs a base with dense layers, as ViT, DINOv2 and "
            f"ConvNeXt have, in what learns. Received: {network.name}, which "
            "has none there. Give --adapt=none."
        )
    # A layer may be called several times.
    return list({id(layer): layer for layer in found}.values())


@contextlib.contextmanager
def lora(base: bases.Base, cut: graph.Cut | None, rank: int) -> Iterator[None]:
    """Lets nothing of `base` learn but adapters above `cut`, in the block.

    rank: width of the thin matrices. Afterwards they are part of the kernels.
    """
    adapted = layers(base.network, cut)
    for number, layer in enumerate(adapted):
        layer.enable_lora(
            rank,
            # Whatever was drawn before: a run that goes on draws the same.
            a_initializer=keras.initializers.HeUniform(seed=number),
        )
    own = {id(getattr(layer, part)) for layer in adapted for part in _PARTS}
    for variable in base.variables:
        variable.trainable = id(variable) in own
    try:
        yield
    finally:
        for layer in adapted:
            _merge(layer)


def _merge(layer: keras.layers.Layer) -> None:
    """Adds its adapter to the kernel of `layer`, which then has none."""
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    layer.lora_enabled = False
    # Else it would be opened with a new one.
    layer.lora_rank = layer.lora_alpha = None
    for part in _PARTS:
        keras_private.forget_variable(layer, part)
    layer.kernel.assign(kernel)
