"""Frozen work done once: activations at a cut in the place of images."""

import contextlib
import dataclasses
import hashlib
import itertools
import math
import time
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.backbones import base as bases
from tlkeras.data import augment
from tlkeras.data import batches
from tlkeras.machine import devices
from tlkeras.models import classifier as classifiers
from tlkeras.models import forward as forwards
from tlkeras.models import graph
from tlkeras.training import row_store

# Images that go through the frozen part at a time. Always as many, filled up
# at the end: another number would be traced anew, which takes seconds, and
# give other last bits. On a GPU 32 would wait for the caller between batches.
_BATCH = 32
_BATCH_ON_ACCELERATOR = 256
# Batches by which an accelerator's speed is measured.
_TIMED = 3

# Numbers of images in their views [n] -> their rows [n, size].
_Read = Callable[[tf.Tensor], tf.Tensor]
# Images [_BATCH, h, w, 3] -> what the frozen part makes of them.
_Forward = Callable[[np.ndarray], Any]


@dataclasses.dataclass(frozen=True)
class _Work:
    """What a phase needs of the frozen part.

    shapes: of the tensors of one image at the cut. keys: a row's for each
    training image in its first view, in its second and so on, then for each
    validation image.
    """

    model: keras.Model
    cut: graph.Cut | None
    views: batches.Views
    shapes: tuple[tuple[int, ...], ...]
    keys: tuple[bytes, ...]
    progress: progresses.Progress

    @property
    def size(self) -> int:
        """Numbers in a row."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def bytes(self) -> float:
        """Bytes of all rows, as float32."""
        return 4.0 * self.size * len(self.keys)


@contextlib.contextmanager
def features(
    model: keras.Model,
    cut: graph.Cut | None,
    images: batches.Feed,
    *,
    epochs: int,
    storage: row_store.Storage,
    progress: progresses.Progress,
) -> Iterator[batches.Feed | None]:
    """Yields a feed of activations for what of `model` is above `cut`.

    Every view of a training image goes through the frozen part once, or not at
    all where its row is kept from an earlier run. Epochs then choose among the
    views as they would have chosen live, in the same order.

    cut: the highest one that is frozen; None is the end of the base. epochs:
    of the phase, at most; nothing is won if they are fewer than the views.

    None where the frozen part has to run in each epoch: by the settings and the
    number of images, never by what is kept already.
    """
    views = images.views
    if storage.mode == "off" or views is None or epochs < len(views.names):
        yield None
        return
    end = (tuple(bases.of(model).output.shape[1:]),)
    shapes = end if cut is None else cut.shapes
    work = _Work(model, cut, views, shapes, _keys(views), progress)
    on_disk = _on_disk(work, storage)
    why = _why_not(work, storage, on_disk)
    with contextlib.ExitStack() as stack:
        read = None
        if not why:
            try:
                read = _stored(work, storage, stack) if on_disk else None
            except errors.UserError as error:
                progress.say(f"  activations are not kept: {error}")
                if work.bytes > storage.memory_bytes:
                    why = "they do not fit into memory"
        if why:
            progress.say(f"  the frozen part runs in each epoch: {why}")
            yield None
            return
        if read is None:
            read = _computed(work)
        train = len(views.train_hashes)
        validation = train * len(views.names)
        yield views.feed(
            lambda view, at: _shaped(read(view * train + at), shapes),
            lambda view, at: _shaped(read(validation + at), shapes),
        )


def of_training_images(
    model: keras.Model,
    views: batches.Views,
    chosen: np.ndarray,
    *,
    storage: row_store.Storage,
    progress: progresses.Progress,
) -> np.ndarray:
    """Returns the features [n, c], float32, that a phase of the head has.

    chosen: which of the training images [n], none augmented. What is kept of
    them is read, and nothing is added.
    """
    keys = _names(views.train_hashes[chosen], augment.PLAIN)
    shapes = (tuple(bases.of(model).output.shape[1:]),)
    work = _Work(model, None, views, shapes, keys, progress)
    rows = np.empty([len(keys), work.size], np.float32)
    missing = np.full(len(keys), True)
    if _on_disk(work, storage):
        table = row_store.Table(
            storage.directory, _description(work), work.size
        )
        # What cannot be read is computed.
        with contextlib.closing(table), contextlib.suppress(OSError):
            absent = set(table.missing(keys))
            there = [at for at, each in enumerate(keys) if each not in absent]
            rows[there] = table.read([keys[each] for each in there])
            missing[there] = False
    if missing.any():
        progress.begin("computing activations", int(missing.sum()))
        try:
            forward = _forward(classifiers.below(model, None))
            found = _of_view(
                work, forward, chosen[missing], "train", augment.PLAIN
            )
            rows[missing] = np.concatenate(list(found))
        finally:
            progress.end()
    return rows


def _keys(views: batches.Views) -> tuple[bytes, ...]:
    training = [_names(views.train_hashes, view) for view in views.names]
    validation = _names(views.validation_hashes, augment.PLAIN)
    return tuple(itertools.chain(*training, validation))


def _names(hashes: Iterable[str], view: str) -> tuple[bytes, ...]:
    return tuple(row_store.key(each, view) for each in hashes)


def _on_disk(work: _Work, storage: row_store.Storage) -> bool:
    # Nobody could tell what the pixels were that have no name.
    return storage.mode in ("auto", "disk") and bool(work.views.preparation)


def _why_not(work: _Work, storage: row_store.Storage, kept: bool) -> str:
    """Returns why the activations are not stored, '' if they are."""
    most = storage.disk_bytes if kept else storage.memory_bytes
    if work.bytes > most:
        return (
            f"its activations take {work.bytes / 1e9:.1f} GB, and "
            f"{most / 1e9:.1f} are allowed"
        )
    if (
        storage.mode == "auto"
        and devices.has_accelerator()
        and not _is_small(work)
    ):
        computing, reading = _seconds(work)
        if computing < reading:
            return (
                f"on this device it takes {1e3 * computing:.0f} ms a batch, "
                f"and to read its activations {1e3 * reading:.0f}"
            )
    return ""


def _stored(
    work: _Work, storage: row_store.Storage, stack: contextlib.ExitStack
) -> _Read:
    """Returns what reads the rows, after those that are missing were added.

    Their files are closed with `stack`.
    """
    table = row_store.Table(storage.directory, _description(work), work.size)
    stack.callback(table.close)
    missing = set(table.missing(work.keys))
    kept = len(set(work.keys)) - len(missing)
    if kept:
        work.progress.detail(
            f"  {kept:,} of {len(missing) + kept:,} activations are kept "
            "from an earlier run"
        )
    if missing:
        # Of equal pictures one is computed.
        first = {key: index for index, key in enumerate(work.keys)}
        wanted = sorted(first[key] for key in missing)
        with contextlib.closing(_rows(work, wanted)) as rows:
            table.add([work.keys[each] for each in wanted], rows)
        row_store.trim(storage.directory, storage.disk_bytes)
    if storage.mode == "auto" and work.bytes <= storage.memory_bytes:
        return _from_memory(table.read(work.keys))
    return _from_table(table, work.keys, work.size)


def _computed(work: _Work) -> _Read:
    """Returns what reads the rows, all of which are computed into memory."""
    rows = np.empty([len(work.keys), work.size], np.float32)
    start = 0
    for block in _rows(work, range(len(rows))):
        rows[start : start + len(block)] = block
        start += len(block)
    return _from_memory(rows)


def _from_memory(rows: np.ndarray) -> _Read:
    def read(index: tf.Tensor) -> tf.Tensor:
        found = tf.numpy_function(rows.__getitem__, [index], tf.float32)
        return tf.ensure_shape(found, [None, rows.shape[1]])

    return read


def _from_table(
    table: row_store.Table, keys: Sequence[bytes], size: int
) -> _Read:
    def rows(index: np.ndarray) -> np.ndarray:
        return table.read([keys[each] for each in index.tolist()])

    def read(index: tf.Tensor) -> tf.Tensor:
        found = tf.numpy_function(rows, [index], tf.float32)
        return tf.ensure_shape(found, [None, size])

    return read


def _shaped(rows: tf.Tensor, shapes: Sequence[tuple[int, ...]]) -> Any:
    """Returns rows [n, size] as the tensors that they were, [n, *shape]."""
    sizes = [math.prod(shape) for shape in shapes]
    tensors = [
        tf.reshape(part, [-1, *shape])
        for part, shape in zip(tf.split(rows, sizes, 1), shapes, strict=True)
    ]
    return tensors[0] if len(tensors) == 1 else tuple(tensors)


def _rows(
    work: _Work, indices: Sequence[int]
) -> Generator[np.ndarray, None, None]:
    """Computes the rows at `indices`, which ascend, in blocks [n, size]."""
    forward = _forward(classifiers.below(work.model, work.cut))
    wanted = np.array(indices)
    count = len(work.views.train_hashes)
    parts = [
        ("train", view, number * count, count)
        for number, view in enumerate(work.views.names)
    ]
    parts.append(
        (
            "validation",
            augment.PLAIN,
            len(parts) * count,
            len(work.views.validation_hashes),
        )
    )
    work.progress.begin("computing activations", len(wanted))
    try:
        for part, view, start, length in parts:
            inside = (wanted >= start) & (wanted < start + length)
            yield from _of_view(
                work, forward, wanted[inside] - start, part, view
            )
    finally:
        work.progress.end()


def _of_view(
    work: _Work,
    forward: _Forward,
    positions: np.ndarray,
    part: str,
    view: str,
) -> Iterator[np.ndarray]:
    """Computes the rows of images in one view, in blocks [n, size]."""
    batch = _batch()
    for images in work.views.load(positions, part, view, batch):
        rows = _run(forward, images, batch)
        work.progress.advance(len(rows))
        yield rows


def _forward(network: keras.Model) -> _Forward:
    """Returns what runs the frozen part, which will not change, on a batch."""
    if not _as_constants(network):
        if not devices.jit_compile():
            network.jit_compile = False
        return network.predict_on_batch
    return forwards.constant_graph(network, _BATCH)


def _as_constants(network: keras.Model) -> bool:
    """Tells whether the weights go into the graph as constants."""
    return (
        keras.backend.backend() == "tensorflow"
        and not devices.has_accelerator()
        and not tf.distribute.has_strategy()
        and forwards.is_small(network)
    )


def _batch() -> int:
    """Returns how many images go through the frozen part at a time."""
    return _BATCH_ON_ACCELERATOR if devices.has_accelerator() else _BATCH


def _run(forward: _Forward, images: tf.Tensor, batch: int) -> np.ndarray:
    """Returns the rows [n, size] of at most `batch` images, float32."""
    count = len(images)
    filling = [[0, batch - count], [0, 0], [0, 0], [0, 0]]
    # Of NumPy, because JAX takes no tensor of TensorFlow's.
    found = forward(np.pad(images, filling))
    tensors = found if isinstance(found, list | tuple) else [found]
    return np.concatenate(
        [
            np.reshape(tensor[:count], [count, -1]).astype(np.float32)
            for tensor in tensors
        ],
        axis=1,
    )


def _description(work: _Work) -> str:
    """Returns all that a row depends on, but for the image and its view."""
    base = bases.of(work.model)
    network = base.network
    if work.cut is not None:
        network = graph.split(network, work.cut)[0]
    digest = hashlib.blake2b(digest_size=16)
    for weight in network.weights:
        array = np.asarray(keras.ops.convert_to_numpy(weight))
        digest.update(np.ascontiguousarray(array))
    words = (
        work.views.preparation,
        base.scaling,
        graph.describe(network),
        digest.hexdigest(),
        base.compute_dtype,
        keras.backend.backend(),
        # Another kind of device rounds otherwise.
        devices.kind(),
        keras.__version__,
        # The last bits are others.
        "constants" if _as_constants(network) else "variables",
        f"{_batch()} at a time",
    )
    return "\n".join(words)


def _is_small(work: _Work) -> bool:
    """Tells whether a row has fewer bytes than its image.

    To bring it to the device is never slower then, and to measure that takes
    seconds: XLA compiles the frozen part once more for it.
    """
    return 4 * work.size <= math.prod(work.model.input.shape[1:])


def _seconds(work: _Work) -> tuple[float, float]:
    """Returns what a batch takes to be computed, and to be read [seconds]."""
    network = classifiers.below(work.model, work.cut)
    last = network.outputs[-1]
    axes = tuple(range(1, len(last.shape)))
    # Compiled as in training, with a number an image as all that comes back.
    network = keras.Model(network.input, keras.ops.mean(last, axis=axes))
    side = work.model.input.shape[1:]
    images = np.zeros([_BATCH, *side], np.uint8)
    rows = np.zeros([_BATCH * _TIMED, work.size], np.float32)

    def read() -> None:
        order = np.random.default_rng(0).permutation(len(rows))[:_BATCH]
        moved = keras.ops.convert_to_tensor(rows[order])
        # The device works behind the caller's back until it is asked.
        keras.ops.convert_to_numpy(keras.ops.sum(moved))

    def compute() -> None:
        network.predict_on_batch(images)

    return _time(compute), _time(read)


def _time(work: Callable[[], None]) -> float:
    """Returns the shortest of a few times that `work` takes [seconds]."""
    work()
    times = []
    for _ in range(_TIMED):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
