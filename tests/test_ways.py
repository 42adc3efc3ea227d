import pytest
from hypothesis import given
from hypothesis import strategies as some

from tlkeras import config
from tlkeras import errors
from tlkeras import ways


def test_a_budget_is_of_steps_or_of_seconds():
    assert ways.budget("auto") == ways.Budget()
    assert ways.budget("600") == ways.Budget(steps=600)
    assert ways.budget("90s") == ways.Budget(seconds=90)


@pytest.mark.parametrize("text", ["", "0", "-5", "1.5", "5m", "s", "10 s"])
def test_other_budgets_are_refused(text):
    with pytest.raises(errors.UserError, match="`budget` must be auto"):
        ways.budget(text)


def test_all_ways_have_names_of_their_own_settings():
    base = config.build({"augment": "none"})
    made = {
        name: ways.config(base, name, seed=3, epochs=(4, 5))
        for name in ways.NAMES
    }
    assert len(set(made.values())) == len(ways.NAMES)
    assert {each.seed for each in made.values()} == {3}
    assert {each.augment for each in made.values()} == {"none"}
    assert made["scratch"].weights == "none"
    assert made["scratch"].epochs == 4
    assert made["converged_head"].head_solver == "logistic"
    assert made["last_stage"].unfreeze == "stages:1"
    assert made["fine_tuning"].finetune_epochs == 5
    assert made["fine_tuning_low"].finetune_learning_rate == pytest.approx(
        made["fine_tuning"].finetune_learning_rate / 10
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scratch", "two different ways"),
        ("scratch,scratch", "two different ways"),
        ("scratch,finetuning", "Did you mean fine_tuning"),
        ("", "must be all, or some of"),
    ],
)
def test_a_wrong_choice_of_ways_is_refused(text, words):
    with pytest.raises(errors.UserError, match=words):
        ways.choose(text, pretrained=True)


def test_without_weights_there_is_nothing_to_compare():
    for text in ("all", "scratch,fine_tuning"):
        with pytest.raises(errors.UserError, match="--weights"):
            ways.choose(text, pretrained=False)


@given(some.integers(1, 5000), some.integers(1, 500))
def test_all_ways_get_the_same_steps(steps, steps_per_epoch):
    got = {
        name: sum(
            ways.split(
                name,
                ways.Budget(steps=steps),
                images=1000,
                steps_per_epoch=steps_per_epoch,
            )
        )
        for name in ways.NAMES
    }
    # Two phases take an epoch each at least.
    assert max(got.values()) <= max(2, min(got.values()))
    epochs = got["scratch"]
    assert epochs == max(1, round(steps / steps_per_epoch))


def test_without_a_budget_the_steps_are_those_of_big_transfer():
    few = ways.split("scratch", ways.Budget(), images=100, steps_per_epoch=10)
    many = ways.split(
        "scratch", ways.Budget(), images=20_000, steps_per_epoch=100
    )
    assert (few, many) == ((50,), (100,))


def test_seconds_become_epochs_by_a_trial():
    # 10 s before and after the epochs, each of 5 s.
    assert ways.pace("scratch", 60, [(10.0, 5.0)], [100]) == (10,)
    assert ways.pace("scratch", 60, [(10.0, 5.0)], [4]) == (4,)
    assert ways.pace("scratch", 1, [(10.0, 5.0)], [100]) == (1,)
    # The head stops at its most, and leaves the rest to the phase after it.
    found = ways.pace("fine_tuning", 60, [(2.0, 0.1), (10.0, 5.0)], [20, 100])
    assert found == (20, 9)
