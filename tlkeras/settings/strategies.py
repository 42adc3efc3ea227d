"""The strategies: a row each, of the phases it takes and what it fixes.

A strategy is a choice of weights and a function from what is known to the
next phase. Most walk through their phases; `auto` asks the advisor's decision.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Protocol

from tlkeras import records

# Why a setting of Adam's is not read. With head_solver auto it is known only
# later whether the head can be solved for.
SOLVED = "a head that is solved for; --head_solver=adam trains it"


class Decision(Protocol):
    """What `auto` has to know: the advisor's decision.

    steps: names of rows whose base learns after the head, each from the best
    so far. epochs: of each.
    """

    @property
    def steps(self) -> tuple[str, ...]: ...

    @property
    def epochs(self) -> int: ...


# (decision, results so far) -> the next phase, None at the end. The decision
# is None for strategies that need none.
NextPhase = Callable[[Decision | None, Sequence[Any]], records.Phase | None]


@dataclasses.dataclass(frozen=True)
class Strategy:
    """Which weights to start from, and which phase comes next.

    pretrained: whether the base starts from the pretrained weights.
    planned: the phases known beforehand, for the time that is left.
    decides: whether `next_phase` needs a decision.
    """

    name: str
    pretrained: bool
    next_phase: NextPhase
    planned: tuple[records.Phase, ...] = ()
    decides: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """A strategy that can be named in the settings.

    summary: what learns, in a few words. phases: names in `PHASES`, in order.
    fixed: settings that the strategy decides, whatever else is said of them.
    rate: factor on `finetune_learning_rate`. options: rows whose phases may
    follow, as a decision says. reads: settings that only this row reads.
    """

    name: str
    summary: str
    phases: tuple[str, ...]
    pretrained: bool = True
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rate: float = 1.0
    options: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()

    @property
    def trains_base(self) -> bool:
        """Whether the base learns in one of the phases, or may."""
        return any(PHASES[kind].trains_base for kind in self.kinds)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its phases, and of those that may follow."""
        later = (BY_NAME[name].phases for name in self.options)
        return tuple(dict.fromkeys((*self.phases, *itertools.chain(*later))))


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
        layer_decay=values["layer_decay"],
        adapt=values["adapt"],
        lora_rank=values["lora_rank"],
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
        layer_decay=values["layer_decay"],
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
            "layer_decay",
            "adapt",
            "lora_rank",
        ),
    ),
    "whole": PhaseKind(
        _whole,
        "epochs",
        ("learning_rate", "schedule", "warmup", "patience", "layer_decay"),
    ),
}

