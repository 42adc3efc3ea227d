"""The processes of a run on several hosts: who they are, what they share.

What can be wrong is told before Keras is imported. Several processes need JAX:
TensorFlow's MultiWorkerMirroredStrategy fails with Keras 3 (keras issue
20585).
"""

import contextlib
import dataclasses
import functools
import glob
import json
import os
import pathlib
import socket
import sys
from collections.abc import Callable
from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from tlkeras import errors

_Result = TypeVar("_Result")

# Seconds until the processes must have found each other; until one that gives
# no sign of life counts as dead, which ends the others; and for which one that
# failed waits for the others at its end.
_JOIN = 300
_HEARTBEAT = 60
_PARTING = 30
# Bytes of a message from one process to the others.
_MESSAGE = 1000
# What JAX asks the launchers that it knows, if nobody has given it.
_AUTO = "auto"
# One for each GPU that NVIDIA's driver knows.
NVIDIA = "/proc/driver/nvidia/gpus/*"
# What the networks here need of Keras, whatever keras.json says: that file is
# shared by all tools of a user, and with channels_first another network would
# be built, or none.
CONVENTIONS: Mapping[str, str | float] = {
    "image_data_format": "channels_last",
    "floatx": "float32",
    "epsilon": 1e-7,
}
# Of keras.json [bytes].
_LARGEST_SETTINGS = 1 << 20
_BY_HAND = (
    "Give --coordinator=HOST:PORT with --num_processes and --process_id, or "
    "--coordinator=HOST:PORT,HOST:PORT with the addresses of all."
)


@dataclasses.dataclass(frozen=True)
class ProcessGroup:
    """The processes that compute a run, and which of them this one is."""

    processes: int = 1
    process: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes."""
        return self.process == 0

    def run_on_all(self, work: Callable[[], _Result]) -> _Result:
        """Returns what `work` does, after all processes have done it.

        Raises the `UserError` of whichever process had one in all of them, so
        that none waits for ever.
        """
        try:
            result = work()
        except errors.UserError as error:
            self._tell(error)
            raise
        self._tell(None)
        return result

    def main_first(self, work: Callable[[], _Result]) -> _Result:
        """As `together`, but the others begin when the first has ended.

        So they find what it has downloaded.
        """
        if self.is_main:
            result = self.run_on_all(work)
            self.run_on_all(lambda: None)
            return result
        self.run_on_all(lambda: None)
        return self.run_on_all(work)

    def agree(self, digests: Mapping[str, str]) -> None:
        """Raises `UserError` unless all processes have the same `digests`."""
        told = self._gather(json.dumps(digests))
        for process, other in enumerate(map(json.loads, told)):
            for name, digest in other.items():
                if digest != digests[name]:
                    raise errors.UserError(
                        f"process {process} has other {name} than process "
                        f"{self.process}. All must be given the same."
                    )

    def broadcast(self, data: bytes) -> bytes:
        """Returns the `data` of the first process."""
        if self.processes == 1:
            return data
        from jax.experimental import multihost_utils

        size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
        held = np.frombuffer(data.ljust(size, b"\0")[:size], np.uint8)
        return bytes(np.asarray(multihost_utils.broadcast_one_to_all(held)))

    def disconnect(self) -> None:
        """Ends the connection; each process then computes for itself."""
        if self.processes > 1:
            import jax

            jax.distributed.shutdown()

    def _tell(self, error: errors.UserError | None) -> None:
        if self.processes == 1:
            if error is not None:
                raise error
            return
        told = self._gather(str(error or ""))
        if error is not None:
            raise error
        for process, message in enumerate(told):
            if message:
                raise errors.UserError(f"process {process}: {message}")

    def _gather(self, text: str) -> list[str]:
        """Returns the text of each process, cut off where it is long."""
        if self.processes == 1:
            return [text]
        from jax.experimental import multihost_utils

        data = text.encode("utf-8", "replace")[:_MESSAGE].ljust(_MESSAGE)
        told = multihost_utils.process_allgather(np.frombuffer(data, np.uint8))
        return [
            bytes(each).decode("utf-8", "ignore").strip()
            for each in np.asarray(told)
        ]


SINGLE = ProcessGroup()


def backend() -> str:
    """Returns the backend that Keras has, or would have when imported."""
    return _backend()[0]


def bound_autotuning() -> None:
    """Lets XLA choose among its kernels for GPUs without checking each.

    ResNet50's first step took 14 s in place of 17.5 on an H200, and trained as
    fast. What the user says in XLA_FLAGS stays.
    """
    said = os.environ.get("XLA_FLAGS", "")
    if glob.glob(NVIDIA) and "xla_gpu_autotune_level" not in said:
        os.environ["XLA_FLAGS"] = f"{said} --xla_gpu_autotune_level=2".strip()


@functools.cache
def take_devices() -> bool:
    """Lets JAX take its devices, if Keras computes on it, before TensorFlow.

    TensorFlow's wheel (2.21) carries stubs of CUDA. Imported first, JAX's
    plug-in (0.11) finds them instead of CUDA, and JAX computes on the CPU; the
    other way round both work.

    Returns whether TensorFlow came first. Processes that belong together must
    have found each other before. Raises `UserError` where JAX has no device.
    """
    if backend() != "jax":
        return False
    late = "tensorflow" in sys.modules
    bound_autotuning()
    import jax

    try:
        jax.devices()
    except RuntimeError as error:
        raise errors.UserError(
            f"JAX finds no device: {' '.join(str(error).split())}"
        ) from None
    return late


def check_backend() -> str:
    """Returns what chose the backend, in words.

    Raises `UserError` where Keras would compute on something else than
    TensorFlow and JAX.
    """
    path = _settings_of_keras()
    # Keras opens it, too: a pipe for ever, and whatever its size.
    if os.path.exists(path) and not (
        os.path.isfile(path) and os.path.getsize(path) <= _LARGEST_SETTINGS
    ):
        raise errors.UserError(
            f"{path}, the settings of Keras, must be a regular file of at most "
            f"{_LARGEST_SETTINGS:,} bytes. Remove it, or set the environment "
            "variable KERAS_HOME to another directory."
        )
    name, origin = _backend()
    if name not in ("tensorflow", "jax"):
        raise errors.UserError(
            f"{origin} must be tensorflow or jax. Received: {name}. The "
            "environment variable KERAS_BACKEND=tensorflow overrules it."
        )
    return origin


def _backend() -> tuple[str, str]:
    """Returns Keras' backend, and what chose it."""
    if "keras" in sys.modules:
        return sys.modules["keras"].backend.backend(), "Keras' backend"
    named = os.environ.get("KERAS_BACKEND")
    if named:
        return named, "the environment variable KERAS_BACKEND"
    path = _settings_of_keras()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        name = json.loads(path.read_text())["backend"]
        return str(name), f"`backend` in {path}"
    return "tensorflow", "Keras' backend"


