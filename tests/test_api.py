import json

import keras
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
    tmp_path, photos, trained, capsys, no_page
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


def test_callbacks_see_each_phase_that_is_fitted(
    tmp_path, photos, trained, no_page
):
    class Recorder(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.fits = []

        def on_train_begin(self, logs=None):
            self.fits.append([])

        def on_epoch_end(self, epoch, logs=None):
            self.fits[-1].append(logs["val_accuracy"])

    recorder = Recorder()
    settings = {
        **SMALL,
        "strategy": "fine_tuning",
        "weights": trained.directory,
        "finetune_epochs": 2,
    }
    run = tlkeras.train(
        f"folder:{photos}",
        workdir=tmp_path / "solved",
        callbacks=[recorder],
        quiet=True,
        **settings,
    )
    # The head is solved, which no callback sees.
    assert [phase["stopped"] for phase in run.report["phases"]][0] == "solved"
    assert [len(epochs) for epochs in recorder.fits] == [2]
    run = tlkeras.train(
        f"folder:{photos}",
        workdir=tmp_path / "trained",
        callbacks=[recorder],
        quiet=True,
        head_solver="adam",
        head_epochs=1,
        **settings,
    )
    assert [len(epochs) for epochs in recorder.fits] == [2, 1, 2]
    best = [phase["validation_accuracy"] for phase in run.report["phases"]]
    assert best == [max(epochs) for epochs in recorder.fits[1:]]


def test_what_is_no_callback_is_refused(photos):
    with pytest.raises(tlkeras.UserError, match="list of Keras callbacks"):
        tlkeras.train(f"folder:{photos}", callbacks=[print], **SMALL)


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
    images = trained.report["data"]["images"]
    known = sum(map(sum, (images[s].values() for s in ("train", "validation"))))
    assert found.evidence.size.images == known
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


def pillow_files() -> dict[str, tuple[PIL.Image.Image, str, dict]]:
    """Returns images by what they are, with how to write them to a file."""
    noise = np.random.default_rng(0).integers(0, 256, [9, 6, 4], np.uint8)
    rgba = PIL.Image.fromarray(noise)
    rgb = rgba.convert("RGB")
    grey = rgb.convert("L")
    palette = rgb.quantize(16)
    deep = PIL.Image.fromarray(
        np.arange(0, 65535, 1213, np.uint16)[:54].reshape(9, 6)
    )
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    return {
        "RGB": (rgb, "png", {}),
        "JPEG turned": (rgb, "jpeg", {"exif": turned}),
        "L": (grey, "png", {}),
        "1": (grey.convert("1"), "png", {}),
        "LA": (rgba.convert("LA"), "png", {}),
        "RGBA": (rgba, "png", {}),
        "RGBA of WebP": (rgba, "webp", {"lossless": True}),
        "P": (palette, "png", {}),
        "P transparent": (palette, "png", {"transparency": 3}),
        "I;16": (deep, "png", {}),
        "CMYK": (rgb.convert("CMYK"), "jpeg", {}),
        "YCbCr": (rgb.convert("YCbCr"), "jpeg", {}),
    }


@pytest.mark.parametrize("name", pillow_files())
def test_a_file_and_its_pillow_image_get_one_answer(classifier, tmp_path, name):
    image, suffix, options = pillow_files()[name]
    path = tmp_path / f"image.{suffix}"
    image.save(path, **options)
    (of_file,) = classifier.predict(path)
    (of_image,) = classifier.predict(PIL.Image.open(path))
    # Pillow rounds CMYK otherwise, by one level at most.
    atol = 0.02 if name == "CMYK" else 1e-6
    np.testing.assert_allclose(
        of_image["probabilities"], of_file["probabilities"], atol=atol
    )


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I;16N", "I"])
def test_pillow_images_of_16_bits_are_divided_as_files_are(
    classifier, tmp_path, mode
):
    values = np.arange(0, 65535, 1213)[:54].reshape(9, 6)
    path = tmp_path / "image.png"
    PIL.Image.fromarray(values.astype(np.uint16)).save(path)
    kind = {"I": "=i4", "I;16B": ">u2", "I;16N": "=u2"}.get(mode, "<u2")
    bits = values.astype(kind).tobytes()
    image = PIL.Image.frombytes(mode, (6, 9), bits)
    of_file, of_image = (classifier.predict(each)[0] for each in (path, image))
    np.testing.assert_array_equal(
        of_image["probabilities"], of_file["probabilities"]
    )


@pytest.mark.parametrize(
    "values",
    [np.float32([[0.2, 1]]), np.int32([[0, 65536]]), np.int32([[-1, 255]])],
)
def test_pillow_images_of_other_numbers_are_refused(classifier, values):
    with pytest.raises(tlkeras.UserError) as caught:
        classifier.predict(PIL.Image.fromarray(values))
    assert "in 0..65535 (white)" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_arrays_and_pillow_images_may_be_mixed(classifier, images):
    picture = PIL.Image.open(images[0])
    one, other = classifier.predict([pixels(images[0]), picture])
    np.testing.assert_array_equal(one["probabilities"], other["probabilities"])


def test_a_pillow_image_that_is_none_is_refused(classifier):
    with pytest.raises(tlkeras.UserError, match="a Pillow image: "):
        classifier.predict(PIL.Image.new("RGB", (0, 5)))


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


WRONG_TYPES = {
    "unfreeze-number": lambda model, net: tlkeras.unfreeze(model, 20),
    "unfreeze-none": lambda model, net: tlkeras.unfreeze(model, None),
    "unfreeze-path": lambda model, net: tlkeras.unfreeze("runs/photos"),
    "unfreeze-network": lambda model, net: tlkeras.unfreeze(net),
    "freeze-number": lambda model, net: tlkeras.freeze(3),
    "set-number": lambda model, net: tlkeras.set_parameter_requires_grad(
        3, True
    ),
    "initialize-text": lambda model, net: tlkeras.initialize_model(
        "2", True, False, backbone="SmallResNet"
    ),
    "build-text": lambda model, net: tlkeras.build_classifier("5"),
    "build-names": lambda model, net: tlkeras.build_classifier(["a", "b"]),
    "backbone-none": lambda model, net: tlkeras.build_classifier(
        3, backbone=None
    ),
    "weights-none": lambda model, net: tlkeras.build_classifier(
        3, backbone="SmallResNet", weights=None
    ),
    "cuts-number": lambda model, net: tlkeras.cuts(3),
    "cuts-classifier": lambda model, net: tlkeras.cuts(model),
    "split-number": lambda model, net: tlkeras.split(net, 20),
    "split-classifier": lambda model, net: tlkeras.split(model, "stages:1"),
    "load-number": lambda model, net: tlkeras.load(3),
    "load-none": lambda model, net: tlkeras.load(None),
    "data-list": lambda model, net: tlkeras.train(["folder:x"]),
    "workdir": lambda model, net: tlkeras.train("builtin:digits", workdir=3),
    "config": lambda model, net: tlkeras.train("builtin:digits", config=3),
    "callbacks": lambda model, net: tlkeras.train(
        "builtin:digits", callbacks=3
    ),
    "strategies": lambda model, net: tlkeras.compare(
        "builtin:digits", strategies=3
    ),
    "margin": lambda model, net: tlkeras.compare("builtin:digits", margin="1"),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_a_wrong_type_is_the_callers_mistake(
    name, small_classifier, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    network = small_classifier.get_layer("base").network
    with pytest.raises(tlkeras.UserError) as raised:
        WRONG_TYPES[name](small_classifier, network)
    assert "Received: " in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def small_classifier():
    return tlkeras.build_classifier(
        3, backbone="SmallResNet", weights="none", image_size=32
    )
