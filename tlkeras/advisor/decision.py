"""From evidence to what `auto` does: which strategy pays for these images.

The accuracy that each option would reach is predicted from how well a linear
classifier tells the classes apart on the base's features (cross-validated),
how many images are known, and how far they are from the source. The
coefficients are fitted to trainings of real data sets by `benchmarks/
decision.py`, which also says how far off the predictions are on sets that the
fit has not seen.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tlkeras import errors
from tlkeras.advisor import evidence as evidences
from tlkeras.advisor import textbook
from tlkeras.settings import budget as budgets

# 95 % of a normal distribution lie within so many standard deviations.
_NORMAL = 1.96
# Where the base keeps nothing of its source: the mean over the grid.
_UNKNOWN_DISTANCE = 0.4
# Points of accuracy that a dearer option must be expected to add.
_WORTH = 0.01
# Seconds that are predicted by ratios may be off by so much, both ways.
_SECONDS_OFF = 2.0
# What learns in an epoch of each option: the whole base, its last stage. With
# BatchNorm learning an epoch takes 1.35 of the time (benchmarks/recipes.csv).
_LEARNING = {
    "feature_extraction": (0.0, 0.0),
    "last_stage_high": (0.0, 1.0),
    "fine_tuning_high": (1.0, 0.0),
    "pretrained_init": (1.35, 0.0),
}
# Share of the epochs without a limit that a limit must leave.
_FEWEST = 0.25
_DEFAULT = budgets.Budget()


@dataclasses.dataclass(frozen=True)
class Line:
    """Coefficients of the logit of an option's accuracy.

    constant, probe (the logit of the probe's accuracy), images (doublings of
    100), distance (standard deviations from 0.4). deviation: of what the grid
    saw from what was predicted, as a logit, on data sets left out.
    """

    constant: float
    probe: float
    images: float
    distance: float
    deviation: float


# Written by benchmarks/decision.py from benchmarks/recipes.csv.
LINES: Mapping[str, Line] = {
    "feature_extraction": Line(0.11, 0.89, -0.01, 0.23, 0.27),
    "last_stage_high": Line(0.27, 0.90, -0.01, 0.78, 0.33),
    "fine_tuning_high": Line(0.45, 0.88, -0.02, 1.43, 0.47),
    "pretrained_init": Line(0.27, 0.92, 0.10, 1.70, 0.49),
}


@dataclasses.dataclass(frozen=True)
class Expected:
    """A number that was predicted, with a 95 % interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Option:
    """A strategy with the accuracy, in [0, 1], and the seconds it would take.

    The seconds are those of training, on this machine, the head included.
    """

    strategy: str
    accuracy: Expected
    seconds: Expected


@dataclasses.dataclass(frozen=True)
class Decision:
    """What `auto` does, and why.

    strategy: the option that is chosen. steps: what follows the head, and for
    how many epochs each. close: other options that may be as good. textbook:
    the strategy that the textbook names, '' where it has none.
    """

    strategy: str
    steps: tuple[str, ...]
    epochs: int
    options: tuple[Option, ...]
    close: tuple[str, ...]
    reasons: str
    textbook: str


def decide(
    evidence: evidences.Evidence,
    *,
    train: int,
    validation: int,
    steps_per_epoch: int,
    budget: budgets.Budget = _DEFAULT,
) -> Decision:
    """Returns what pays for the images that the evidence is of.

    train, validation: images of the splits. A budget in seconds leaves out
    the options of whose usual epochs less than a quarter fits into it.
    """
    distance = evidences.distance(evidence)
    epochs = {
        name: _epochs(
            evidence, name, budget, train, validation, steps_per_epoch
        )
        for name in LINES
    }
    options = tuple(
        Option(
            name,
            accuracy(
                line,
                probe=evidence.depths[-1].linear.value,
                images=train,
                distance=distance,
                asked=evidence.groups,
            ),
            _seconds(evidence, name, epochs[name], train, validation),
        )
        for name, line in LINES.items()
    )
    affordable = [option for option in options if epochs[option.strategy]]
    name = choose(
        {option.strategy: option.accuracy.value for option in affordable}
    )
    chosen = next(option for option in affordable if option.strategy == name)
    word = (
        "" if distance is None else textbook.scenario(train, distance).strategy
    )
    close = tuple(
        option.strategy
        for option in affordable
        if option is not chosen and _close(option, chosen)
    )
    return Decision(
        chosen.strategy,
        () if chosen is options[0] else (chosen.strategy,),
        epochs[chosen.strategy],
        options,
        close,
        _reasons(evidence, affordable, chosen, close, budget),
        word,
    )


def choose(accuracies: Mapping[str, float]) -> str:
    """Returns the cheapest option that is nearly as good as the best.

    accuracies: as expected, in [0, 1], from the cheapest option on.
    """
    best = max(accuracies.values())
    return next(
        name for name, each in accuracies.items() if each >= best - _WORTH
    )