def overruled() -> list[str]:
    """Returns what keras.json asks for and is not done, one line each."""
    path = _settings_of_keras()
    found: dict[str, object] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        found = dict(json.loads(path.read_text()))
    return [
        f"`{name}` is {wanted} here; {path} says {found[name]}"
        for name, wanted in CONVENTIONS.items()
        if found.get(name, wanted) != wanted
    ]


def _settings_of_keras() -> pathlib.Path:
    home = os.environ.get("KERAS_HOME") or "~/.keras"
    return pathlib.Path(os.path.expanduser(home), "keras.json")


def join(
    distribute: str,
    *,
    coordinator: str,
    num_processes: int | str,
    process_id: int | str,
) -> ProcessGroup:
    """Returns the processes of the run, connected where there are several.

    The arguments are the settings of these names. Raises `UserError` where
    they contradict each other or the backend, or the processes do not find
    each other.
    """
    _check(distribute, coordinator)
    if not coordinator:
        for name, value in (
            ("num_processes", num_processes),
            ("process_id", process_id),
        ):
            if value != _AUTO:
                raise errors.UserError(
                    f"`{name}` needs `coordinator`, the address of the first "
                    f"process. Received: {name} = {value} without it."
                )
        take_devices()
        return SINGLE
    group = _connect(*_resolve(coordinator, num_processes, process_id))
    take_devices()
    return group


