"""What a setting stands for is known before anything is opened."""

import pytest

from tlkeras import errors
from tlkeras.backbones import catalog
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
        "e.onnx",
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

    def test_files_of_torch(self, place, monkeypatch):
        monkeypatch.setattr(locate, "_has_torch", lambda: True)
        assert locate.weights(str(place / "d.pth")) == place / "d.pth"
        monkeypatch.setattr(locate, "_has_torch", lambda: False)
        with pytest.raises(errors.UserError, match=r"pip install torch"):
            locate.weights(str(place / "d.pth"))

    def test_the_home_directory(self, place, monkeypatch):
        monkeypatch.setenv("HOME", str(place))
        assert locate.weights("~/a.h5") == place / "a.h5"

    @pytest.mark.parametrize(
        "name, message",
        [
            ("no.h5", "no.h5, which does not exist"),
            ("empty", "empty, which holds no model.keras"),
            ("e.onnx", "kind .h5, .weights.h5, .keras or .*: .*e.onnx"),
        ],
    )
    def test_tells_what_is_wrong(self, place, name, message):
        with pytest.raises(errors.UserError, match=message):
            locate.weights(str(place / name))


class TestImagenet:
    """Whether the weights can be had, known before anything is built."""

    @pytest.mark.parametrize("torch", [True, False])
    def test_is_there(self, monkeypatch, torch):
        monkeypatch.setattr(locate, "_has_torch", lambda: torch)
        locate.check_imagenet(catalog.find("MobileNetV2"))
        locate.check_imagenet(catalog.find("SqueezeNet1_1-keras"))

    def test_in_a_file_of_torch(self, monkeypatch):
        row = catalog.find("SqueezeNet1_0")
        monkeypatch.setattr(locate, "_has_torch", lambda: True)
        locate.check_imagenet(row)
        monkeypatch.setattr(locate, "_has_torch", lambda: False)
        with pytest.raises(errors.UserError, match="of SqueezeNet1_0 are torc"):
            locate.check_imagenet(row)

    def test_is_not_there(self):
        with pytest.raises(errors.UserError, match="no ImageNet weights for S"):
            locate.check_imagenet(catalog.find("SmallResNet"))


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
