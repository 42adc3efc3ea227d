"""The strategies: a row each, of the phases it takes and what it fixes.

A strategy is a choice of weights and a function from what is known to the
next phase. Those of the table walk through their phases and ignore what came
of them.
"""

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from tlkeras import records

# Why a setting of Adam's is not read. With head_solver auto it is known only
# later whether the head can be solved for.
SOLVED = "a head that is solved for; --head_solver=adam trains it"

# (evidence, results so far) -> the next phase, None at the end. The evidence
# is the advisor's, None where nobody gathered it.
NextPhase = Callable[
    [Any, tuple[records.PhaseResult, ...]], records.Phase | None
]


@dataclasses.dataclass(frozen=True)
class Strategy:
    """Which weights to start from, and which phase comes next.

    pretrained: whether the base starts from the pretrained weights.
    planned: the phases known beforehand, for the time that is left.
    """

    name: str
    pretrained: bool
    next_phase: NextPhase
    planned: tuple[records.Phase, ...] = ()


@dataclasses.dataclass(frozen=True)
class Row:
    """A strategy that can be named in the settings.

    summary: what learns, in a few words. phases: names in `PHASES`, in order.
    fixed: settings that the strategy decides, whatever else is said of them.
    rate: factor on `finetune_learning_rate`.
    """

    name: str
    summary: str
    phases: tuple[str, ...]
    pretrained: bool = True
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rate: float = 1.0

    @property
    def trains_base(self) -> bool:
        """Whether the base learns in one of the phases."""
        return any(PHASES[kind].trains_base for kind in self.phases)


def _head(values: Mapping[str, Any], row: Row) -> records.Phase:
    return records.Phase(
        name="head",
        unfreeze="none",
        epochs=values["head_epochs"],
        learning_rate=values["head_learning_rate"],
        patience=values["patience"],
        solver=_solver(values),
    )


def _solver(values: Mapping[str, Any]) -> str:
    """Returns `auto` only where a head can be solved for."""
    possible = values["head"] == "linear" and values["feature_cache"] != "off"
    if values["head_solver"] == "auto" and not possible:
        return "adam"
    return values["head_solver"]


def _finetune(values: Mapping[str, Any], row: Row) -> records.Phase:
    return records.Phase(
        name="finetune",
        unfreeze=values["unfreeze"],
        epochs=values["finetune_epochs"],
        learning_rate=values["finetune_learning_rate"] * row.rate,
        schedule=values["schedule"],
        warmup=values["warmup"],
        patience=values["patience"],
    )


def _whole(values: Mapping[str, Any], row: Row) -> records.Phase:
    return records.Phase(
        name=row.name,
        unfreeze="all",
        epochs=values["epochs"],
        learning_rate=values["learning_rate"],
        batch_norm="training",
        schedule=values["schedule"],
        warmup=values["warmup"],
        patience=values["patience"],
    )


@dataclasses.dataclass(frozen=True)
class PhaseKind:
    """A kind of phase.

    build: (settings, strategy) -> the phase. epochs: the setting that says how
    long. others: the other settings that only such phases read. trains_base:
    whether the base learns, or only the head.
    """

    build: Callable[[Mapping[str, Any], Row], records.Phase]
    epochs: str
    others: tuple[str, ...]
    trains_base: bool = True

    @property
    def reads(self) -> tuple[str, ...]:
        """All settings that only some kinds of phases read, and this does."""
        return (self.epochs, *self.others)


PHASES = {
    "head": PhaseKind(
        _head,
        "head_epochs",
        ("head_learning_rate", "head_solver", "patience"),
        trains_base=False,
    ),
    "finetune": PhaseKind(
        _finetune,
        "finetune_epochs",
        (
            "unfreeze",
            "finetune_learning_rate",
            "force_rate",
            "schedule",
            "warmup",
            "patience",
        ),
    ),
    "whole": PhaseKind(
        _whole, "epochs", ("learning_rate", "schedule", "warmup", "patience")
    ),
}

# The head must have converged before the base learns: gradients of a random
# head would destroy the pretrained weights
# (https://keras.io/guides/transfer_learning). The two fine-tuning rates are a
# factor of ten apart, as the ends of what the literature recommends are.
ROWS = (
    Row(
        "scratch",
        "everything, from random weights",
        ("whole",),
        pretrained=False,
    ),
    Row("feature_extraction", "the head, on a frozen base", ("head",)),
    Row(
        "converged_head",
        "a linear head, solved to its minimum on a frozen base",
        ("head",),
        fixed={"head_solver": "logistic"},
    ),
    Row(
        "last_stage",
        "the head until it has converged, then the base's last stage with it",
        ("head", "finetune"),
        fixed={"unfreeze": "stages:1"},
    ),
    Row(
        "fine_tuning",
        "the head until it has converged, then all of the base with it, or "
        "what `unfreeze` names",
        ("head", "finetune"),
    ),
    Row(
        "fine_tuning_low",
        "as fine_tuning, at a tenth of its rate",
        ("head", "finetune"),
        rate=0.1,
    ),
    Row(
        "pretrained_init",
        "everything from the start, from the pretrained weights",
        ("whole",),
    ),
)
BY_NAME = {row.name: row for row in ROWS}
NAMES = tuple(BY_NAME)


def build(name: str, values: Mapping[str, Any]) -> Strategy:
    """Returns the strategy of this name, with phases as the settings say.

    values: the settings of a run, by name.
    """
    row = BY_NAME[name]
    values = {**values, **row.fixed}
    phases = tuple(PHASES[kind].build(values, row) for kind in row.phases)
    return walk(row.name, phases, pretrained=row.pretrained)


def walk(
    name: str, phases: tuple[records.Phase, ...], *, pretrained: bool = True
) -> Strategy:
    """Returns the strategy that takes `phases` one after the other."""

    def next_phase(
        evidence: Any, results: tuple[records.PhaseResult, ...]
    ) -> records.Phase | None:
        del evidence
        return phases[len(results)] if len(results) < len(phases) else None

    return Strategy(name, pretrained, next_phase, phases)


def readers(setting: str) -> tuple[str, ...]:
    """Returns the strategies that read a setting; none if all of them do."""
    if not any(setting in kind.reads for kind in PHASES.values()):
        return ()
    return tuple(
        row.name
        for row in ROWS
        if setting not in row.fixed
        and any(setting in PHASES[kind].reads for kind in row.phases)
    )


def unread(name: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Returns the settings of phases that a strategy does not read, and why.

    values: the settings of a run, by name. What only Adam would read is among
    them where the head may be solved for.
    """
    row = BY_NAME[name]
    reasons: dict[str, str] = {}
    read: set[str] = set()
    for kind, phase in zip(
        (PHASES[kind] for kind in row.phases),
        build(name, values).planned,
        strict=True,
    ):
        skipped: dict[str, str] = {}
        if phase.solver != "adam":
            skipped |= dict.fromkeys(
                (kind.epochs, "head_learning_rate", "patience"), SOLVED
            )
        elif phase.schedule == "cosine":
            skipped["patience"] = "schedule cosine"
        if phase.schedule == "constant" and "schedule" in kind.reads:
            skipped["warmup"] = "schedule constant"
        free = set(kind.reads) - set(row.fixed)
        reasons |= {key: skipped[key] for key in free if key in skipped}
        read |= free - set(skipped)
    for setting in {key for kind in PHASES.values() for key in kind.reads}:
        reasons.setdefault(
            setting,
            f"strategy {name}; it is a setting of "
            f"{', '.join(readers(setting))}",
        )
    return {key: why for key, why in reasons.items() if key not in read}
