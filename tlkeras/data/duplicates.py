"""Pictures that are there more than once: equal, or nearly so."""

import dataclasses
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
import scipy.ndimage
import scipy.sparse
import scipy.sparse.csgraph

from tlkeras import progress as progresses

# Two pictures are alike if their 16 x 16 grey thumbnails, less what is smooth
# in them, correlate so highly. Less the smooth part, because two surfaces
# under one lamp correlate by their shading alone.
ALIKE = 0.96

# Compared with all at a time: 256 x 20,000 numbers of 4 bytes are 20 MB; of
# more images fewer, so that it stays below 32.
_BLOCK = 256
_NUMBERS = 2**23
# So many pictures are compared with all others, in 5 s on two cores.
ALL_PAIRS = 20_000
# More are put into order by codes that tell on which side of random planes
# they lie, and compared with the next in each order: the work grows as n log n.
# Two that are as little alike as `ALIKE` share 22 % of codes of 16 planes.
_CODES = 24
_NEXT = 4
# Pairs whose rows are copied at a time, 16 MB each.
_GATHERED = 2**14
# What has less detail than this is like any other such [grey levels].
_FLAT = 1.0
# What is smooth: the mean of so many pixels a side.
_SMOOTH = 5


@dataclasses.dataclass(frozen=True)
class Alike:
    """Pictures that are linked by pairs that look alike.

    images: their indices. likeness: of each, the highest correlation with
    another of them, up to 1. mirrored: whether a link is with a mirror image.
    """

    images: tuple[int, ...]
    likeness: tuple[float, ...]
    mirrored: bool


def equal(hashes: Sequence[str]) -> list[list[int]]:
    """Returns the groups of two or more indices with one non-empty hash."""
    same: dict[str, list[int]] = {}
    for index, pixels in enumerate(hashes):
        if pixels:
            same.setdefault(pixels, []).append(index)
    return [group for group in same.values() if len(group) > 1]


def alike(
    thumbnails: np.ndarray, *, progress: progresses.Progress
) -> list[Alike]:
    """Returns the groups of pictures that look alike, also when mirrored.

    thumbnails: [n, side, side], grey. Of 20,000 pictures all pairs are
    compared, of more those that are likely to be alike.
    """
    count = len(thumbnails)
    plain = _normalised(thumbnails)
    mirrored = _normalised(thumbnails[:, :, ::-1])
    best = np.zeros(count, np.float32)
    turned = np.zeros(count, bool)
    links = np.zeros([2, 0], np.int64)
    is_small = count <= ALL_PAIRS
    pairs_of = _all_pairs if is_small else _likely_pairs
    progress.begin("comparing images", count if is_small else _CODES)
    try:
        for pairs, straight, across in pairs_of(plain, mirrored, progress):
            values = np.maximum(straight, across)
            for side in pairs:
                np.maximum.at(best, side, values)
                np.logical_or.at(turned, side, across > straight)
            links = _spanning(np.concatenate([links, pairs], axis=1), count)
    finally:
        progress.end()
    groups: dict[int, list[int]] = {}
    labels = _components(links, count)
    for index in np.unique(links).tolist():
        groups.setdefault(int(labels[index]), []).append(index)
    return [
        Alike(
            tuple(group),
            tuple(best[group].tolist()),
            bool(turned[group].any()),
        )
        for group in groups.values()
    ]


# Pairs of pictures [2, n], and how they correlate as they are, and mirrored.
_Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


def _all_pairs(
    plain: np.ndarray, mirrored: np.ndarray, progress: progresses.Progress
) -> Iterator[_Pairs]:
    """Yields the pairs that are alike, found among all."""
    count = len(plain)
    size = max(1, min(_BLOCK, _NUMBERS // max(1, count)))
    for start in range(0, count, size):
        block = plain[start : start + size]
        straight = block @ plain[start:].T
        across = block @ mirrored[start:].T
        nearest = np.maximum(straight, across)
        # Each pair once, and none with itself.
        nearest[np.tril_indices(len(block), 0, count - start)] = 0
        found = np.nonzero(nearest >= ALIKE)
        yield np.stack(found) + start, straight[found], across[found]
        progress.advance(len(block))


def _likely_pairs(
    plain: np.ndarray, mirrored: np.ndarray, progress: progresses.Progress
) -> Iterator[_Pairs]:
    """Yields the pairs that are alike, among neighbours in orders by codes."""
    # Flat ones would all have one code.
    detailed = np.flatnonzero(plain.any(axis=1))
    bits = (2 * len(plain)).bit_length()
    random = np.random.default_rng(0)
    for _ in range(_CODES):
        planes = random.standard_normal((plain.shape[1], bits), np.float32)
        sides = np.concatenate([plain @ planes, mirrored @ planes]) > 0
        codes = (sides @ (1 << np.arange(bits))).reshape(2, -1)[:, detailed]
        order = np.argsort(codes, axis=None, kind="stable")
        codes = codes.ravel()[order]
        # A picture that is like its own mirror image is no pair.
        order = detailed[order % max(1, len(detailed))]
        for step in range(1, _NEXT + 1):
            pairs = np.stack([order[:-step], order[step:]])
            pairs = pairs[:, codes[:-step] == codes[step:]]
            pairs = pairs[:, pairs[0] != pairs[1]]
            for start in range(0, pairs.shape[1], _GATHERED):
                part = pairs[:, start : start + _GATHERED]
                one, other = plain[part[0]], part[1]
                straight = np.einsum("ij,ij->i", one, plain[other])
                across = np.einsum("ij,ij->i", one, mirrored[other])
                alike = np.maximum(straight, across) >= ALIKE
                yield part[:, alike], straight[alike], across[alike]
        progress.advance()


def _normalised(thumbnails: np.ndarray) -> np.ndarray:
    """Returns their details as rows of mean 0 and length 1; 0 if flat."""
    images = thumbnails.astype(np.float32)
    smooth = scipy.ndimage.uniform_filter(
        images, (0, _SMOOTH, _SMOOTH), mode="nearest"
    )
    rows = (images - smooth).reshape(len(images), np.prod(images.shape[1:]))
    rows -= rows.mean(axis=1, keepdims=True)
    flat = rows.std(axis=1, keepdims=True) < _FLAT
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(flat, 0, rows / np.maximum(length, 1e-9))


def _components(links: np.ndarray, count: int) -> np.ndarray:
    """Returns for each of `count` nodes the number of its component."""
    ones = np.ones(links.shape[1], bool)
    graph = scipy.sparse.coo_array((ones, links), (count, count))
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1]


def _spanning(links: np.ndarray, count: int) -> np.ndarray:
    """Returns at most `count` links [2, n] that connect the same nodes.

    A film of 20,000 equal frames would otherwise be 200 million links.
    """
    if links.shape[1] <= count:
        return links
    labels = _components(links, count)
    nodes = np.unique(links)
    _, first, inverse = np.unique(
        labels[nodes], return_index=True, return_inverse=True
    )
    return np.stack([nodes[first][inverse], nodes])
