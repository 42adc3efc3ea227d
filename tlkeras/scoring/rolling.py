"""Attention roll-out: from which places a transformer's answer is gathered.

Each block mixes its tokens by attention, and adds what came in. The mean over
the heads, half of it and half of the identity, multiplied block by block, says
how much of each patch is in a token at the end (Abnar and Zuidema, Quantifying
Attention Flow in Transformers, 2020, https://arxiv.org/abs/2005.00928). It is
the same for every class.
"""

import dataclasses
import math
import operator
from collections.abc import Callable

import keras
import numpy as np

from tlkeras.backbones import base as bases
from tlkeras.models import forward
from tlkeras.models import graph


@dataclasses.dataclass(frozen=True)
class _Block:
    """Where a block has the norm before its attention, and the attention."""

    norm: str
    attention: str


# Blocks of keras-hub whose tokens all attend to each other. DINOv3's attention
# does not tell its scores.
_BLOCKS = {
    "ViTEncoderBlock": _Block("layer_norm_1", "mha"),
    "DeiTBlock": _Block("block.layer_norm_1", "block.mha"),
    "DINOV2Layer": _Block("norm1", "attention.attention"),
    "SigLIPEncoderLayer": _Block("layer_norm1", "self_attn"),
}


def roller(model: keras.Model) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns what makes maps of pictures, None for another kind of network.

    It takes pictures [n, s, s, 3] and returns [n, h, w] of 0 or more: the share
    of each patch in what the head is given.
    """
    base = bases.of(model)
    network = base.network
    blocks = [
        layer for layer in network.layers if type(layer).__name__ in _BLOCKS
    ]
    if not blocks:
        return None
    inputs = graph.inputs(network)
    last = network.layers[-1]
    tokens = bases.Base(
        # What comes into each block, and what the last layer pools.
        keras.Model(
            network.input, [inputs[layer.name] for layer in [*blocks, last]]
        ),
        backbone=base.backbone,
        scaling=base.scaling,
        name="tokens",
    )
    below = forward.Forward(keras.Model(model.input, tokens(model.input)))

    def maps(squares: np.ndarray) -> np.ndarray:
        *before, pooled = below(squares)
        identity = np.eye(pooled.shape[1], dtype=np.float32)
        rolled: np.ndarray = identity
        for layer, given in zip(blocks, before, strict=True):
            places = _BLOCKS[type(layer).__name__]
            x = operator.attrgetter(places.norm)(layer)(given)
            scores = _scores(operator.attrgetter(places.attention)(layer), x, x)
            rolled = (scores + identity) / 2 @ rolled
        patches = _row(last, pooled, rolled)[:, getattr(last, "prefix", 0) :]
        side = math.isqrt(patches.shape[1])
        return patches.reshape(-1, side, side)

    return maps


def _scores(
    attention: keras.layers.MultiHeadAttention, query, value
) -> np.ndarray:
    """Returns the attention [n, queries, values], the mean over the heads."""
    _, scores = attention(
        query, value, return_attention_scores=True, training=False
    )
    mean = keras.ops.mean(keras.ops.cast(scores, "float32"), axis=1)
    return keras.ops.convert_to_numpy(mean)


def _row(
    last: keras.layers.Layer, pooled: np.ndarray, rolled: np.ndarray
) -> np.ndarray:
    """Returns how much of each token [n, t] is in the features."""
    if not hasattr(last, "kind"):
        # SigLIP's features are gathered by one more attention.
        probe = keras.ops.repeat(last.probe, len(pooled), axis=0)
        return (_scores(last.attention, probe, pooled) @ rolled)[:, 0]
    mean = rolled[:, last.prefix :].mean(axis=1)
    if last.kind == "mean":
        return mean
    first = rolled[:, 0]
    return first if last.kind == "token" else (first + mean) / 2
