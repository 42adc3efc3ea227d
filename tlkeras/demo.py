"""What transfer is worth, shown offline on real handwritten digits.

A small network learns the digits 0 to 4 from scratch. That run is then
transferred to the digits 5 to 9, of which only a few images are given, and
compared with training from scratch on the same few.
"""

import os
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tlkeras import files
from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras.experiment import running
from tlkeras.report import comparison_plots
from tlkeras.report import tables
from tlkeras.scoring import metrics
from tlkeras.settings import config as configs

_IMAGES_PER_CLASS = 5
_COMMON: dict[str, Any] = {
    "data": "builtin:digits[5-9]",
    "backbone": "SmallResNet",
    "image_size": 16,
    "augment": "none",
    "images_per_class": _IMAGES_PER_CLASS,
    "batch_size": 5,
    "dropout": 0.0,
    # So few images allow a higher rate than photographs: 200 steps in all.
    "finetune_learning_rate": 6e-3,
    "force_rate": True,
    "learning_rate": 3e-3,
}
# Each has the same few images; their heads are solved, and what is trained has
# at most 40 epochs of them.
_STRATEGIES: dict[str, dict[str, Any]] = {
    "scratch": {"epochs": 40},
    "feature_extraction": {},
    "fine_tuning": {"finetune_epochs": 20},
    "pretrained_init": {"epochs": 40},
}


def run(
    workdir: str | os.PathLike, *, progress: progresses.Progress
) -> pathlib.Path:
    """Trains the five runs below `workdir`, prints a table, draws a plot.

    Returns the plot's path. Raises `UserError` where `workdir` holds finished
    runs.
    """
    directory = files.check_directory(workdir, "workdir")
    progress.say("1. The source: digits 0 to 4, from scratch")
    source = configs.build(configs.read("digits"))
    _train(source, directory / "source", progress)
    rows = []
    for number, (name, settings) in enumerate(_STRATEGIES.items(), 2):
        progress.say(
            f"{number}. The target: digits 5 to 9, {_IMAGES_PER_CLASS} images "
            f"each, {name}"
        )
        settings = {**_COMMON, **settings, "strategy": name}
        settings["weights"] = (
            "none" if name == "scratch" else str(directory / "source")
        )
        report = _train(configs.build(settings), directory / name, progress)
        rows.append(
            {
                "name": name,
                "accuracy": report["test"]["accuracy"]["value"],
                "low": report["test"]["accuracy"]["low"],
                "high": report["test"]["accuracy"]["high"],
                "seconds": sum(phase["seconds"] for phase in report["phases"]),
            }
        )
    picture = directory / "transfer.png"
    comparison_plots.comparison(rows, picture)
    images = report["test"]["accuracy"]["n"]
    progress.say(
        f"What the transfer is worth: digits 5 to 9 after {_IMAGES_PER_CLASS} "
        f"training images each, on {images} test images"
    )
    tables.show(
        ("strategy", "accuracy", "95 % interval", "training"),
        [
            (
                row["name"],
                f"{100 * row['accuracy']:.1f} %",
                f"{100 * row['low']:.1f} to {100 * row['high']:.1f}",
                f"{row['seconds']:.0f} s",
            )
            for row in rows
        ],
        right=("accuracy", "95 % interval", "training"),
    )
    progress.say(_worth(rows))
    progress.say(f"plot: {picture}")
    progress.say(f"reports: {directory}/*/report.html")
    return picture


def _worth(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns what the source's weights came to against random ones."""
    accuracy = {row["name"]: 100 * row["accuracy"] for row in rows}
    gains = {
        name: f"{accuracy[name] - accuracy['scratch']:+.1f}"
        for name in ("fine_tuning", "pretrained_init")
    }
    return (
        "The source's weights against random ones (scratch): "
        f"{gains['fine_tuning']} points where the head learns first "
        f"(fine_tuning), {gains['pretrained_init']} by the same training "
        "(pretrained_init)."
    )


def _train(
    config: configs.Config,
    directory: pathlib.Path,
    progress: progresses.Progress,
) -> Mapping[str, Any]:
    """Trains without a word, and says in one line what came of it."""
    silent = progresses.Progress(quiet=True)
    plan = plans.make(config, directory, progress=silent)
    report = running.run(plan, progress=silent).report
    progress.say(f"   {metrics.sentence(report['test'])}")
    return report
