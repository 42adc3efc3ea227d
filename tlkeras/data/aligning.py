"""Whether two small pictures are the same, one of them cropped or turned."""

import numpy as np
import scipy.ndimage

# What is smooth is taken away, and so is the noise of single pixels: the mean
# of so many pixels a side, and a Gaussian's standard deviation [pixels].
_SMOOTH = 7
_NOISE = 1.0
# The middle of one is looked for in the other, since a turned picture has
# corners, and a cropped one borders, that the other one lacks.
_MIDDLE = 0.75
# In steps of the method below; more change nothing.
_STEPS = 6
# At most 15 % of half a side: crops of 7 % a side, turns of 8 degrees.
_FARTHEST = 0.15
# Of the middle so much must be in the other picture.
_OVERLAP = 0.8
# Pairs at a time, so that what is computed of them stays in the caches.
_AT_ONCE = 64
_IDENTITY = np.eye(2, 3, dtype=np.float32)


def details(thumbnails: np.ndarray) -> np.ndarray:
    """Returns what is neither smooth nor noise in pictures [n, side, side]."""
    images = thumbnails.astype(np.float32)
    images -= scipy.ndimage.uniform_filter(
        images, (0, _SMOOTH, _SMOOTH), mode="nearest"
    )
    return scipy.ndimage.gaussian_filter(
        images, (0, _NOISE, _NOISE), mode="nearest"
    )


def correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns how the middles of pictures correlate when laid over the others.

    one, other: `details` [n, side, side]. The affine map of each pair is that
    of Lucas and Kanade (1981), found as Baker and Matthews do (2004); a pair
    that would have to move farther than a small crop or turn has -1.
    """
    parts = [
        _aligned(one[start:][:_AT_ONCE], other[start:][:_AT_ONCE])
        for start in range(0, len(one), _AT_ONCE)
    ]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _aligned(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    count, side = one.shape[:2]
    grid = _grid(side)
    middle = (np.abs(grid).max(axis=0) <= _MIDDLE).astype(np.float32)
    flat = one.reshape(count, -1)
    solutions = _solutions(one, grid, middle)
    maps = np.repeat(_IDENTITY[None], count, axis=0)
    best = np.full(count, -1, np.float32)
    for _ in range(_STEPS + 1):
        moved, inside = _move(other, maps, grid)
        weights = middle * inside
        wanted, found = _standard(flat, weights), _standard(moved, weights)
        near = np.abs(maps - _IDENTITY).max(axis=(1, 2)) <= _FARTHEST
        near &= weights.sum(axis=1) >= _OVERLAP * middle.sum()
        likeness = (wanted * found).sum(axis=1)
        best = np.maximum(best, np.where(near, likeness, -1))
        error = (found - wanted) * weights
        step = np.einsum("nkp,np->nk", solutions, error)[:, :6]
        maps = _composed(maps, step.reshape(count, 2, 3))
    return best


def _grid(side: int) -> np.ndarray:
    """Returns x and y of each pixel [2, side * side], in -1..1."""
    steps = (np.arange(side, dtype=np.float32) - (side - 1) / 2) / (side / 2)
    y, x = np.meshgrid(steps, steps, indexing="ij")
    return np.stack([x.ravel(), y.ravel()])


def _standard(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns rows of mean 0 and length 1 where they have a weight."""
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1)
    mean = (rows * weights).sum(axis=1, keepdims=True) / total
    rows = (rows - mean) * weights
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(length, 1e-6)


def _solutions(
    pictures: np.ndarray, grid: np.ndarray, middle: np.ndarray
) -> np.ndarray:
    """Returns what makes of errors the map that they come from [n, 7, p].

    The seventh is a change of contrast.
    """
    count, side = pictures.shape[:2]
    flat = pictures.reshape(count, -1)
    down, right = np.gradient(pictures, 2 / side, axis=(1, 2))
    mean = (flat * middle).sum(axis=1, keepdims=True) / middle.sum()
    contrast = (flat - mean) * middle
    length = np.linalg.norm(contrast, axis=1, keepdims=True) + 1e-6
    columns = [
        slope.reshape(count, -1) * middle * by / length
        for slope in (right, down)
        for by in (*grid, 1)
    ]
    columns.append(contrast / length)
    changes = np.stack(columns, axis=1)
    # A stripe does not tell how it moves along itself.
    ridge = 1e-4 * np.eye(len(columns), dtype=np.float32)
    products = changes @ changes.transpose(0, 2, 1) + ridge
    return np.linalg.solve(products, changes)


def _move(
    pictures: np.ndarray, maps: np.ndarray, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns pictures [n, p] as maps [n, 2, 3] move them, and what is inside.

    Between pixels they are linear.
    """
    count, side = pictures.shape[:2]
    places = maps[:, :, :2] @ grid + maps[:, :, 2:]
    places = places * (side / 2) + (side - 1) / 2
    inside = ((places >= 0) & (places <= side - 1)).all(axis=1)
    places = places.clip(0, side - 1.001)
    corners = places.astype(np.int32)
    x, y = (places - corners).transpose(1, 0, 2)
    pixels = pictures.ravel()
    first = corners[:, 1] * side + corners[:, 0]
    first += np.arange(count, dtype=np.int32)[:, None] * side**2
    upper = pixels[first] * (1 - x) + pixels[first + 1] * x
    first += side
    lower = pixels[first] * (1 - x) + pixels[first + 1] * x
    return upper * (1 - y) + lower * y, inside


def _composed(maps: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Returns maps after the inverse of a step; lost ones begin anew."""
    square = np.zeros([2, len(maps), 3, 3], np.float32)
    square[:] = np.eye(3)
    square[0, :, :2] = maps
    square[1, :, :2] += step.clip(-0.1, 0.1)
    found = (square[0] @ np.linalg.inv(square[1]))[:, :2]
    lost = np.abs(found).max(axis=(1, 2), keepdims=True) > 2
    return np.where(lost, _IDENTITY, found)
