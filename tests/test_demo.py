"""The demo, which README's first command runs."""

import json
import pathlib
import re

import pytest

from tlkeras import demo
from tlkeras import progress
from tlkeras.settings import config as configs

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.parametrize("name", demo._STRATEGIES)
def test_its_settings_are_allowed_and_read(name):
    own = {**demo._STRATEGIES[name], "strategy": name}
    config = configs.build({**demo._COMMON, **own})
    assert configs.unused(config, own) == []


def test_it_compares_the_strategies(tmp_path, no_training, capsys):
    picture = demo.run(tmp_path / "demo", progress=progress.Progress())
    assert picture.stat().st_size
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) <= 30
    table = printed.partition("What the transfer is worth")[2]
    for name in demo._STRATEGIES:
        assert name in table
        assert (tmp_path / "demo" / name / "report.html").exists()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table.splitlines()[1].rstrip() in readme
    # The source's one, and then the head and the whole of fine-tuning.
    assert len(no_training) == 6


@pytest.mark.slow
def test_transfer_is_worth_what_the_readme_says(tmp_path, capsys):
    demo.run(tmp_path / "demo", progress=progress.Progress())
    found = {
        name: json.loads((tmp_path / "demo" / name / "report.json").read_text())
        for name in demo._STRATEGIES
    }
    right = {
        name: report["test"]["accuracy"]["value"]
        for name, report in found.items()
    }
    gain = 100 * (right["fine_tuning"] - right["scratch"])
    assert gain > 3
    assert f"{gain:+.1f} points where the head" in capsys.readouterr().out
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, value in right.items():
        told = re.search(rf"^{name} +([0-9.]+) %", readme, re.M)
        # Another processor rounds otherwise.
        assert 100 * value == pytest.approx(float(told[1]), abs=4)
