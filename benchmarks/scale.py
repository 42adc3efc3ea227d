"""How time and memory of a run grow with its images and its epochs.

Each run is a process of its own, so that its peak memory is its own: a head on
a frozen base, from files to report and export. The images are generated,
JPEG files of coloured noise in 4 classes; what is learned from them means
nothing, what it costs does. No weights are needed, random ones cost the same.

  python benchmarks/scale.py

`peak` is the largest resident memory, with the libraries' own files in it;
`own` is what the process took for itself (sampled 20 times a second, Linux
only). Decoded images and features stand in files that are read by calls, so
they count in neither.
"""

import csv
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import measuring
import numpy as np
import tensorflow as tf
from absl import app
from absl import flags

import tlkeras

_BACKBONE = flags.DEFINE_string("backbone", "MobileNetV2", "the network")
_SIZE = flags.DEFINE_integer("image_size", 96, "pixels, also of the files")
_IMAGES = flags.DEFINE_list("images", ["1000", "4000", "16000"], "how many")
_EPOCHS = flags.DEFINE_list("epochs", ["5", "20", "80"], "of the head")
_AUGMENT = flags.DEFINE_string("augment", "flip", "random changes")
_CACHE = flags.DEFINE_enum(
    "feature_cache", "auto", ["auto", "off"], "whether features are kept"
)
_MEMORY = flags.DEFINE_float(
    "feature_memory_gb", 2.0, "gigabytes of features held in memory"
)
_ONE = flags.DEFINE_string("one", "", "for this script itself: one run, JSON")

_CLASSES = 4


def main(arguments: list[str]) -> None:
    """Measures each size with each number of epochs and prints the table."""
    del arguments
    if _ONE.value:
        print(json.dumps(_run(_ONE.value)))
        return
    images = sorted(map(int, _IMAGES.value))
    epochs = sorted(map(int, _EPOCHS.value))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = _write(pathlib.Path(folder), images[-1])
        for count in images:
            table = pathlib.Path(folder, f"{count}.csv")
            with table.open("w", newline="") as stream:
                csv.writer(stream).writerows([("path", "label"), *rows[:count]])
            for each in epochs:
                found[count, each] = _in_a_process(table, each)
                measuring.say(f"{count} images, {each} epochs: done")
    _show(found)


def _write(folder: pathlib.Path, images: int) -> list[tuple[str, str]]:
    """Writes images and returns (path, label) of each."""
    measuring.say(f"writing {images} images")
    generator = np.random.default_rng(0)
    colours = generator.integers(64, 192, (_CLASSES, 3))
    rows = []
    for index in range(images):
        # Coarse noise, so that the files are as large as photographs are.
        noise = generator.integers(-64, 64, (_SIZE.value // 4 + 1,) * 2 + (3,))
        pixels = (colours[index % _CLASSES] + noise).repeat(4, 0).repeat(4, 1)
        pixels = pixels[: _SIZE.value, : _SIZE.value].astype(np.uint8)
        path = folder / f"{index}.jpg"
        path.write_bytes(tf.io.encode_jpeg(pixels, quality=90).numpy())
        rows.append((str(path), f"class {index % _CLASSES}"))
    return rows


def _in_a_process(table: pathlib.Path, epochs: int) -> measuring.Parts:
    flags_of_it = {
        "one": table,
        "epochs": epochs,
        "backbone": _BACKBONE.value,
        "image_size": _SIZE.value,
        "augment": _AUGMENT.value,
        "feature_cache": _CACHE.value,
        "feature_memory_gb": _MEMORY.value,
    }
    process = subprocess.run(
        [
            sys.executable,
            __file__,
            *(f"--{name}={value}" for name, value in flags_of_it.items()),
        ],
        capture_output=True,
        text=True,
    )
    if process.returncode:
        sys.exit(process.stderr)
    return json.loads(process.stdout.splitlines()[-1])


def _run(table: str) -> measuring.Parts:
    """Returns what one run in this process takes."""
    epochs = int(_EPOCHS.value[0])
    memory = _Memory()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        memory.start()
        run = tlkeras.train(
            f"csv:{table}",
            workdir=pathlib.Path(folder, "run"),
            quiet=True,
            backbone=_BACKBONE.value,
            weights="none",
            image_size=_SIZE.value,
            augment=_AUGMENT.value,
            feature_cache=_CACHE.value,
            feature_memory_gb=_MEMORY.value,
            # Empty, so that nothing is known from an earlier run.
            cache_dir=pathlib.Path(folder, "cache"),
            strategy="feature_extraction",
            head_epochs=epochs,
            patience=epochs,
        )
        seconds = time.perf_counter() - began
        memory.stop()
        (phase,) = run.report["phases"]
    return {
        "all": seconds,
        "phase": phase["seconds"],
        "epochs": phase["epochs"],
        "peak": memory.peak,
        "own": memory.own,
    }


class _Memory(threading.Thread):
    """Watches this process: largest resident memory, and that of its own."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak = self.own = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        """Looks 20 times a second until `stop`."""
        while not self.ended.wait(0.05):
            self.look()

    def look(self) -> None:
        """Reads megabytes from Linux' /proc; elsewhere there are none."""
        status = pathlib.Path("/proc/self/status")
        if not status.exists():
            return
        values = dict(
            line.split(":", 1) for line in status.read_text().splitlines()
        )
        self.peak = max(self.peak, _megabytes(values["VmHWM"]))
        self.own = max(self.own, _megabytes(values["RssAnon"]))

    def stop(self) -> None:
        """Looks once more and ends."""
        self.ended.set()
        self.join()
        self.look()


def _megabytes(text: str) -> float:
    return int(text.split()[0]) * 1024 / 1e6


def _show(found: dict[tuple[int, int], measuring.Parts]) -> None:
    first = next(iter(found.values()))
    rows = []
    for (images, epochs), each in found.items():
        rows.append(
            (
                f"{images:,}",
                str(epochs),
                measuring.time_text(each["all"]),
                measuring.time_text(each["phase"]),
                f"{1000 * each['phase'] / images:.2f}",
                f"{each['peak']:,.0f}",
                f"{each['own']:,.0f}",
                f"{each['all'] / first['all']:.2f}",
                f"{each['own'] / first['own']:.2f}" if first["own"] else "-",
            )
        )
    measuring.show(
        f"{_BACKBONE.value} at {_SIZE.value} pixels, a head on a frozen base; "
        f"generated images, augmentation {_AUGMENT.value}, feature_cache "
        f"{_CACHE.value}, of which {_MEMORY.value:g} GB in memory",
        (
            "images",
            "epochs",
            "run, s",
            "phase, s",
            "phase, ms an image",
            "peak, MB",
            "own, MB",
            "run/first",
            "own/first",
        ),
        rows,
        (
            "One run each, in a process of its own; 70 % of the images are "
            "trained on. The last two columns are ratios to",
            "the first line. The run is all from the first file to the "
            "checked export, without importing TensorFlow.",
        ),
    )


if __name__ == "__main__":
    app.run(main)
