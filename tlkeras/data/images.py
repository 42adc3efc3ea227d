"""Images by index: decoded once into a file, or anew whenever asked for."""

import concurrent.futures
import dataclasses
import errno
import functools
import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.data import decode
from tlkeras.data import sources

# Decoding releases Python's lock; more threads than cores hide the reading.
_THREADS = 2 * (os.cpu_count() or 1)
# Images handed to the threads at a time: each waiting one costs 2 kB.
_BLOCK = 4096


@dataclasses.dataclass(frozen=True)
class Images:
    """Square images [size, size, 3], uint8, by index.

    array: all of them [n, size, size, 3], memory-mapped; None where they are
      decoded each time.
    load: index -> image [size, size, 3].
    """

    size: int
    array: np.ndarray | None
    load: Callable[[int], np.ndarray]

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Returns the images [n, size, size, 3] at `indices` [n]."""
        if self.array is not None:
            return self.array[indices]
        return np.stack(list(_pool().map(self.load, indices.tolist())))


@dataclasses.dataclass(frozen=True)
class Scan:
    """What reading every image once came to.

    hashes: of the decoded pixels, '' where an image cannot be read.
    reasons: why an image cannot be read, '' where it can.
    """

    images: Images
    hashes: tuple[str, ...]
    reasons: tuple[str, ...]


def scan(
    source: sources.Source,
    *,
    size: int,
    resize: str,
    store_bytes: float,
    directory: str | os.PathLike,
    progress: progresses.Progress,
) -> Scan:
    """Reads, decodes and resizes every image of `source` once.

    The results are kept in an unnamed file in `directory` if they need
    `store_bytes` at most. Raises `UserError` if the disk is full.
    """
    total = len(source.examples)
    shape = (total, size, size, 3)
    array = None
    if math.prod(shape) <= store_bytes:
        array = _allocate(shape, directory)
    decode_one = decoder(size, resize)

    def examine(index: int) -> tuple[str, str]:
        encoded = b""
        try:
            encoded = source.read(index)
            pixels, square = decode_one(encoded)
        except (OSError, tf.errors.OpError) as error:
            return "", reason(error, encoded)
        if array is not None:
            array[index] = square
        return _hash(pixels.numpy()), ""

    def load(index: int) -> np.ndarray:
        encoded = b""
        try:
            encoded = source.read(index)
            return decode_one(encoded)[1].numpy()
        except (OSError, tf.errors.OpError) as error:
            raise errors.UserError(
                f"{source.examples[index].path} was an image when it was read "
                f"first, and now: {reason(error, encoded)}."
            ) from None

    found = []
    progress.begin("reading images", total)
    try:
        for start in range(0, total, _BLOCK):
            block = range(start, min(start + _BLOCK, total))
            for outcome in _pool().map(examine, block):
                found.append(outcome)
                progress.advance()
    finally:
        progress.end()
    return Scan(
        Images(size, array, load),
        tuple(pixels for pixels, _ in found),
        tuple(why for _, why in found),
    )


@functools.cache
def decoder(size: int, resize: str) -> Callable:
    """Returns the graph: encoded -> pixels [h, w, 3], [size, size, 3].

    It runs on the CPU even where there is a GPU, so that the pixels are the
    same wherever they are computed.
    """

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def run(encoded):
        with tf.device("CPU"):
            pixels = decode.decode(encoded)
            return pixels, decode.resize(pixels, size, resize)

    return run


def reason(error: OSError | tf.errors.OpError, encoded: bytes) -> str:
    """Returns in a few words why an image cannot be read or decoded."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    kind = decode.kind(encoded)
    if kind not in decode.READABLE:
        return kind
    if "more than" in str(error.message):
        return f"{kind} of more than {decode.MAX_PIXELS:,} pixels"
    return f"damaged {kind}"


def _hash(pixels: np.ndarray) -> str:
    """Returns a hash of the pixels and of the shape they stand in."""
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels))
    return digest.hexdigest()


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(_THREADS)


def _allocate(
    shape: tuple[int, ...], directory: str | os.PathLike
) -> np.ndarray:
    """Returns a memory-mapped uint8 array whose file goes with the process.

    Its room is taken at once: writing to a map on a full disk would end the
    process by a signal.
    """
    size = math.prod(shape)
    try:
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif shutil.disk_usage(directory).free < size:  # macOS
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return np.memmap(file, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise errors.UserError(
            f"{directory} has no room for {size / 1e9:.2f} GB of decoded "
            f"images ({error.strerror}). Give another --workdir, or "
            "--image_store_gb=0 to decode in each epoch."
        ) from None
