"""One pass over all images before anything is made of them."""

import collections
import concurrent.futures
import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.data import decode
from tlkeras.data import facts as file_facts
from tlkeras.data import header
from tlkeras.data import images as image_stores
from tlkeras.data import sources
from tlkeras.data.facts import Facts

# Images of a part, and what looks at them.
_Work = tuple[Sequence[int], concurrent.futures.Future[list[Facts]]]

# Side of the grey thumbnails by which near-duplicates are found [pixels].
THUMBNAIL = 32

# Images handed to the threads at a time: each waiting one costs 2 kB.
_BLOCK = 4096
# A file may change again within a tick of the clock and keep its stamp, so
# what was changed this short a time ago is read again the next time [seconds].
_SETTLED = 2.0
# Contrast is measured on a grid of this many pixels a side.
_GRID = 64


def scan(
    source: sources.Source,
    stamps: Sequence[sources.Stamp | None],
    *,
    max_pixels: int,
    cache_dir: str | os.PathLike,
    store: image_stores.Store | None = None,
    progress: progresses.Progress,
) -> tuple[Facts, ...]:
    """Returns what each image of `source` is, reading those not yet known.

    stamps: of all images, as `sources.stamps` gives them. cache_dir: where
    facts are kept between runs. store: gets what is decoded here.

    Raises `UserError` where a file changes while it is read.
    """
    paths = [example.path for example in source.examples]
    keys = {
        # Another TensorFlow may decode otherwise.
        path: f"{tf.__version__}:{max_pixels}:{stamp}"
        for path, stamp in zip(paths, stamps, strict=True)
        if stamp
    }
    known = file_facts.load(cache_dir, keys) if keys else {}
    if known:
        progress.say(
            f"{len(known):,} of {errors.count(len(paths), 'image')} unchanged "
            "since an earlier scan"
        )
    missing = [index for index, path in enumerate(paths) if path not in known]
    examine = functools.partial(
        _examine, source=source, stamps=stamps, limit=max_pixels, store=store
    )
    facts: dict[int, Facts] = {}
    blocks = [
        missing[start : start + _BLOCK]
        for start in range(0, len(missing), _BLOCK)
    ]
    progress.begin("reading images", len(missing))
    try:
        with contextlib.closing(_begun(blocks, examine)) as begun:
            for block, works in begun:
                try:
                    for part, work in works:
                        facts.update(zip(part, work.result(), strict=True))
                        progress.advance(len(part))
                finally:
                    # What an interrupted scan has read is not read again.
                    file_facts.save(
                        cache_dir,
                        [
                            (paths[index], keys[paths[index]], facts[index])
                            for index in block
                            if index in facts
                            and _can_be_kept(facts[index], stamps[index])
                        ],
                    )
    finally:
        progress.end()
    return tuple(
        facts.get(index) or known[path] for index, path in enumerate(paths)
    )


def _begun(
    blocks: Sequence[Sequence[int]],
    examine: Callable[[Sequence[int]], list[Facts]],
) -> Generator[tuple[Sequence[int], list[_Work]], None, None]:
    """Yields `blocks`, each with the parts of it that threads work on.

    They work on the next one already, lest they wait while this one is saved.
    Nothing more is begun after what is yielded was closed.
    """
    ahead: collections.deque[tuple[Sequence[int], list[_Work]]]
    ahead = collections.deque()
    try:
        for block in blocks:
            parts = [
                block[place : place + image_stores.BLOCK]
                for place in range(0, len(block), image_stores.BLOCK)
            ]
            pool = image_stores.pool()
            ahead.append(
                (block, [(part, pool.submit(examine, part)) for part in parts])
            )
            if len(ahead) == 2:
                yield ahead[0]
                ahead.popleft()
        while ahead:
            yield ahead[0]
            ahead.popleft()
    finally:
        for _, works in ahead:
            for _, work in works:
                work.cancel()


def thumbnails(facts: Sequence[Facts]) -> np.ndarray:
    """Returns the grey thumbnails [n, 32, 32] of images that can be used."""
    values = b"".join(each.thumbnail for each in facts)
    return np.frombuffer(values, np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)


