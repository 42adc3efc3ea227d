"""Wrong converter results, planted, are caught before a file gets its name."""

import dataclasses

import keras
import numpy as np
import pytest

from tlkeras.backbones import base as bases
from tlkeras.export import proof
from tlkeras.export import samples as all_samples
from tlkeras.models import reference as references
from tlkeras.models import saving

# Ways to prepare pixels wrongly, and what is said of them.
MISTAKES = {
    "channels": (lambda x: x[..., ::-1], "BGR instead of RGB"),
    "scaled twice": (lambda x: x / 127.5 - 1, r"pixels in -?[01]\.\."),
    "unit": (lambda x: x / 255, r"pixels in -?[01]\.\."),
    "unscaled": (lambda x: 127.5 * (x + 1), "without the network's own"),
    "turned": (lambda x: x.swapaxes(1, 2), "mirrored at a diagonal"),
}


@pytest.fixture(scope="module")
def classifier(trained):
    """The run's model with a head that hears every feature."""
    saved = saving.load(trained.directory)
    (kernel, bias) = saved.model.get_layer("head").get_weights()
    loud = np.random.default_rng(0).normal(size=kernel.shape)
    saved.model.get_layer("head").set_weights([2 * loud, bias])
    return saved


@pytest.fixture(scope="module")
def samples():
    generator = np.random.default_rng(1)
    colors = generator.integers(0, 256, [80, 1, 1, 3])
    ramp = np.linspace(0, 1, 16)[None, :, None, None]
    squares = (colors * ramp).repeat(16, 2).round().astype(np.uint8)
    return all_samples.Samples(
        "pictures", (), squares, (None,) * 80, np.arange(80) % 3
    )


def wrong(classifier, change=lambda x: x, noise=0.0):
    """Returns an opener of a file that takes pixels wrongly, and rounds."""

    def answer(images):
        pixels = change(images.astype(np.float32))
        logits = classifier.model.predict_on_batch(pixels)
        found = classifier.task.probabilities(logits)
        generator = np.random.default_rng(len(images))
        found = found + generator.uniform(-noise, noise, found.shape)
        return {"probabilities": found.clip(0, 1)}

    return lambda path, threads=0: answer


def prove(classifier, samples, opener, tmp_path, **options):
    file = tmp_path / "model"
    file.write_bytes(b"12345")
    options = {"exact": True, "max_changed": 1.0, **options}
    return proof.prove(
        *(classifier, opener, file, samples), runtime="runtime 1", **options
    )


def test_a_right_file_is_proved(classifier, samples, tmp_path):
    found = prove(classifier, samples, wrong(classifier), tmp_path)
    assert (found.images, found.changed, found.bytes) == (80, 0, 5)
    assert found.largest_difference < 1e-6
    assert found.live == found.file
    assert found.difference.low < 0 < found.difference.high
    assert found.pillow_changed is None


@pytest.mark.parametrize("noise", [0.0, 0.03])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_lost_preparation_is_named(
    classifier, samples, tmp_path, mistake, noise
):
    """Also of a file that rounds, where a difference alone says little."""
    change, said = MISTAKES[mistake]
    opener = wrong(classifier, change, noise)
    with pytest.raises(proof.ExportError, match=said):
        prove(classifier, samples, opener, tmp_path, exact=noise == 0)


def test_rounding_alone_is_no_lost_preparation(classifier, samples, tmp_path):
    opener = wrong(classifier, noise=0.03)
    found = prove(classifier, samples, opener, tmp_path, exact=False)
    assert 0.02 < found.largest_difference < 0.04
    with pytest.raises(proof.ExportError, match="are allowed"):
        prove(classifier, samples, opener, tmp_path)


def test_too_many_changed_answers_are_refused(classifier, samples, tmp_path):
    opener = wrong(classifier, noise=0.9)
    found = prove(classifier, samples, opener, tmp_path, exact=False)
    assert found.changed > 8
    share = found.changed / 80
    options = {"exact": False, "max_changed": share - 0.01}
    with pytest.raises(
        proof.ExportError, match=f"answers {found.changed} of 80 images other"
    ):
        prove(classifier, samples, opener, tmp_path, **options)
    options["max_changed"] = share
    prove(classifier, samples, opener, tmp_path, **options)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda images: np.full([len(images), 3], np.nan), "no finite numbers"),
        (lambda images: np.ones([len(images), 4]) / 4, "answer of shape"),
        (lambda images: 1 / 0, "runtime 1 does not run"),
    ],
)
def test_a_file_that_answers_nonsense(
    classifier, samples, tmp_path, answer, said
):
    def opener(path, threads=0):
        return lambda images: {"probabilities": answer(images)}

    with pytest.raises(proof.ExportError, match=said):
        prove(classifier, samples, opener, tmp_path)


def test_what_pillow_changes_is_measured(classifier, samples, tmp_path):
    darker = tuple(
        square // 2 if index % 2 else None
        for index, square in enumerate(samples.squares)
    )
    found = prove(
        *(classifier, dataclasses.replace(samples, pillow=darker)),
        *(wrong(classifier), tmp_path),
    )
    assert 0 < found.pillow_changed <= 40
    assert found.pillow_difference > 0.1


@pytest.mark.parametrize(
    ("similarity", "known", "said"),
    [
        (lambda live: live + 0.01, None, "similarities to training images dif"),
        (lambda live: live[:1], None, "does not give `similarity` for each"),
        (lambda live: live, lambda known: known[:1], "not give `known` for ea"),
        (lambda live: live, lambda known: ~known, "80 of 80 images are `known"),
    ],
)
def test_a_file_that_tells_strangers_otherwise(
    classifier, samples, tmp_path, similarity, known, said
):
    features = np.eye(classifier.model.get_layer("base").output.shape[1])
    knowing = dataclasses.replace(
        classifier,
        reference=references.Reference(np.zeros(3), features[:20], 0.1),
    )

    def opener(change=lambda live: live, say=None):
        def answer(images):
            found = knowing.whole.predict_on_batch(images)
            return {
                "probabilities": knowing.task.probabilities(found[0]),
                "similarity": change(found[1]),
                "known": (say or np.array)(found[1] >= 0.1),
            }

        return lambda path, threads=0: answer

    found = prove(knowing, samples, opener(), tmp_path)
    assert (found.similarity_difference, found.known_changed) == (0, 0)
    with pytest.raises(proof.ExportError, match=said):
        prove(
            *(knowing, samples, opener(similarity, known), tmp_path),
            max_changed=0.5,
        )


def test_a_network_without_scaling_of_its_own(samples, tmp_path, classifier):
    """It scales inside, so that there is nothing of ours to lose."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input([16, 16, 3])
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Conv2D(8, 3, activation="relu")(x)
    network = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x))
    base = bases.Base(network, backbone="SmallResNet", scaling="none")
    images = keras.Input([16, 16, 3])
    head = keras.layers.Dense(
        3, kernel_initializer=keras.initializers.RandomNormal(stddev=9)
    )
    other = dataclasses.replace(
        classifier, model=keras.Model(images, head(base(images)))
    )
    prove(other, samples, wrong(other), tmp_path)
    opener = wrong(other, lambda x: x[..., ::-1])
    with pytest.raises(proof.ExportError, match="BGR"):
        prove(other, samples, opener, tmp_path)
