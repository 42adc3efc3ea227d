"""Pictures that are there more than once: equal, or nearly so."""

import dataclasses
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

    thumbnails: [n, side, side], grey. All pairs are compared, in time
    proportional to n squared: 20,000 pictures take 5 s on two cores.
    """
    count = len(thumbnails)
    plain = _normalised(thumbnails)
    mirrored = _normalised(thumbnails[:, :, ::-1])
    best = np.zeros(count, np.float32)
    turned = np.zeros(count, bool)
    links = np.zeros([2, 0], np.int64)
    progress.begin("comparing pictures", count)
    try:
        size = max(1, min(_BLOCK, _NUMBERS // max(1, count)))
        for start in range(0, count, size):
            block = plain[start : start + size]
            straight = block @ plain[start:].T
            across = block @ mirrored[start:].T
            nearest = np.maximum(straight, across)
            # Each pair once, and none with itself.
            nearest[np.tril_indices(len(block), 0, count - start)] = 0
            rows, columns = np.nonzero(nearest >= ALIKE)
            values = nearest[rows, columns]
            flips = across[rows, columns] > straight[rows, columns]
            for side in (rows, columns):
                np.maximum.at(best, side + start, values)
                np.logical_or.at(turned, side + start, flips)
            pairs = np.stack([rows, columns]) + start
            links = _spanning(np.concatenate([links, pairs], axis=1), count)
            progress.advance(len(block))
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
