import dataclasses
import json
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from conftest import LABELS
from conftest import tree

from tlkeras import api
from tlkeras import errors
from tlkeras.data import images as image_stores
from tlkeras.export import proof
from tlkeras.export import saved_model
from tlkeras.models import classifier as classifiers
from tlkeras.models import forward
from tlkeras.models import saving
from tlkeras.models import task as tasks
from tlkeras.scoring import predicting

# A process that has TensorFlow and nothing else of ours.
SERVE = """
import json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.modules["tlkeras"] = None
sys.modules["keras"] = None
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
assert set(served.signatures) == {"serving_default", "images"}
encoded = [open(path, "rb").read() for path in sys.argv[2:]]
by_bytes = served.signatures["serving_default"](
    image_bytes=tf.constant(encoded)
)
pixels = tf.stack([tf.io.decode_png(each, channels=3) for each in encoded])
by_pixels = served.signatures["images"](images=pixels)
failure = ""
try:
    served.signatures["serving_default"](
        image_bytes=tf.constant([encoded[0], b"no image"])
    )
except tf.errors.InvalidArgumentError as error:
    failure = str(error)
print(json.dumps([
    {
        "label": [each.decode() for each in answer["label"].numpy()],
        "score": answer["score"].numpy().tolist(),
        "probabilities": answer["probabilities"].numpy().tolist(),
    }
    for answer in (by_bytes, by_pixels)
] + [failure]))
"""


@pytest.fixture(scope="module")
def classifier(trained):
    return saving.load(trained.directory)


def test_the_saved_model_answers_where_only_tensorflow_is(trained, photos):
    paths = sorted(str(path) for path in photos.glob("*/[0-9]*.png"))[::5]
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            SERVE,
            str(trained.directory / "saved_model" / "1"),
            *paths,
        ],
        cwd=trained.directory,
        capture_output=True,
        text=True,
        check=True,
    )
    by_bytes, by_pixels, failure = json.loads(found.stdout.splitlines()[-1])
    expected = api.load(trained.directory).predict(paths)
    for answers in (by_bytes, by_pixels):
        assert answers["label"] == [each["label"] for each in expected]
        np.testing.assert_allclose(
            answers["score"], [each["score"] for each in expected], rtol=1e-4
        )
        np.testing.assert_allclose(
            answers["probabilities"],
            [each["probabilities"] for each in expected],
            atol=1e-5,
        )
    # The answers are worth comparing only where they differ.
    assert set(by_bytes["label"]) == set(LABELS)
    assert "not an image that can be read" in failure


def test_the_images_signature_takes_any_size(trained, classifier):
    served = tf.saved_model.load(
        str(trained.directory / "saved_model" / "1")
    ).signatures["images"]
    for shape in ([1, 5, 9, 3], [2, 33, 16, 3], [3, 16, 16, 3]):
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        answer = served(images=tf.constant(pixels))
        np.testing.assert_allclose(
            answer["probabilities"],
            predicting.predict_arrays(classifier, pixels).probabilities,
            atol=1e-5,
        )
        assert answer["label"].dtype == tf.string
        assert answer["score"].shape == [shape[0]]


@pytest.mark.parametrize("policy", ["pad", "crop", "stretch"])
def test_an_empty_request_answers_empty(tmp_path, policy):
    classifier = saving.TrainedModel(
        # Its fused BatchNorm refuses a batch of none.
        classifiers.build_classifier(
            3, backbone="SmallResNet", weights="none", image_size=16
        ),
        ("a", "b", "c"),
        image_stores.Shape(16, policy),
    )
    saved_model._write(classifier, tmp_path / "model")
    served = tf.saved_model.load(str(tmp_path / "model")).signatures
    requests = [{"image_bytes": tf.zeros([0], tf.string)}]
    for height, width in ((9, 7), (16, 16), (0, 0)):
        requests.append({"images": tf.zeros([0, height, width, 3], tf.uint8)})
    for request in requests:
        name = "images" if "images" in request else "serving_default"
        answer = served[name](**request)
        assert answer["probabilities"].shape == [0, 3]
        assert answer["label"].shape == answer["score"].shape == [0]
        assert answer["label"].dtype == tf.string


def test_a_request_with_scores_that_are_no_numbers_fails(
    trained, tmp_path, samples
):
    classifier = saving.load(trained.directory)
    layer = classifier.model.get_layer("head").get_layer("logits")
    layer.kernel.assign(np.full(layer.kernel.shape, 3e38, np.float32))
    with pytest.raises(errors.UserError, match="no finite scores"):
        saved_model.write(classifier, tmp_path / "new", samples=samples[:2])
    assert not list(tmp_path.iterdir())
    saved_model._write(classifier, tmp_path / "model")
    served = tf.saved_model.load(str(tmp_path / "model")).signatures
    pixels = tf.fill([2, 16, 16, 3], tf.constant(99, tf.uint8))
    with pytest.raises(tf.errors.InvalidArgumentError, match="no finite"):
        served["images"](images=pixels)
    with pytest.raises(tf.errors.InvalidArgumentError, match="no finite"):
        served["serving_default"](image_bytes=tf.constant(samples[:1]))


