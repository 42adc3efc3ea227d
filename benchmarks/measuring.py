"""What the benchmarks share: alternatives in turn, and what to print of them.

Machines change their speed while one measures: other work comes, clocks go
down. So alternatives are measured in turn, A B A B, and what counts is the
ratio of two that were measured side by side, at the median of the repeats.

What needs TensorFlow is imported where it is used, so that the rest serves
where there is none.
"""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
from absl import logging

import tlkeras
from tlkeras import progress as progresses
from tlkeras.report import tables

if TYPE_CHECKING:
    from tlkeras.data import batches
    from tlkeras.data import dataset as datasets

QUIET = progresses.Progress(quiet=True)
# What one measurement came to: its parts by name.
Parts = dict[str, float]


def main_first(
    alternatives: Mapping[str, Callable[[int], Parts]], repeats: int
) -> dict[str, list[Parts]]:
    """Returns what each alternative came to, `repeats` times.

    alternatives: name -> function of the number of the repeat, from 0.
    """
    # Exports write lines of TensorFlow's between ours.
    logging.set_verbosity(logging.ERROR)
    found: dict[str, list[Parts]] = {name: [] for name in alternatives}
    for repeat in range(repeats):
        for name, measure in alternatives.items():
            keras.backend.clear_session()
            began = time.perf_counter()
            found[name].append(measure(repeat))
            say(
                f"{repeat + 1} of {repeats}: {name}, "
                f"{time.perf_counter() - began:.0f} s in all"
            )
    return found


class Clock(keras.callbacks.Callback):
    """Notes when the call began, and when `fit` and its epochs end.

    It comes last in the list, so an epoch holds what others do at its end.
    """

    def __init__(self):
        super().__init__()
        self.called = time.perf_counter()
        self.ends = []

    def on_train_begin(self, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(time.perf_counter())

    def parts(self) -> Parts:
        """Returns the seconds of each part, once all has ended."""
        ended = time.perf_counter()
        epochs = np.diff([self.began, *self.ends])
        return {
            "before": self.began - self.called,
            "first": float(epochs[0]),
            "epoch": float(np.median(epochs[1:])),
            "after": ended - self.ends[-1],
            "all": ended - self.called,
        }


def prepare(
    data: str,
    *,
    image_size: int,
    directory: str,
    store_bytes: float = 8e9,
) -> "datasets.Dataset":
    """Returns the images of `data`, decoded into `directory`, cropped.

    store_bytes: room for them; with 0 they are decoded whenever asked for.
    """
    from tlkeras.data import dataset as datasets
    from tlkeras.data import images as image_stores
    from tlkeras.data import sources

    return datasets.prepare(
        sources.open(data, progress=QUIET),
        shape=image_stores.Shape(image_size, "crop"),
        split_seed=0,
        store_bytes=store_bytes,
        directory=directory,
        # Empty, so that nothing is known from an earlier run.
        cache_dir=directory,
        progress=QUIET,
    )


def feed(
    data: "datasets.Dataset",
    *,
    batch_size: int,
    augment: str = "flip",
) -> "batches.Feed":
    """Returns batches of the training and the validation split of `data`."""
    from tlkeras.data import batches

    parts = []
    for split in ("train", "validation"):
        at = data.positions(split)
        parts.append(
            batches.Subset(data.rows[at], data.targets[at], data.hashes[at])
        )
    return batches.feed(
        data.images,
        *parts,
        batch_size=batch_size,
        augment=augment,
        seed=0,
        class_weights=np.ones(len(data.labels)),
    )


def seconds(run: Callable[[], object]) -> float:
    """Returns how long `run` takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def median(measured: Sequence[Parts], part: str) -> float:
    """Returns the median of one part over the repeats."""
    return statistics.median(each[part] for each in measured)


def spread(measured: Sequence[Parts], part: str) -> str:
    """Returns median, smallest and largest seconds of one part, as text."""
    values = sorted(each[part] for each in measured)
    middle = statistics.median(values)
    if len(values) == 1:
        return time_text(middle)
    return (
        f"{time_text(middle)} ({time_text(values[0])} to "
        f"{time_text(values[-1])})"
    )


def ratio(measured: Sequence[Parts], to: Sequence[Parts], part: str) -> str:
    """Returns the median of the ratios within each repeat, as text."""
    found = [
        one[part] / other[part]
        for one, other in zip(measured, to, strict=True)
        if other[part]
    ]
    return f"{statistics.median(found):.2f}" if found else "-"


def time_text(value: float) -> str:
    """Returns seconds with three digits that tell something."""
    return f"{value:.3f}" if value < 1 else f"{value:.3g}"


def say(text: str) -> None:
    """Prints one line on stderr, so that stdout holds the result alone."""
    print(text, file=sys.stderr, flush=True)


def show(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str] = (),
) -> None:
    """Prints where and when it was measured, the table, and its notes."""
    print(title)
    print()
    for line in circumstances():
        print(line)
    print()
    tables.show(header, rows, right=tuple(header[1:]))
    for note in ("", *notes) if notes else ():
        print(note)


def circumstances() -> list[str]:
    """Returns date, command, machine and versions, a line each."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    load = ""
    if hasattr(os, "getloadavg"):
        load = f", load {os.getloadavg()[2]:.1f} in the last 15 minutes"
    return [
        f"date      {datetime.date.today().isoformat()}",
        f"command   {_command()}",
        f"machine   {processor()}, {cores} cores{load}; "
        f"{', '.join(_gpus()) or 'no GPU'}",
        f"versions  Python {platform.python_version()}, "
        f"Keras {keras.__version__} on {keras.backend.backend()}, "
        f"{_versions()}tlkeras {tlkeras.__version__}",
    ]


def _gpus() -> list[str]:
    """Returns the names of the GPUs that the backend computes on."""
    if keras.backend.backend() == "jax":
        import jax

        devices = jax.devices()
        return [each.device_kind for each in devices if each.platform == "gpu"]
    import tensorflow as tf

    return [
        tf.config.experimental.get_device_details(each).get("device_name", "?")
        for each in tf.config.list_physical_devices("GPU")
    ]


def _versions() -> str:
    """Returns the versions of what else is there, each with a comma."""
    found = ""
    for name in ("tensorflow", "jax", "torch", "torchvision", "timm"):
        try:
            found += f"{name} {importlib.metadata.version(name)}, "
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _command() -> str:
    script = pathlib.Path(sys.argv[0])
    return shlex.join(
        ["python", f"{script.parent.name}/{script.name}", *sys.argv[1:]]
    )


def processor() -> str:
    """Returns the name of the machine's processor."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
