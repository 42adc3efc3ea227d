"""What a setting stands for is known before anything is opened."""

import pytest

from tlkeras import errors
from tlkeras.backbones import locate


@pytest.fixture
def place(tmp_path):
    """A directory with a run, weights files and other things in it."""
    (tmp_path / "run").mkdir()
    for name in (
        "run/model.keras",
        "a.h5",
        "b.weights.h5",
        "c.keras",
        "d.pth",
    ):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


class TestWeights:
    @pytest.mark.parametrize("word", ["imagenet", "none"])
    def test_words_are_no_files(self, word):
        assert locate.weights(word) is None

    @pytest.mark.parametrize("name", ["a.h5", "b.weights.h5", "c.keras"])
    def test_files(self, place, name):
        assert locate.weights(str(place / name)) == place / name

    def test_a_run_is_its_model(self, place):
        found = locate.weights(str(place / "run"))
        assert found == place / "run" / "model.keras"

    def test_the_home_directory(self, place, monkeypatch):
        monkeypatch.setenv("HOME", str(place))
        assert locate.weights("~/a.h5") == place / "a.h5"

    @pytest.mark.parametrize(
        "name, message",
        [
            ("no.h5", "no.h5, which does not exist"),
            ("empty", "empty, which holds no model.keras"),
            ("d.pth", "kind .h5, .weights.h5 or .keras. Received: .*d.pth"),
        ],
    )
    def test_tells_what_is_wrong(self, place, name, message):
        with pytest.raises(errors.UserError, match=message):
            locate.weights(str(place / name))


class TestModel:
    def test_a_run_or_a_file(self, place):
        assert locate.model(place / "run") == place / "run" / "model.keras"
        assert locate.model(str(place / "c.keras")) == place / "c.keras"

    @pytest.mark.parametrize(
        "name, message",
        [
            ("no.keras", "no.keras, which does not exist"),
            ("empty", "empty, which holds no model.keras"),
        ],
    )
    def test_tells_what_is_wrong(self, place, name, message):
        with pytest.raises(errors.UserError, match=message):
            locate.model(place / name)
