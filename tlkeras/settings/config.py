"""The settings of a training run: the one truth, in TOML and as flags.

Every field carries its help text and what it allows, so that flags, files,
checks and documentation come from this one place.
"""

import dataclasses
import os
import pathlib
import re
import textwrap
import tomllib
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from tlkeras import errors
from tlkeras import files
from tlkeras import records
from tlkeras.settings import budget as budgets
from tlkeras.settings import setting as setting_rules
from tlkeras.settings import strategies
from tlkeras.settings import wish as wishes


def _setting(default: Any, help: str, **rule: Any) -> Any:
    return dataclasses.field(
        default=default, metadata={"rule": setting_rules.Rule(help, **rule)}
    )


# Images a step where nothing else is said.
AUTO_BATCH = 32
# Ranges that several settings have.
_COUNT: dict[str, Any] = {"low": 1, "high": 100000}
_RATE: dict[str, Any] = {"low": 0.0, "above": True, "high": 10.0}
_DECAY: dict[str, Any] = {"low": 0.0, "above": True, "high": 1.0}
_RANK: dict[str, Any] = {"low": 1, "high": 256}
_ADAPTERS = ("none", "lora")
_GIGABYTES: dict[str, Any] = {"low": 0.0, "high": 100000.0}
_SEED: dict[str, Any] = {"low": 0, "high": 2**31 - 1}
# Whether a base has that many stages, or that layer, is known when it is built.
_UNFREEZE: dict[str, Any] = {
    "pattern": r"none|all|stages:[1-9][0-9]*|from:.+",
    "form": "none, all, stages:N with N of at least 1, or from:LAYER",
}


# What the model that a run delivers has learned from, by `final_fit`.
LEARNED = {
    "train": ("train",),
    "train_and_validation": ("train", "validation"),
    "all": ("train", "validation", "test"),
}
# Up to so many images that are not for testing the validation images teach
# more than they measure: 1.9 points (standard error 0.4) at 100 images, 1.0
# (0.4) at 300, on 17 data sets (benchmarks/decision.md).
_FEW_KNOWN = 500


