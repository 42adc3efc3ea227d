import configparser
import importlib
import importlib.metadata
import pathlib
import re
import runpy
import subprocess
import sys
import time

import pytest
import setuptools
from conftest import QUICK

import tlkeras

HEAVY = ("tensorflow", "keras", "jax", "sklearn", "matplotlib", "pandas")
SHOW = f"import sys; print(*[name for name in {HEAVY} if name in sys.modules])"


def seconds_and_output(program: str) -> tuple[float, str]:
    """Returns the shortest of three runs: a busy machine is no mistake."""
    runs = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
        )
        runs.append((time.perf_counter() - began, done.stdout))
    return min(runs)


def test_import_is_quick_and_light():
    seconds, output = seconds_and_output(f"import tlkeras; {SHOW}")
    assert seconds < 1
    assert output == "\n"


def test_help_is_quick_and_light():
    seconds, output = seconds_and_output(
        f"from tlkeras import cli; cli.main(['--help']); {SHOW}"
    )
    assert seconds < 1
    assert output.startswith("tlkeras: a folder of labelled images")
    assert output.endswith("\n\n")


def test_the_public_names_are_listed_and_load():
    for name in tlkeras.__all__:
        assert name in dir(tlkeras)
        assert getattr(tlkeras, name) is getattr(tlkeras, name)
    assert {"train", "load", "build_classifier", "split"} <= set(dir(tlkeras))


def test_the_names_for_type_checkers_are_the_public_ones():
    source = pathlib.Path(tlkeras.__file__).read_text()
    assert [
        name for name in tlkeras.__all__ if f" as {name}" not in source
    ] == []
    for name, (module, attribute) in tlkeras._PUBLIC.items():
        found = getattr(importlib.import_module(module), attribute)
        assert getattr(tlkeras, name) is found


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(tlkeras, "trian")


def test_type_checkers_are_told_that_there_are_types():
    package = pathlib.Path(tlkeras.__file__).parent
    assert (package / "py.typed").is_file()


def test_the_version_is_that_of_the_installed_package():
    assert importlib.metadata.version("tlkeras") == tlkeras.__version__


def test_the_index_shows_no_dead_links(monkeypatch):
    """It has the README, but not the files beside it."""
    root = pathlib.Path(tlkeras.__file__).parent.parent
    said = {}
    monkeypatch.setattr(setuptools, "setup", said.update)
    runpy.run_path(str(root / "setup.py"))
    text = said["long_description"]
    assert not re.findall(r"\]\((?!https?://)", text)
    assert "[data](docs" in (root / "README.md").read_text("utf-8")
    assert "tlkeras train photos/" in text and ": data," in text


def test_every_package_is_listed_for_the_wheel():
    root = pathlib.Path(tlkeras.__file__).parent
    settings = configparser.ConfigParser()
    settings.read(root.parent / "setup.cfg")
    listed = set(settings["options"]["packages"].split())
    folders = {path.parent for path in root.rglob("*.py")}
    assert listed - {"tlkeras.configs"} == {
        ".".join(folder.relative_to(root.parent).parts) for folder in folders
    }


@pytest.mark.parametrize("beginning", QUICK)
def test_the_quick_tests_are_there(beginning):
    path, *names = beginning.split("::")
    place = pathlib.Path(__file__).parent / path
    assert place.exists()
    assert all(name in place.read_text(encoding="utf-8") for name in names)
