"""How the images of a step are placement over several devices.

The batch is that of all devices together, and a step is the one that a single
device would take with it: the loss is the mean over the whole batch, BatchNorm
that learns sees the whole batch, and learning rates are not scaled.

On JAX a batch is one array over all devices and a step means the same however
it is divided, so a batch that cannot be divided evenly is computed whole on
each of them. Keras divides the arrays as it divided the first one, and fails at
an epoch's last, smaller batch; so they are placed here.

On TensorFlow each device has the mean loss of its own share, and these count
the same. Left to itself the strategy fills the first devices; the last batch of
33 images, one image, would leave another device with the mean of none, which is
no number. So the shards are made here. What is logged as the loss of a batch
with uneven shards is a little off; the step and the metrics are not.

TensorFlow is imported where it is needed: phases are compiled without it, too.
"""

import contextlib
import dataclasses
import functools
import queue
import threading
from collections.abc import Callable
from collections.abc import Iterator
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np

from tlkeras.machine import devices
from tlkeras.machine import keras_private
from tlkeras.machine import processes

if TYPE_CHECKING:
    import tensorflow as tf

    from tlkeras.data import batches


# Batches that wait on the device for their step, at most.
_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Placement:
    """On what a run computes.

    kind: `none`, `mirrored` or `data_parallel`. names: of the devices, of all
    processes together. why: what decided, where the setting is `auto`.
    strategy: MirroredStrategy or DataParallel.
    """

    kind: str = "none"
    names: tuple[str, ...] = ("",)
    why: str = ""
    group: processes.ProcessGroup = processes.SINGLE
    strategy: Any = None

    @property
    def devices(self) -> int:
        """The number of devices that share a step."""
        return len(self.names)

    @property
    def sharding(self) -> "batches.Sharding":
        """How `feed` must divide its batches."""
        from tlkeras.data import batches

        if self.kind == "mirrored":
            return batches.Sharding(self.devices, tuple(range(self.devices)))
        return batches.Sharding(
            self.group.processes, (self.group.process,), self.devices
        )

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which models are built and compiled."""
        if self.strategy is None:
            return contextlib.nullcontext()
        return self.strategy.scope()

    def prepare(self, model: keras.Model, feed: "batches.Feed") -> None:
        """Makes all that `fit` would make for a compiled model, in `scope`."""
        if self.kind == "none" and not _goes_ahead():
            return
        example = keras.tree.map_structure(
            lambda spec: np.zeros([1, *spec.shape[1:]], spec.dtype.name),
            feed.train(0, 1).element_spec,
        )
        with self.scope():
            keras_private.build_for_fit(model, example)
            if self.kind == "data_parallel":
                model.make_train_function()
                model.make_test_function()

    def place(self, data: "tf.data.Dataset", sizes: tuple[int, ...]) -> Any:
        """Returns what `fit` takes for `data`, in batches of these sizes."""
        if self.kind == "mirrored":
            # Before it judges a second epoch, Keras looks at what comes behind
            # the first one's last batch.
            return self.strategy.distribute_datasets_from_function(
                lambda context: data.repeat()
            )
        if self.kind == "data_parallel":
            return _Placed(data, _over_devices(self, sizes))
        if _goes_ahead():
            return _Placed(data, lambda index, array: _to_device(array))
        return data

    def text(self, batch_size: int) -> str:
        """Returns a sentence on the devices and what they share."""
        if self.kind == "none":
            missed = devices.unused_gpu()
            line = f"Computed on {self.names[0]}{self.why}."
            return f"{line} {missed}" if missed else line
        hosts = ""
        if self.group.processes > 1:
            hosts = f" of {self.group.processes} processes"
        noun = "devices" if self.devices > 1 else "device"
        return (
            f"Computed on {self.devices} {noun}{hosts} ({self.kind}"
            f"{self.why}): a step's {batch_size} images are those of all "
            "together, and learning rates are not scaled."
        )


SINGLE = Placement()


def start(distribute: str, group: processes.ProcessGroup) -> Placement:
    """Returns the devices for the setting `distribute`, resolving `auto`."""
    names = tuple(keras.distribution.list_devices())
    backend = keras.backend.backend()
    kind, why = distribute, ""
    if distribute == "auto" and group.processes > 1:
        kind, why = "data_parallel", ", auto: there are several processes"
    elif distribute == "auto" and len(names) > 1:
        kind, why = "none", ", auto: several CPUs are no gain"
        if devices.has_accelerator():
            kind = {"tensorflow": "mirrored", "jax": "data_parallel"}.get(
                backend, "none"
            )
            why = ", auto: there are several"
            if kind == "none":
                why = f", auto: on {backend} several devices are not used"
    elif distribute == "auto":
        kind, why = "none", ", the only device"
    if kind == "none":
        return Placement("none", names[:1], why)
    if kind == "mirrored":
        import tensorflow as tf

        strategy: Any = tf.distribute.MirroredStrategy(
            [name.upper() for name in names]
        )
    else:
        strategy = keras.distribution.DataParallel(devices=list(names))
    return Placement(kind, names, why, group, strategy)


def _goes_ahead() -> bool:
    """Tells whether batches are brought to the one device beforehand.

    On JAX nobody else does so while the caller prepares the next step.
    """
    return keras.backend.backend() == "jax" and devices.has_accelerator()


class _Placed(keras.utils.PyDataset):
    """Batches as arrays on the devices, in their order.

    place: (number of the batch, array) -> the array on the devices.
    """

    def __init__(
        self,
        data: "tf.data.Dataset",
        place: Callable[[int, np.ndarray], Any],
    ):
        super().__init__()
        self.data = data
        self.place = place
        self.batches: Iterator[Any] = iter(())

    # An endless one: how many there are of an epoch, `fit` is told.
    num_batches = None

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        if index == 0:
            self.batches = _ahead(self._placed())
        return next(self.batches)

    def _placed(self) -> Iterator[tuple[Any, ...]]:
        # Keras asks for one more than there are.
        for index, batch in enumerate(self.data.repeat()):
            place = functools.partial(self.place, index)
            yield keras.tree.map_structure(
                # `numpy()` would copy it.
                lambda tensor, place=place: place(np.asarray(tensor)),
                batch,
            )


def _ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """Yields `batches`, of which a thread makes the next ones meanwhile."""
    ready: queue.Queue = queue.Queue(_AHEAD)
    ended = threading.Event()

    def put(*item: Any) -> None:
        while not ended.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def work() -> None:
        try:
            for batch in batches:
                put(batch, None)
                if ended.is_set():
                    return
        except Exception as error:
            put(None, error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            batch, error = ready.get()
            if error is not None:
                raise error
            yield batch
    finally:
        ended.set()


def _to_device(array: np.ndarray) -> Any:
    import jax

    return jax.device_put(array)


def _over_devices(
    placement: Placement, sizes: tuple[int, ...]
) -> Callable[[int, np.ndarray], Any]:
    """Returns what shares out an array among all devices, as `_Placed` wants.

    sizes: of the batches, all processes' together; they come round.
    """
    import jax

    mesh = placement.strategy.device_mesh.backend_mesh

    def place(index: int, array: np.ndarray) -> Any:
        images = sizes[index % len(sizes)]
        whole = images % placement.devices
        axes = () if whole else (placement.strategy.batch_dim_name,)
        return jax.make_array_from_process_local_data(
            jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)),
            array,
            (images, *array.shape[1:]),
        )

    return place
