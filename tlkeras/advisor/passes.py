"""What a base makes of images, in one pass with its weights, and at random.

Both passes go through a copy of the network, so that the user's own one is
never touched. Where BatchNorm stands, the copy also tells the moments of what
comes in, so that no activations need to be kept and no other pass is needed.
"""

import dataclasses
import random
import time
from collections.abc import Sequence

import keras
import numpy as np

from tlkeras import progress as progresses
from tlkeras.backbones import base as bases
from tlkeras.backbones import hub_network
from tlkeras.models import graph

# Images that go through a network at a time. Always as many, filled up at the
# end: another number would be traced anew, which takes seconds.
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What comes into a BatchNorm layer, and what it knows of its source.

    epsilon: what the layer adds to a variance. mean, variance: of these images
    [c]. source_mean, source_variance: those that the layer keeps [c].
    """

    layer: str
    epsilon: float
    mean: np.ndarray
    variance: np.ndarray
    source_mean: np.ndarray
    source_variance: np.ndarray


@dataclasses.dataclass(frozen=True)
class Passes:
    """What two passes over the same n images have found.

    stages: of the network. features: at each stage's end, averaged over the
    image; the last are what the base itself gives [n, c]. random_features: the
    same of the network with random weights, if they were asked for.
    statistics: of each BatchNorm layer, lowest first; none where no layer has
    seen a source.
    forward: of a plain forward pass [seconds an image]. tracing: until the
    graphs were built [seconds]. passing: of the passes themselves [seconds].
    """

    stages: tuple[graph.Stage, ...]
    features: tuple[np.ndarray, ...]
    random_features: tuple[np.ndarray, ...]
    statistics: tuple[Statistics, ...]
    forward: float
    tracing: float
    passing: float


def run(
    base: bases.Base,
    images: np.ndarray,
    *,
    seed: int,
    at_random: bool = True,
    progress: progresses.Progress,
) -> Passes:
    """Returns what the base, and the same at random, make of `images`.

    images: [n, h, w, 3], uint8; each goes through twice. seed: of the random
    weights. at_random: without them each image goes through once.
    """
    began = time.perf_counter()
    network = _at_random(base.network, seed)
    stages = graph.stages(network)
    pooled = [_pooled(stage.end.tensors) for stage in stages[:-1]]
    # Above the last block cut there may still be a normalisation.
    pooled.append(_pooled([network.output]))
    layers = _with_source(base.network)
    full = _wrapped(base, network, [*pooled, *_moments(network, layers)])
    random_features: list[np.ndarray] = []
    times: list[float] = []
    tracing = 0.0
    progress.begin("forward passes", (1 + at_random) * len(images))
    try:
        if at_random:
            plain = _wrapped(base, network, pooled)
            _run(plain, images[:_BATCH])
            tracing = time.perf_counter() - began
            random_features, times = _pass(plain, images, progress)
            began = time.perf_counter()
        network.set_weights(base.network.get_weights())
        for layer in network.layers:
            if isinstance(layer, keras.layers.Normalization) and layer.weights:
                layer.finalize_state()
        _run(full, images[:_BATCH])
        tracing += time.perf_counter() - began
        found, more = _pass(full, images, progress)
    finally:
        progress.end()
    return Passes(
        stages,
        tuple(found[: len(stages)]),
        tuple(random_features),
        _statistics(layers, *found[len(stages) :]) if layers else (),
        # The last batch is filled up, and so is no faster.
        float(np.median(times or more)) / _BATCH,
        tracing,
        sum(times) + sum(more),
    )


def _at_random(network: keras.Model, seed: int) -> keras.Model:
    """Returns a copy of `network` with random weights, the same for a seed."""
    # Keras draws the seeds of initialisers from Python's generator.
    before = random.getstate()
    random.seed(seed)
    try:
        # Layer by layer it cannot be copied.
        if isinstance(network, hub_network.HubNetwork):
            return network.from_config(network.get_config())
        return keras.models.clone_model(network)
    finally:
        random.setstate(before)


def _pooled(tensors: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
    means = [
        keras.ops.mean(
            keras.ops.cast(tensor, "float32"),
            axis=tuple(range(1, len(tensor.shape) - 1)),
        )
        for tensor in tensors
    ]
    return means[0] if len(means) == 1 else keras.ops.concatenate(means, -1)


def _with_source(
    network: keras.Model,
) -> list[keras.layers.BatchNormalization]:
    """Returns the BatchNorm layers of `network`, if they know a source."""
    layers = [
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    # A mean of 0 and a variance of 1 throughout are those of the beginning.
    fresh = all(
        not _array(layer.moving_mean).any()
        and (_array(layer.moving_variance) == 1).all()
        for layer in layers
    )
    return [] if fresh else layers


def _moments(
    network: keras.Model, layers: Sequence[keras.layers.BatchNormalization]
) -> list[keras.KerasTensor]:
    """Returns the first and the second moment of each image, [n, c] each.

    Those of all `layers` stand side by side. They are taken about the source's
    mean: about 0 the digits of float32 would not do where it is large.
    """
    if not layers:
        return []
    first, second = [], []
    for layer in layers:
        inputs = network.get_layer(layer.name).input
        rest = keras.ops.cast(inputs, "float32") - _array(layer.moving_mean)
        first.append(_pooled([rest]))
        second.append(_pooled([keras.ops.square(rest)]))
    return [keras.ops.concatenate(moment, -1) for moment in (first, second)]


def _statistics(
    layers: Sequence[keras.layers.BatchNormalization],
    first: np.ndarray,
    second: np.ndarray,
) -> tuple[Statistics, ...]:
    ends = np.cumsum([layer.moving_mean.shape[0] for layer in layers])[:-1]
    offsets = np.split(first.mean(axis=0, dtype=np.float64), ends)
    squares = np.split(second.mean(axis=0, dtype=np.float64), ends)
    statistics = []
    for layer, offset, square in zip(layers, offsets, squares, strict=True):
        source = _array(layer.moving_mean).astype(np.float64)
        statistics.append(
            Statistics(
                layer.name,
                layer.epsilon,
                source + offset,
                np.maximum(square - np.square(offset), 0.0),
                source,
                _array(layer.moving_variance).astype(np.float64),
            )
        )
    return tuple(statistics)


def _wrapped(
    base: bases.Base,
    network: keras.Model,
    outputs: Sequence[keras.KerasTensor],
) -> keras.Model:
    """Returns a model from images as they are to `outputs` of `network`."""
    images = keras.Input(network.input.shape[1:])
    inner = bases.Base(
        keras.Model(network.input, list(outputs)),
        backbone=base.backbone,
        scaling=base.scaling,
    )
    return keras.Model(images, inner(images))


def _pass(
    model: keras.Model, images: np.ndarray, progress: progresses.Progress
) -> tuple[list[np.ndarray], list[float]]:
    """Returns the outputs of all images, and the seconds of each batch."""
    parts, times = [], []
    for start in range(0, len(images), _BATCH):
        began = time.perf_counter()
        parts.append(_run(model, images[start : start + _BATCH]))
        times.append(time.perf_counter() - began)
        progress.advance(len(parts[-1][0]))
    return [np.concatenate(each) for each in zip(*parts, strict=True)], times


def _run(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    """Returns the outputs [n, c] of at most `_BATCH` images, float32."""
    batch = np.zeros([_BATCH, *images.shape[1:]], images.dtype)
    batch[: len(images)] = images
    found = model.predict_on_batch(batch)
    return [np.asarray(each)[: len(images)] for each in found]


def _array(variable: keras.Variable) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable))
