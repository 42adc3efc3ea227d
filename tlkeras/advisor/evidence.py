"""What speaks for one way or another, before anything is trained.

Records only: nothing is decided here. The distance to the source compares the
activations of the target's images with the statistics that BatchNorm keeps of
the source's, channel by channel, as two normal distributions. Energy is that
of Liu et al., Energy-based Out-of-distribution Detection (arXiv:2010.03759).
"""

import dataclasses
import hashlib
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import scipy.special

from tlkeras import progress as progresses
from tlkeras.advisor import costs
from tlkeras.advisor import passes
from tlkeras.advisor import probe
from tlkeras.backbones import base as bases
from tlkeras.data import splits


@dataclasses.dataclass(frozen=True)
class Size:
    """How many images there are, and how large.

    images_per_class_min, images_per_class_median: of the classes that have
    images. imbalance: the largest class against the smallest. width, height:
    median of the files' own [pixels]; None where it is not known. input: side
    of what the network gets [pixels].
    """

    images: int
    classes: int
    images_per_class_min: int
    images_per_class_median: float
    imbalance: float
    width: float | None
    height: float | None
    input: int


@dataclasses.dataclass(frozen=True)
class Depth:
    """What is seen at the end of one stage of the base.

    layer: the last one below. channels: features after average pooling.
    kl: mean over the channels of the stage's BatchNorm layers of the
      Kullback-Leibler divergence of the target from the source [nats].
    wasserstein: the same of the Wasserstein-2 distance, in standard deviations
      of the source. Both are None where no BatchNorm layer of the stage knows
      a source.
    linear, neighbours: cross-validated accuracy of a linear classifier and of
      the five nearest neighbours on the features.
    random_linear, random_neighbours: of the same network with random weights.
    pretraining_gain: `linear` less `random_linear`.
    """

    layer: str
    channels: int
    kl: float | None
    wasserstein: float | None
    linear: probe.Share
    neighbours: probe.Share
    random_linear: probe.Share
    random_neighbours: probe.Share
    pretraining_gain: probe.Difference


@dataclasses.dataclass(frozen=True)
class SourceAnswers:
    """What the source's own classifier says of the target's images, on average.

    energy: -log of the sum of exp(logits). entropy: of the probabilities of an
    image [nats]. mean_entropy: of the mean probabilities of all images [nats].
    confidence: the highest probability of an image.
    """

    energy: float
    entropy: float
    mean_entropy: float
    confidence: float


@dataclasses.dataclass(frozen=True)
class Point:
    """One point of a learning curve.

    images: that the classifier learned from, on average over the folds.
    """

    images: float
    linear: probe.Share


