"""The demo, which README's first command runs."""

import pathlib

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
    table = capsys.readouterr().out.partition("What the transfer is worth")[2]
    for name in demo._STRATEGIES:
        assert name in table
        assert (tmp_path / "demo" / name / "report.html").exists()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table.splitlines()[1].rstrip() in readme
    # The source's one, and then the head and the whole of fine-tuning.
    assert len(no_training) == 6