# The head must have converged before the base learns: gradients of a random
# head would destroy the pretrained weights
# (https://keras.io/guides/transfer_learning). The fine-tuning rates are factors
# of ten apart. The lower two are the ends of what the literature recommends;
# from a head that is solved for, and with BatchNorm held, the high one was the
# best on most data sets (benchmarks/decision.md).
ROWS = (
    Row(
        "scratch",
        "everything, from random weights",
        ("whole",),
        pretrained=False,
        # No layer knows anything yet.
        fixed={"layer_decay": 1.0},
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
        "last_stage_high",
        "as last_stage, at ten times its rate",
        ("head", "finetune"),
        fixed={"unfreeze": "stages:1"},
        rate=10.0,
    ),
    Row(
        "fine_tuning_high",
        "as fine_tuning, at ten times its rate",
        ("head", "finetune"),
        rate=10.0,
    ),
    Row(
        "pretrained_init",
        "everything from the start, from the pretrained weights",
        ("whole",),
    ),
    Row(
        "auto",
        "the head, then what the evidence says pays for these images",
        ("head",),
        # The decision takes their place.
        fixed={"unfreeze": "all", "finetune_epochs": 1, "epochs": 1},
        options=(
            "feature_extraction",
            "last_stage_high",
            "fine_tuning_high",
            "pretrained_init",
        ),
        reads=("budget",),
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
    if not row.options:
        return walk(row.name, phases, pretrained=row.pretrained)
    next_phase = functools.partial(_decided_phase, values, phases)
    return Strategy(row.name, row.pretrained, next_phase, phases, decides=True)


def _decided_phase(
    values: Mapping[str, Any],
    first: tuple[records.Phase, ...],
    decision: Decision | None,
    results: Sequence[Any],
) -> records.Phase | None:
    """Returns the phase after `first` and what the decision lets follow."""
    if decision is None:
        raise ValueError("`decision` must be given: this strategy needs one.")
    phases = list(first)
    epochs = {name: decision.epochs for name in ("finetune_epochs", "epochs")}
    for name in decision.steps:
        row = BY_NAME[name]
        own = {**values, **row.fixed, **epochs}
        for kind in (PHASES[kind] for kind in row.phases):
            if kind.trains_base:
                phase = kind.build(own, row)
                # A head that was solved for fits a base whose BatchNorm does
                # not learn: with it pretrained_init is 0.4 to 1 points worse
                # (benchmarks/decision.md, norm-1e-3 and zero-norm-1e-3).
                fresh = phase.batch_norm == "training"
                phases.append(dataclasses.replace(phase, fresh_head=fresh))
    return phases[len(results)] if len(results) < len(phases) else None


def walk(
    name: str, phases: tuple[records.Phase, ...], *, pretrained: bool = True
) -> Strategy:
    """Returns the strategy that takes `phases` one after the other."""

    def next_phase(
        decision: Decision | None, results: Sequence[Any]
    ) -> records.Phase | None:
        del decision
        return phases[len(results)] if len(results) < len(phases) else None

    return Strategy(name, pretrained, next_phase, phases)


def expected(
    strategy: Strategy, decision: Decision | None
) -> tuple[records.Phase, ...]:
    """Returns the phases that follow if each of them goes as it is planned."""
    if not strategy.decides:
        return strategy.planned
    phases: list[records.Phase] = []
    while phase := strategy.next_phase(decision, phases):
        phases.append(phase)
    return tuple(phases)


def readers(setting: str) -> tuple[str, ...]:
    """Returns the strategies that read a setting; none if all of them do."""
    found = tuple(row.name for row in ROWS if setting in _readable(row))
    known = {key for kind in PHASES.values() for key in kind.reads}
    known |= {key for row in ROWS for key in row.reads}
    return found if setting in known else ()


def _readable(row: Row) -> set[str]:
    """Returns the settings that not all strategies read, and this row may."""
    read = {key for kind in row.kinds for key in PHASES[kind].reads}
    return {*read, *row.reads} - set(row.fixed)


def unread(name: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Returns the settings of phases that a strategy does not read, and why.

    values: the settings of a run, by name. What only Adam would read is among
    them where the head may be solved for.
    """
    row = BY_NAME[name]
    values = {**values, **row.fixed}
    reasons: dict[str, str] = {}
    read = set(row.reads)
    free = _readable(row)
    for kind in (PHASES[kind] for kind in row.kinds):
        phase = kind.build(values, row)
        skipped: dict[str, str] = {}
        if phase.solver != "adam":
            skipped |= dict.fromkeys(
                (kind.epochs, "head_learning_rate", "patience"), SOLVED
            )
        elif phase.schedule == "cosine":
            skipped["patience"] = "schedule cosine"
        if phase.schedule == "constant" and "schedule" in kind.reads:
            skipped["warmup"] = "schedule constant"
        if phase.adapt == "none" and "adapt" in kind.reads:
            skipped["lora_rank"] = "adapt none"
        own = free & set(kind.reads)
        reasons |= {key: skipped[key] for key in own if key in skipped}
        read |= own - set(skipped)
    for setting in {key for each in ROWS for key in _readable(each)}:
        reasons.setdefault(
            setting,
            f"strategy {name}; it is a setting of "
            f"{', '.join(readers(setting))}",
        )
    return {key: why for key, why in reasons.items() if key not in read}