@pytest.fixture(scope="module")
def samples(photos):
    return [path.read_bytes() for path in sorted(photos.glob("*/1*.png"))]


def test_an_export_is_compared_with_the_live_model(
    trained, classifier, samples
):
    directory = trained.directory / "saved_model" / "1"
    verified = saved_model._verify(classifier, directory, samples)
    assert verified.images == len(samples)
    assert 0 <= verified.largest_difference < 1e-5
    assert [note for note in trained.report["notes"] if "SavedModel" in note]


def test_other_labels_are_seen(trained, classifier, samples):
    directory = trained.directory / "saved_model" / "1"
    for labels in (LABELS[::-1], ("a", "b", "c")):
        other = dataclasses.replace(classifier, labels=labels)
        with pytest.raises(proof.ExportError, match="the SavedModel predicts"):
            saved_model._verify(other, directory, samples)


def test_other_weights_are_seen(trained, samples):
    other = saving.load(trained.directory)
    kernel = other.model.get_layer("head").weights[0]
    kernel.assign(np.full(kernel.shape, 0.5) + np.eye(*kernel.shape))
    directory = trained.directory / "saved_model" / "1"
    with pytest.raises(proof.ExportError, match="probabilities differ by"):
        saved_model._verify(other, directory, samples)


def test_answers_that_only_float32_rounds_are_equal(
    trained, classifier, samples, monkeypatch
):
    decoder = saved_model.image_stores.decoder(classifier.shape)
    squares = {each: decoder(each)[1].numpy() for each in samples}
    logits = classifier.model.predict_on_batch(
        np.stack([*squares.values()]).astype(np.float32)
    )
    rounded = tasks.SINGLE_LABEL.probabilities(logits).astype(np.float32)

    def answer(rows):
        return {
            "probabilities": tf.constant(rows),
            "label": tf.gather(LABELS, rows.argmax(axis=1)),
            "score": tf.constant(rows.max(axis=1)),
        }

    alone = iter(rounded[:, None])
    served = types.SimpleNamespace(
        signatures={
            "serving_default": lambda image_bytes: answer(rounded),
            "images": lambda images: answer(next(alone)),
        }
    )
    monkeypatch.setattr(tf.saved_model, "load", lambda path: served)
    verified = saved_model._verify(classifier, trained.directory, samples)
    assert 0 < verified.largest_difference < 1e-7


def test_an_export_that_answers_otherwise_leaves_nothing(
    classifier, samples, tmp_path, monkeypatch
):
    # The decoder for the live model was made, and is kept, before this.
    saved_model.image_stores.decoder(classifier.shape)(samples[0])
    resize = saved_model.decode.resize

    def darker(images, size, policy):
        return resize(images, size, policy) // 2

    monkeypatch.setattr(saved_model.decode, "resize", darker)
    with pytest.raises(proof.ExportError, match="probabilities differ by"):
        saved_model.write(classifier, tmp_path / "new" / "1", samples=samples)
    assert not tree(tmp_path)


def test_equal_probabilities_are_no_difference(trained, samples, tmp_path):
    """A third is not the same in float32 and in float64."""
    saved = saving.load(trained.directory)
    model = saved.model
    kernel, bias = model.layers[-1].get_weights()[-2:]
    model.layers[-1].set_weights([0 * kernel, 0 * bias])
    found = saved_model.write(saved, tmp_path / "served", samples=samples)
    assert found.largest_difference < 1e-7


@pytest.mark.parametrize("most", [0, 32e6])
def test_weights_are_constants_if_they_are_small(
    classifier, samples, tmp_path, monkeypatch, most
):
    monkeypatch.setattr(forward, "_CONSTANT", most)
    place = tmp_path / "1"
    found = saved_model.write(classifier, place, samples=samples)
    assert found.largest_difference < 1e-5
    kept = tf.train.list_variables(str(place / "variables" / "variables"))
    # An entry of its own is TensorFlow's.
    assert (len(kept) > 1) == (most == 0)
    graph = tf.saved_model.load(str(place)).signatures["images"]
    # It has the weights that it was written with.
    before = graph(tf.constant(np.zeros([1, 9, 7, 3], np.uint8)))["score"]
    other = dataclasses.replace(classifier, compiled={})
    state = classifiers.state(other.model)
    head = other.model.get_layer("head").layers[-1]
    head.kernel.assign(-2 * head.kernel.numpy())
    try:
        after = graph(tf.constant(np.zeros([1, 9, 7, 3], np.uint8)))["score"]
    finally:
        classifiers.restore(other.model, state)
    np.testing.assert_array_equal(before, after)
