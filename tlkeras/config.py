"""The settings of a training run: the one truth, in TOML and as flags.

Every field carries its help text and what it allows, so that flags, files,
checks and documentation come from this one place.
"""

import dataclasses
import math
import pathlib
import tomllib
import types
from collections.abc import Mapping
from typing import Any

import tomli_w

from tlkeras import errors
from tlkeras import records
from tlkeras import strategies


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a setting means and allows.

    choices: the words allowed; none of them means any text.
    low, high: the smallest and the largest number allowed.
    word: a word allowed in the place of a number.
    above: whether the number must be above `low`, not equal to it.
    """

    help: str
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    word: str = ""
    above: bool = False

    def allowed(self) -> str:
        """Returns in words what the setting allows."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        bounds = []
        if self.low > -math.inf:
            bounds.append(f"{'above' if self.above else 'at least'} {self.low:g}")
        if self.high < math.inf:
            bounds.append(f"at most {self.high:g}")
        text = " and ".join(bounds)
        return f"{text}, or the word {self.word}" if self.word else text


def _setting(default: Any, help: str, **rule: Any) -> Any:
    return dataclasses.field(
        default=default, metadata={"rule": Rule(help, **rule)}
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """All that a training run depends on, but not where its results go."""

    data: str = _setting(
        "",
        "labelled images: folder:PATH, csv:PATH, tfds:NAME[/CONFIG] or "
        "builtin:digits[CLASSES]",
    )
    data_dir: str = _setting(
        "", "where tfds: finds and keeps its data; empty is TFDS' own place"
    )
    backbone: str = _setting(
        "MobileNetV2", "the network, as `tlkeras backbones` lists it"
    )
    weights: str = _setting(
        "imagenet",
        "what the base starts from: imagenet, none, a weights file "
        "(.h5, .weights.h5, .keras) or the directory of an earlier run",
    )
    image_size: int | str = _setting(
        "auto",
        "side of the square image in pixels; auto is the network's own",
        low=1,
        high=4096,
        word="auto",
    )
    resize: str = _setting(
        "pad",
        "how an image becomes square: pad keeps all of it, crop its centre, "
        "stretch ignores its proportions",
        choices=("pad", "crop", "stretch"),
    )
    batch_size: int = _setting(32, "images a step", low=1, high=65536)
    strategy: str = _setting(
        "fine_tuning",
        "the way to a classifier",
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
        50, "epochs of the head's phase, at most", low=1, high=100000
    )
    head_learning_rate: float = _setting(
        1e-3, "Adam's rate in the head's phase", low=0.0, above=True, high=10.0
    )
    unfreeze: str = _setting(
        "all",
        "what of the base fine_tuning unfreezes: none, all, stages:N (the N "
        "topmost) or from:LAYER",
    )
    finetune_epochs: int = _setting(
        10, "epochs of the fine-tuning phase", low=1, high=100000
    )
    finetune_learning_rate: float = _setting(
        1e-4,
        "Adam's highest rate in the fine-tuning phase",
        low=0.0,
        above=True,
        high=10.0,
    )
    force_rate: bool = _setting(
        False,
        "allow a fine-tuning rate above a fifth of the head's",
    )
    epochs: int = _setting(
        50, "epochs of scratch and pretrained_init", low=1, high=100000
    )
    learning_rate: float = _setting(
        1e-3,
        "Adam's highest rate in scratch and pretrained_init",
        low=0.0,
        above=True,
        high=10.0,
    )
    schedule: str = _setting(
        "cosine",
        "course of the rate where the base learns; the head's is constant",
        choices=("cosine", "constant"),
    )
    warmup: float = _setting(
        0.1, "share of the steps in which cosine warms up", low=0.0, high=0.9
    )
    patience: int = _setting(
        5,
        "epochs without better validation after which a phase ends",
        low=1,
        high=100000,
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
    on_bad_image: str = _setting(
        "skip",
        "skip lists images that cannot be read in skipped.csv; fail stops",
        choices=("skip", "fail"),
    )
    image_store_gb: float = _setting(
        8.0,
        "gigabytes of disk for decoded images; beyond it each epoch decodes",
        low=0.0,
        high=100000.0,
    )
    precision: str = _setting(
        "auto",
        "number format of the computation; auto is float32 on a CPU",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    seed: int = _setting(
        0, "fixes initialisation, order and augmentation", low=0, high=2**31 - 1
    )
    split_seed: int = _setting(
        0, "fixes which image is in which split", low=0, high=2**31 - 1
    )
    tensorboard: bool = _setting(
        False, "write event files for TensorBoard into the run directory"
    )
    phases: tuple[records.Phase, ...] = ()

    def strategy_phases(self) -> strategies.Strategy:
        """Returns the strategy that the settings describe."""
        if self.phases:
            return strategies.walk("phases", self.phases)
        head = records.Phase(
            name="head",
            unfreeze="none",
            epochs=self.head_epochs,
            learning_rate=self.head_learning_rate,
            patience=self.patience,
        )
        finetune = records.Phase(
            name="finetune",
            unfreeze=self.unfreeze,
            epochs=self.finetune_epochs,
            learning_rate=self.finetune_learning_rate,
            schedule=self.schedule,
            warmup=self.warmup,
            patience=self.patience,
        )
        whole = records.Phase(
            name=self.strategy,
            unfreeze="all",
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            statistics="learned",
            schedule=self.schedule,
            warmup=self.warmup,
            patience=self.patience,
        )
        if self.strategy == "feature_extraction":
            return strategies.feature_extraction(head)
        if self.strategy == "fine_tuning":
            return strategies.fine_tuning(head, finetune)
        if self.strategy == "pretrained_init":
            return strategies.pretrained_init(whole)
        return strategies.scratch(whole)


def settings(record: type = Config) -> dict[str, dataclasses.Field]:
    """Returns the scalar settings of `record` by name."""
    return {
        field.name: field
        for field in dataclasses.fields(record)
        if "rule" in field.metadata
    }


def build(values: Mapping[str, Any], origin: str = "") -> Config:
    """Returns the checked configuration that `values` describe.

    `origin` says in messages where the values stand. Raises `UserError` for
    an unknown name, a wrong type, a value out of range, or values that
    contradict each other.
    """
    values = dict(values)
    phases = values.pop("phases", ())
    if phases and "strategy" in values:
        raise errors.UserError(
            f"{_where(origin)}`strategy` and [[phases]] exclude each other. "
            f"Received: strategy = {values['strategy']!r} and {len(phases)} "
            "phases. Leave one of them out."
        )
    known = settings()
    checked = {}
    for name, value in values.items():
        if name not in known:
            raise errors.UserError(_unknown(name, tuple(known), origin))
        checked[name] = _check(known[name], value, origin)
    config = Config(
        **checked,
        phases=tuple(
            _phase(phase, number, origin)
            for number, phase in enumerate(phases, 1)
        ),
    )
    _check_together(config)
    return config


def read(path: str | pathlib.Path) -> dict[str, Any]:
    """Returns the values of a TOML file, not yet checked.

    A name without a directory or suffix is looked for among the recipes that
    come with the package. Raises `UserError` where there is no such file or
    it is no TOML.
    """
    path = _find(pathlib.Path(path).expanduser())
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise errors.UserError(
            f"`--config` must be a TOML file. Received: {path}: {error}."
        ) from None
    except OSError as error:
        raise errors.UserError(
            f"`--config` cannot be read: {path}: {error.strerror}."
        ) from None


def to_toml(config: Config) -> str:
    """Returns `config` as TOML that `build` reads back to an equal one."""
    values = {name: getattr(config, name) for name in settings()}
    if config.phases:
        del values["strategy"]
        values["phases"] = [
            dataclasses.asdict(phase) for phase in config.phases
        ]
    return tomli_w.dumps(values)


def recipes() -> dict[str, pathlib.Path]:
    """Returns the recipes that come with the package, by name."""
    package = pathlib.Path(__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return {}


def parse(field: dataclasses.Field, text: str, origin: str = "") -> Any:
    """Returns the checked value that the words of a flag stand for."""
    rule: Rule = field.metadata["rule"]
    kinds = _kinds(field)
    value: Any = text
    if text == rule.word and rule.word:
        pass
    elif int in kinds or float in kinds:
        try:
            value = int(text) if int in kinds else float(text)
        except ValueError:
            raise errors.UserError(_wrong(field, text, origin)) from None
    return _check(field, value, origin)


def _find(path: pathlib.Path) -> pathlib.Path:
    if path.exists():
        return path
    known = recipes()
    if path.name in known and str(path) == path.name:
        return known[path.name]
    raise errors.UserError(
        "`--config` must be a TOML file, or the name of a recipe: "
        f"{', '.join(known)}. Received: {path}, which does not exist."
        f"{errors.nearest(path.stem, tuple(known))}"
    )


def _where(origin: str) -> str:
    return f"{origin}: " if origin else ""


def _unknown(name: str, names: tuple[str, ...], origin: str) -> str:
    return (
        f"{_where(origin)}unknown setting `{name}`."
        f"{errors.nearest(name, names) or ' `tlkeras train --help` lists all.'}"
    )


def _kinds(field: dataclasses.Field) -> tuple[type, ...]:
    if isinstance(field.type, types.UnionType):
        return field.type.__args__
    return (field.type,)


def _wrong(field: dataclasses.Field, value: object, origin: str) -> str:
    rule: Rule = field.metadata["rule"]
    name = {str: "text", bool: "true or false", int: "a whole number"}.get(
        _kinds(field)[0], "a number"
    )
    allowed = rule.allowed()
    kind = "" if rule.choices else name
    return (
        f"{_where(origin)}`{field.name}` must be "
        f"{', '.join(part for part in (kind, allowed) if part)}. "
        f"Received: {value!r}."
    )


def _check(field: dataclasses.Field, value: Any, origin: str) -> Any:
    rule: Rule = field.metadata["rule"]
    kinds = _kinds(field)
    if rule.word and value == rule.word:
        return value
    if float in kinds and type(value) is int:
        value = float(value)
    numbers = tuple(kind for kind in kinds if not (rule.word and kind is str))
    if type(value) not in numbers:
        raise errors.UserError(_wrong(field, value, origin))
    if rule.choices and value not in rule.choices:
        close = errors.nearest(value, rule.choices)
        raise errors.UserError(_wrong(field, value, origin) + close)
    if type(value) in (int, float):
        too_low = value <= rule.low if rule.above else value < rule.low
        if too_low or value > rule.high or not math.isfinite(value):
            raise errors.UserError(_wrong(field, value, origin))
    if field.name == "unfreeze":
        records.check_unfreeze(value)
    return value


def _phase(values: Any, number: int, origin: str) -> records.Phase:
    place = f"{_where(origin)}phase {number}"
    if not isinstance(values, Mapping):
        raise errors.UserError(f"{place} must be a table. Received: {values!r}.")
    rules = {
        "name": Rule("", choices=()),
        "unfreeze": Rule(""),
        "epochs": Rule("", low=1, high=100000),
        "learning_rate": Rule("", low=0.0, above=True, high=10.0),
        "statistics": Rule("", choices=("held", "learned")),
        "schedule": Rule("", choices=("constant", "cosine")),
        "warmup": Rule("", low=0.0, high=0.9),
        "patience": Rule("", low=1, high=100000),
    }
    fields = {field.name: field for field in dataclasses.fields(records.Phase)}
    checked = {}
    for name, value in values.items():
        if name not in fields:
            raise errors.UserError(_unknown(name, tuple(fields), place))
        field = dataclasses.field(metadata={"rule": rules[name]})
        field.name, field.type = name, fields[name].type
        checked[name] = _check(field, value, place)
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in checked:
            raise errors.UserError(
                f"{place} lacks `{name}`. It needs name, unfreeze, epochs "
                "and learning_rate."
            )
    return records.Phase(**checked)


def _check_together(config: Config) -> None:
    if config.strategy == "scratch" and config.weights not in (
        "imagenet",
        "none",
    ):
        raise errors.UserError(
            "`strategy` scratch starts from random weights. Received: "
            f"weights = {config.weights!r}. Leave `weights` out, or choose "
            "pretrained_init."
        )
    if (
        config.strategy == "fine_tuning"
        and not config.phases
        and not config.force_rate
        and config.finetune_learning_rate > config.head_learning_rate / 5
    ):
        raise errors.UserError(
            "`finetune_learning_rate` must be at most a fifth of "
            f"`head_learning_rate` ({config.head_learning_rate:g}), because a "
            "high rate destroys the pretrained weights. Received: "
            f"{config.finetune_learning_rate:g}. Give --force_rate to use it "
            "all the same."
        )
    names = [phase.name for phase in config.phases]
    for name in names:
        if names.count(name) > 1:
            raise errors.UserError(
                f"the names of [[phases]] must differ. Received: {name!r} twice."
            )