def accuracy(
    line: Line,
    *,
    probe: float,
    images: int,
    distance: float | None,
    asked: int,
) -> Expected:
    """Returns the accuracy that a line predicts, on images never seen.

    probe: accuracy of the linear classifier, in [0, 1], on `asked` images.
    images: known ones. distance: None where the base knows no source.

    Example:
        >>> from tlkeras.advisor import decision
        >>> line = decision.Line(0.0, 1.0, 0.0, 0.0, deviation=0.2)
        >>> found = decision.accuracy(
        ...     line, probe=0.9, images=100, distance=0.2, asked=100
        ... )
        >>> found.low < 0.9 < found.high
        True
    """
    # One image is added to both sides, so that all right is no infinity.
    share = (probe * asked + 1) / (asked + 2)
    far = _UNKNOWN_DISTANCE if distance is None else distance
    logit = (
        line.constant
        + line.probe * math.log(share / (1 - share))
        + line.images * math.log2(images / 100)
        + line.distance * (far - _UNKNOWN_DISTANCE)
    )
    spread = _NORMAL * line.deviation
    return Expected(*(_share(logit + each) for each in (0.0, -spread, spread)))


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _close(option: Option, chosen: Option) -> bool:
    """Tells whether an option may be as good as the chosen one."""
    return option.accuracy.high > chosen.accuracy.value and (
        abs(option.accuracy.value - chosen.accuracy.value) < 2 * _WORTH
    )


def _epochs(
    evidence: evidences.Evidence,
    name: str,
    budget: budgets.Budget,
    train: int,
    validation: int,
    steps_per_epoch: int,
) -> int:
    """Returns the epochs that an option gets; 0 where too few fit."""
    if budget.seconds is None:
        return budget.whole_epochs(train, steps_per_epoch)
    most = _DEFAULT.whole_epochs(train, steps_per_epoch)
    epoch = _epoch_seconds(evidence, name, train, validation)
    if not epoch:
        return most
    left = budget.seconds - _head_seconds(evidence, train, validation)
    epochs = min(most, math.floor(max(left, 0.0) / epoch))
    return epochs if epochs >= _FEWEST * most else 0


def _head_seconds(
    evidence: evidences.Evidence, train: int, validation: int
) -> float:
    """Returns the seconds of a solved head: each image, and its mirror."""
    return (2 * train + validation) * evidence.cost.forward


def _epoch_seconds(
    evidence: evidences.Evidence, name: str, train: int, validation: int
) -> float:
    """Returns the seconds of an epoch, its validation included."""
    cost = evidence.cost
    whole, stage = _LEARNING[name]
    return (
        whole * (train * cost.training + validation * cost.forward)
        + stage * (train + validation) * cost.last_stage
    )


def _seconds(
    evidence: evidences.Evidence,
    name: str,
    epochs: int,
    train: int,
    validation: int,
) -> Expected:
    seconds = _head_seconds(evidence, train, validation)
    seconds += epochs * _epoch_seconds(evidence, name, train, validation)
    return Expected(seconds, seconds / _SECONDS_OFF, seconds * _SECONDS_OFF)


def _reasons(
    evidence: evidences.Evidence,
    options: Sequence[Option],
    chosen: Option,
    close: Sequence[str],
    budget: budgets.Budget,
) -> str:
    """Returns why, as a paragraph for a person."""
    probe = evidence.depths[-1].linear
    distance = evidences.distance(evidence)
    head = options[0]
    gain = 100 * (chosen.accuracy.value - head.accuracy.value)
    said = [
        f"A linear classifier on the base's features is right on "
        f"{100 * probe.value:.1f} % of {errors.count(probe.images, 'image')} "
        "that it has not seen."
    ]
    if distance is None:
        said.append(
            "How far they are from what the base was trained on is not known."
        )
    else:
        near = "near to" if distance <= textbook.SIMILAR else "far from"
        said.append(
            f"They are {near} what the base was trained on (distance "
            f"{distance:.3f} standard deviations; the line is at "
            f"{textbook.SIMILAR:g})."
        )
    if chosen is head:
        said.append(
            f"Letting the base learn is not expected to add "
            f"{100 * _WORTH:g} points, so the head is enough."
        )
    else:
        said.append(
            f"Letting the base learn ({chosen.strategy}) is expected to add "
            f"{gain:.1f} points to the head alone."
        )
    if close:
        said.append(
            f"It is uncertain between {' and '.join((chosen.strategy, *close))}"
            "; the first is expected to be better, or as good and cheaper."
        )
    late = [
        name
        for name in LINES
        if name not in {option.strategy for option in options}
    ]
    if late:
        said.append(
            f"In {budget.seconds} s there is no time for {' or '.join(late)}."
        )
    return " ".join(said)


def to_json(decision: Decision) -> dict[str, Any]:
    """Returns the decision as JSON holds it; `from_json` reads it back."""
    return json.loads(json.dumps(dataclasses.asdict(decision)))


def from_json(values: Mapping[str, Any]) -> Decision:
    """Returns the decision that `to_json` made `values` of."""
    options = tuple(
        Option(
            each["strategy"],
            Expected(**each["accuracy"]),
            Expected(**each["seconds"]),
        )
        for each in values["options"]
    )
    return Decision(
        **{
            **values,
            "options": options,
            "steps": tuple(values["steps"]),
            "close": tuple(values["close"]),
        }
    )
