import pytest
from hypothesis import given
from hypothesis import strategies as some

from tlkeras import errors
from tlkeras.comparison import candidates
from tlkeras.settings import config as configs
from tlkeras.settings import strategies


def test_a_budget_is_of_steps_or_of_seconds():
    assert candidates.budget("auto") == candidates.Budget()
    assert candidates.budget("600") == candidates.Budget(steps=600)
    assert candidates.budget("90s") == candidates.Budget(seconds=90)


@pytest.mark.parametrize("text", ["", "0", "-5", "1.5", "5m", "s", "10 s"])
def test_other_budgets_are_refused(text):
    with pytest.raises(errors.UserError, match="`budget` must be auto"):
        candidates.budget(text)


def test_all_ways_have_names_of_their_own_settings():
    base = configs.build({"augment": "none"})
    made = {
        name: candidates.config(base, name, seed=3, epochs=(4, 5))
        for name in strategies.NAMES
    }
    assert {name: each.strategy for name, each in made.items()} == {
        name: name for name in strategies.NAMES
    }
    assert {each.seed for each in made.values()} == {3}
    assert {each.augment for each in made.values()} == {"none"}
    assert made["scratch"].weights == "none"
    assert made["scratch"].epochs == 4
    assert made["fine_tuning"].head_epochs == 4
    assert made["fine_tuning"].finetune_epochs == 5


def test_all_leaves_out_what_would_be_trained_twice():
    solved = candidates.choose("all", configs.build({}))
    assert set(strategies.NAMES) - set(solved) == {"converged_head"}
    for settings in ({"head_solver": "adam"}, {"feature_cache": "off"}):
        trained = candidates.choose("all", configs.build(settings))
        assert trained == strategies.NAMES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scratch", "two different strategies"),
        ("scratch,scratch", "two different strategies"),
        ("scratch,finetuning", "Did you mean fine_tuning"),
        ("", "must be all, or some of"),
    ],
)
def test_a_wrong_choice_of_ways_is_refused(text, words):
    with pytest.raises(errors.UserError, match=words):
        candidates.choose(text, configs.build({}))


def test_without_weights_there_is_nothing_to_compare():
    for text in ("all", "scratch,fine_tuning"):
        with pytest.raises(errors.UserError, match="--weights"):
            candidates.choose(text, configs.build({"weights": "none"}))


@given(some.integers(1, 5000), some.integers(1, 500))
def test_all_ways_get_the_same_steps(steps, steps_per_epoch):
    epochs = max(1, round(steps / steps_per_epoch))
    for name in strategies.NAMES:
        for solved in (True, False):
            found = candidates.split(
                name,
                candidates.Budget(steps=steps),
                solved=solved,
                images=1000,
                steps_per_epoch=steps_per_epoch,
            )
            assert len(found) == candidates.phases(name)
            if solved:
                # What comes before the last is a solved head.
                assert found[-1] == epochs
            else:
                # Two phases take an epoch each at least.
                assert sum(found) == max(epochs, len(found))


def test_without_a_budget_the_steps_are_those_of_big_transfer():
    few, many = (
        candidates.split(
            "scratch",
            candidates.Budget(),
            solved=True,
            images=images,
            steps_per_epoch=steps,
        )
        for images, steps in ((100, 10), (20_000, 100))
    )
    assert (few, many) == ((50,), (100,))


def test_seconds_become_epochs_by_a_trial():
    # 10 s before and after the epochs, each of 5 s.
    assert candidates.pace(60, [(10.0, 5.0)]) == (10,)
    assert candidates.pace(1, [(10.0, 5.0)]) == (1,)
    # Tiny images are not trained on for ever.
    assert candidates.pace(60, [(0.0, 1e-6)]) == (1000,)
    # A solved head takes no epochs, and leaves what it does not need.
    assert candidates.pace(60, [(2.0, 0.0)]) == (1,)
    assert candidates.pace(60, [(2.0, 0.0), (10.0, 5.0)]) == (1, 9)
    # One that is trained has half.
    assert candidates.pace(60, [(2.0, 1.0), (10.0, 5.0)]) == (29, 3)


def test_several_processes_of_a_file_are_refused(tmp_path):
    (tmp_path / "a.toml").write_text("num_processes = 2\nprocess_id = 0\n")
    with pytest.raises(errors.UserError, match="`num_processes` cannot be"):
        candidates.resolve(tmp_path / "a.toml", {})


def test_a_mistake_of_the_call_is_not_blamed_on_the_file(tmp_path):
    (tmp_path / "a.toml").write_text("seed = 3\n")
    with pytest.raises(errors.UserError, match="^`dropout` must be"):
        candidates.resolve(tmp_path / "a.toml", {"dropout": 7})
