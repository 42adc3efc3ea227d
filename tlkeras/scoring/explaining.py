"""Where on a picture the evidence for a class lies.

With a linear head on averaged maps, the share of each place in a logit is
known: the head's weights on the last maps (class activation maps; Zhou et al.,
2016, https://arxiv.org/abs/1512.04150). Elsewhere it is estimated by the slope
of the logit at the last maps (LayerCAM; Jiang et al., 2021,
https://doi.org/10.1109/TIP.2021.3089943). Of a transformer whose answer is
gathered by attention, the attention is rolled out, for all classes alike:
slopes at its tokens point anywhere.
"""

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import keras
import matplotlib
import numpy as np
import PIL.Image

from tlkeras import errors
from tlkeras import files
from tlkeras import progress as progresses
from tlkeras.backbones import base as bases
from tlkeras.backbones import hub_network
from tlkeras.machine import slopes
from tlkeras.models import classifier as classifiers
from tlkeras.models import forward
from tlkeras.models import graph
from tlkeras.models import saving
from tlkeras.scoring import predicting
from tlkeras.scoring import rolling

CAM = "class activation map"
LAYER_CAM = "LayerCAM"
ROLL_OUT = "attention roll-out"
_BATCH = 32
# The strongest place is covered by so much.
_OPACITY = 0.7
_COLOURS = matplotlib.colormaps["inferno"]


@dataclasses.dataclass(frozen=True)
class Maps:
    """Maps of evidence, and how they were computed.

    values: [n, h, w], or [n, m, h, w] of m classes each; a class activation map
      is exact: each place has the logit that the head gives to what is seen
      there, less that of all classes on average, and the mean of all places is
      that of the picture. In LayerCAM's only the order of the places means
      something. A roll-out has the share of each place in the features, and is
      the same for every class.
    method: `CAM`, `LAYER_CAM` or `ROLL_OUT`.
    """

    values: np.ndarray
    method: str


def explain(
    model: keras.Model, squares: np.ndarray, classes: Sequence[int] | np.ndarray
) -> Maps:
    """Returns where `squares` [n, s, s, 3] speak for `classes` [n] or [n, m].

    Against all classes on average: what is added to all logits alike changes
    no probability. Raises `UserError` for a network without maps.
    """
    return explainer(model)(squares, classes)


def explainer(
    model: keras.Model,
) -> Callable[[np.ndarray, Sequence[int] | np.ndarray], Maps]:
    """Returns `explain` of this model, for whoever calls it again and again.

    Raises `UserError` for a network without maps.
    """
    roll = rolling.roller(model)
    if roll is None:
        method, evidence = _evidence(model)
    else:
        method, evidence = ROLL_OUT, lambda squares, _: roll(squares)[:, None]

    def maps(squares: np.ndarray, classes: Sequence[int] | np.ndarray) -> Maps:
        columns = np.asarray(classes, np.int64)
        if columns.ndim == 1:
            columns = columns[:, None]
        parts = [
            evidence(
                np.asarray(squares[start : start + _BATCH], np.uint8),
                columns[start : start + _BATCH],
            )
            for start in range(0, len(squares), _BATCH)
        ]
        values = np.concatenate(parts or [np.zeros([0, 1, 1, 1])])
        if np.ndim(classes) == 1:
            values = values[:, 0]
        return Maps(values.astype(np.float32), method)

    return maps


@dataclasses.dataclass(frozen=True)
class Explanation:
    """One picture, what was answered, and where the evidence lies.

    index: of the image among those given. label, score: the answer. explained:
      the class that `values` [h, w], as of `Maps`, speak for. square: the
      picture as the model sees it [s, s, 3].
    """

    index: int
    label: str
    score: float
    explained: str
    square: np.ndarray
    values: np.ndarray
    method: str


def explain_files(
    classifier: saving.TrainedModel,
    paths: Sequence[str],
    *,
    label: str = "",
    failed: list[tuple[str, str]],
    progress: progresses.Progress,
) -> Iterator[Explanation]:
    """Yields what `classifier` sees in image files, a batch in memory.

    label: the class to explain; '' is the answer to each. failed: takes (path,
    reason) of files that cannot be read. Raises `UserError` for an unknown
    class, and at the end where no file could be read.
    """
    check_label(classifier, label)
    progress.begin("explaining", len(paths))
    try:
        for indices, squares in predicting.decoded(
            classifier,
            paths,
            lambda index: files.read(paths[index]),
            failed=failed,
            progress=progress,
        ):
            found = explain_squares(classifier, squares, label=label)
            for index, each in zip(indices, found, strict=True):
                yield dataclasses.replace(each, index=index)
    finally:
        progress.end()
    if len(failed) == len(paths):
        path, reason = failed[0]
        raise errors.UserError(
            f"none of {len(paths)} images can be read, first {path}: {reason}."
        )


