"""What `auto` makes of evidence, and what it says."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tlkeras.advisor import decision
from tlkeras.advisor import evidence as evidences
from tlkeras.scoring import intervals
from tlkeras.settings import budget
from tlkeras.settings import strategies

SHARES = some.floats(0, 1)


def evidence(probe: float, distance: float | None) -> evidences.Evidence:
    """Evidence of 100 images, 10 ms each forward and 30 to learn from."""
    linear = intervals.Share(probe, 0.0, 1.0, 100, 100)
    depth = evidences.Depth(
        "top", 8, None, distance, linear, linear, None, None, None
    )
    return evidences.Evidence(
        size=evidences.Size(100, 2, 50, 50.0, 1.0, None, None, 96),
        sampled=100,
        groups=100,
        majority=0.5,
        depths=(depth,),
        source=None,
        curve=(),
        cost=evidences.Cost(0.01, 0.03, 0.01, True, 0.0, 0.0, 0.0, 0.0),
    )


def decide(
    probe: float = 0.8, distance: float | None = 0.5, text: str = "500"
) -> decision.Decision:
    return decision.decide(
        evidence(probe, distance),
        train=75,
        validation=25,
        steps_per_epoch=3,
        budget=budget.parse(text),
    )


@given(
    SHARES,
    some.none() | some.floats(0, 2),
    some.integers(2, 10**6),
    some.integers(2, 1000),
)
def test_an_expected_accuracy_is_a_share_in_its_interval(
    probe, distance, images, asked
):
    for line in decision.LINES.values():
        found = decision.accuracy(
            line, probe=probe, images=images, distance=distance, asked=asked
        )
        assert 0 <= found.low < found.value < found.high <= 1


@given(some.dictionaries(some.text(), SHARES, min_size=1))
def test_nothing_cheaper_is_nearly_as_good_as_what_is_chosen(accuracies):
    chosen = decision.choose(accuracies)
    best = max(accuracies.values())
    assert accuracies[chosen] >= best - 0.01
    for name, each in accuracies.items():
        if name == chosen:
            break
        assert each < best - 0.01


def test_classes_that_the_features_tell_apart_need_no_more_than_a_head():
    found = decide(probe=1.0, distance=0.2)
    assert (found.strategy, found.steps) == ("feature_extraction", ())
    assert "the head is enough" in found.reasons


def test_classes_that_they_do_not_tell_apart_pay_for_more():
    found = decide(probe=0.6, distance=0.5)
    assert found.steps == (found.strategy,) != ("feature_extraction",)
    assert found.strategy in strategies.BY_NAME["auto"].options
    assert found.epochs == 167
    assert "is expected to add" in found.reasons
    assert "far from" in found.reasons
    assert "near to" in decide(distance=0.2).reasons
    assert "not known" in decide(distance=None).reasons


def test_options_are_those_of_the_strategy_from_the_cheapest_on():
    found = decide()
    names = [option.strategy for option in found.options]
    assert tuple(names) == strategies.BY_NAME["auto"].options
    seconds = [option.seconds.value for option in found.options]
    assert seconds == sorted(seconds)
    # Each image and its mirror for the head; 167 epochs of learning.
    assert seconds[0] == pytest.approx(1.75)
    assert seconds[1] == pytest.approx(1.75 + 167 * 100 * 0.01)
    assert seconds[2] == pytest.approx(1.75 + 167 * (75 * 0.03 + 25 * 0.01))


@given(some.integers(1, 10**5))
def test_a_budget_in_seconds_is_kept(seconds):
    found = decide(probe=0.6, text=f"{seconds}s")
    spent = {option.strategy: option.seconds.value for option in found.options}
    # The head alone has to be.
    assert not found.steps or spent[found.strategy] <= seconds
    # It is no reason to train for longer than without one.
    assert found.epochs <= decide(text="auto").epochs


def test_what_cannot_be_afforded_is_said():
    found = decide(text="3s")
    assert found.steps == ()
    assert "no time for last_stage_high or fine_tuning_high" in found.reasons
    assert decide(text="12e").epochs == 12


def test_a_decision_comes_back_from_json():
    for found in (decide(), decide(distance=None), decide(text="3s")):
        values = decision.to_json(found)
        assert json.loads(json.dumps(values)) == values
        assert decision.from_json(values) == found
