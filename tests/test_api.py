import json

import numpy as np
import PIL.Image
import pytest
from conftest import LABELS
from conftest import SMALL

import tlkeras
from tlkeras.advisor import textbook


@pytest.fixture(scope="module")
def classifier(trained):
    return tlkeras.load(trained.directory)


@pytest.fixture(scope="module")
def images(photos):
    return sorted(photos.glob(f"{LABELS[1]}/*.png"))[:3]


def pixels(path) -> np.ndarray:
    return np.asarray(PIL.Image.open(path).convert("RGB"))


def test_training_takes_settings_by_name(
    tmp_path, photos, trained, capsys, no_export
):
    settings = {
        **SMALL,
        "strategy": "feature_extraction",
        "head_epochs": 1,
        # A path, as `run.directory` is one.
        "weights": trained.directory,
        "epochs": 3,
    }
    run = tlkeras.train(f"folder:{photos}", workdir=tmp_path, **settings)
    printed = capsys.readouterr().out
    assert "`epochs` has no effect with strategy feature_extraction" in printed
    assert run.directory == tmp_path
    assert run.report["strategy"] == "feature_extraction"
    assert run.report == json.loads((tmp_path / "report.json").read_text())
    assert tlkeras.load(run.directory).labels == LABELS


def test_training_refuses_what_the_command_line_refuses(photos, tmp_path):
    with pytest.raises(tlkeras.UserError, match="Did you mean batch_size"):
        tlkeras.train(f"folder:{photos}", bach_size=3)
    with pytest.raises(tlkeras.UserError, match="a finished run"):
        (tmp_path / "report.json").touch()
        tlkeras.train(f"folder:{photos}", workdir=tmp_path, **SMALL)


def test_a_config_is_overruled_by_settings(tmp_path):
    with pytest.raises(tlkeras.UserError, match="at least 8 pixels"):
        tlkeras.train(config="digits", image_size=4, workdir=tmp_path)


def test_advice_of_an_earlier_run(trained, photos):
    """Its weights know their source, which are these very images."""
    found = tlkeras.advise(
        f"folder:{photos}",
        backbone="SmallResNet",
        weights=trained.directory,
        image_size=16,
        resize="pad",
        quiet=True,
    )
    last = found.evidence.depths[-1]
    assert last.wasserstein < textbook.SIMILAR
    assert last.linear.value > 0.95
    # The run's own head knows the digits.
    assert found.evidence.source.confidence > 0.5
    assert (found.scenario.small, found.scenario.similar) == (True, True)
    train = trained.report["data"]["images"]["train"]
    assert found.evidence.size.images == sum(train.values())
    assert found.evidence.size.width == 8


def test_files_arrays_and_pictures_are_the_same(classifier, images):
    by_path = classifier.predict([str(path) for path in images])
    assert [each["image"] for each in by_path] == [str(p) for p in images]
    arrays = [pixels(path) for path in images]
    pictures = [PIL.Image.open(path).convert("RGB") for path in images]
    for given in (images, tuple(images), arrays, np.stack(arrays), pictures):
        found = classifier.predict(given)
        assert len(found) == 3
        for one, other in zip(by_path, found, strict=True):
            assert one["label"] == other["label"]
            np.testing.assert_allclose(
                one["probabilities"], other["probabilities"], atol=1e-6
            )


def test_one_image_needs_no_list(classifier, images):
    expected = classifier.predict(images[:1])[0]
    for one in (images[0], str(images[0]), pixels(images[0])):
        (found,) = classifier.predict(one)
        assert found["label"] == expected["label"]
        assert found["label"] in LABELS
        assert found["score"] == max(found["probabilities"])
        np.testing.assert_allclose(found["probabilities"].sum(), 1)


def test_a_folder_and_a_glob_are_all_their_images(classifier, photos):
    folder = photos / LABELS[1]
    assert len(classifier.predict(folder)) == 50
    assert len(classifier.predict(f"{folder}/*.png")) == 50


def test_nothing_gives_nothing(classifier):
    assert classifier.predict([]) == []
    assert classifier.predict(np.zeros([0, 8, 8, 3], np.uint8)) == []


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros([8, 8, 3], np.float32),
        np.zeros([8, 8], np.uint8),
        np.zeros([2, 8, 8, 4], np.uint8),
        [np.zeros([8, 8, 3], np.uint8), "a.png"],
        3,
    ],
)
def test_what_is_no_image_is_refused(classifier, bad):
    with pytest.raises(tlkeras.UserError, match="an image must be uint8"):
        classifier.predict(bad)


def test_a_file_that_is_no_image_is_refused(classifier, photos):
    broken = photos / LABELS[0] / "broken.png"
    with pytest.raises(tlkeras.UserError, match=r"broken\.png: truncated PNG"):
        classifier.predict([broken])
    with pytest.raises(tlkeras.UserError, match="nowhere"):
        classifier.predict("nowhere.png")
    with pytest.raises(tlkeras.UserError, match=r"holds no model\.keras"):
        tlkeras.load(photos)
