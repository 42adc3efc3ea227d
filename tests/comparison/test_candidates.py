import pytest

from tlkeras import errors
from tlkeras.comparison import candidates
from tlkeras.settings import config as configs
from tlkeras.settings import strategies


def test_all_candidates_have_names_of_their_own_settings():
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
def test_a_wrong_choice_of_strategies_is_refused(text, words):
    with pytest.raises(errors.UserError, match=words):
        candidates.choose(text, configs.build({}))


def test_without_weights_there_is_nothing_to_compare():
    for text in ("all", "scratch,fine_tuning"):
        with pytest.raises(errors.UserError, match="--weights"):
            candidates.choose(text, configs.build({"weights": "none"}))


def test_several_processes_of_a_file_are_refused(tmp_path):
    (tmp_path / "a.toml").write_text("num_processes = 2\nprocess_id = 0\n")
    with pytest.raises(errors.UserError, match="`num_processes` cannot be"):
        candidates.resolve(tmp_path / "a.toml", {})


def test_a_mistake_of_the_call_is_not_blamed_on_the_file(tmp_path):
    (tmp_path / "a.toml").write_text("seed = 3\n")
    with pytest.raises(errors.UserError, match="^`dropout` must be"):
        candidates.resolve(tmp_path / "a.toml", {"dropout": 7})
