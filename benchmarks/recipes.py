"""What makes fine-tuning good: rate, BatchNorm, depth and start, apart.

A cell is a data set, a number of known images, a base and a seed, which draws
them; a quarter of them is for validation, and the others of the set (at most
600) are test images. Every recipe takes the same steps of 32 images, a cosine
with a tenth of warm-up, flips, and starts from the pretrained weights; its
last epoch counts. Those whose name ends in + learn from all known images. All
recipes share one traced step a base, with a factor of the rate for each
variable, so seconds are computed from `costs` and not measured here.

Beside the recipes each cell has its evidence. One line a recipe goes to a CSV
file at once; what stands there is not run again.

  python benchmarks/recipes.py --output=benchmarks/recipes.csv \\
      --data=digits=builtin:digits --bases=MobileNetV2-0.35=FILE
"""

import csv
import dataclasses
import datetime
import pathlib
import platform
import time
from collections.abc import Iterator

import keras
import measuring
import numpy as np
import scipy.special
import sklearn.metrics
import sklearn.model_selection
import tensorflow as tf
from absl import app
from absl import flags

import tlkeras
from tlkeras.advisor import evidence as evidences
from tlkeras.data import decode
from tlkeras.data import sources
from tlkeras.models import classifier as classifiers
from tlkeras.models import graph
from tlkeras.training import phase as phases
from tlkeras.training import solver

_DATA = flags.DEFINE_multi_string(
    "data",
    ["digits=builtin:digits"],
    "NAME=SOURCE or NAME=SOURCE@CHANGE, several times",
)
_BASES = flags.DEFINE_multi_string(
    "bases", None, "BACKBONE=WEIGHTS, several times", required=True
)
_SIZES = flags.DEFINE_list("sizes", ["100", "400"], "known images")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1"], "of each cell")
_STEPS = flags.DEFINE_integer("steps", 150, "of each recipe")
_SIDE = flags.DEFINE_integer("image_size", 96, "pixels")
_RECIPES = flags.DEFINE_list("recipes", None, "which; all if not said")
_OUTPUT = flags.DEFINE_string("output", "recipes.csv", "one line a recipe")
_CACHE = flags.DEFINE_string("cache", None, "folder for decoded images")

_BATCH = 32
_VALIDATION = 0.25
_TEST = 600
# Classes that a head has room for; the others' biases are far below all.
_CLASSES = 15
_NEVER = -1e9


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a classifier is made from a pretrained base.

    start: `solved` head or `zero` head. rate: peak, of the head and the top.
    bottom: factor of it at the input, in between geometric. depth: what of the
    base learns: `none`, `stage` (the last), `half` (the upper) or `all`.
    """

    name: str
    start: str = "solved"
    rate: float = 0.0
    batch_norm: str = "frozen"
    depth: str = "all"
    bottom: float = 1.0


_KINDS = (
    Recipe("head", depth="none"),
    Recipe("frozen-1e-4", rate=1e-4),
    Recipe("frozen-3e-4", rate=3e-4),
    Recipe("frozen-1e-3", rate=1e-3),
    Recipe("norm-1e-4", rate=1e-4, batch_norm="training"),
    Recipe("norm-3e-4", rate=3e-4, batch_norm="training"),
    Recipe("norm-1e-3", rate=1e-3, batch_norm="training"),
    Recipe("zero-frozen-1e-3", start="zero", rate=1e-3),
    Recipe("zero-norm-1e-3", start="zero", rate=1e-3, batch_norm="training"),
    Recipe("stage-3e-4", rate=3e-4, depth="stage"),
    Recipe("stage-1e-3", rate=1e-3, depth="stage"),
    Recipe("half-3e-4", rate=3e-4, depth="half"),
    Recipe("layers-1e-3", rate=1e-3, bottom=0.1),
    Recipe("layers-norm-1e-3", rate=1e-3, batch_norm="training", bottom=0.1),
)
RECIPES = {
    **{each.name: each for each in _KINDS},
    **{f"{each.name}+": each for each in _KINDS},
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """What the recipes of a cell learn from, and are asked."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    images: np.ndarray
    targets: np.ndarray
    classes: int
    seed: int