def _can_be_kept(facts: Facts, stamp: sources.Stamp | None) -> bool:
    """Tells whether a file was opened, and unchanged for long enough."""
    # One that could not be opened may be readable next time.
    if stamp is None or not facts.kind:
        return False
    latest = time.time_ns() - _SETTLED * 1e9
    return max(stamp.written, stamp.changed) < latest


def _examine(
    indices: Sequence[int],
    *,
    source: sources.Source,
    stamps: Sequence[sources.Stamp | None],
    limit: int,
    store: image_stores.Store | None,
) -> list[Facts]:
    """Returns the facts of some images, in their order."""
    found: dict[int, Facts] = {}

    def read(index: int) -> bytes | None:
        try:
            return sources.read(source, stamps, index)
        except OSError as error:
            why = image_stores.reason(error, b"", limit)
            found[index] = Facts(reason=why)
            return None

    for block, files in image_stores.in_blocks(read, indices):
        try:
            facts = _decode(block, files, limit, store)
        except tf.errors.OpError:
            # One of them: each is looked at by itself.
            facts = [
                _decode_one(index, encoded, limit, store)
                for index, encoded in zip(block, files, strict=True)
            ]
        found.update(zip(block, facts, strict=True))
    return [found[index] for index in indices]


def _decode_one(
    index: int, encoded: bytes, limit: int, store: image_stores.Store | None
) -> Facts:
    try:
        return _decode([index], [encoded], limit, store)[0]
    except tf.errors.OpError as error:
        why = image_stores.reason(error, encoded, limit)
        file = header.read(encoded)
        return Facts(file.kind, file.width, file.height, reason=why)


def _decode(
    indices: Sequence[int],
    files: Sequence[bytes],
    limit: int,
    store: image_stores.Store | None,
) -> list[Facts]:
    """Returns the facts of files, whose square images `store` gets."""
    decoder = _decoder(limit, store.shape if store is not None else None)
    hashes, thumbnails, contrasts, opacities, ranges, *squares = decoder(files)
    found = []
    for place, encoded in enumerate(files):
        file = header.read(encoded)
        # To look for it in the graph takes a third of the time of a small
        # image.
        turned = header.may_be_turned(encoded)
        found.append(
            Facts(
                kind=file.kind,
                width=file.width,
                height=file.height,
                orientation=int(_orientation(encoded)) if turned else 1,
                pixels=hashes[place].decode(),
                contrast=float(contrasts[place]),
                thumbnail=thumbnails[place].tobytes(),
                opacity=float(opacities[place]),
                used_range=float(ranges[place]),
            )
        )
        if store is not None:
            store.put(indices[place], squares[0][place])
    return found


@functools.cache
def _decoder(limit: int, shape: image_stores.Shape | None) -> Callable:
    """Returns what decodes files: hashes, thumbnails, contrasts and so on.

    With a `shape` it also gives the square images, all in one call.
    """

    def run(encoded: tf.Tensor, kind: str) -> tuple:
        decoded = decode.decode_fully(encoded, limit, kind)
        pixels = decoded.pixels
        small = decode.resize(pixels, THUMBNAIL, "stretch")
        grey = tf.reduce_mean(tf.cast(small, tf.float32), axis=-1)
        steps = tf.maximum(tf.shape(pixels)[:2] // _GRID, 1)
        grid = tf.cast(pixels[:: steps[0], :: steps[1]], tf.float32)
        facts = (
            tf.ensure_shape(tf.numpy_function(_hash, [pixels], tf.string), []),
            tf.cast(tf.round(grey), tf.uint8),
            tf.math.reduce_std(grid),
            tf.convert_to_tensor(decoded.opacity),
            tf.convert_to_tensor(decoded.used_range),
        )
        if shape is None:
            return facts
        return *facts, decode.resize(pixels, shape.size, shape.resize)

    return image_stores.many_by_kind(run)


@tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.string)])
def _orientation(encoded):
    with tf.device("CPU"):
        return decode.orientation(encoded)


def _hash(pixels: np.ndarray) -> bytes:
    """Returns a hash of the pixels and of the shape they stand in."""
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels))
    return digest.hexdigest().encode()