@dataclasses.dataclass(frozen=True)
class Config:
    """All that a training run depends on, but not where its results go."""

    data: str = _setting(
        "",
        "labelled images: a folder with one folder for each class, or "
        "folder:PATH, csv:PATH, tfds:NAME[/CONFIG] or builtin:digits[CLASSES]",
    )
    data_dir: str = _setting(
        "", "where tfds: finds and keeps its data; empty is TFDS' own place"
    )
    backbone: str = _setting(
        "MobileNetV2",
        "the network, as `tlkeras backbones` lists it; hub: and a preset of "
        "keras-hub, hf://USER/MODEL or a directory is one of its networks",
    )
    weights: str = _setting(
        "imagenet",
        "what the base starts from: imagenet (with hub: the preset's own), "
        "none, a weights file "
        "(.h5, .weights.h5, .keras, .pth, .safetensors) or the directory of "
        "an earlier run",
    )
    image_size: int | str = _setting(
        "auto",
        "side of the square image in pixels; auto is the network's own",
        low=1,
        high=4096,
        word="auto",
    )
    resize: str = _setting(
        # As ImageNet networks are judged. Linear probe of MobileNetV2 at 160
        # pixels, three splits pooled: ants and bees 95.6 % cropped, 93.9
        # stretched, 90.6 padded; brain MRI 85.5, 86.6, 86.0 (five splits).
        "crop",
        "how an image becomes square: pad keeps all of it, crop its centre, "
        "stretch ignores its proportions",
        choices=("pad", "crop", "stretch"),
    )
    batch_size: int | str = _setting(
        "auto",
        "images a step; auto is 32, on a GPU or TPU up to 128, at most all "
        "training images",
        low=1,
        high=65536,
        word="auto",
    )
    strategy: str = _setting(
        "auto",
        "which weights to start from, and which phases to take",
        choices=strategies.NAMES,
    )
    head: str = _setting(
        "linear",
        "linear: one layer on the features; mlp: a hidden layer before it",
        choices=("linear", "mlp"),
    )
    head_units: int = _setting(
        256, "width of the mlp head's hidden layer", low=1, high=65536
    )
    head_initializer: str = _setting(
        "zeros",
        "start of the head's last kernel (zeros: as in Big Transfer)",
        choices=("zeros", "glorot_uniform"),
    )
    dropout: float = _setting(
        0.2, "share of features dropped before the head", low=0.0, high=0.95
    )
    l2: float = _setting(
        0.0, "penalty on the squares of the head's kernels", low=0.0, high=10.0
    )
    head_epochs: int = _setting(
        50, "epochs of the head's phase, at most", **_COUNT
    )
    head_learning_rate: float = _setting(
        1e-3, "Adam's rate in the head's phase", **_RATE
    )
    head_solver: str = _setting(
        "auto",
        "adam trains the head; logistic solves a linear one to its minimum on "
        "the stored features, without dropout, with a penalty that l2 gives "
        "or, where it is 0, cross-validation chooses; auto is logistic for a "
        "linear head whose features can be stored, else adam",
        choices=("auto", "adam", "logistic"),
    )
    unfreeze: str = _setting(
        "all",
        "what of the base fine_tuning unfreezes; stages:N are the N topmost",
        **_UNFREEZE,
    )
    finetune_epochs: int = _setting(
        10, "epochs of the fine-tuning phase", **_COUNT
    )
    finetune_learning_rate: float = _setting(
        1e-4, "Adam's highest rate in the fine-tuning phase", **_RATE
    )
    force_rate: bool = _setting(
        False, "allow a fine-tuning rate above a fifth of the head's"
    )
    epochs: int = _setting(
        50, "epochs of scratch and pretrained_init", **_COUNT
    )
    learning_rate: float = _setting(
        1e-3, "Adam's highest rate in scratch and pretrained_init", **_RATE
    )
    budget: str = _setting(
        "auto",
        "how long the base may learn under strategy auto, or all of it; auto "
        "is 500 steps below 20,000 images and 10,000 above",
        pattern=budgets.PATTERN,
        form=budgets.FORM,
    )
    schedule: str = _setting(
        "cosine",
        "course of the rate where the base learns; the head's is constant",
        choices=("cosine", "constant"),
    )
    warmup: float = _setting(
        0.1, "share of the steps in which cosine warms up", low=0.0, high=0.9
    )
    layer_decay: float = _setting(
        1.0,
        "what the rate is multiplied by from each block of the base to the one "
        "below it, where the base learns; 1 is one rate for all",
        **_DECAY,
    )
    adapt: str = _setting(
        "none",
        "lora lets adapters of the base's dense layers learn in the place of "
        "what fine-tuning unfreezes, and adds them to it in the end",
        choices=_ADAPTERS,
    )
    lora_rank: int = _setting(8, "width of the adapters of lora", **_RANK)
    patience: int = _setting(
        5,
        "epochs without better validation after which a phase at a constant "
        "rate ends; cosine runs to its end",
        **_COUNT,
    )
    final_fit: str = _setting(
        "auto",
        "what the delivered model learns from: train; or, when all is chosen, "
        "the chosen phases once more from the beginning, for as many steps, on "
        "train_and_validation, or on all, so that no image is left that could "
        "measure the delivered model; auto is train_and_validation under "
        "strategy auto with up to 500 of these images, else train",
        choices=("auto", *LEARNED),
    )
    folds: int = _setting(
        0,
        "K-fold cross-validation over all images, in the place of one split: "
        "each fold is tested on one part and chosen by the next, and the "
        "delivered model learns from all images; 0 is off",
        low=0,
        high=20,
    )
    calibrate: str = _setting(
        "auto",
        "auto divides the logits by a temperature fitted on the validation "
        "images, 50 or more, where the head was not solved; none leaves them",
        choices=("auto", "none"),
    )
    tta: str = _setting(
        "none",
        "what answers are averaged over: flip is an image and its mirror "
        "image, left to right, at twice the cost of an answer; none is the "
        "image alone",
        choices=("none", "flip"),
    )
    threshold: str = _setting(
        "none",
        "of two classes, the probability from which on `positive` is answered: "
        "chosen on the validation images so that mistakes cost least, cost:5, "
        "where one that is missed costs as much as 5 false alarms, or for a "
        "precision or recall, as recall:0.95; none answers the likelier one",
        pattern=wishes.PATTERN,
        form=wishes.FORM,
    )
    positive: str = _setting(
        "",
        "of two classes, the one that is looked for, in curves and "
        "`threshold`; empty is the latter in the order of their names",
    )
    slices: str = _setting(
        "",
        "a column of the table csv:PATH, such as camera: the accuracy is also "
        "given for each of its values",
    )
    coverage: float = _setting(
        0.95,
        "how often a set of labels is to hold the true one, which the report "
        "checks on the test images",
        low=0.5,
        high=0.999,
    )
    unknown_rate: float = _setting(
        0.05,
        "share of the validation images that may be refused as none of the "
        "classes: how unlike them a picture must be; 0 refuses nothing",
        low=0.0,
        high=0.5,
    )
    class_weights: str = _setting(
        "none",
        "balanced weighs each class by the inverse of its share",
        choices=("none", "balanced"),
    )
    augment: str = _setting(
        "flip",
        "random changes of training images: flip left-right; light adds "
        "small turns, shifts, zoom and brightness; strong larger ones",
        choices=("none", "flip", "light", "strong"),
    )
    images_per_class: int | str = _setting(
        "all",
        "training images of each class to use, the rest is left aside",
        low=1,
        high=10_000_000,
        word="all",
    )
    feature_cache: str = _setting(
        "auto",
        "what is frozen is computed once an image and view: disk keeps that in "
        "cache_dir, memory in memory, auto does both where it fits and pays; "
        "off computes it in each epoch",
        choices=("auto", "off", "memory", "disk"),
    )
    cached_views: int = _setting(
        4,
        "random views of a training image whose activations are kept, where "
        "augment is light or strong; with flip both there are",
        low=1,
        high=1000,
    )
    feature_memory_gb: float = _setting(
        2.0,
        "gigabytes of activations that a phase may hold in memory",
        **_GIGABYTES,
    )
    feature_cache_gb: float = _setting(
        20.0,
        "gigabytes of activations in cache_dir; what was not used for longest "
        "goes first",
        **_GIGABYTES,
    )
    on_bad_image: str = _setting(
        "skip",
        "skip lists images that cannot be read in skipped.csv; fail stops",
        choices=("skip", "fail"),
    )
    max_pixels: int = _setting(
        2**29 // 3,
        "images of more pixels are refused by their header, unread",
        low=1,
        # Where TensorFlow's decoders of JPEG and PNG stop.
        high=2**29 // 3,
    )
    image_store_gb: float = _setting(
        8.0,
        "gigabytes of disk for decoded images; each epoch decodes the others",
        **_GIGABYTES,
    )
    cache_dir: str = _setting(
        "",
        "where what was found out about images is kept between runs; empty is "
        "~/.cache/tlkeras",
    )
    precision: str = _setting(
        "auto",
        "number format of the computation; auto is float32 on a CPU",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    seed: int = _setting(
        0, "fixes initialisation, order and augmentation", **_SEED
    )
    split_seed: int = _setting(
        0, "fixes which image is in which split", **_SEED
    )
    tensorboard: bool = _setting(
        False, "write event files for TensorBoard into the run directory"
    )
    distribute: str = _setting(
        "auto",
        "how a step's images are shared among several devices: mirrored on "
        "TensorFlow, data_parallel on JAX; auto does so where there are "
        "several GPUs or TPU cores",
        choices=("auto", "none", "mirrored", "data_parallel"),
        place=True,
    )
    coordinator: str = _setting(
        "",
        "several processes, on JAX: HOST:PORT of the first, or those of all "
        "with commas between; auto asks the launcher (Cloud TPU, Slurm, Open "
        "MPI, or KERAS_DISTRIBUTION_* variables); empty is one process",
        place=True,
    )
    num_processes: int | str = _setting(
        "auto",
        "how many processes there are; auto counts the addresses, or asks the "
        "launcher",
        low=1,
        high=65536,
        word="auto",
        place=True,
    )
    process_id: int | str = _setting(
        "auto",
        "which of the processes this is, from 0; auto looks for this host's "
        "address, or asks the launcher",
        low=0,
        high=65535,
        word="auto",
        place=True,
    )
    phases: tuple[records.Phase, ...] = ()

    def strategy_phases(self) -> strategies.Strategy:
        """Returns the strategy that the settings describe."""
        if self.phases:
            return strategies.walk("phases", self.phases)
        return strategies.build(self.strategy, vars(self))


def learned(config: Config, known: int) -> tuple[str, ...]:
    """Returns the splits that the delivered model learns from.

    known: images that are not for testing.
    """
    if config.final_fit != "auto":
        return LEARNED[config.final_fit]
    decides = config.strategy_phases().decides
    few = decides and known <= _FEW_KNOWN
    return LEARNED["train_and_validation" if few else "train"]


def settings() -> dict[str, setting_rules.Setting]:
    """Returns the settings that are one value each, by name."""
    own = {
        field.name: field.metadata["rule"]
        for field in dataclasses.fields(Config)
        if field.metadata
    }
    return setting_rules.of(Config, own)


def resolve(
    path: str | os.PathLike = "",
    given: Mapping[str, Any] | None = None,
    *,
    without: Iterable[str] = (),
) -> Config:
    """Returns the settings: defaults, overruled by a file, then by `given`.

    path: a TOML file or the name of a recipe; '' is none. A strategy among
    `given` also overrules the file's phases, and the reverse. without: what
    of the file is not used.

    Raises `UserError` as `read` and `build` do.
    """
    values = _check_all(read(path), str(path)) if path else {}
    values = {
        name: each for name, each in values.items() if name not in without
    }
    given = _check_all(given or {}, "")
    if "strategy" in given:
        values.pop("phases", None)
    if "phases" in given:
        values.pop("strategy", None)
    config = Config(**{**values, **given})
    _check_together(config)
    return config


def build(values: Mapping[str, Any], origin: str = "") -> Config:
    """Returns the checked configuration that `values` describe.

    `origin` says in messages where the values stand. Raises `UserError` for
    an unknown name, a wrong type, a value out of range, or values that
    contradict each other.
    """
    config = Config(**_check_all(values, origin))
    _check_together(config)
    return config


def unused(config: Config, given: Iterable[str]) -> list[str]:
    """Returns a sentence for each setting in `given` that is not read."""
    reasons = _unread(config)
    return [
        f"`{name}` has no effect with {reasons[name]}."
        for name in given
        if name in reasons
    ]


def _unread(config: Config) -> dict[str, str]:
    """Returns the settings that this run does not read, and why."""
    strategy = config.strategy_phases()
    phases = strategy.planned
    whole = all(
        phase.unfreeze == "all" and phase.batch_norm == "training"
        for phase in phases
    )
    solved = not strategy.decides and all(
        phase.solver != "adam" for phase in phases
    )
    cached = ("cached_views", "feature_memory_gb", "feature_cache_gb")
    conditions = (
        (config.head == "linear", "head linear", ("head_units",)),
        (solved, strategies.SOLVED, ("dropout", "head_initializer")),
        (
            config.augment in ("none", "flip"),
            f"augment {config.augment}",
            ("cached_views",),
        ),
        (whole, "nothing frozen", ("feature_cache", *cached)),
        (config.feature_cache == "off", "feature_cache off", cached),
        (config.folds > 0, "folds, which end with all", ("final_fit",)),
        (
            config.feature_cache == "memory",
            "feature_cache memory",
            ("feature_cache_gb",),
        ),
        (
            not config.data.startswith("tfds:"),
            "data that is not of tfds:",
            ("data_dir",),
        ),
    )
    reasons = {
        name: why for true, why, names in conditions for name in names if true
    }
    if not config.phases:
        return reasons | strategies.unread(config.strategy, vars(config))
    of_strategies = [name for name in settings() if strategies.readers(name)]
    return reasons | {
        name: "[[phases]]; it is a setting of "
        + ", ".join(strategies.readers(name))
        for name in of_strategies
    }


def read(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the values of a TOML file, not yet checked.

    A name without a directory or suffix is looked for among the recipes that
    come with the package. Raises `UserError` where there is no such file or
    it is no TOML.
    """
    path = _find(files.expand(path))
    try:
        # Paths need not be UTF-8; `files.write_text` writes them the same way.
        return tomllib.loads(
            files.read(path, most=files.LARGEST_SETTINGS).decode(
                "utf-8-sig", "surrogateescape"
            )
        )
    # A number of thousands of digits is another ValueError.
    except (ValueError, RecursionError) as error:
        raise errors.UserError(
            f"`config` must be a TOML file. Received: {path}: "
            f"{textwrap.shorten(str(error), 200)}."
        ) from None
    except OSError as error:
        raise errors.UserError(
            f"`config` cannot be read: {path}: {error.strerror}."
        ) from None


def anywhere(config: Config) -> Config:
    """Returns `config` without what it says of where it is computed."""
    places = {
        name: setting.default
        for name, setting in settings().items()
        if setting.rule.place
    }
    return dataclasses.replace(config, **places)


# Settings of what is stored where, and what is shown of it: they decide nothing
# of the result, so that a killed run goes on with others.
_STORAGE = (
    "cache_dir",
    "feature_memory_gb",
    "feature_cache_gb",
    "image_store_gb",
    "tensorboard",
)


def decisive(config: Config) -> Config:
    """Returns `config` with all that does not decide the result at default."""
    default = Config()
    values = {name: getattr(default, name) for name in _STORAGE}
    return dataclasses.replace(anywhere(config), **values)


def to_toml(config: Config) -> str:
    """Returns `anywhere(config)` as TOML; `build` reads back an equal one."""
    # Models are built also where nobody writes settings.
    import tomli_w

    values = {
        name: getattr(config, name)
        for name, setting in settings().items()
        if not setting.rule.place
    }
    if config.phases:
        del values["strategy"]
        values["phases"] = [
            dataclasses.asdict(phase) for phase in config.phases
        ]
    return tomli_w.dumps(values)


def recipes() -> dict[str, pathlib.Path]:
    """Returns the recipes that come with the package, by name."""
    package = pathlib.Path(__file__).parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if os.path.isdir(folder):
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return {}


def _find(path: pathlib.Path) -> pathlib.Path:
    # A folder of images may well have the name of a recipe.
    if path.exists() and not path.is_dir():
        return path
    known = recipes()
    if path.name in known and str(path) == path.name:
        return known[path.name]
    what = "is a directory" if path.is_dir() else "does not exist"
    raise errors.UserError(
        "`config` must be a TOML file, or the name of a recipe: "
        f"{', '.join(known)}. Received: {path}, which {what}."
        f"{errors.nearest(path.stem, known)}"
    )


def _check_all(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Returns `values`, each checked by itself."""
    known = settings()
    checked = {}
    for name, value in values.items():
        if name == "phases":
            checked[name] = _phases(value, origin)
        elif name in known:
            checked[name] = setting_rules.check(known[name], value, origin)
        else:
            raise errors.UserError(setting_rules.unknown(name, known, origin))
    if "phases" in checked and "strategy" in checked:
        raise errors.UserError(
            f"{setting_rules.where(origin)}`strategy` and [[phases]] exclude "
            f"each other. Received: strategy = {checked['strategy']!r} and "
            f"{len(checked['phases'])} phases. Leave one of them out."
        )
    return checked


_PHASE_RULES = {
    "name": setting_rules.Rule(),
    "unfreeze": setting_rules.Rule(**_UNFREEZE),
    "epochs": setting_rules.Rule(**_COUNT),
    "learning_rate": setting_rules.Rule(**_RATE),
    "batch_norm": setting_rules.Rule(choices=("frozen", "training")),
    "schedule": setting_rules.Rule(choices=("constant", "cosine")),
    "warmup": setting_rules.Rule(low=0.0, high=0.9),
    "patience": setting_rules.Rule(**_COUNT),
    "fresh_head": setting_rules.Rule(),
    "layer_decay": setting_rules.Rule(**_DECAY),
    "adapt": setting_rules.Rule(choices=_ADAPTERS),
    "lora_rank": setting_rules.Rule(**_RANK),
    "solver": setting_rules.Rule(choices=("adam", "logistic")),
}


def _phases(values: Any, origin: str) -> tuple[records.Phase, ...]:
    if not isinstance(values, list | tuple) or not values:
        raise errors.UserError(
            f"{setting_rules.where(origin)}`phases` must be one [[phases]] "
            f"table or more. Received: {errors.shown(values)}."
        )
    phases = tuple(
        _phase(each, f"{setting_rules.where(origin)}phase {number}")
        for number, each in enumerate(values, 1)
    )
    names = [phase.name for phase in phases]
    for name in names:
        if names.count(name) > 1:
            raise errors.UserError(
                f"{setting_rules.where(origin)}the names of [[phases]] must "
                f"differ. Received: {name!r} twice."
            )
    return phases


def _phase(values: Any, origin: str) -> records.Phase:
    if not isinstance(values, Mapping):
        raise errors.UserError(
            f"{origin} must be a table. Received: {errors.shown(values)}."
        )
    known = setting_rules.of(records.Phase, _PHASE_RULES)
    for name in values:
        if name not in known:
            raise errors.UserError(setting_rules.unknown(name, known, origin))
    for name, setting in known.items():
        if setting.default is dataclasses.MISSING and name not in values:
            raise errors.UserError(
                f"{origin} lacks `{name}`. It needs name, unfreeze, epochs "
                "and learning_rate."
            )
    phase = records.Phase(
        **{
            name: setting_rules.check(known[name], value, origin)
            for name, value in values.items()
        }
    )
    # The name is also that of a directory, for TensorBoard.
    if not re.fullmatch(r"[\w-]+", phase.name):
        raise errors.UserError(
            f"{origin}: `name` must be letters, digits, _ and -. Received: "
            f"{phase.name!r}."
        )
    return phase


def _check_together(config: Config) -> None:
    if config.folds in (1, 2):
        raise errors.UserError(
            "`folds` must be 0 or in [3, 20], because one fold tests, one "
            f"chooses, and the others teach. Received: {config.folds}."
        )
    row = strategies.BY_NAME[config.strategy]
    if not row.pretrained and config.weights not in ("imagenet", "none"):
        raise errors.UserError(
            f"`strategy` {row.name} starts from random weights. Received: "
            f"weights = {config.weights!r}. Leave `weights` out, or choose "
            "pretrained_init."
        )
    for phase in config.strategy_phases().planned:
        if phase.batch_norm == "training" and config.batch_size == 1:
            raise errors.UserError(
                f"`batch_size` must be at least 2, because phase {phase.name} "
                "has BatchNorm in training mode, which learns nothing from one "
                "image. Received: 1."
            )
        if phase.adapt != "none" and phase.batch_norm == "training":
            raise errors.UserError(
                f"phase {phase.name}: with `adapt` {phase.adapt} `batch_norm` "
                "must be frozen, because nothing but the adapters may change. "
                "Received: 'training'."
            )
        if phase.solver != "logistic":
            continue
        for name, received, allowed in (
            ("unfreeze", phase.unfreeze, ("none",)),
            ("head", config.head, ("linear",)),
            ("feature_cache", config.feature_cache, ("auto", "memory", "disk")),
        ):
            if received not in allowed:
                raise errors.UserError(
                    f"phase {phase.name} is solved by {phase.solver}, so "
                    f"`{name}` must be {' or '.join(allowed)}. Received: "
                    f"{received!r}."
                )
    # A fifth is not exact in binary numbers, hence the margin.
    highest = config.head_learning_rate / 5 * (1 + 1e-9)
    if (
        "finetune" in row.kinds
        and not config.phases
        and not config.force_rate
        # What a strategy's name says of its rate was measured.
        and config.finetune_learning_rate * min(row.rate, 1.0) > highest
    ):
        raise errors.UserError(
            "`finetune_learning_rate` must be at most a fifth of "
            f"`head_learning_rate` ({config.head_learning_rate:g}), because a "
            "high rate destroys the pretrained weights. Received: "
            f"{config.finetune_learning_rate:g}. Give --force_rate to use it "
            "all the same."
        )
