"""What the documentation says of the code is so."""

import ast
import importlib.util
import pathlib
import re
import types

import pytest

import tlkeras
from tlkeras import cli
from tlkeras.settings import strategies

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
SETTINGS = [
    pytest.param(setting, id=f"{name}-{setting.name}")
    for name, command in cli._COMMANDS.items()
    for setting in command.settings
]


PAGES = (ROOT / "README.md", *sorted(DOCS.glob("**/*.md")))


@pytest.fixture(scope="module")
def hooks() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_has_help(setting):
    assert len(setting.rule.help.split()) > 2
    assert not setting.rule.help.endswith(".")


@pytest.mark.parametrize("command", cli._COMMANDS)
def test_the_page_of_settings_has_all_of_a_command(hooks, command):
    page = hooks.settings_page()
    section = page.partition(f"## tlkeras {command}\n")[2].partition("\n## ")[0]
    for setting in cli._COMMANDS[command].settings:
        entry = f"### {setting.name} {{ #{command}-{setting.name} }}"
        assert entry in section or f"(#train-{setting.name})" in section


def test_the_house_is_drawn_as_the_table_has_it(hooks):
    drawn = (DOCS / "house.svg").read_text(encoding="utf-8")
    assert drawn == hooks.house(hooks.levels()), "run python docs/hooks.py"


def test_the_guide_names_every_strategy():
    guide = (DOCS / "guide" / "training.md").read_text(encoding="utf-8")
    for name in strategies.NAMES:
        assert f"| `{name}`" in guide


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_that_is_shown_names_what_there_is(page):
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S):
        for node in ast.walk(ast.parse(block)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "tlkeras"
            ):
                assert node.attr in tlkeras.__all__


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_modules_that_are_named_are_there(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:\w+/)+\w+\.(?:py|md|html))`", text):
        places = (ROOT / name, ROOT / "tlkeras" / name)
        assert any(place.exists() for place in places), name
