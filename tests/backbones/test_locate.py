"""What a setting stands for is known before anything is opened."""

import sys

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
        "f.safetensors",
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

    def test_files_of_tensors(self, place, monkeypatch):
        assert locate.weights(str(place / "d.pth")) == place / "d.pth"
        found = locate.weights(str(place / "f.safetensors"))
        assert found == place / "f.safetensors"
        monkeypatch.setattr(locate, "_is_installed", lambda module: False)
        assert locate.weights(str(place / "d.pth")) == place / "d.pth"
        with pytest.raises(errors.UserError, match="pip install safetensors"):
            locate.weights(str(place / "f.safetensors"))

    def test_the_home_directory(self, place, monkeypatch):
        monkeypatch.setenv("HOME", str(place))
        assert locate.weights("~/a.h5") == place / "a.h5"

    @pytest.mark.parametrize(
        "name, message",
        [
            ("no.h5", "no.h5, which does not exist"),
            ("empty", "empty, which holds no model.keras"),
            ("e.onnx", "kind .h5, .weights.h5, .keras, .*: .*e.onnx"),
        ],
    )
    def test_tells_what_is_wrong(self, place, name, message):
        with pytest.raises(errors.UserError, match=message):
            locate.weights(str(place / name))


class TestImagenet:
    """Whether the weights can be had, known before anything is built."""

    @pytest.mark.parametrize(
        "name", ["MobileNetV2", "SqueezeNet1_1-keras", "SqueezeNet1_0"]
    )
    def test_is_there(self, name):
        locate.check_imagenet(catalog.find(name))

    def test_in_a_package(self, tmp_path, monkeypatch):
        row = catalog.find("EfficientNetLite1")
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        with pytest.raises(errors.UserError, match=r"tlkeras\[weights\]"):
            locate.check_imagenet(row)
        path = tmp_path / row.origin.removeprefix("package:")
        path.parent.mkdir(parents=True)
        path.touch()
        locate.check_imagenet(row)
        assert locate.package_file(row) == path

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
