"""Square images by index: decoded once into a file, or whenever asked for."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import math
import os
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tlkeras import errors
from tlkeras.data import decode
from tlkeras.data import header
from tlkeras.data import rows as row_files
from tlkeras.data import sources
from tlkeras.machine import one_core

# The marker behind which the picture of a JPEG begins.
_SCAN = b"\xff\xda"
# Decoding releases Python's lock; more threads than cores hide the reading.
_THREADS = 2 * (os.cpu_count() or 1)
# Files decoded by one call at most, and about how many bytes of them. A call
# for each file kept 16 cores waiting for Python's lock: 645 images/s of 300
# pixels.
BLOCK = 32
_BLOCK_BYTES = 1 << 20
# Images decoded by the thread that asks for them.
_ALONE = 32
# Larger images are decoded one at a time, lest a few of them fill the memory:
# one of 179 million pixels takes 0.5 GB, and of 16 bits six times as much
# [pixels].
LARGE = 30_000_000
# Taken once for large images, and given back untouched [bytes].
_ROOM = 2**30
_one_large = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Shape:
    """How an image of any size becomes one that the network takes.

    size: side of the square [pixels]. resize: the policy. max_pixels: larger
    images are refused.
    """

    size: int
    resize: str
    max_pixels: int = decode.MAX_PIXELS


@dataclasses.dataclass(frozen=True)
class Images:
    """Square images [size, size, 3], uint8, by index.

    rows: indices [n] -> images [n, size, size, 3]. name: how they were made
    of decoded pixels; '' if nothing is known of it. close: gives back the file
    in which they are stored. check: raises `UserError` if the file of one of
    these indices is needed and no longer there, or another.
    """

    size: int
    rows: Callable[[np.ndarray], np.ndarray]
    name: str = ""
    close: Callable[[], None] = lambda: None
    check: Callable[[np.ndarray], None] = lambda indices: None


class Store:
    """The images of a source, decoded when they are first asked for.

    As many of them as `store_bytes` hold are kept in an unnamed file in
    `directory`; the others are decoded whenever they are asked for.

    stamps: those of the images when they were scanned; a file that has another
      by now is refused, because its label and split may be wrong.

    Raises `UserError` if all should be kept and the disk is full.
    """

    def __init__(
        self,
        source: sources.Source,
        stamps: Sequence[sources.Stamp | None],
        shape: Shape,
        *,
        store_bytes: float,
        directory: str | os.PathLike,
    ):
        self.source = source
        self.stamps = stamps
        self.shape = shape
        square = (shape.size, shape.size, 3)
        total = len(source.examples)
        self.kept = min(total, int(store_bytes // math.prod(square)))
        self.stored = self._room(square, directory) if self.kept else None
        self.filled = np.zeros(total, bool)

    def _room(
        self, square: tuple[int, ...], directory: str | os.PathLike
    ) -> row_files.Rows | None:
        """Returns the file; None where some images would go without anyway."""
        try:
            return row_files.Rows(
                self.kept, square, np.uint8, directory=directory
            )
        except errors.UserError:
            if self.kept == len(self.source.examples):
                raise
            return None

    def images(self) -> Images:
        """Returns what reads from here."""
        name = f"{self.shape.resize} {self.shape.size}, {tf.__version__}"
        return Images(self.shape.size, self.rows, name, self.close, self.check)

    def close(self) -> None:
        """Gives back the file, if there is one; nothing is read afterwards.

        TensorFlow keeps what reads from here for as long as the process runs.
        """
        if self.stored is not None:
            self.stored.close()

    def put(self, index: int, square: np.ndarray) -> None:
        """Keeps an image that has been decoded already, if there is room."""
        if self.stored is not None and index < self.kept:
            self.stored.write(index, square)
            self.filled[index] = True

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Returns the images [n, size, size, 3] at `indices` [n]."""
        kept = self.filled[indices]
        if self.stored is not None and kept.all():
            return self.stored.read(indices)
        missing = indices[~kept]
        fresh = self._decoded(missing)
        for index, square in zip(missing.tolist(), fresh, strict=True):
            self.put(index, square)
        if self.stored is None or not kept.any():
            return fresh
        rows = np.empty([len(indices), *fresh.shape[1:]], np.uint8)
        rows[~kept] = fresh
        rows[kept] = self.stored.read(indices[kept])
        return rows

    def _decoded(self, indices: np.ndarray) -> np.ndarray:
        """Returns the images [n, size, size, 3] at `indices`, decoded.

        So few as a batch has are decoded by the caller's thread: there are
        others for the next batches, and to hand work over takes time.
        """
        parts = min(_THREADS, -(-len(indices) // _ALONE))
        if parts < 2:
            return _joined(self._decode_block(indices.tolist()))
        blocks = pool().map(
            self._decode_block,
            [each.tolist() for each in np.array_split(indices, parts)],
        )
        return _joined(list(itertools.chain.from_iterable(blocks)))

    def _decode_block(self, indices: Sequence[int]) -> list[np.ndarray]:
        read = functools.partial(sources.read, self.source, self.stamps)
        try:
            return [
                squares(files, self.shape)
                for _, files in in_blocks(read, indices)
            ]
        except (OSError, tf.errors.OpError):
            # One of them, and it is to be named.
            return [np.stack([self._decode(index) for index in indices])]

    def check(self, indices: np.ndarray) -> None:
        """Raises `UserError` if the file of one is needed, and another now."""
        for index in indices[~self.filled[indices]].tolist():
            stamp = self.source.stamp(index)
            if stamp != self.stamps[index]:
                raise errors.UserError(
                    f"{self.source.examples[index].path} "
                    f"{'changed' if stamp else 'is gone'} since it was read "
                    "first, and it is needed. Put it back as it was and give "
                    "the same command again: it resumes after the last "
                    "finished phase."
                )

    def _decode(self, index: int) -> np.ndarray:
        encoded = b""
        try:
            encoded = sources.read(self.source, self.stamps, index)
            return square(encoded, self.shape)
        except (OSError, tf.errors.OpError) as error:
            why = reason(error, encoded, self.shape.max_pixels)
            raise errors.UserError(
                f"{self.source.examples[index].path} was an image when it was "
                f"read first, and now: {why}."
            ) from None


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@functools.cache
def pool() -> concurrent.futures.ThreadPoolExecutor:
    """Returns the threads that read and decode."""
    return concurrent.futures.ThreadPoolExecutor(_THREADS)


@contextlib.contextmanager
def turn(encoded: bytes) -> Iterator[None]:
    """Yields while a file may be decoded and its pixels be held.

    Only one thread at a time enters it with a large image.
    """
    if not is_large(encoded):
        yield
        return
    with _one_large:
        _make_room()
        yield


def is_large(encoded: bytes) -> bool:
    """Tells whether an image is decoded only while no other large one is."""
    file = header.read(encoded)
    return file.width * file.height > LARGE


@functools.cache
def _make_room() -> None:
    """Lets large images be decoded into the same memory, one after the other.

    On the CPU TensorFlow never gives back memory that it has taken, and takes
    more in pieces as large as what was asked for. Of several pieces it uses
    all by and by: eight images of 13,000 x 13,000 pixels took 1.07 GB and not
    0.59. What is never touched costs nothing.
    """
    with contextlib.suppress(tf.errors.ResourceExhaustedError):
        with tf.device("CPU"):
            tf.raw_ops.Empty(shape=[_ROOM], dtype=tf.uint8, init=False)


def square(encoded: bytes, shape: Shape) -> np.ndarray:
    """Returns the square image [size, size, 3], uint8, of an encoded image.

    Raises as what `by_kind` returns.
    """
    return squares([encoded], shape)[0]


def squares(files: Sequence[bytes], shape: Shape) -> np.ndarray:
    """Returns the square images [n, size, size, 3], uint8, of encoded ones.

    Raises as what `by_kind` returns where one of them cannot be decoded.
    """
    return _squarer(shape)(files)[0]


@functools.cache
def _squarer(shape: Shape) -> Callable[[Sequence[bytes]], list[np.ndarray]]:
    # One that returns the pixels, too, takes twice their memory.
    return many_by_kind(
        lambda encoded, kind: (
            decode.resize(
                decode.decode(encoded, shape.max_pixels, kind),
                shape.size,
                shape.resize,
            ),
        ),
    )


def in_blocks(
    read: Callable[[int], bytes | None], indices: Iterable[int]
) -> Iterator[tuple[list[int], list[bytes]]]:
    """Yields some of `indices` with their files, not too many at a time.

    What `read` gives nothing for is left out.
    """
    block: list[int] = []
    files: list[bytes] = []
    for index in indices:
        file = read(index)
        if file is None:
            continue
        block.append(index)
        files.append(file)
        if len(block) == BLOCK or sum(map(len, files)) >= _BLOCK_BYTES:
            yield block, files
            block, files = [], []
    if block:
        yield block, files


@functools.cache
def decoder(shape: Shape) -> Callable[[bytes], Sequence[tf.Tensor]]:
    """Returns what decodes: file -> pixels [h, w, 3], [size, size, 3].

    Raises as what `by_kind` returns.
    """

    def run(encoded: tf.Tensor, kind: str) -> Sequence[tf.Tensor]:
        pixels = decode.decode(encoded, shape.max_pixels, kind)
        return pixels, decode.resize(pixels, shape.size, shape.resize)

    return by_kind(run)


def by_kind(
    run: Callable[[tf.Tensor, str], Any],
) -> Callable[[bytes], Any]:
    """Returns what calls `run` in a graph for each kind of file.

    A graph for all kinds, as exports have it, takes a fifth more for a small
    JPEG, and a second more to be traced; these are traced when the first file
    of their kind comes. They run on the CPU even where there is a GPU, so that
    the pixels are the same wherever they are computed.

    What is returned raises `tf.errors.InvalidArgumentError` for what cannot be
    decoded. A JPEG that ends before its picture begins never comes to its
    graph: the JPEG library writes a line of its own about each to stderr.
    """

    def graph(kind: str) -> Callable:
        return _on_cpu(lambda encoded: run(encoded, kind), [])

    graphs = {kind: graph(kind) for kind in decode.READABLE}
    return lambda encoded: graphs[_readable(encoded)](encoded)


def many_by_kind(
    run: Callable[[tf.Tensor, str], tuple[tf.Tensor, ...]],
) -> Callable[[Sequence[bytes]], list[np.ndarray]]:
    """Returns what calls `run` for each of several files, as `by_kind`.

    What it returns gives the results, of one shape each, for all of them [n,
    ...] in their order; files of one kind are decoded by one call, but for
    large ones. It works on one core, that of its caller.
    """
    signature = [tf.TensorSpec([None], tf.string)]
    # Two threads would else trace the same.
    making = threading.Lock()

    @functools.cache
    def graph(kind: str) -> Callable:
        return one_core.compiled(
            lambda files: _each(lambda file: run(file, kind), files), signature
        )

    def decoded(files: Sequence[bytes]) -> list[np.ndarray]:
        groups: dict[Any, list[int]] = {}
        for place, file in enumerate(files):
            kind = _readable(file)
            if kind == "JPEG" and not header.may_be_turned(file):
                kind = decode.UNTURNED
            large = is_large(file)
            groups.setdefault((kind, place if large else -1), []).append(place)
        found: list[np.ndarray] = []
        for (kind, _), places in groups.items():
            with making:
                decode_all = graph(kind)
            with turn(files[places[0]]):
                arrays = decode_all([files[place] for place in places])
            if len(groups) == 1:
                return arrays
            found = found or [
                np.empty([len(files), *each.shape[1:]], each.dtype)
                for each in arrays
            ]
            for whole, array in zip(found, arrays, strict=True):
                whole[places] = array
        return found

    return decoded


def _each(
    run: Callable[[tf.Tensor], tuple[tf.Tensor, ...]], files: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """Returns what `run` gives for each file, [n, ...], one after the other."""
    one = tf.function(run, autograph=False).get_concrete_function(
        tf.TensorSpec([], tf.string)
    )
    results = tuple(
        tf.TensorSpec(each.shape, each.dtype) for each in one.outputs
    )
    return tf.map_fn(
        one, files, fn_output_signature=results, parallel_iterations=1
    )


def _on_cpu(run: Callable[[tf.Tensor], Any], shape: list) -> Callable:
    """Returns the graph of `run` for strings of this shape."""

    @tf.function(
        autograph=False, input_signature=[tf.TensorSpec(shape, tf.string)]
    )
    def on_cpu(encoded):
        with tf.device("CPU"):
            return run(encoded)

    return on_cpu


def _readable(encoded: bytes) -> str:
    """Returns the kind of a file; raises where it cannot be decoded."""
    kind = header.kind(encoded)
    if kind not in decode.READABLE or kind == "JPEG" and _SCAN not in encoded:
        raise tf.errors.InvalidArgumentError(None, None, header.refusal(kind))
    return kind


def reason(
    error: OSError | tf.errors.OpError, encoded: bytes, max_pixels: int
) -> str:
    """Returns in a few words why an image cannot be read or decoded."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    file = header.read(encoded)
    if file.kind not in decode.READABLE:
        return file.kind
    if file.width * file.height > max_pixels:
        return (
            f"too large: {file.kind} of {file.width:,} x {file.height:,} "
            f"pixels; at most {max_pixels:,} are allowed (--max_pixels)"
        )
    if _is_cut_off(file.kind, encoded):
        return f"truncated {file.kind}"
    return f"damaged {file.kind}"


def _is_cut_off(kind: str, encoded: bytes) -> bool:
    """Tells whether a damaged file lacks its end."""
    if kind == "WebP":
        return len(encoded) < 8 + int.from_bytes(encoded[4:8], "little")
    if kind == "BMP":
        return len(encoded) < int.from_bytes(encoded[2:6], "little")
    if kind == "GIF":
        return not encoded.rstrip(b"\0").endswith(b";")
    # Some programs put other data behind the end.
    end = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}[kind]
    return end not in encoded[-1024:]
