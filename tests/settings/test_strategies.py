"""A strategy is a choice of weights and a function to the next phase."""

import dataclasses

import pytest

from tlkeras import records
from tlkeras.settings import config as configs
from tlkeras.settings import strategies

HEAD = records.Phase("head", "none", 5, 1e-3)
WHOLE = records.Phase("whole", "all", 5, 1e-4)


@pytest.mark.parametrize("phases", [(WHOLE, HEAD), (HEAD,), ()])
def test_walks_through_its_phases(phases):
    strategy = strategies.walk("own", phases)
    assert strategy.pretrained
    assert strategy.planned == phases
    found = []
    while phase := strategy.next_phase(None, tuple(found)):
        found.append(phase)
    assert tuple(found) == phases


def built(name: str, **settings: object) -> strategies.Strategy:
    return configs.build({"strategy": name, **settings}).strategy_phases()


def test_only_scratch_starts_from_random_weights():
    assert [
        name for name in strategies.NAMES if not built(name).pretrained
    ] == ["scratch"]


def test_each_has_the_phases_of_its_row():
    made = {
        name: [
            (phase.name, phase.unfreeze, phase.batch_norm)
            for phase in built(name).planned
        ]
        for name in strategies.NAMES
    }
    head = ("head", "none", "frozen")
    assert made == {
        "scratch": [("scratch", "all", "training")],
        "feature_extraction": [head],
        "converged_head": [head],
        "last_stage": [head, ("finetune", "stages:1", "frozen")],
        "fine_tuning": [head, ("finetune", "all", "frozen")],
        "fine_tuning_low": [head, ("finetune", "all", "frozen")],
        "last_stage_high": [head, ("finetune", "stages:1", "frozen")],
        "fine_tuning_high": [head, ("finetune", "all", "frozen")],
        "pretrained_init": [("pretrained_init", "all", "training")],
        # The rest is decided by the evidence.
        "auto": [head],
    }


def test_rates_are_factors_of_ten_apart():
    usual, low, high, stage, stage_high = (
        built(name).planned[1].learning_rate
        for name in (
            "fine_tuning",
            "fine_tuning_low",
            "fine_tuning_high",
            "last_stage",
            "last_stage_high",
        )
    )
    assert stage == usual
    assert low == pytest.approx(usual / 10)
    assert stage_high == high == pytest.approx(usual * 10)


@dataclasses.dataclass(frozen=True)
class Decided:
    """What the advisor may say."""

    steps: tuple[str, ...]
    epochs: int = 7


@pytest.mark.parametrize("name", strategies.BY_NAME["auto"].options)
def test_auto_takes_the_phases_that_a_decision_names(name):
    strategy = built("auto")
    assert strategy.decides
    steps = () if name == "feature_extraction" else (name,)
    found: list[records.Phase] = []
    while phase := strategy.next_phase(Decided(steps), tuple(found)):
        found.append(phase)
    named = [each for each in built(name).planned if each.name != "head"]
    assert found[0] == built("fine_tuning").planned[0]
    assert found[1:] == [
        dataclasses.replace(
            each, epochs=7, fresh_head=each.batch_norm == "training"
        )
        for each in named
    ]
    with pytest.raises(ValueError, match="needs one"):
        strategy.next_phase(None, ())


@pytest.mark.parametrize(
    ("settings", "solver"),
    [
        ({}, "auto"),
        ({"head": "mlp"}, "adam"),
        ({"feature_cache": "off"}, "adam"),
        ({"head_solver": "adam"}, "adam"),
        ({"head_solver": "logistic"}, "logistic"),
    ],
)
def test_a_linear_head_is_solved_where_its_features_are_stored(
    settings, solver
):
    for name in ("feature_extraction", "fine_tuning", "last_stage"):
        assert built(name, **settings).planned[0].solver == solver
