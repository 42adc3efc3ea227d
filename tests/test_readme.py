"""What README, documentation and recipes show is what the program has."""

import pathlib
import re
import shlex
import subprocess
import tomllib

import pytest

from tlkeras import cli
from tlkeras.commands import common
from tlkeras.settings import config as configs
from tlkeras.settings import strategies

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


PAGES = README + "".join(
    path.read_text(encoding="utf-8")
    for path in (ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md")))
)


def commands() -> list[str]:
    recipes = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "configs").glob("*.toml")
    )
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGES, re.M | re.S)
    lines = "".join(blocks) + recipes
    shown = re.findall(r"^(?:#\s+)?tlkeras (.+)$", lines, re.M)
    return list(dict.fromkeys(shown))


@pytest.mark.parametrize("command", commands())
def test_every_command_shown_is_understood(command):
    name, *rest = shlex.split(command)
    values, _ = cli._parse(name, rest)
    if name == "train":
        common.configuration(values)


@pytest.mark.parametrize("flag", sorted(set(re.findall(r"`--(\w+)", PAGES))))
def test_every_flag_named_exists(flag):
    known = {"help", "helpfull", "version"}
    for command in cli._COMMANDS.values():
        known |= set(command.flags())
    assert flag in known


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 200


def test_the_readme_names_every_strategy():
    named = re.findall(r"^\| `(\w+)`", README, re.M)
    assert sorted(named) == sorted(strategies.NAMES)


def test_links_of_the_readme_have_their_file():
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / link).is_file(), link


def test_continuous_integration_runs_the_readme_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (line,) = re.findall(r"^command=\$\((.+)\)$", script, re.M)
    found = subprocess.run(
        line, shell=True, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == (
        "python -m pip install '.[test]' && python -m pytest\n"
    )


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")))
def test_every_recipe_is_valid_and_says_how_to_run_it(path):
    text = path.read_text(encoding="utf-8")
    built = configs.build(tomllib.loads(text), path.name)
    assert built.data
    assert f"tlkeras train --config={path.stem}" in text