def _check(distribute: str, coordinator: str) -> None:
    """Raises `UserError` for what the backend cannot do."""
    name = backend()
    if coordinator and name != "jax":
        raise errors.UserError(
            "several processes (`coordinator`) need JAX: TensorFlow's "
            "MultiWorkerMirroredStrategy fails with Keras 3 (keras issue "
            f"20585). Received: Keras on {name}. Set KERAS_BACKEND=jax."
        )
    if coordinator and distribute not in (_AUTO, "data_parallel"):
        raise errors.UserError(
            "`distribute` must be auto or data_parallel for several processes. "
            f"Received: {distribute}, with coordinator = {coordinator!r}."
        )
    if distribute == "mirrored" and name != "tensorflow":
        raise errors.UserError(
            "`distribute` mirrored is TensorFlow's MirroredStrategy. Received: "
            f"it with Keras on {name}. Give --distribute=data_parallel on JAX, "
            "or set KERAS_BACKEND=tensorflow."
        )
    if distribute == "data_parallel" and name != "jax":
        raise errors.UserError(
            "`distribute` data_parallel is keras.distribution.DataParallel, "
            f"which trains on JAX only. Received: it with Keras on {name}. "
            "Set KERAS_BACKEND=jax, or give --distribute=mirrored on "
            "TensorFlow."
        )


def _resolve(
    coordinator: str, num_processes: int | str, process_id: int | str
) -> tuple[str | None, int | None, int | None]:
    """Returns the first process' address, how many there are, which this is.

    None is what the launcher is asked for.
    """
    count = None if num_processes == _AUTO else int(num_processes)
    mine = None if process_id == _AUTO else int(process_id)
    if coordinator == _AUTO:
        # Keras reads them, too, where nobody gives it an argument.
        known = {
            name: os.environ.get(f"KERAS_DISTRIBUTION_{name}", "")
            for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
        }
        if count is None and known["NUM_PROCESSES"].isdigit():
            count = int(known["NUM_PROCESSES"])
        if mine is None and known["PROCESS_ID"].isdigit():
            mine = int(known["PROCESS_ID"])
        if not known["JOB_ADDRESSES"]:
            return None, count, mine
        coordinator = known["JOB_ADDRESSES"]
    addresses = coordinator.split(",")
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise errors.UserError(
                "`coordinator` must be HOST:PORT, several of them with commas "
                f"between, or auto. Received: {coordinator!r}."
            )
    if len(addresses) > 1:
        if count not in (None, len(addresses)):
            raise errors.UserError(
                "`num_processes` must be the number of addresses in "
                f"`coordinator`, {len(addresses)}. Received: {count}."
            )
        count = len(addresses)
        if mine is None:
            mine = _own_place(addresses)
    if count is None or mine is None:
        raise errors.UserError(
            "`num_processes` and `process_id` must be given with the address "
            f"of one process. Received: coordinator = {coordinator!r}. "
            f"{_BY_HAND}"
        )
    if mine >= count:
        raise errors.UserError(
            f"`process_id` must be below `num_processes`, {count}. Received: "
            f"{mine}."
        )
    return addresses[0], count, mine


def _own_place(addresses: list[str]) -> int:
    """Returns which of `addresses` is this host's."""
    mine = [
        number
        for number, address in enumerate(addresses)
        if _is_own(address.rpartition(":")[0])
    ]
    if len(mine) != 1:
        raise errors.UserError(
            f"`process_id` must be given: {len(mine) or 'none'} of the "
            f"addresses {', '.join(addresses)} are this host's, not one."
        )
    return mine[0]


def _is_own(host: str) -> bool:
    """Tells whether a host is this one: only here can it be listened at."""
    with contextlib.suppress(OSError):
        for family, kind, _, _, place in socket.getaddrinfo(
            host.strip("[]"), 0, type=socket.SOCK_STREAM
        ):
            with (
                contextlib.suppress(OSError),
                socket.socket(family, kind) as listening,
            ):
                listening.bind(place)
                return True
    return False


def _connect(
    coordinator: str | None, count: int | None, mine: int | None
) -> ProcessGroup:
    import jax

    try:
        # What keras.distribution.initialize calls, with limits of time.
        jax.distributed.initialize(
            coordinator,
            count,
            mine,
            initialization_timeout=_JOIN,
            heartbeat_timeout_seconds=_HEARTBEAT,
            shutdown_timeout_seconds=_PARTING,
        )
    except (RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        way = "" if coordinator else f" {_BY_HAND}"
        raise errors.UserError(
            f"the processes of `coordinator` did not find each other: {line}."
            f"{way}"
        ) from None
    return ProcessGroup(jax.process_count(), jax.process_index())
