import csv

import numpy as np
import pytest
import tensorflow as tf
import tiny
from conftest import LABELS
from conftest import SMALL
from conftest import run
from conftest import write_digits

import tlkeras
from tlkeras.data import images as image_stores
from tlkeras.models import reference as references
from tlkeras.models import saving
from tlkeras.scoring import predicting
from tlkeras.scoring import unknown
from tlkeras.settings import config as configs


def test_few_are_refused_of_those_that_are_known():
    random = np.random.default_rng(0)
    refused = []
    for _ in range(300):
        drawn = random.normal(size=139)
        least = unknown.threshold(drawn[:99], 0.1)
        refused.append((drawn[99:] < least).mean())
    assert np.mean(refused) == pytest.approx(0.1, abs=0.012)


@pytest.mark.parametrize("rate, images", [(0.05, 19), (0.1, 9), (0.01, 99)])
def test_how_many_images_it_takes(rate, images):
    assert unknown.fewest(rate) == images
    found = np.arange(images, dtype=float)
    assert unknown.threshold(found, rate) == 0
    assert unknown.threshold(found[1:], rate) is None


def test_a_sample_is_even_in_each_class():
    targets = np.repeat([0, 1, 2], [500, 30, 5])
    chosen = unknown.sample(targets, 40)
    assert np.bincount(targets[chosen]).tolist() == [18, 17, 5]
    assert (np.diff(chosen) > 0).all()
    assert unknown.sample(targets, 600).tolist() == list(range(535))


def test_similarity_is_the_mean_cosine_to_the_nearest():
    model = tiny.classifier()
    images = np.random.default_rng(0).integers(
        0, 256, (30, tiny.SIZE, tiny.SIZE, 3), np.uint8
    )
    base = model.get_layer("base")
    features = np.array(base(images))
    # All units may be silent for an image.
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    features /= np.maximum(lengths, 1e-12)
    saved = saving.TrainedModel(
        model,
        LABELS,
        image_stores.Shape(tiny.SIZE, "crop"),
        reference=references.Reference(
            np.zeros(0), features.astype(np.float16)
        ),
    )
    logits, found = saved.whole.predict(images, verbose=0)
    expected = np.sort(features @ features.T, axis=1)[:, -10:].mean(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(
        logits, model.predict(images, verbose=0), atol=1e-5
    )
    live = predicting.predict_squares(saved, list(images))
    np.testing.assert_allclose(live.similarity, found, atol=1e-6)


def test_small_features_are_as_like_as_large_ones():
    features = np.random.default_rng(0).uniform(size=[20, 5]).astype(np.float32)
    known = references.Reference(np.zeros(0), features[:12].astype(np.float16))
    expected = known.similarities(features)
    for scale in (1e-6, 1, 1e6):
        small = scale * features
        np.testing.assert_allclose(known.similarities(small), expected, 1e-5)
        found = references.similarity(small, known.features)
        np.testing.assert_allclose(np.array(found), expected, 1e-5)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run on 200 images of three digits, which has validation enough."""
    place = tmp_path_factory.mktemp("unknown")
    write_digits(place / "photos", dict(enumerate(LABELS)), 66)
    settings = {**SMALL, "data": f"folder:{place}/photos", "epochs": 4}
    return run(configs.build(settings), place / "run"), place


def test_a_run_knows_what_is_none_of_these(digits, photos):
    found, place = digits
    report = found.report["unknown"]
    assert report["images"] == len(
        saving.load(found.directory).reference.features
    )
    assert report["refused"]["low"] < 0.1
    with open(found.directory / "predictions.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    validation = [row for row in rows if row["split"] == "validation"]
    # At most the wished share of those that chose it.
    refused = sum(row["known"] == "no" for row in validation)
    assert refused <= 0.05 * len(validation)
    classifier = tlkeras.load(found.directory)
    paths = sorted(place.glob("photos/*/*.png"))[:60]
    assert np.mean([e["known"] for e in classifier.predict(paths)]) > 0.7
    stripes = np.zeros([8, 8, 3], np.uint8)
    stripes[:, ::2] = (255, 0, 255)
    assert [e["known"] for e in classifier.predict([stripes])] == [False]


def test_its_export_says_so_without_us(digits):
    found, place = digits
    path = sorted(place.glob("photos/*/*.png"))[0]
    served = tf.saved_model.load(str(found.directory / "saved_model" / "1"))
    stripes = np.zeros([1, 8, 8, 3], np.uint8)
    stripes[:, :, ::2] = (255, 0, 255)
    answer = served.signatures["images"](images=tf.constant(stripes))
    assert not answer["known"].numpy()[0]
    answer = served.signatures["serving_default"](
        image_bytes=tf.constant([path.read_bytes()])
    )
    (live,) = tlkeras.load(found.directory).predict(path)
    assert answer["known"].numpy()[0] == live["known"]


def test_without_images_enough_nothing_is_refused(trained, photos):
    # 18 validation images, one fewer than it takes.
    assert trained.report["unknown"]["images"] == 0
    path = sorted(photos.glob(f"{LABELS[1]}/*.png"))[0]
    (answer,) = tlkeras.load(trained.directory).predict(path)
    assert answer["known"] is None