def explain_squares(
    classifier: saving.TrainedModel,
    squares: Sequence[np.ndarray],
    *,
    label: str = "",
) -> list[Explanation]:
    """Returns what `classifier` sees in pictures [s, s, 3] of its own size."""
    check_label(classifier, label)
    if not squares:
        return []
    labels = classifier.labels
    answers, scores = classifier.task.answers(
        predicting.predict_squares(classifier, squares).probabilities
    )
    classes = [labels.index(label)] * len(answers) if label else answers
    found = explain(classifier.model, np.stack(squares), classes)
    if label and found.method == ROLL_OUT:
        raise errors.UserError(
            "`label` cannot be given for this network: its maps are of "
            "attention, and are the same for every class."
        )
    return [
        Explanation(
            index,
            labels[answers[index]],
            float(scores[index]),
            labels[classes[index]],
            square,
            found.values[index],
            found.method,
        )
        for index, square in enumerate(squares)
    ]


def check_label(classifier: saving.TrainedModel, label: str) -> None:
    """Raises `UserError` unless `label` is '' or a class of `classifier`."""
    if label and label not in classifier.labels:
        raise errors.UserError(
            f"`label` must be a class of the model: "
            f"{errors.few(classifier.labels)}. Received: {label!r}."
            f"{errors.nearest(label, classifier.labels)}"
        )


def overlay(square: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns a picture [s, s, 3], uint8, with its map [h, w] in colour on it.

    The picture is grey below the colours; the strongest place is the brightest
    of each map, and what speaks against the class has no colour.
    """
    strength = np.maximum(values, 0)
    if strength.max() > 0:
        strength = strength / strength.max()
    height, width = square.shape[:2]
    image = PIL.Image.fromarray(strength.astype(np.float32))
    strength = np.asarray(
        image.resize((width, height), PIL.Image.Resampling.BICUBIC)
    ).clip(0, 1)
    grey = square.mean(axis=-1, keepdims=True)
    colour = 255 * _COLOURS(strength)[..., :3]
    opacity = _OPACITY * strength[..., None]
    mixed = (1 - opacity) * grey + opacity * colour
    return mixed.round().clip(0, 255).astype(np.uint8)


def _evidence(
    model: keras.Model,
) -> tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    """Returns a method, and what makes maps of a batch and its classes [n, m].

    The maps are [n, m, h, w].
    """
    cut = _last_maps(bases.of(model).network)
    below = forward.Forward(classifiers.below(model, cut))
    above = classifiers.above(model, cut)
    linear = _linear(above, model.get_layer("head"))

    def maps(squares: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        (seen,) = below(squares)
        seen = np.asarray(seen, np.float32)
        contrast = _contrast(chosen, model.output_shape[-1])
        if linear is None:
            values = np.stack(
                [
                    (np.maximum(slopes.of(above, seen, each), 0) * seen).sum(-1)
                    for each in contrast.swapaxes(0, 1)
                ],
                axis=1,
            )
        else:
            logits = seen @ linear[0] + linear[1]
            values = np.einsum("n...k,nmk->nm...", logits, contrast)
        # Tokens of a picture lie in a square.
        side = math.isqrt(math.prod(values.shape[2:]))
        shape = values.shape[2:] if values.ndim == 4 else (side, side)
        return values.reshape(*chosen.shape, *shape)

    return LAYER_CAM if linear is None else CAM, maps


def _last_maps(network: keras.Model) -> graph.Cut:
    """Returns the highest cut through maps of more than one place.

    Tokens are maps where the answer is their mean.
    """
    pool = network.layers[-1]
    if isinstance(pool, hub_network.TokenPooling) and pool.kind == "mean":
        below = [layer.name for layer in network.layers[:-1]]
        tokens = graph.inputs(network)[pool.name]
        shape = tuple(tokens.shape[1:])
        return graph.Cut(below[-1], (shape,), frozenset(below), (tokens,))
    for cut in reversed(graph.block_cuts(network)):
        shape = cut.shapes[0]
        if len(cut.shapes) == 1 and len(shape) == 3 and shape[0] * shape[1] > 1:
            return cut
    raise errors.UserError(
        f"{network.name} cannot be explained: it has no maps, tensors of "
        "[height, width, channels], on which its answers depend."
    )


def _linear(
    above: keras.Model, head: keras.Model
) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns kernel [c, k] and bias [k] of a linear head on averaged maps."""
    suffix = bases.of(above).network
    pools = (
        keras.layers.GlobalAveragePooling2D,
        hub_network.TokenPooling,
    )
    layers = (keras.layers.InputLayer, *pools)
    hidden = (keras.layers.InputLayer, keras.layers.Dropout)
    *others, last = head.layers
    if (
        sum(isinstance(each, pools) for each in suffix.layers) != 1
        or not all(isinstance(each, layers) for each in suffix.layers)
        or not all(isinstance(each, hidden) for each in others)
        or not isinstance(last, keras.layers.Dense)
    ):
        return None
    kernel, bias = map(classifiers.to_array, (last.kernel, last.bias))
    return kernel.astype(np.float32), bias.astype(np.float32)


def _contrast(chosen: np.ndarray, classes: int) -> np.ndarray:
    """Returns weights [n, m, k] of the logits: one class, less the average."""
    return np.eye(classes, dtype=np.float32)[chosen] - 1 / classes
