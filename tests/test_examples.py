"""The examples in the docstrings of the public functions run as they stand."""

import doctest
import inspect

import PIL.Image
import pytest
from conftest import LABELS

import tlkeras

# They are what other functions return and raise.
WITHOUT = {"Run", "UserError"}


@pytest.fixture
def place(photos, trained, tmp_path, monkeypatch, no_page):
    """A directory with what the examples name: images and a run."""
    (tmp_path / "photos").symlink_to(photos)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "photos").symlink_to(trained.directory)
    path = min((photos / LABELS[0]).glob("*[0-9].png"))
    PIL.Image.open(path).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", sorted(set(tlkeras.__all__) - WITHOUT))
def test_the_example_runs(place, name):
    value = getattr(tlkeras, name)
    tests = doctest.DocTestFinder(exclude_empty=True).find(
        value, name, module=inspect.getmodule(value), globs={}
    )
    assert any(test.examples for test in tests)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
