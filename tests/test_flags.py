import pytest
from absl import flags

from tlkeras import cli
from tlkeras import errors
from tlkeras import flags as command_flags
from tlkeras.commands import common
from tlkeras.settings import commands
from tlkeras.settings import config as configs
from tlkeras.settings import groups


def parse(*words: str) -> flags.FlagValues:
    return cli._parse("train", list(words))[0]


def test_every_setting_is_a_flag_with_its_default_and_help():
    values = command_flags.make(commands.TRAIN)
    text = command_flags.describe(values)
    for name, setting in configs.settings().items():
        assert values[name].default == setting.default
        assert f"--{name}=" in text
        assert setting.rule.help
    assert set(values) == {*configs.settings(), "config", "workdir"}


def test_every_flag_stands_under_one_heading():
    listed = [
        name
        for group in groups.GROUPS
        for name in (*group.everyday, *group.others)
    ]
    assert len(listed) == len(set(listed))
    there = {
        name for command in cli._COMMANDS.values() for name in command.flags()
    }
    assert set(listed) == there


def test_synonyms_lead_to_flags_that_there_are():
    there = {
        name for command in cli._COMMANDS.values() for name in command.flags()
    }
    for meant in groups.SYNONYMS.values():
        assert set(meant) <= there


@pytest.mark.parametrize("command", cli._COMMANDS)
def test_help_fits_a_terminal(command):
    text = command_flags.describe(cli._COMMANDS[command].flags())
    assert max(map(len, text.splitlines()), default=0) <= 80


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--batch_size=8"], "batch_size", 8),
        (["--batch_size", "8"], "batch_size", 8),
        (["-batch_size=8"], "batch_size", 8),
        (["--batch_size=2", "--batch_size=8"], "batch_size", 8),
        (["--finetune_learning_rate=3e-5"], "finetune_learning_rate", 3e-5),
        (["--image_size=auto"], "image_size", "auto"),
        (["--image_size=64"], "image_size", 64),
        (["--tensorboard"], "tensorboard", True),
        (["--notensorboard"], "tensorboard", False),
        (["--tensorboard=false"], "tensorboard", False),
        (["--data=csv:a=b.csv"], "data", "csv:a=b.csv"),
        (["--batch-size=8"], "batch_size", 8),
        (["--image-size", "64"], "image_size", 64),
        (["--no-tensorboard"], "tensorboard", False),
        (["--data=my-photos"], "data", "my-photos"),
    ],
)
def test_a_flag_is_a_checked_value(words, name, value):
    flag = parse(*words)[name]
    assert (flag.value, type(flag.value)) == (value, type(value))
    assert flag.present


def test_a_flag_that_says_the_default_is_present_all_the_same(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text("batch_size = 8\npatience = 2")
    built = common.configuration(parse(f"--config={file}", "--batch_size=32"))
    assert (built.batch_size, built.patience, built.seed) == (32, 2, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch_size"], "Missing value for flag --batch_size"),
        (["--batch_size", "--seed=3"], r"`batch_size` must.*'--seed=3'"),
        (["--batch_size="], r"`batch_size` must be a whole number.*''"),
        (["--batch_size=x"], r"^`batch_size` must be a whole number"),
        (["--tensorboard=maybe"], r"^`tensorboard` must be true or false"),
        (["--notensorboard=1"], "does not take an argument"),
        (["--nobatch_size"], "unknown flag `--nobatch_size`"),
        (["--bach_size=3"], "`--bach_size`. Did you mean --batch_size?"),
        (["--batch=3"], r"`--batch`. Did you mean --batch_size\?"),
        (["--model=x"], "a flag of `tlkeras evaluate`, not of `tlkeras train`"),
        (["--lr=1"], "`--lr`. Did you mean --finetune_learning_rate, --head"),
        (["--model=x"], r"not of `tlkeras train`\. Did you mean --backbone\?"),
        (["--arch=x"], r"Did you mean --backbone\?"),
        (["--bs=3"], r"Did you mean --batch_size\?"),
        (["--flagfile=x"], "unknown flag `--flagfile`"),
        (["--flagfile"], "unknown flag `--flagfile`"),
        (["-undefok=foo", "--foo=3"], "unknown flag `--undefok`"),
        (["--strategy=scratsh"], "Did you mean scratch?"),
    ],
)
def test_a_mistake_in_a_flag_is_one_line(words, message):
    with pytest.raises(errors.UserError, match=message) as caught:
        parse(*words)
    assert "\n" not in str(caught.value)
