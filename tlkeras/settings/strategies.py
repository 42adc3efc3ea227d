"""The ways from a base to a classifier: plain functions that name phases.

A strategy is a choice of weights and a function from what is known to the
next phase. The fixed ones walk through a tuple and ignore what came of it.
"""

import dataclasses
from collections.abc import Callable

from tlkeras import records

NAMES = ("scratch", "feature_extraction", "fine_tuning", "pretrained_init")

NextPhase = Callable[
    [records.Evidence, tuple[records.PhaseResult, ...]],
    records.Phase | None,
]


@dataclasses.dataclass(frozen=True)
class Strategy:
    """Which weights to start from, and which phase comes next.

    pretrained: whether the base starts from the pretrained weights.
    next_phase: (evidence, results so far) -> the next phase, None at the end.
    planned: the phases known beforehand, for the time that is left.
    """

    name: str
    pretrained: bool
    next_phase: NextPhase
    planned: tuple[records.Phase, ...] = ()


def walk(
    name: str, phases: tuple[records.Phase, ...], *, pretrained: bool = True
) -> Strategy:
    """Returns the strategy that takes `phases` one after the other."""

    def next_phase(
        evidence: records.Evidence,
        results: tuple[records.PhaseResult, ...],
    ) -> records.Phase | None:
        del evidence
        return phases[len(results)] if len(results) < len(phases) else None

    return Strategy(name, pretrained, next_phase, phases)


def feature_extraction(head: records.Phase) -> Strategy:
    """Returns the strategy that trains the head on a frozen base."""
    return walk("feature_extraction", (head,))


def fine_tuning(head: records.Phase, finetune: records.Phase) -> Strategy:
    """Returns the strategy that trains the head, then the base with it.

    The head must have converged first: gradients of a random head would
    destroy the pretrained weights (https://keras.io/guides/transfer_learning).
    """
    return walk("fine_tuning", (head, finetune))


def pretrained_init(whole: records.Phase) -> Strategy:
    """Returns the strategy that trains all from the pretrained weights."""
    return walk("pretrained_init", (whole,))


def scratch(whole: records.Phase) -> Strategy:
    """Returns the strategy that trains all from random weights."""
    return walk("scratch", (whole,), pretrained=False)
