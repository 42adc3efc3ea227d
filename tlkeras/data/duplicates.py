"""Pictures that are there more than once: equal, or nearly so."""

import dataclasses
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.sparse
import scipy.sparse.csgraph

from tlkeras import progress as progresses
from tlkeras.data import aligning

# Two pictures are alike if their 16 x 16 grey thumbnails, less what is smooth
# in them, correlate so highly. Less the smooth part, because two surfaces
# under one lamp correlate by their shading alone.
ALIKE = 0.96
# Or if not more bits of their perceptual hashes differ, of 64, and they then
# correlate so highly when one is laid over the other, cropped or turned.
_BITS = 14
_NEAR = 1 - 2 * _BITS / 64
ALIGNED = 0.98
_AGAIN = 0.9
# A hash tells pictures apart if its bits are as good as drawn: those of any two
# photographs correlate by 1/8, give or take; those of digits by nearly twice
# that, and so do all that have one thing in the middle of one colour.
_DISTINCT = 0.165
_CHANCE = 1 / 8
# Of pictures that their hashes do not tell apart a copy is one that is nearly
# equal, and of those that all look like this there is none to be told.
_CERTAIN = 0.99
_ALL_ALIKE = 0.5
# Compared with so many others to see it; they weigh as much as 20 of chance.
_OTHERS = 1_000
_PRIOR = 20

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
# Pairs that are laid over each other between two looks at what is linked.
_LOOKED_AT = 2**11
# What has less detail than this is like any other such [grey levels].
_FLAT = 1.0
# Side of the thumbnails that are compared as they are, and what is smooth in
# them: the mean of so many pixels a side.
_SIDE = 16
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

    thumbnails: [n, 32, 32], grey. Of 20,000 pictures all pairs are compared, of
    more those that are likely to be alike.
    """
    count = len(thumbnails)
    best = np.zeros(count, np.float32)
    turned = np.zeros(count, bool)
    links = np.zeros([2, 0], np.int64)
    is_small = count <= ALL_PAIRS
    progress.begin("comparing images", 2 * (count if is_small else _CODES))
    try:
        for look in _looks(thumbnails):
            pairs_of = _all_pairs if is_small else _likely_pairs
            for found in pairs_of(look, progress):
                for part in _parts(found):
                    if look.is_rough:
                        # Frames of a film are all candidates of each other.
                        labels = _components(links, count)
                        new = labels[part[0][0]] != labels[part[0][1]]
                        part = _aligned(thumbnails, part, new)
                    pairs, straight, across = part
                    values = np.maximum(straight, across)
                    for side in pairs:
                        np.maximum.at(best, side, values)
                        np.logical_or.at(turned, side, across > straight)
                    links = _spanning(
                        np.concatenate([links, pairs], axis=1), count
                    )
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


def are_copies(thumbnails: np.ndarray, originals: np.ndarray) -> np.ndarray:
    """Tells of each picture whether it looks like one of the originals [n].

    thumbnails: [n, 32, 32]; originals: [m, 32, 32]. Stricter than `alike` where
    all pictures look alike, such as digits.
    """
    count = len(thumbnails)
    found = np.zeros(count, bool)
    if not len(originals):
        return found
    both = np.concatenate([thumbnails, originals])
    exact, rough = _looks(both)
    told_apart = np.any(rough.plain[:count] != 0, axis=1)
    by_chance = _by_chance(exact.plain, _CERTAIN)[:count]
    for look in (exact, rough):
        for block in _blocks(count, len(originals)):
            straight = look.plain[block] @ look.plain[count:].T
            across = look.plain[block] @ look.mirrored[count:].T
            products = np.maximum(straight, across)
            # Of one picture the original that is most like it will do.
            nearest = products.argmax(axis=1)
            rows = np.arange(len(nearest))
            values = products[rows, nearest]
            near = values >= look.least
            pairs = np.stack([rows + block.start, nearest + count])
            if look.is_rough:
                part = (pairs, straight[rows, nearest], across[rows, nearest])
                pairs, *_ = _aligned(both, part, near & ~found[block])
            else:
                near &= told_apart[block] | (values >= _CERTAIN)
                near &= by_chance[block] <= _ALL_ALIKE
                pairs = pairs[:, near]
            found[pairs[0]] = True
    return found


# Pairs of pictures [2, n], and how they correlate as they are, and mirrored.
_Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Look:
    """A way to see which pictures are alike.

    plain, mirrored: a row of length 1 of each, or of zeros where it tells
    nothing. least: the product of two rows from which on they are alike, or
    candidates for a second look where it `is_rough`.
    """

    plain: np.ndarray
    mirrored: np.ndarray
    least: float
    is_rough: bool

    def planes(self, random: np.random.Generator, bits: int) -> np.ndarray:
        """Returns planes [length of a row, bits] that divide the rows."""
        length = self.plain.shape[1]
        if not self.is_rough:
            return random.standard_normal((length, bits), np.float32)
        # Fewer hashes that are alike differ in one bit than in a sum of all.
        chosen = random.permutation(length)[:bits]
        return np.eye(length, dtype=np.float32)[:, chosen]


def _parts(found: _Pairs) -> Iterator[_Pairs]:
    """Yields pairs in parts whose pictures take little memory."""
    pairs, straight, across = found
    for start in range(0, pairs.shape[1], _LOOKED_AT):
        part = slice(start, start + _LOOKED_AT)
        yield pairs[:, part], straight[part], across[part]


def _aligned(
    thumbnails: np.ndarray, found: _Pairs, chosen: np.ndarray
) -> _Pairs:
    """Returns the chosen pairs that are alike when laid over each other."""
    pairs, straight, across = (each[..., chosen] for each in found)
    mirror = across > straight
    one, other = thumbnails[pairs]
    other = np.where(mirror[:, None, None], other[:, :, ::-1], other)
    one, other = aligning.details(one), aligning.details(other)
    likeness = aligning.correlations(one, other)
    # The one that was cropped is better found in the whole than the reverse.
    again = (likeness > _AGAIN) & (likeness < ALIGNED)
    likeness[again] = np.maximum(
        likeness[again], aligning.correlations(other[again], one[again])
    )
    alike = likeness >= ALIGNED
    likeness, mirror = likeness[alike], mirror[alike]
    return (
        pairs[:, alike],
        np.where(mirror, 0, likeness),
        np.where(mirror, likeness, 0),
    )


def _looks(thumbnails: np.ndarray) -> Iterator[_Look]:
    """Yields the ways to see which pictures are alike, one after the other."""
    count, side = thumbnails.shape[:2]
    part = side // _SIDE
    small = thumbnails.reshape(count, _SIDE, part, _SIDE, part)
    small = small.mean(axis=(2, 4), dtype=np.float32)
    plain = _normalised(small)
    yield _Look(plain, _normalised(small[:, :, ::-1]), ALIKE, is_rough=False)
    hashes = _hashes(thumbnails)
    # Flat ones have no hash either.
    is_flat = ~plain.any(axis=1)
    hashes[is_flat | (_by_chance(hashes, _NEAR) > _DISTINCT)] = 0
    mirrored = _hashes(thumbnails[:, :, ::-1])
    mirrored[~hashes.any(axis=1)] = 0
    yield _Look(hashes, mirrored, _NEAR, is_rough=True)


def _hashes(thumbnails: np.ndarray) -> np.ndarray:
    """Returns perceptual hashes as rows of length 1 of 64 equal numbers.

    Which of the lowest frequencies are above their median (pHash; Zauner,
    2010).
    """
    waves = np.concatenate(
        [
            scipy.fft.dctn(part.astype(np.float32), axes=(1, 2))[:, :8, :8]
            for part in np.array_split(
                thumbnails, len(thumbnails) // _BLOCK + 1
            )
        ]
    ).reshape(-1, 64)
    above = waves > np.median(waves, axis=1, keepdims=True)
    return np.where(above, _CHANCE, -_CHANCE).astype(np.float32)


def _by_chance(rows: np.ndarray, least: float) -> np.ndarray:
    """Returns how like others each is that is no copy: the root mean square.

    Rows whose product is `least` or more may be copies.
    """
    others = rows[:: max(1, len(rows) // _OTHERS)]
    total, count = np.zeros([2, len(rows)])
    for block in _blocks(len(rows), len(others)):
        products = rows[block] @ others.T
        is_other = products < least
        total[block] = (products**2).sum(axis=1, where=is_other)
        count[block] = is_other.sum(axis=1)
    return np.sqrt((total + _PRIOR * _CHANCE**2) / (count + _PRIOR))


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yields blocks of rows, so that their products are not too many."""
    size = max(1, min(_BLOCK, _NUMBERS // max(1, columns)))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def _all_pairs(look: _Look, progress: progresses.Progress) -> Iterator[_Pairs]:
    """Yields the pairs that are alike, found among all."""
    count = len(look.plain)
    for block in _blocks(count, count):
        rows, start = look.plain[block], block.start
        straight = rows @ look.plain[start:].T
        across = rows @ look.mirrored[start:].T
        nearest = np.maximum(straight, across)
        # Each pair once, and none with itself.
        nearest[np.tril_indices(len(rows), 0, count - start)] = 0
        found = np.nonzero(nearest >= look.least)
        yield np.stack(found) + start, straight[found], across[found]
        progress.advance(len(rows))


def _likely_pairs(
    look: _Look, progress: progresses.Progress
) -> Iterator[_Pairs]:
    """Yields the pairs that are alike, among neighbours in orders by codes."""
    plain, mirrored = look.plain, look.mirrored
    # Flat ones would all have one code.
    detailed = np.flatnonzero(plain.any(axis=1))
    bits = min((2 * len(plain)).bit_length(), plain.shape[1])
    random = np.random.default_rng(0)
    for _ in range(_CODES):
        planes = look.planes(random, bits)
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
                alike = np.maximum(straight, across) >= look.least
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
