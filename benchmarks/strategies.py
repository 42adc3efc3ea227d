"""Accuracy of feature extraction and fine-tuning over three splits.

Prints one table: each strategy's accuracy on the test images of all splits
taken together, with its Wilson interval, and the median time of training.

  python benchmarks/strategies.py --data=folder:PHOTOS --weights=FILE \\
      --image_size=160
"""

import pathlib
import statistics
import sys
import tempfile

from absl import app
from absl import flags

import tlkeras
from tlkeras.report import tables
from tlkeras.scoring import metrics

_DATA = flags.DEFINE_string("data", None, "labelled images", required=True)
_WEIGHTS = flags.DEFINE_string("weights", "imagenet", "of the base")
_BACKBONE = flags.DEFINE_string("backbone", "MobileNetV2", "the network")
_SIZE = flags.DEFINE_integer("image_size", 160, "pixels")
_STRATEGIES = flags.DEFINE_list(
    "strategies", ["feature_extraction", "fine_tuning"], "which to train"
)
_SEEDS = flags.DEFINE_integer("seeds", 3, "how many splits")


def main(arguments: list[str]) -> None:
    """Trains each strategy on each split and prints the table."""
    del arguments
    rows = []
    for strategy in _STRATEGIES.value:
        right = images = 0
        seconds = []
        for seed in range(_SEEDS.value):
            with tempfile.TemporaryDirectory() as folder:
                run = tlkeras.train(
                    _DATA.value,
                    workdir=pathlib.Path(folder, "run"),
                    weights=_WEIGHTS.value,
                    backbone=_BACKBONE.value,
                    image_size=_SIZE.value,
                    strategy=strategy,
                    split_seed=seed,
                    quiet=True,
                )
            found = run.report["test"]["accuracy"]
            right += round(found["value"] * found["n"])
            images += found["n"]
            seconds.append(run.report["seconds"])
            phases = [
                f"{phase['name']} {100 * phase['validation_accuracy']:.1f} %"
                + (" rolled back" if phase["rolled_back"] else "")
                for phase in run.report["phases"]
            ]
            print(
                f"{strategy} split {seed}: test {100 * found['value']:.1f} % "
                f"of {found['n']}, "
                f"validation {', '.join(phases)}, {seconds[-1]:.0f} s",
                file=sys.stderr,
                flush=True,
            )
        low, high = metrics.wilson(right, images)
        rows.append(
            (
                strategy,
                f"{100 * right / images:.1f} %",
                f"{100 * low:.1f} to {100 * high:.1f}",
                str(images),
                f"{statistics.median(seconds):.0f} s",
            )
        )
    tables.show(
        ("strategy", "accuracy", "95 % interval", "test images", "median time"),
        rows,
        right=("accuracy", "95 % interval", "test images", "median time"),
    )


if __name__ == "__main__":
    app.run(main)