@dataclasses.dataclass(frozen=True)
class Cost:
    """What computing takes here [seconds].

    forward: an image through the base, measured, its graph traced before.
    training: an image in an epoch in which all of the base learns; last_stage:
      the same where its last stage learns from stored activations. Both are
      `forward` by a ratio and not measured here. measured_ratio: whether the
      ratio was measured for this family of networks; else it is a median.
    reading, tracing, passes, probes: what this evidence took, in its parts.
    """

    forward: float
    training: float
    last_stage: float
    measured_ratio: bool
    reading: float
    tracing: float
    passes: float
    probes: float


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What is known of a data set and a base.

    sampled: images that were looked at. majority: share of the commonest class
    among them. depths: of each stage, lowest first; the last are the features
    that a head gets. source: None where the weights come without the source's
    classifier. curve: at a quarter, a half and all of the learning images, on
    the last features.
    """

    size: Size
    sampled: int
    majority: float
    depths: tuple[Depth, ...]
    source: SourceAnswers | None
    curve: tuple[Point, ...]
    cost: Cost


def gather(
    model: bases.Base | keras.Model,
    images: np.ndarray | Callable[[np.ndarray], np.ndarray],
    targets: np.ndarray,
    *,
    groups: Sequence[str] = (),
    sizes: Sequence[tuple[int, int]] = (),
    classifier: Callable[[np.ndarray], np.ndarray] | None = None,
    max_images: int = 1000,
    seed: int = 0,
    progress: progresses.Progress,
) -> Evidence:
    """Returns the evidence on images with these targets, and on a base.

    It takes two forward passes of at most `max_images` images, chosen evenly
    of all classes by `seed`. The base stays as it is.

    model: the base, or a classifier on it. images: decoded to the base's size
    [n, h, w, 3], uint8, or a function of positions [m] that returns those.
    targets: [n]. groups: of each image a name, equal for those that must not
    stand on both sides of a fold, beside those with equal pixels. sizes: width
    and height of each image's file. classifier: that of the base's source,
    from features [n, c] to logits [n, k].

    Raises ValueError where the images do not fit the targets, and where all of
    them are equal or of one group.
    """
    base = model if isinstance(model, bases.Base) else bases.of(model)
    targets = np.asarray(targets, np.int64)
    for name, given in (("groups", groups), ("sizes", sizes)):
        if len(given) not in (0, len(targets)):
            raise ValueError(
                f"`{name}` must have one entry an image. Received: "
                f"{len(given)} for {len(targets)} images."
            )
    began = time.perf_counter()
    chosen = sample(targets, max_images, seed=seed)
    pixels = images(chosen) if callable(images) else images[chosen]
    reading = time.perf_counter() - began
    found = passes.run(base, pixels, seed=seed, progress=progress)
    began = time.perf_counter()
    ratio = costs.ratio(base.backbone)
    mine = targets[chosen]
    together = _together(
        [groups[index] for index in chosen] if len(groups) else [], pixels
    )
    folds = probe.folds(mine, together, seed=seed)
    depths = _depths(found, mine, folds, together, progress)
    curve = _curve(found.features[-1], mine, folds, together, depths[-1].linear)
    return Evidence(
        _size(targets, sizes, pixels.shape[1]),
        len(chosen),
        float(np.bincount(mine).max() / len(mine)),
        depths,
        _source(classifier, found.features[-1]),
        curve,
        Cost(
            found.forward,
            found.forward * ratio.training,
            found.forward * ratio.last_stage,
            ratio.measured,
            reading,
            found.tracing,
            found.passing,
            time.perf_counter() - began,
        ),
    )


def sample(targets: np.ndarray, most: int, *, seed: int) -> np.ndarray:
    """Returns positions [m] of at most `most` images, in ascending order.

    Each class has its share of them, and one at least: with more classes than
    `most` there are as many images as classes.
    """
    if len(targets) <= most:
        return np.arange(len(targets))
    generator = np.random.default_rng(seed)
    numbers, counts = np.unique(targets, return_counts=True)
    shares = counts * most / len(targets)
    quota = np.maximum(np.floor(shares).astype(np.int64), 1)
    # What rounding left over goes to the largest remainders.
    rest = max(0, most - int(quota.sum()))
    quota[np.argsort(quota - shares, kind="stable")[:rest]] += 1
    chosen = [
        generator.permutation(np.flatnonzero(targets == number))[:count]
        for number, count in zip(numbers, quota, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def kl(found: passes.Statistics) -> np.ndarray:
    """Returns the divergence of target from source [c], in nats.

    Both are normal distributions, with the variances by which BatchNorm
    divides: what the layer adds to them keeps dead channels at 0.
    """
    variance = found.variance + found.epsilon
    source = found.source_variance + found.epsilon
    square = np.square(found.mean - found.source_mean)
    return 0.5 * (np.log(source / variance) + (variance + square) / source - 1)


def wasserstein(found: passes.Statistics) -> np.ndarray:
    """Returns the distance of target and source [c], in source deviations."""
    variance = found.variance + found.epsilon
    source = found.source_variance + found.epsilon
    square = np.square(found.mean - found.source_mean)
    return np.sqrt(square / source + (np.sqrt(variance / source) - 1) ** 2)


def distance(evidence: Evidence) -> float | None:
    """Returns how far the images are from the source, in its deviations.

    The mean over the stages of the Wasserstein distance; None where no
    BatchNorm layer knows a source.
    """
    found = [each.wasserstein for each in evidence.depths]
    found = [each for each in found if each is not None]
    return float(np.mean(found)) if found else None


def flat(evidence: Evidence) -> dict[str, float | int | None]:
    """Returns the evidence as columns of a table, the same for all networks.

    Of the depths there are the lowest, the middle one and the last. Of a share
    there are also `_low` and `_high`, its 95 % interval.
    """
    depths = evidence.depths
    row: dict[str, float | int | None] = {
        **dataclasses.asdict(evidence.size),
        "sampled": evidence.sampled,
        "majority": evidence.majority,
        "distance": distance(evidence),
    }
    for name, depth in (
        ("early", depths[0]),
        ("middle", depths[(len(depths) - 1) // 2]),
        ("last", depths[-1]),
    ):
        row[f"{name}_kl"] = depth.kl
        row[f"{name}_wasserstein"] = depth.wasserstein
        for share in (
            "linear",
            "neighbours",
            "random_linear",
            "random_neighbours",
            "pretraining_gain",
        ):
            row |= _interval(f"{name}_{share}", getattr(depth, share))
    for field in dataclasses.fields(SourceAnswers):
        row[field.name] = getattr(evidence.source, field.name, None)
    for name, point in zip(
        ("quarter", "half", "all"), evidence.curve, strict=True
    ):
        row[f"curve_{name}_images"] = point.images
        row |= _interval(f"curve_{name}", point.linear)
    for field in dataclasses.fields(Cost):
        value = getattr(evidence.cost, field.name)
        seconds = field.name != "measured_ratio"
        row[f"seconds_{field.name}" if seconds else field.name] = (
            value if seconds else int(value)
        )
    return row


def to_json(evidence: Evidence) -> dict[str, Any]:
    """Returns the evidence as it is nested, for programs."""
    return dataclasses.asdict(evidence)


def _size(
    targets: np.ndarray, sizes: Sequence[tuple[int, int]], side: int
) -> Size:
    counts = np.unique(targets, return_counts=True)[1]
    width, height = np.median(sizes, axis=0) if len(sizes) else (None, None)
    return Size(
        images=len(targets),
        classes=len(counts),
        images_per_class_min=int(counts.min()),
        images_per_class_median=float(np.median(counts)),
        imbalance=float(counts.max() / counts.min()),
        width=None if width is None else float(width),
        height=None if height is None else float(height),
        input=side,
    )


def _together(groups: Sequence[str], pixels: np.ndarray) -> list[str]:
    hashes = [
        hashlib.blake2b(np.ascontiguousarray(each), digest_size=16).hexdigest()
        for each in pixels
    ]
    return splits.together(hashes, groups or [""] * len(hashes))


def _depths(
    found: passes.Passes,
    targets: np.ndarray,
    folds: np.ndarray,
    groups: Sequence[str],
    progress: progresses.Progress,
) -> tuple[Depth, ...]:
    depths = []
    lower: frozenset[str] = frozenset()
    progress.begin("probes", len(found.stages))
    try:
        for number, stage in enumerate(found.stages, 1):
            last = number == len(found.stages)
            mine = [
                each
                for each in found.statistics
                if each.layer not in lower
                and (last or each.layer in stage.end.below)
            ]
            lower |= stage.end.below
            features = found.features[number - 1]
            others = found.random_features[number - 1]
            right = probe.linear(features, targets, folds, groups)
            random = probe.linear(others, targets, folds, groups)
            depths.append(
                Depth(
                    layer=stage.end.layer,
                    channels=features.shape[1],
                    kl=_mean([kl(each) for each in mine]),
                    wasserstein=_mean([wasserstein(each) for each in mine]),
                    linear=probe.share(right),
                    neighbours=probe.share(
                        probe.neighbours(features, targets, folds)
                    ),
                    random_linear=probe.share(random),
                    random_neighbours=probe.share(
                        probe.neighbours(others, targets, folds)
                    ),
                    pretraining_gain=probe.difference(right, random),
                )
            )
            progress.advance()
    finally:
        progress.end()
    return tuple(depths)


def _mean(channels: Sequence[np.ndarray]) -> float | None:
    """Returns the mean over all channels of some layers; None without any."""
    return float(np.concatenate(channels).mean()) if channels else None


def _curve(
    features: np.ndarray,
    targets: np.ndarray,
    folds: np.ndarray,
    groups: Sequence[str],
    whole: probe.Share,
) -> tuple[Point, ...]:
    """Returns the points at a quarter, at a half, and at all: `whole`."""
    parts = [
        (part, probe.linear(features, targets, folds, groups, part=part))
        for part in (0.25, 0.5)
    ]
    shares = [(part, probe.share(right)) for part, right in parts]
    return tuple(
        Point(probe.learning_images(targets, folds, part), each)
        for part, each in [*shares, (1.0, whole)]
    )


def _source(
    classifier: Callable[[np.ndarray], np.ndarray] | None, features: np.ndarray
) -> SourceAnswers | None:
    if classifier is None:
        return None
    logits = np.asarray(classifier(features), np.float64)
    shares = scipy.special.softmax(logits, axis=-1)
    highest = logits.max(axis=1)
    rest = np.exp(logits - highest[:, None]).sum(axis=1)
    return SourceAnswers(
        energy=float(-(highest + np.log(rest)).mean()),
        entropy=float(_entropy(shares).mean()),
        mean_entropy=float(_entropy(shares.mean(axis=0))),
        confidence=float(shares.max(axis=1).mean()),
    )


def _entropy(shares: np.ndarray) -> np.ndarray:
    """Returns the entropy of probabilities [..., k], in nats."""
    logarithms = np.log(np.maximum(shares, np.finfo(np.float64).tiny))
    return -(shares * logarithms).sum(axis=-1)


def _interval(
    name: str, found: probe.Share | probe.Difference
) -> dict[str, float]:
    return {
        name: found.value,
        f"{name}_low": found.low,
        f"{name}_high": found.high,
    }
