import pytest
from hypothesis import given
from hypothesis import strategies as some

from tlkeras import errors
from tlkeras.comparison import budgets
from tlkeras.settings import budget
from tlkeras.settings import strategies


def test_a_budget_is_of_steps_seconds_or_epochs():
    assert budget.parse("auto") == budget.Budget()
    assert budget.parse("600") == budget.Budget(steps=600)
    assert budget.parse("90s") == budget.Budget(seconds=90)
    assert budget.parse("7e") == budget.Budget(epochs=7)


@pytest.mark.parametrize("text", ["", "0", "-5", "1.5", "5m", "s", "10 s"])
def test_other_budgets_are_refused(text):
    with pytest.raises(errors.UserError, match="`budget` must be auto"):
        budget.parse(text)


@given(some.integers(1, 5000), some.integers(1, 500))
def test_all_candidates_get_the_same_steps(steps, steps_per_epoch):
    epochs = max(1, round(steps / steps_per_epoch))
    for name in strategies.NAMES:
        for solved in (True, False):
            found = budgets.epochs_of_steps(
                budget.Budget(steps=steps),
                name,
                solved=solved,
                images=1000,
                steps_per_epoch=steps_per_epoch,
            )
            row = strategies.BY_NAME[name]
            # What a decision lets follow is one phase more.
            assert len(found) == len(row.phases) + bool(row.options)
            if solved:
                # What comes before the last is a solved head.
                assert found[-1] == epochs
            else:
                # Two phases take an epoch each at least.
                assert sum(found) == max(epochs, len(found))


def test_without_a_budget_the_steps_are_those_of_big_transfer():
    few, many = (
        budgets.epochs_of_steps(
            budget.Budget(),
            "scratch",
            solved=True,
            images=images,
            steps_per_epoch=steps,
        )
        for images, steps in ((100, 10), (20_000, 100))
    )
    assert (few, many) == ((50,), (100,))


def test_seconds_become_epochs_by_a_trial():
    # 10 s before and after the epochs, each of 5 s.
    assert budgets.epochs_of_seconds(60, [(10.0, 5.0)]) == (10,)
    assert budgets.epochs_of_seconds(1, [(10.0, 5.0)]) == (1,)
    # Tiny images are not trained on for ever.
    assert budgets.epochs_of_seconds(60, [(0.0, 1e-6)]) == (1000,)
    # A solved head takes no epochs, and leaves what it does not need.
    assert budgets.epochs_of_seconds(60, [(2.0, 0.0)]) == (1,)
    assert budgets.epochs_of_seconds(60, [(2.0, 0.0), (10.0, 5.0)]) == (1, 9)
    # One that is trained has half.
    assert budgets.epochs_of_seconds(60, [(2.0, 1.0), (10.0, 5.0)]) == (29, 3)


def test_steps_are_those_of_the_candidate_with_most():
    epochs = {"feature_extraction": (1,), "fine_tuning": (1, 1)}
    found = budgets.to_json(
        budget.Budget(1), epochs, solved=False, steps_per_epoch=7
    )
    assert (found["epochs_each"], found["steps_each"]) == (2, 14)
    # A solved head takes no steps.
    found = budgets.to_json(
        budget.Budget(1), epochs, solved=True, steps_per_epoch=7
    )
    assert found["steps_each"] == 7
