"""One pass over all images before anything is made of them."""

import functools
import hashlib
import os
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

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

# Side of the grey thumbnails by which near-duplicates are found [pixels].
THUMBNAIL = 32

# Images handed to the threads at a time: each waiting one costs 2 kB.
_BLOCK = 4096
# A file may change again within a tick of the clock and keep its stamp, so
# what was changed this short a time ago is read again the next time [seconds].
_SETTLED = 2.0
# Metadata stand before the picture, at most 64 segments of 65,535 bytes.
_METADATA = 64 << 16
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
    progress.begin("reading images", len(missing))
    try:
        for start in range(0, len(missing), _BLOCK):
            block = missing[start : start + _BLOCK]
            try:
                for index, fact in zip(
                    block, image_stores.pool().map(examine, block), strict=True
                ):
                    facts[index] = fact
                    progress.advance()
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
    index: int,
    *,
    source: sources.Source,
    stamps: Sequence[sources.Stamp | None],
    limit: int,
    store: image_stores.Store | None,
) -> Facts:
    encoded = b""
    try:
        encoded = sources.read(source, stamps, index)
        with image_stores.turn(encoded):
            facts, *square = _decode(encoded, limit, store)
    except (OSError, tf.errors.OpError) as error:
        why = image_stores.reason(error, encoded, limit)
        if isinstance(error, OSError):
            return Facts(reason=why)
        file = header.read(encoded)
        return Facts(file.kind, file.width, file.height, reason=why)
    if store is not None:
        store.put(index, *square)
    return facts


def _decode(
    encoded: bytes, limit: int, store: image_stores.Store | None
) -> tuple[Any, ...]:
    """Returns the facts of a file and, for a store, its square image."""
    file = header.read(encoded)
    decoder = _decoder(limit, store.shape if store is not None else None)
    decoded, thumbnail, contrast, *square = decoder(encoded)
    # To look for it in the graph takes a third of the time of a small image.
    turned = b"Exif\0\0" in encoded[:_METADATA]
    facts = Facts(
        kind=file.kind,
        width=file.width,
        height=file.height,
        orientation=int(_orientation(encoded)) if turned else 1,
        pixels=_hash(decoded.pixels),
        contrast=float(contrast),
        thumbnail=thumbnail.numpy().tobytes(),
        opacity=float(decoded.opacity),
        used_range=float(decoded.used_range),
    )
    return facts, *(tensor.numpy() for tensor in square)


@functools.cache
def _decoder(limit: int, shape: image_stores.Shape | None) -> Callable:
    """Returns what decodes: encoded -> `Decoded`, thumbnail, contrast.

    With a `shape` it also gives the square image of it, all in one call.
    """

    def run(encoded: tf.Tensor, kind: str) -> tuple:
        decoded = decode.decode_fully(encoded, limit, kind)
        pixels = decoded.pixels
        small = decode.resize(pixels, THUMBNAIL, "stretch")
        grey = tf.reduce_mean(tf.cast(small, tf.float32), axis=-1)
        steps = tf.maximum(tf.shape(pixels)[:2] // _GRID, 1)
        grid = tf.cast(pixels[:: steps[0], :: steps[1]], tf.float32)
        facts = (
            decoded,
            tf.cast(tf.round(grey), tf.uint8),
            tf.math.reduce_std(grid),
        )
        if shape is None:
            return facts
        return *facts, decode.resize(pixels, shape.size, shape.resize)

    return image_stores.by_kind(run)


@tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.string)])
def _orientation(encoded):
    with tf.device("CPU"):
        return decode.orientation(encoded)


def _hash(pixels: tf.Tensor) -> str:
    """Returns a hash of the pixels and of the shape they stand in."""
    shape = tuple(pixels.shape)
    digest = hashlib.blake2b(str(shape).encode(), digest_size=16)
    # `numpy()` would copy them.
    digest.update(memoryview(pixels))
    return digest.hexdigest()
