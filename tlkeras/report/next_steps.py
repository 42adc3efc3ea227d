"""What to try next, from what a run measured: a row each of `RULES`.

To add a rule, write a function from `Found` to a `Hint` and give it a row. The
first rules weigh most; of those that have something to say five are shown.
"""

import dataclasses
import math
import shlex
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from tlkeras.backbones import catalog
from tlkeras.settings import config as configs
from tlkeras.settings import strategies

MOST = 5

# Below so many training images a class is known by a handful of pictures; one
# with a third of the median's is learned as an exception.
_FEW_OF_CLASS = 20
_UNEVEN = 3.0
# With fewer validation images one standard error is two points or more, even
# at 95 %.
_FEW_TO_CHOOSE = 100
# Points between training and validation accuracy.
_OVERFIT = 0.10
_UNDERFIT = 0.85
# A pair of classes that makes so large a share of the mistakes, and so many.
_PAIR = 1 / 3
_PAIR_IMAGES = 5
# Of an input, against the shorter side of the pictures.
_ENLARGED = 2.0
_REDUCED = 1.5
# Networks of keras.applications take sizes in these steps without odd maps.
_SIZE_STEP = 32
_SMALL_NETWORK = 3_000_000
# Up to so many images the validation images taught 1 to 2 points, measured on
# 17 data sets (benchmarks/decision.md).
_FEW_KNOWN = 500
_LOWER = {
    "fine_tuning_high": "fine_tuning",
    "fine_tuning": "fine_tuning_low",
    "last_stage_high": "last_stage",
}
_STRONGER = {"none": "flip", "flip": "light", "light": "strong"}


@dataclasses.dataclass(frozen=True)
class Found:
    """What a run measured, and its settings.

    report: as report.json has it.
    """

    report: Mapping[str, Any]
    config: configs.Config

    @property
    def standing(self) -> Mapping[str, Any]:
        """The last phase whose weights were kept."""
        kept = [row for row in self.report["phases"] if not row["rolled_back"]]
        return (kept or self.report["phases"])[-1]

    @property
    def own_phases(self) -> bool:
        """Whether the phases are the caller's, not those of a strategy."""
        return bool(self.config.phases)

    @property
    def can_fold(self) -> bool:
        """Whether cross-validation could take the place of the split."""
        return not (self.report["folds"] or self.report["data"]["given_splits"])

    def kind(self, phase: Mapping[str, Any]) -> strategies.PhaseKind | None:
        """Returns the kind of a phase, None where no setting is its own."""
        if self.own_phases or self.report["strategy"] == "auto":
            return None
        return strategies.PHASES.get(phase["name"], strategies.PHASES["whole"])


@dataclasses.dataclass(frozen=True)
class Hint:
    """What a rule has to say.

    flags: what changes against the run. command: which one; `check` looks at
    the run's data alone.
    """

    reason: str
    flags: str = ""
    command: str = "train"


@dataclasses.dataclass(frozen=True)
class Rule:
    """A question that is asked of a run; None where there is nothing to say."""

    name: str
    ask: Callable[[Found], Hint | None]


def find(
    report: Mapping[str, Any], config: configs.Config, path: str
) -> list[dict[str, str]]:
    """Returns what to try next, at most `MOST`: `rule`, `reason`, `command`.

    report: as report.json has it. path: of the run's config.toml.
    """
    found = Found(report, config)
    steps: dict[str, dict[str, str]] = {}
    for rule in RULES:
        hint = rule.ask(found)
        if hint is None:
            continue
        given = f"--config={shlex.quote(path)} {hint.flags}".rstrip()
        if hint.command == "check":
            given = f"--data={shlex.quote(config.data)} {hint.flags}".rstrip()
        command = f"tlkeras {hint.command} {given}"
        step = {"rule": rule.name, "reason": hint.reason, "command": command}
        # Two rules may ask for the same; the first has said why.
        steps.setdefault(command, step)
    return list(steps.values())[:MOST]


def _unfinished(found: Found) -> Hint | None:
    last = found.report["phases"][-1]
    if last["stopped"] != "callback":
        return None
    return Hint(
        f"A callback stopped phase {last['name']} after "
        f"{_count(last['epochs'], 'epoch')}; this trains it whole"
    )


def _diverged(found: Found) -> Hint | None:
    for phase in found.report["phases"]:
        kind = found.kind(phase)
        if phase["stopped"] != "diverged" or kind is None:
            continue
        name = next(each for each in kind.others if "learning_rate" in each)
        rate = getattr(found.config, name) / 10
        return Hint(
            f"The loss of phase {phase['name']} was no longer finite at a "
            f"learning rate of {phase['learning_rate']:g}",
            f"--{name}={rate:g}",
        )
    return None


