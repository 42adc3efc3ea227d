"""Where the seconds of a whole run go, from the command to the result.

Draws JPEGs in 5 classes, coloured noise from which nothing can be learned,
and runs `tlkeras train` on them, with each backend that is asked for, and
PyTorch's usual loop (`torch_job.py`), each as a process of its own from a cold
cache, then once more. What is printed is stamped with the time, from which the
parts are told: `start` to the plan, `scan` of the files, `model` to the first
step's beginning, `first` and `later` epochs (with tracing and compiling),
`scoring`, `export` with the report. Random weights: they cost what others do.

  python benchmarks/job.py --images=1000 --side=120 --image_size=96 \\
      --backbone=MobileNetV2-0.35 --batch_size=32 --programs=tensorflow,jax
  python benchmarks/job.py --images=20000 --side=300 --image_size=224 \\
      --backbone=ResNet50 --batch_size=128
"""

import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import measuring
import numpy as np
import PIL.Image
from absl import app
from absl import flags

_IMAGES = flags.DEFINE_integer("images", 20000, "how many are drawn")
_SIDE = flags.DEFINE_integer("side", 300, "pixels of the files")
_SIZE = flags.DEFINE_integer("image_size", 224, "pixels of the network's input")
_BACKBONE = flags.DEFINE_string("backbone", "ResNet50", "the network")
_BATCH = flags.DEFINE_integer("batch_size", 128, "images of a step")
_EPOCHS = flags.DEFINE_integer("epochs", 4, "of each run")
_LEARNS = flags.DEFINE_list("learns", ["all", "head"], "what learns")
_PROGRAMS = flags.DEFINE_list(
    "programs", ["tensorflow", "jax", "pytorch"], "which are run"
)
_LINES = flags.DEFINE_bool(
    "lines", False, "show what they print, with the seconds since the start"
)
_CALLS = flags.DEFINE_integer("calls", 2, "runs of each, the first one cold")

_WEIGHTS = "random.weights.h5"
_PARTS = ("start", "scan", "model", "first", "later", "scoring", "export")
# What begins a line that ends a part; `later` is all epochs but the first. The
# first line of all ends `start`.
_ENDS = (
    (r"run ", "scan"),
    (r"phase \w+: [\d,]+ parameters", "model"),
    (r"  \w+ +1/", "first"),
    (r"  \w+ +\d+/", "later"),
    (r"scoring and saving", "later"),
    (r"exporting", "scoring"),
    (r"[\d.]+ s in all", "export"),
)


@dataclasses.dataclass(frozen=True)
class Job:
    """One command: what learns, in which program, with what in its caches."""

    program: str
    learns: str
    photos: pathlib.Path
    place: pathlib.Path

    def command(self, call: int) -> list[str]:
        """Returns the words of the command line."""
        shared = [
            f"--backbone={_BACKBONE.value}",
            f"--image_size={_SIZE.value}",
            f"--batch_size={_BATCH.value}",
            f"--epochs={_EPOCHS.value}",
        ]
        if self.program == "pytorch":
            script = pathlib.Path(__file__).with_name("torch_job.py")
            words = [f"--photos={self.photos}", f"--learns={self.learns}"]
            return [sys.executable, str(script), *words, *shared]
        words = [
            f"--data=folder:{self.photos}",
            f"--workdir={self.place}/run{call}",
            f"--cache_dir={self.place}/cache",
            "--verbose",
        ]
        if self.learns == "head":
            shared[-1] = f"--head_epochs={_EPOCHS.value}"
            weights = self.photos.parent / _WEIGHTS
            words += ["--strategy=feature_extraction", "--head_solver=adam"]
            words.append(f"--weights={weights}")
        else:
            words += ["--strategy=scratch", "--weights=none"]
        return [sys.executable, "-m", "tlkeras", "train", *words, *shared]


def main(arguments: list[str]) -> None:
    """Runs every program on the same images and prints the table."""
    del arguments
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        photos = pathlib.Path(folder, "photos")
        _draw(photos)
        if "head" in _LEARNS.value:
            _write_weights(photos.parent / _WEIGHTS)
        for learns in _LEARNS.value:
            for program in _PROGRAMS.value:
                place = pathlib.Path(folder, f"{program}-{learns}")
                job = Job(program, learns, photos, place)
                for call in range(_CALLS.value):
                    measuring.say(f"{program}, {learns}, call {call + 1}")
                    parts = _run(job, call)
                    rows.append(
                        (
                            program,
                            learns,
                            "cold" if call == 0 else "again",
                            *(
                                measuring.time_text(parts[part])
                                if part in parts
                                else "-"
                                for part in _PARTS
                            ),
                            measuring.time_text(sum(parts.values())),
                        )
                    )
    measuring.show(
        f"{_IMAGES.value:,} JPEGs of {_SIDE.value} pixels, {_BACKBONE.value} "
        f"at {_SIZE.value}, batches of {_BATCH.value}, {_EPOCHS.value} epochs "
        f"[s], {os.cpu_count()} cores",
        ("program", "learns", "caches", *_PARTS, "all"),
        rows,
        notes=[
            "PyTorch's loop saves and exports nothing; tlkeras scores, saves, "
            "exports and checks what it exported."
        ],
    )


def _run(job: Job, call: int) -> dict[str, float]:
    """Returns the seconds of each part of one run."""
    job.place.mkdir(exist_ok=True)
    began = last = time.perf_counter()
    parts: dict[str, float] = {}
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if job.program != "pytorch":
        environment["KERAS_BACKEND"] = job.program
    lines = []
    with subprocess.Popen(
        job.command(call),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            now = time.perf_counter()
            if _LINES.value:
                measuring.say(f"{now - began:7.2f}  {line.rstrip()}")
            for beginning, part in _ENDS:
                if len(lines) == 1:
                    beginning, part = "", "start"
                if re.match(beginning, line):
                    parts[part] = parts.get(part, 0.0) + now - last
                    last = now
                    break
    if process.returncode:
        raise SystemExit("".join(lines[-20:]))
    # To end, Python takes its time, too.
    rest = time.perf_counter() - began - sum(parts.values())
    parts["export"] = parts.get("export", 0.0) + rest
    return parts


def _draw(photos: pathlib.Path) -> None:
    """Draws the files, of smooth shapes with a little noise."""
    for label in range(5):
        (photos / f"class{label}").mkdir(parents=True)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(
            pool.map(functools.partial(_draw_one, photos), range(_IMAGES.value))
        )


def _draw_one(photos: pathlib.Path, number: int) -> None:
    draw = np.random.default_rng(number)
    side = _SIDE.value
    rough = draw.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    image = PIL.Image.fromarray(rough).resize((side, side), PIL.Image.BICUBIC)
    noise = draw.normal(0, 12, (side, side, 3))
    pixels = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
    path = photos / f"class{number % 5}" / f"{number}.jpg"
    PIL.Image.fromarray(pixels).save(path, quality=85)


def _write_weights(path: pathlib.Path) -> None:
    """Writes weights that nobody has trained, since a head needs some."""
    program = (
        "import sys, keras, tlkeras\n"
        "from tlkeras.models import classifier\n"
        "keras.utils.set_random_seed(0)\n"
        "base = classifier.build_base(sys.argv[1], weights='none', "
        "image_size=int(sys.argv[2]))\n"
        "base.network.save_weights(sys.argv[3])\n"
    )
    subprocess.run(
        [
            *(sys.executable, "-c", program),
            *(_BACKBONE.value, str(_SIZE.value), str(path)),
        ],
        check=True,
        capture_output=True,
    )


if __name__ == "__main__":
    app.run(main)
