"""What speaks for one strategy or another, before anything is trained.

Records only: nothing is decided here. The distance to the source compares the
activations of the target's images with the statistics that BatchNorm keeps of
the source's, channel by channel, as two normal distributions. Energy is that
of Liu et al., Energy-based Out-of-distribution Detection (arXiv:2010.03759).
"""

import dataclasses
import hashlib
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

import keras
import numpy as np
import scipy.special

from tlkeras import progress as progresses
from tlkeras.advisor import costs
from tlkeras.advisor import passes
from tlkeras.advisor import probe
from tlkeras.backbones import base as bases
from tlkeras.data import splits
from tlkeras.scoring import intervals


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
    pretraining_gain: `linear` less `random_linear`. The three are None where
      the network at random was not asked for.
    """

    layer: str
    channels: int
    kl: float | None
    wasserstein: float | None
    linear: intervals.Share
    neighbours: intervals.Share
    random_linear: intervals.Share | None
    random_neighbours: intervals.Share | None
    pretraining_gain: intervals.Difference | None


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

    images, groups: that the classifier learned from, on average over the
    folds; an image without a group is one of its own.
    """

    images: float
    groups: float
    linear: intervals.Share


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

    sampled: images that were looked at. groups: how many of them are
    independent, where equal images and those of one group count once.
    majority: share of the commonest class among them. depths: of each stage,
    lowest first; the last are the features that a head gets. source: None
    where the weights come without the source's classifier. curve: at a
    quarter, a half and all of the learning groups, on the last features.
    """

    size: Size
    sampled: int
    groups: int
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
    at_random: bool = True,
    progress: progresses.Progress,
) -> Evidence:
    """Returns the evidence on images with these targets, and on a base.

    It takes two forward passes, one without `at_random`, of at most
    `max_images` images, chosen evenly of all classes by `seed`. The base stays
    as it is.

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
    found = passes.run(
        base, pixels, seed=seed, at_random=at_random, progress=progress
    )
    began = time.perf_counter()
    ratio = costs.ratio(base.backbone)
    asked = targets[chosen]
    together = _together(
        [groups[index] for index in chosen] if len(groups) else [], pixels
    )
    folds = splits.folds(asked, together, seed=seed)
    depths = _depths(found, asked, folds, together, progress)
    features = found.features[-1]
    return Evidence(
        size=_size(targets, sizes, pixels.shape[1]),
        sampled=len(chosen),
        groups=len(set(together)),
        majority=float(np.bincount(asked).max() / len(asked)),
        depths=depths,
        source=_source(classifier, features),
        curve=_curve(features, asked, folds, together, depths[-1].linear),
        cost=Cost(
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
    known = [
        depth.wasserstein
        for depth in evidence.depths
        if depth.wasserstein is not None
    ]
    return float(np.mean(known)) if known else None


def flat(evidence: Evidence) -> dict[str, float | int | None]:
    """Returns the evidence as columns of a table, the same for all networks.

    Of the depths there are the lowest, the middle one and the last. Of a share
    there are also `_low` and `_high`, its 95 % interval.
    """
    depths = evidence.depths
    columns: dict[str, float | int | None] = {
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
        for field in dataclasses.fields(Depth):
            if field.name not in ("layer", "channels"):
                value = getattr(depth, field.name)
                columns |= _columns(f"{name}_{field.name}", value)
    for field in dataclasses.fields(SourceAnswers):
        columns[field.name] = getattr(evidence.source, field.name, None)
    for name, point in zip(
        ("quarter", "half", "all"), evidence.curve, strict=True
    ):
        columns[f"curve_{name}_images"] = point.images
        columns |= _columns(f"curve_{name}", point.linear)
    for name, value in dataclasses.asdict(evidence.cost).items():
        if name == "measured_ratio":
            columns[name] = int(value)
        else:
            columns[f"seconds_{name}"] = value
    return columns


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
        hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).hexdigest()
        for image in pixels
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
            statistics = [
                layer
                for layer in found.statistics
                if layer.layer not in lower
                and (last or layer.layer in stage.end.below)
            ]
            lower |= stage.end.below
            features = found.features[number - 1]
            right = probe.linear(features, targets, folds, groups)
            random = None
            if found.random_features:
                others = found.random_features[number - 1]
                random = probe.linear(others, targets, folds, groups)
            depths.append(
                Depth(
                    layer=stage.end.layer,
                    channels=features.shape[1],
                    kl=_mean(map(kl, statistics)),
                    wasserstein=_mean(map(wasserstein, statistics)),
                    linear=intervals.share(right, groups),
                    neighbours=intervals.share(
                        probe.neighbours(features, targets, folds), groups
                    ),
                    random_linear=None
                    if random is None
                    else intervals.share(random, groups),
                    random_neighbours=None
                    if random is None
                    else intervals.share(
                        probe.neighbours(others, targets, folds), groups
                    ),
                    pretraining_gain=None
                    if random is None
                    else intervals.difference(right, random, groups),
                )
            )
            progress.advance()
    finally:
        progress.end()
    return tuple(depths)


def _mean(channels: Iterable[np.ndarray]) -> float | None:
    """Returns the mean over all channels of some layers; None without any."""
    layers = list(channels)
    return float(np.concatenate(layers).mean()) if layers else None


def _curve(
    features: np.ndarray,
    targets: np.ndarray,
    folds: np.ndarray,
    groups: Sequence[str],
    whole: intervals.Share,
) -> tuple[Point, ...]:
    """Returns the points at a quarter, at a half, and at all: `whole`."""
    points = []
    for share in (0.25, 0.5, 1.0):
        linear = whole
        if share < 1:
            linear = intervals.share(
                probe.linear(features, targets, folds, groups, share=share),
                groups,
            )
        learned = probe.learned(targets, folds, groups, share)
        points.append(Point(*learned, linear))
    return tuple(points)


def _source(
    classifier: Callable[[np.ndarray], np.ndarray] | None, features: np.ndarray
) -> SourceAnswers | None:
    if classifier is None:
        return None
    logits = np.asarray(classifier(features), np.float64)
    shares = scipy.special.softmax(logits, axis=-1)
    return SourceAnswers(
        energy=float(-scipy.special.logsumexp(logits, axis=1).mean()),
        entropy=float(scipy.special.entr(shares).sum(axis=1).mean()),
        mean_entropy=float(scipy.special.entr(shares.mean(axis=0)).sum()),
        confidence=float(shares.max(axis=1).mean()),
    )


def _columns(
    name: str, value: intervals.Share | intervals.Difference | float | None
) -> dict[str, float | None]:
    if value is None or isinstance(value, float):
        return {name: value}
    return {
        name: value.value,
        f"{name}_low": value.low,
        f"{name}_high": value.high,
    }
