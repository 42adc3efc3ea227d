"""Images by index: decoded once into a file, or anew whenever asked for."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import os
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
    shape = (len(source.examples), size, size, 3)
    array = None
    if np.prod(shape, dtype=np.int64) <= store_bytes:
        array = _allocate(shape, directory)

    def examine(index: int) -> tuple[str, str]:
        try:
            encoded = source.read(index)
            pixels, square = decoder(size, resize)(encoded)
        except OSError as error:
            return "", f"cannot be read: {error.strerror}"
        except tf.errors.OpError as error:
            return "", reason(error, encoded)
        if array is not None:
            array[index] = square
        return _hash(pixels.numpy()), ""

    found = []
    progress.begin("reading images", len(source.examples))
    for outcome in _pool().map(examine, range(len(source.examples))):
        found.append(outcome)
        progress.advance()
    progress.end()

    def load(index: int) -> np.ndarray:
        _, square = decoder(size, resize)(source.read(index))
        return square.numpy()

    return Scan(
        Images(size, array, load),
        tuple(pixels for pixels, _ in found),
        tuple(reason for _, reason in found),
    )


@functools.cache
def decoder(size: int, resize: str) -> Callable:
    """Returns the graph: encoded -> pixels [h, w, 3], [size, size, 3]."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def run(encoded):
        pixels = decode.decode(encoded)
        return pixels, decode.resize(pixels, size, resize)

    return run


def reason(error: tf.errors.OpError, encoded: bytes) -> str:
    """Returns in a few words why an image cannot be decoded."""
    kind = decode.kind(encoded)
    if kind not in decode.READABLE:
        return kind
    text = str(error.message)
    if "more than" in text:
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
    os.makedirs(directory, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory) as file:
        size = int(np.prod(shape, dtype=np.int64))
        try:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
        except OSError as error:
            raise errors.UserError(
                f"{directory} has no room for {size / 1e9:.2f} GB of decoded "
                f"images ({error.strerror}). Give another --workdir, or "
                "--image_store_gb=0 to decode in each epoch."
            ) from None
        return np.memmap(file, np.uint8, "r+", shape=shape)
