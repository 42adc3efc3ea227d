"""How many stored views of an image make up for live augmentation.

The head's phase on a frozen base, with the activations of 1, 4 and 16 random
views of each training image, against a base that runs live and sees a new view
in each epoch, and against no augmentation at all. Prints one table: test
accuracy over all splits taken together, with its Wilson interval, the mean
difference to live, and the median time of the phase. Rows are shared between
the runs of one split, so the times of 4 and 16 lack what was there already.

  python benchmarks/views.py --data=folder:A --data=folder:B --weights=FILE
"""

import pathlib
import statistics
import tempfile

import measuring
from absl import app
from absl import flags

import tlkeras
from tlkeras.scoring import metrics

_DATA = flags.DEFINE_multi_string(
    "data", None, "labelled images; may be given several times", required=True
)
_WEIGHTS = flags.DEFINE_string("weights", "imagenet", "of the base; or a file")
_BACKBONE = flags.DEFINE_string("backbone", "MobileNetV2", "the network")
_SIZE = flags.DEFINE_integer("image_size", 96, "pixels")
_EPOCHS = flags.DEFINE_integer("epochs", 20, "of the head")
_AUGMENT = flags.DEFINE_enum(
    "augment", "strong", ["light", "strong"], "random changes of the images"
)
_VIEWS = flags.DEFINE_list("views", ["1", "4", "16"], "how many are stored")
_SEEDS = flags.DEFINE_integer("seeds", 3, "how many splits")


def main(arguments: list[str]) -> None:
    """Trains each way on each data set and split, and prints the table."""
    del arguments
    ways = {
        "none": {"augment": "none"},
        **{
            f"{number} stored": {"cached_views": int(number)}
            for number in _VIEWS.value
        },
        "live": {"feature_cache": "off"},
    }
    rows = []
    for data in _DATA.value:
        found = {way: [] for way in ways}
        for seed in range(_SEEDS.value):
            with tempfile.TemporaryDirectory() as folder:
                for way, settings in ways.items():
                    run = _train(data, seed, pathlib.Path(folder), settings)
                    found[way].append(run.report)
                    accuracy = run.report["test"]["accuracy"]["value"]
                    measuring.say(
                        f"{data} split {seed} {way}: {100 * accuracy:.1f} %"
                    )
        rows += _rows(data, found)
    measuring.show(
        f"{_BACKBONE.value} at {_SIZE.value} pixels, augmentation "
        f"{_AUGMENT.value}, {_EPOCHS.value} epochs of the head; "
        f"{_SEEDS.value} splits",
        (
            "data",
            "views",
            "test accuracy, %",
            "images",
            "points to live",
            "phase, s",
        ),
        rows,
    )


def _train(data: str, seed: int, folder: pathlib.Path, settings: dict):
    return tlkeras.train(
        data,
        workdir=folder / f"run-{len(list(folder.iterdir()))}",
        quiet=True,
        **{
            "backbone": _BACKBONE.value,
            "weights": _WEIGHTS.value,
            "image_size": _SIZE.value,
            "strategy": "feature_extraction",
            "head_epochs": _EPOCHS.value,
            "patience": _EPOCHS.value,
            "augment": _AUGMENT.value,
            "cache_dir": folder / "cache",
            "seed": seed,
            "split_seed": seed,
            **settings,
        },
    )


def _rows(data: str, found: dict[str, list[dict]]) -> list[tuple[str, ...]]:
    rows = []
    live = [report["test"]["accuracy"]["value"] for report in found["live"]]
    for way, reports in found.items():
        tests = [report["test"]["accuracy"] for report in reports]
        images = sum(test["n"] for test in tests)
        right = sum(round(test["value"] * test["n"]) for test in tests)
        low, high = metrics.wilson(right, images)
        difference = statistics.mean(
            test["value"] - other
            for test, other in zip(tests, live, strict=True)
        )
        seconds = statistics.median(
            report["phases"][0]["seconds"] for report in reports
        )
        rows.append(
            (
                pathlib.PurePath(data.partition(":")[2]).name,
                way,
                f"{100 * right / images:.1f} "
                f"({100 * low:.1f} to {100 * high:.1f})",
                f"{images}",
                f"{100 * difference:+.1f}",
                f"{seconds:.1f}",
            )
        )
    return rows


if __name__ == "__main__":
    app.run(main)
