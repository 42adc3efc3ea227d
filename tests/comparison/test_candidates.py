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
    epochs = max(1, round(steps / steps_per_epoch))
    for name in ways.NAMES:
        for solved in (True, False):
            found = ways.split(
                name,
                ways.Budget(steps=steps),
                solved=solved,
                images=1000,
                steps_per_epoch=steps_per_epoch,
            )
            assert len(found) == ways.phases(name)
            if solved:
                # What comes before the last is a solved head.
                assert found[-1] == epochs
            else:
                # Two phases take an epoch each at least.
                assert sum(found) == max(epochs, len(found))


def test_what_is_fine_tuned_starts_from_a_solved_head_where_it_can():
    for values, solver in (
        ({}, "logistic"),
        ({"head": "mlp"}, "adam"),
        ({"feature_cache": "off"}, "adam"),
    ):
        base = config.build({"data": "folder:photos", **values})
        for way in ("last_stage", "fine_tuning", "fine_tuning_low"):
            assert ways.config(base, way, seed=0).head_solver == solver
        way = ways.config(base, "feature_extraction", seed=0)
        assert way.head_solver == "adam"


def test_without_a_budget_the_steps_are_those_of_big_transfer():
    few, many = (
        ways.split(
            "scratch",
            ways.Budget(),
            solved=True,
            images=images,
            steps_per_epoch=steps,
        )
        for images, steps in ((100, 10), (20_000, 100))
    )
    assert (few, many) == ((50,), (100,))


def test_seconds_become_epochs_by_a_trial():
    # 10 s before and after the epochs, each of 5 s.
    assert ways.pace(60, [(10.0, 5.0)]) == (10,)
    assert ways.pace(1, [(10.0, 5.0)]) == (1,)
    # Tiny images are not trained on for ever.
    assert ways.pace(60, [(0.0, 1e-6)]) == (1000,)
    # A solved head takes no epochs, and leaves what it does not need.
    assert ways.pace(60, [(2.0, 0.0)]) == (1,)
    assert ways.pace(60, [(2.0, 0.0), (10.0, 5.0)]) == (1, 9)
    # One that is trained has half.
    assert ways.pace(60, [(2.0, 1.0), (10.0, 5.0)]) == (29, 3)


def test_several_processes_of_a_file_are_refused(tmp_path):
    (tmp_path / "a.toml").write_text("num_processes = 2\nprocess_id = 0\n")
    with pytest.raises(errors.UserError, match="`num_processes` cannot be"):
        ways.resolve(tmp_path / "a.toml", {})


def test_a_mistake_of_the_call_is_not_blamed_on_the_file(tmp_path):
    (tmp_path / "a.toml").write_text("seed = 3\n")
    with pytest.raises(errors.UserError, match="^`dropout` must be"):
        ways.resolve(tmp_path / "a.toml", {"dropout": 7})