def _doubtful_labels(found: Found) -> Hint | None:
    doubtful = found.report["data"]["doubtful_labels"]
    if not doubtful:
        return None
    reason = (
        f"{_count(doubtful, 'label')} may be wrong: given less than 1 % by a "
        "model that had not seen the image"
    )
    base = f"--labels --backbone={found.config.backbone}"
    if found.config.weights not in ("imagenet", "none"):
        base += f" --weights={shlex.quote(found.config.weights)}"
    return Hint(f"{reason}; this asks about all images", base, "check")


def _few_to_choose(found: Found) -> Hint | None:
    accuracy = found.report["validation"]["accuracy"]
    if accuracy["groups"] >= _FEW_TO_CHOOSE or found.report["folds"]:
        return None
    solved = all(each["stopped"] == "solved" for each in found.report["phases"])
    what = "how strongly the head is held back" if solved else "the epochs"
    reason = (
        f"{_count(accuracy['groups'], 'validation image')} chose {what}, "
        f"with a standard error of {100 * _error(accuracy):.1f} points"
    )
    if found.can_fold:
        return Hint(f"{reason}; this measures on all images", "--folds=5")
    return Hint(f"{reason}; give that split more images", command="check")


def _few_of_class(found: Found) -> Hint | None:
    counts = found.report["data"]["images"]["train"]
    label = min(counts, key=lambda each: counts[each])
    middle = sorted(counts.values())[len(counts) // 2]
    uneven = counts[label] * _UNEVEN <= middle
    if counts[label] >= _FEW_OF_CLASS and not uneven:
        return None
    reason = f"Class '{label}' has {_count(counts[label], 'training image')}"
    if uneven:
        reason += f", the middle one {middle:,}"
    if uneven and found.config.class_weights == "none":
        return Hint(
            f"{reason}: collect more, or weigh the classes evenly",
            "--class_weights=balanced",
        )
    return Hint(f"{reason}: collect more", command="check")


def _fit(found: Found) -> Hint | None:
    """Returns what over- or underfitting asks for."""
    phase = found.standing
    train, validation = phase["training_accuracy"], phase["validation_accuracy"]
    if train is None or validation is None:
        return None
    told = (
        f"{100 * train:.1f} % on training images, {100 * validation:.1f} % on "
        "validation images"
    )
    error = _error(found.report["validation"]["accuracy"])
    if train - validation > max(_OVERFIT, 2 * error):
        stronger = _STRONGER.get(found.config.augment)
        if stronger:
            return Hint(f"Overfitting: {told}", f"--augment={stronger}")
        if phase["unfreeze"] == "all" and not found.own_phases:
            return Hint(f"Overfitting: {told}", "--strategy=last_stage")
        return Hint(f"Overfitting: {told}. More images help", command="check")
    if train < _UNDERFIT and train - validation < _OVERFIT / 2:
        kind = found.kind(phase)
        if kind is None or not kind.trains_base:
            return None
        epochs = 2 * getattr(found.config, kind.epochs)
        return Hint(f"Underfitting: {told}", f"--{kind.epochs}={epochs}")
    return None


def _still_improving(found: Found) -> Hint | None:
    phase = found.standing
    best, epochs = phase["best_epoch"], phase["epochs"]
    if phase["stopped"] != "budget" or best < epochs or epochs < 2:
        return None
    reason = (
        f"Phase {phase['name']} was at its best in its last epoch, {epochs}"
    )
    if found.report["strategy"] == "auto":
        return Hint(reason, f"--budget={2 * epochs}e")
    kind = found.kind(phase)
    if kind is None:
        return Hint(f"{reason}; raise its epochs in config.toml")
    return Hint(reason, f"--{kind.epochs}={2 * epochs}")


def _confused_pair(found: Found) -> Hint | None:
    """Returns what a pair of classes asks for that makes most mistakes."""
    if len(found.report["data"]["classes"]) < 3:
        return None
    pairs: dict[tuple[str, ...], int] = {}
    for row in found.report["test"]["confused"]:
        pair = tuple(sorted((row["true_label"], row["label"])))
        pairs[pair] = pairs.get(pair, 0) + row["n"]
    wrong = sum(pairs.values())
    most = max(pairs, key=lambda pair: pairs[pair], default=())
    if not wrong or pairs[most] < max(_PAIR_IMAGES, _PAIR * wrong):
        return None
    reason = (
        f"'{most[0]}' and '{most[1]}' taken for each other are {pairs[most]:,} "
        f"of {wrong:,} wrong predictions"
    )
    size = _larger_input(found)
    if size:
        return Hint(f"{reason}; more pixels may tell them apart", size)
    return Hint(f"{reason}; are their labels clear?", command="check")


def _small_pictures(found: Found) -> Hint | None:
    side, size = found.report["data"]["side"], found.report["image_size"]
    if side * _ENLARGED >= size:
        return None
    network = catalog.find(found.config.backbone)
    step = math.lcm(_SIZE_STEP, network.size_step)
    smaller = max(network.smallest_size, math.ceil(side / step) * step)
    if smaller >= size:
        return None
    return Hint(
        f"The images are {side:.0f} pixels wide or high, the input {size}; a "
        f"smaller one takes about {_times(size, smaller)} the time",
        f"--image_size={smaller}",
    )


def _more_pixels(found: Found) -> Hint | None:
    flags = _larger_input(found)
    if not flags:
        return None
    side, size = found.report["data"]["side"], found.report["image_size"]
    larger = int(flags.rpartition("=")[2])
    return Hint(
        f"The images are {side:.0f} pixels wide or high, the input {size}; a "
        f"larger one takes about {_times(size, larger)} the time",
        flags,
    )


def _strategy(found: Found) -> Hint | None:
    """Returns another strategy that is worth its time, if there is one."""
    report, name = found.report, found.report["strategy"]
    if found.own_phases:
        return None
    if report["advice"]:
        close = report["advice"]["close"]
        if not close:
            return None
        return Hint(
            f"{' and '.join(close)} may be as good as what auto decided",
            f"--strategies=auto,{','.join(close)}",
            "compare",
        )
    row = strategies.BY_NAME.get(name)
    if row is None:
        return None
    if not row.pretrained:
        if not catalog.find(found.config.backbone).weights:
            return None
        return Hint(
            "Nothing was transferred, and pretrained weights are worth most "
            "where images are few",
            "--strategy=auto --weights=imagenet",
        )
    last = report["phases"][-1]
    diverged = last["stopped"] == "diverged"
    if last["rolled_back"] and not diverged and name in _LOWER:
        return Hint(
            f"Phase {last['name']} ended no better than the one before and was "
            "rolled back; a lower rate may keep more of the base",
            f"--strategy={_LOWER[name]}",
        )
    if not row.trains_base:
        return Hint(
            "Only the head learned; on 17 data sets auto was 5 points better "
            "on average, in about 25 times the training time",
            "--strategy=auto",
        )
    if name == "fine_tuning":
        return Hint(
            "On average of 17 data sets auto was 0.9 points behind the best "
            "strategy, fine_tuning 2.4",
            "--strategy=auto",
        )
    return None


def _held_back(found: Found) -> Hint | None:
    images = found.report["data"]["images"]
    known = sum(sum(images[name].values()) for name in ("train", "validation"))
    learned = configs.learned(found.config, known)
    if known > _FEW_KNOWN or len(learned) > 1 or found.report["folds"]:
        return None
    return Hint(
        "With so few images it is worth 1 to 2 points to learn from those of "
        "validation, too (17 data sets)",
        "--final_fit=train_and_validation",
    )


def _network(found: Found) -> Hint | None:
    row = catalog.find(found.config.backbone)
    test = found.report["test"]["accuracy"]
    if row.parameters >= _SMALL_NETWORK or test["high"] > 0.99:
        return None
    larger = [
        each
        for each in catalog.BACKBONES
        if each.family == row.family
        and each.weights
        and each.parameters >= 2 * row.parameters
    ]
    if not larger or not row.weights or found.config.weights == "none":
        return None
    # The full width of a family rather than one between.
    chosen = min(larger, key=lambda each: (each.arguments, each.parameters))
    return Hint(
        f"{row.name} is a small network of {row.parameters / 1e6:.1f} million "
        f"parameters, {chosen.name} has {chosen.parameters / 1e6:.1f}",
        f"--backbone={chosen.name} --weights=imagenet",
    )


def _larger_input(found: Found) -> str:
    """Returns the flag for an input of more pixels, '' where that shows none.

    Not above the size that the network was made for.
    """
    side, size = found.report["data"]["side"], found.report["image_size"]
    network = catalog.find(found.config.backbone)
    step = math.lcm(_SIZE_STEP, network.size_step)
    larger = math.floor(min(side, network.default_size) / step) * step
    if larger < _REDUCED * size:
        return ""
    return f"--image_size={larger}"


def _error(accuracy: Mapping[str, Any]) -> float:
    """Returns the standard error of an accuracy, as if one more were wrong.

    Where all answers are right, there would be none.
    """
    share = min(accuracy["value"], 1 - 1 / (accuracy["groups"] + 1))
    return math.sqrt(share * (1 - share) / accuracy["groups"])


def _times(size: int, other: int) -> str:
    """Returns how the time changes with the pixels, from `size` to `other`."""
    ratio = (other / size) ** 2
    if ratio >= 1:
        return f"{ratio:.1f} times"
    return f"a {('half', 'third', 'quarter')[min(2, round(1 / ratio) - 2)]} of"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


RULES = (
    Rule("unfinished", _unfinished),
    Rule("diverged", _diverged),
    Rule("doubtful_labels", _doubtful_labels),
    Rule("few_to_choose", _few_to_choose),
    Rule("few_of_class", _few_of_class),
    Rule("still_improving", _still_improving),
    Rule("fit", _fit),
    Rule("confused_pair", _confused_pair),
    Rule("small_pictures", _small_pictures),
    Rule("strategy", _strategy),
    Rule("held_back", _held_back),
    Rule("more_pixels", _more_pixels),
    Rule("network", _network),
)