class Trainer:
    """One base with a head, its steps traced once for each use of BatchNorm."""

    def __init__(self, backbone: str, weights: str, side: int, steps: int):
        self.model = tlkeras.build_classifier(
            _CLASSES, backbone=backbone, weights=weights, image_size=side
        )
        self.base = self.model.get_layer("base")
        self.logits = self.model.get_layer("head").get_layer("logits")
        self.before = classifiers.state(self.model)
        self.steps = steps
        classifiers.unfreeze(self.base, "all")
        self.variables = self.model.trainable_variables
        self.moments = [
            [tf.Variable(tf.zeros_like(each.value)) for each in self.variables]
            for _ in range(2)
        ]
        self.rates = tf.Variable(tf.zeros(len(self.variables)))
        self.step = {mode: self._step(mode) for mode in ("frozen", "training")}
        self.features = tf.function(
            lambda images: self.base(tf.cast(images, tf.float32)),
            reduce_retracing=True,
        )

    def _step(self, batch_norm: str):
        layers = [
            layer
            for layer in self.base.network.layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

        @tf.function
        def step(images, targets, rate, number):
            # Adam as Keras has it, with a factor of the rate a variable.
            with tf.GradientTape() as tape:
                answers = self.model(tf.cast(images, tf.float32), training=True)
                value = loss(targets, answers)
            slopes = tape.gradient(value, [v.value for v in self.variables])
            rate *= tf.sqrt(1 - 0.999**number) / (1 - 0.9**number)
            for place, (variable, slope) in enumerate(
                zip(self.variables, slopes, strict=True)
            ):
                first, second = (each[place] for each in self.moments)
                first.assign_add((slope - first) * 0.1)
                second.assign_add((tf.square(slope) - second) * 0.001)
                variable.value.assign_sub(
                    rate * self.rates[place] * first / (tf.sqrt(second) + 1e-7)
                )
            return value

        def run(*arguments):
            self.base.batch_norm = batch_norm
            for layer in layers:
                layer.momentum = phases.short_momentum(self.steps)
            try:
                return step(*arguments)
            finally:
                self.base.batch_norm = "frozen"

        return run

    def reset(self) -> None:
        classifiers.restore(self.model, self.before)
        for moment in self.moments:
            for each in moment:
                each.assign(tf.zeros_like(each))

    def factors(self, recipe: Recipe) -> np.ndarray:
        """Returns the factor of the rate for each variable that learns."""
        network = self.base.network
        stages = graph.stages(network)
        below: frozenset[str] = frozenset()
        if recipe.depth == "stage":
            below = graph.find_cut(network, "stages:1")[0].below
        elif recipe.depth == "half":
            below = stages[(len(stages) - 1) // 2].end.below
        owner = {
            variable.path: layer.name
            for layer in network.layers
            for variable in layer.trainable_variables
        }
        of_base = [each.path for each in self.variables if each.path in owner]
        found = []
        for variable in self.variables:
            if variable.path not in owner:
                found.append(1.0)
                continue
            height = of_base.index(variable.path) / (len(of_base) - 1)
            learns = owner[variable.path] not in below
            found.append(learns * recipe.bottom ** (1 - height))
        return np.array(found, np.float32)

    def outputs(self, images: np.ndarray) -> np.ndarray:
        parts = [
            self.features(images[start : start + 100]).numpy()
            for start in range(0, len(images), 100)
        ]
        return np.concatenate(parts)

    def fit(self, recipe: Recipe, cell: Cell, known: np.ndarray) -> None:
        """Leaves in the model what the recipe makes of the known images."""
        self.reset()
        kernel, bias = self.logits.get_weights()
        bias[cell.classes :] = _NEVER
        images, targets = cell.images[known], cell.targets[known]
        if recipe.start == "solved":
            solved = self.solved(cell, known)
            kernel[:, : cell.classes] = solved.kernel
            bias[: cell.classes] = solved.bias
        self.logits.kernel.assign(kernel)
        self.logits.bias.assign(bias)
        if recipe.depth == "none":
            return
        self.rates.assign(self.factors(recipe))
        keras.utils.set_random_seed(cell.seed)
        draw = np.random.default_rng(cell.seed)
        epochs = -(-self.steps * _BATCH // len(known)) + 1
        order = np.concatenate(
            [draw.permutation(len(known)) for _ in range(epochs)]
        )
        warmup = round(0.1 * self.steps)
        for number in range(self.steps):
            chosen = order[number * _BATCH : (number + 1) * _BATCH]
            flipped = draw.random(len(chosen)) < 0.5
            batch = images[chosen]
            batch[flipped] = batch[flipped, :, ::-1]
            share = (number - warmup) / max(self.steps - warmup, 1)
            scale = (
                number / warmup
                if number < warmup
                else (1 + np.cos(np.pi * share)) / 2
            )
            self.step[recipe.batch_norm](
                tf.constant(batch),
                tf.constant(targets[chosen]),
                tf.constant(recipe.rate * scale, tf.float32),
                tf.constant(number + 1.0),
            )

    def solved(self, cell: Cell, known: np.ndarray) -> solver.Solution:
        images = cell.images[known]
        views = [self.outputs(each) for each in (images, images[:, :, ::-1])]
        return solver.logistic(
            np.stack(views),
            cell.targets[known],
            np.ones(len(known)),
            classes=cell.classes,
        )

    def ask(self, cell: Cell, asked: np.ndarray) -> np.ndarray:
        """Returns the logits [n, classes] of the images asked for."""
        features = self.outputs(cell.images[asked])
        kernel, bias = self.logits.get_weights()
        return (features @ kernel + bias)[:, : cell.classes]


def main(arguments: list[str]) -> None:
    """Runs what the CSV file lacks."""
    del arguments
    output = pathlib.Path(_OUTPUT.value)
    done = _done(output)
    data = dict(each.split("=", 1) for each in _DATA.value)
    images = {name: _images(name, source) for name, source in data.items()}
    bases = dict(each.split("=", 1) for each in _BASES.value)
    trainers = {
        name: Trainer(name, weights, _SIDE.value, _STEPS.value)
        for name, weights in bases.items()
    }
    began = time.perf_counter()
    for size, seed, name, base in _cells(data, bases):
        cell = _draw(*images[name], size, seed)
        names = _RECIPES.value or list(RECIPES)
        key = (name, str(size), base, str(seed), str(_STEPS.value))
        missing = [each for each in names if (*key, each) not in done]
        if cell is None or not missing:
            continue
        evidence = _evidence(trainers[base], cell)
        for recipe in missing:
            row = _result(trainers[base], RECIPES[recipe], recipe, cell)
            _append(
                output,
                dict(
                    zip(
                        ("data", "size", "base", "seed", "steps", "recipe"),
                        (*key, recipe),
                        strict=True,
                    )
                )
                | row
                | evidence,
            )
        passed = (time.perf_counter() - began) / 60
        measuring.say(f"{' '.join(key)} done, {passed:.1f} min")


def _cells(data, bases) -> Iterator[tuple[int, int, str, str]]:
    for seed in _SEEDS.value:
        for size in _SIZES.value:
            for name in data:
                for base in bases:
                    yield int(size), int(seed), name, base


def _images(name: str, source: str) -> tuple[np.ndarray, np.ndarray]:
    if not _CACHE.value:
        return _read(source)
    path = pathlib.Path(_CACHE.value, f"{name}-{_SIDE.value}.npz")
    if not path.exists():
        images, targets = _read(source)
        np.savez(path, images=images, targets=targets)
    with np.load(path) as kept:
        return kept["images"], kept["targets"]


def _read(source: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images [n, h, w, 3] of a source, uint8, and targets [n]."""
    name, _, change = source.partition("@")
    found = sources.open(sources.absolute(name), progress=measuring.QUIET)
    side = _SIDE.value
    images = np.stack(
        [
            decode.resize(decode.decode(found.read(index)), side, "pad").numpy()
            for index in range(len(found.examples))
        ]
    )
    labels = [example.label for example in found.examples]
    targets = np.unique(labels, return_inverse=True)[1]
    if change == "grey":
        grey = images @ np.array([0.299, 0.587, 0.114])
        images = np.repeat(grey[..., None], 3, -1).round().astype(np.uint8)
    elif change == "small":
        small = tf.image.resize(images, [24, 24], antialias=True)
        images = np.uint8(np.clip(tf.image.resize(small, [side, side]), 0, 255))
    elif change == "noise":
        noise = np.random.default_rng(0).normal(0, 50, images.shape)
        images = np.uint8(np.clip(images + noise, 0, 255))
    elif change.startswith("classes"):
        kept = targets < int(change.removeprefix("classes"))
        images, targets = images[kept], targets[kept]
    elif change:
        raise app.UsageError(f"no such change: {change}")
    return images, targets


def _draw(images, targets, size: int, seed: int) -> Cell | None:
    """Returns the cell; None where too few images are left for testing."""
    if len(images) < size + 60:
        return None
    known, rest = sklearn.model_selection.train_test_split(
        np.arange(len(images)),
        train_size=size,
        stratify=targets,
        random_state=seed,
    )
    train, validation = sklearn.model_selection.train_test_split(
        known, test_size=_VALIDATION, stratify=targets[known], random_state=seed
    )
    return Cell(
        train,
        validation,
        rest[:_TEST],
        images,
        targets,
        int(targets.max()) + 1,
        seed,
    )


def _evidence(trainer: Trainer, cell: Cell) -> dict[str, str]:
    trainer.reset()
    known = np.concatenate([cell.train, cell.validation])
    found = evidences.gather(
        trainer.base,
        cell.images[known],
        cell.targets[known],
        seed=cell.seed,
        progress=measuring.QUIET,
    )
    return {
        f"evidence_{name}": "" if value is None else f"{value:.5g}"
        for name, value in evidences.flat(found).items()
    }


def _result(trainer, recipe: Recipe, name: str, cell: Cell) -> dict[str, str]:
    began = time.process_time()
    everything = name.endswith("+")
    known = cell.train
    if everything:
        known = np.concatenate([cell.train, cell.validation])
    trainer.fit(recipe, cell, known)
    seconds = time.process_time() - began
    test = _scores(trainer, cell, cell.test)
    validation = {}
    if not everything:
        validation = _scores(trainer, cell, cell.validation)
    found = {"learned": len(known), "test_images": len(cell.test)}
    found |= {"classes": cell.classes, "cpu_seconds": f"{seconds:.2f}"}
    for split, scores in (("test", test), ("validation", validation)):
        for key in ("accuracy", "balanced", "cross_entropy"):
            found[f"{split}_{key}"] = scores.get(key, "")
    return found | {
        "date": datetime.date.today().isoformat(),
        "machine": measuring.processor(),
        "versions": f"Python {platform.python_version()}, Keras "
        f"{keras.__version__}, TensorFlow {tf.__version__}, tlkeras "
        f"{tlkeras.__version__}",
    }


def _scores(trainer: Trainer, cell: Cell, asked: np.ndarray) -> dict[str, str]:
    logits = np.float64(trainer.ask(cell, asked))
    targets = cell.targets[asked]
    losses = -scipy.special.log_softmax(logits, axis=1)[
        np.arange(len(asked)), targets
    ]
    answers = logits.argmax(axis=1)
    right = answers == targets
    balanced = sklearn.metrics.recall_score(
        targets, answers, average="macro", zero_division=0
    )
    return {
        "accuracy": f"{right.mean():.5f}",
        "balanced": f"{balanced:.5f}",
        "cross_entropy": f"{losses.mean():.5f}",
    }


def _done(output: pathlib.Path) -> set[tuple[str, ...]]:
    if not output.exists():
        return set()
    names = ("data", "size", "base", "seed", "steps", "recipe")
    with output.open(newline="") as stream:
        return {
            tuple(row[name] for name in names) for row in csv.DictReader(stream)
        }


def _append(output: pathlib.Path, row: dict[str, str]) -> None:
    new = not output.exists()
    with output.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    app.run(main)
