"""What is recorded of images and a base, and that it is what it says."""

import dataclasses
import random

import keras
import numpy as np
import pytest
import tiny

from tlkeras.advisor import evidence
from tlkeras.advisor import passes
from tlkeras.backbones import base as bases
from tlkeras.backbones import small
from tlkeras.models import classifier as classifiers
from tlkeras.models import graph
from tlkeras.scoring import intervals


def drawn(images: int = 50, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Noise of another brightness for each class."""
    targets = np.arange(images) % classes
    noise = np.random.default_rng(0).integers(0, 60, (images, 8, 8, 3))
    pixels = noise + (190 // classes * targets)[:, None, None, None]
    return pixels.astype(np.uint8), targets


def knowing() -> bases.Base:
    """A base whose BatchNorm has statistics of some source."""
    base = bases.of(tiny.classifier())
    for layer in base.network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            generator = np.random.default_rng(len(layer.name))
            width = layer.moving_mean.shape
            layer.moving_mean.assign(generator.normal(size=width))
            layer.moving_variance.assign(generator.uniform(0.5, 2, width))
    return base


def gather(base, pixels, targets, **options) -> evidence.Evidence:
    return evidence.gather(
        base, pixels, targets, progress=tiny.QUIET, **options
    )


def normals(*rows: tuple[float, float, float, float]) -> passes.Statistics:
    """Target mean and variance, source mean and variance, without epsilon."""
    mean, variance, source_mean, source_variance = np.array(rows).T
    return passes.Statistics(
        "bn", 0.0, mean, variance, source_mean, source_variance
    )


def untimed(found: evidence.Evidence) -> evidence.Evidence:
    return dataclasses.replace(found, cost=None)


@pytest.fixture(scope="module")
def found() -> evidence.Evidence:
    pixels, targets = drawn()
    return gather(knowing(), pixels, targets)


def test_equal_normals_have_no_distance():
    found = normals((0.0, 1.0, 0.0, 1.0), (-3.0, 0.01, -3.0, 0.01))
    assert evidence.kl(found) == pytest.approx([0, 0])
    assert evidence.wasserstein(found) == pytest.approx([0, 0])


def test_distances_of_known_normals():
    found = normals((1.0, 1.0, 0.0, 1.0), (0.0, 4.0, 0.0, 1.0), (2, 1, 0, 4))
    # By hand: a half of the squared shift; (4 - 1 - log 4) / 2; and
    # (log 4 + 5 / 4 - 1) / 2.
    assert evidence.kl(found) == pytest.approx(
        [0.5, (3 - np.log(4)) / 2, (np.log(4) + 0.25) / 2]
    )
    assert evidence.wasserstein(found) == pytest.approx([1, 1, np.sqrt(1.25)])


def test_a_dead_channel_is_no_infinity():
    dead = dataclasses.replace(normals((0, 0, 0, 0)), epsilon=1e-3)
    assert evidence.kl(dead) == evidence.wasserstein(dead) == [0]


def test_the_source_itself_has_no_distance():
    pixels, targets = drawn()
    base = knowing()
    layers = [
        layer
        for layer in base.network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert evidence.distance(gather(base, pixels, targets)) > 0.1
    # What the first layer knows changes what comes into the second.
    for number, layer in enumerate(layers):
        seen = passes.run(base, pixels, seed=0, progress=tiny.QUIET)
        layer.moving_mean.assign(seen.statistics[number].mean)
        layer.moving_variance.assign(seen.statistics[number].variance)
    found = gather(base, pixels, targets)
    assert evidence.distance(found) < 1e-3
    assert all(abs(depth.kl) < 1e-5 for depth in found.depths)


def test_moments_are_those_of_all_activations():
    pixels, _ = drawn(50)
    base = knowing()
    found = passes.run(base, pixels, seed=0, progress=tiny.QUIET).statistics
    assert [each.layer for each in found] == ["bn1", "bn2"]
    scaled = pixels.astype(np.float32) / 127.5 - 1
    for each in found:
        inner = base.network.get_layer(each.layer)
        inputs = keras.Model(base.network.input, inner.input).predict(
            scaled, verbose=0
        )
        np.testing.assert_allclose(
            each.mean, inputs.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            each.variance, inputs.var(axis=(0, 1, 2)), rtol=1e-3
        )


def test_the_last_features_are_those_of_the_base():
    pixels, _ = drawn(40)
    base = knowing()
    found = passes.run(base, pixels, seed=0, progress=tiny.QUIET)
    wanted = base(pixels, training=False)
    np.testing.assert_allclose(found.features[-1], wanted, rtol=1e-4)
    assert not np.allclose(found.random_features[-1], wanted, rtol=0.1)
    assert all(len(each) == 40 for each in found.features)


def test_without_a_source_there_is_no_distance():
    pixels, targets = drawn()
    found = gather(tiny.classifier(), pixels, targets)
    assert all(depth.kl is None for depth in found.depths)
    assert all(depth.wasserstein is None for depth in found.depths)
    assert evidence.distance(found) is None
    assert evidence.flat(found)["last_kl"] is None


def test_without_a_classifier_there_is_no_energy(found):
    assert found.source is None
    row = evidence.flat(found)
    names = ("energy", "entropy", "mean_entropy", "confidence")
    assert [row[name] for name in names] == [None] * 4


def test_groups_are_what_counts(found):
    """Five films of ten frames are five observations, not fifty."""
    targets = np.arange(50) // 10 % 2
    noise = np.random.default_rng(0).integers(0, 255, (50, 8, 8, 3))
    pixels = noise.astype(np.uint8)
    films = [f"film {index // 10}" for index in range(50)]
    grouped = gather(knowing(), pixels, targets, groups=films)
    alone = gather(knowing(), pixels, targets)
    assert (grouped.groups, alone.groups) == (5, 50)
    for depth in grouped.depths:
        assert (depth.linear.images, depth.linear.groups) == (50, 5)
        width = depth.linear.high - depth.linear.low
        assert width > alone.depths[0].linear.high - alone.depths[0].linear.low
    assert [point.groups for point in grouped.curve][-1] == 4
    assert list(evidence.flat(grouped)) == list(evidence.flat(found))


def test_what_the_source_says_of_the_images():
    pixels, targets = drawn()

    def evenly(features):
        return np.zeros([len(features), 10])

    def surely(features):
        return 1000.0 * np.eye(2)[np.arange(len(features)) % 2]

    even = gather(knowing(), pixels, targets, classifier=evenly).source
    assert even.energy == pytest.approx(-np.log(10))
    assert even.entropy == pytest.approx(np.log(10))
    assert even.mean_entropy == pytest.approx(np.log(10))
    assert even.confidence == pytest.approx(0.1)
    sure = gather(knowing(), pixels, targets, classifier=surely).source
    assert sure.energy == pytest.approx(-1000)
    assert sure.entropy == pytest.approx(0)
    assert sure.mean_entropy == pytest.approx(np.log(2))
    assert sure.confidence == pytest.approx(1)


def test_random_weights_are_no_better_than_themselves():
    """Of a base that has the very weights that are drawn there is no gain."""
    pixels, targets = drawn(classes=5)
    base = knowing()
    at_random = bases.Base(
        passes._at_random(base.network, 7), backbone="tiny", scaling="tf"
    )
    found = gather(at_random, pixels, targets, seed=7)
    for depth in found.depths:
        assert depth.pretraining_gain.value == 0
        assert depth.linear == depth.random_linear
        assert depth.neighbours == depth.random_neighbours


def test_affinity_is_the_difference(found):
    for depth in found.depths:
        gain = depth.linear.value - depth.random_linear.value
        assert depth.pretraining_gain.value == pytest.approx(gain)
        assert (
            depth.pretraining_gain.low
            < depth.pretraining_gain.value
            < depth.pretraining_gain.high
        )


def test_counts(found):
    pixels, targets = drawn(30)
    skewed = np.array([0] * 20 + [1] * 6 + [2] * 4)
    sizes = [(10 * (index % 3), 7) for index in range(30)]
    found = gather(knowing(), pixels, skewed, sizes=sizes)
    assert found.size == evidence.Size(30, 3, 4, 6.0, 5.0, 10.0, 7.0, 8)
    assert found.majority == pytest.approx(20 / 30)
    assert found.sampled == 30
    assert gather(knowing(), pixels, targets).size.width is None


def test_is_the_same_for_the_same_seed(found):
    pixels, targets = drawn()
    again = gather(knowing(), pixels, targets)
    assert untimed(again) == untimed(found)
    other = gather(knowing(), pixels, targets, seed=1)
    assert untimed(other) != untimed(found)
    assert other.depths[0].kl == found.depths[0].kl


def test_leaves_the_base_and_the_generators_alone():
    pixels, targets = drawn()
    model = tiny.classifier()
    before = [np.array(each) for each in model.get_weights()]
    state = random.getstate()
    gather(model, pixels, targets)
    assert random.getstate() == state
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_images_may_be_read_when_they_are_chosen(found):
    pixels, targets = drawn()
    asked = []

    def read(positions):
        asked.append(positions)
        return pixels[positions]

    assert untimed(gather(knowing(), read, targets)) == untimed(found)
    few = gather(knowing(), read, targets, max_images=12)
    assert [len(each) for each in asked] == [50, 12]
    assert (few.sampled, few.size.images) == (12, 50)


def test_equal_pictures_stand_in_one_fold():
    """Known by heart, pictures with labels at random would be answered."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    pixels = np.repeat(pixels, 8, axis=0)
    targets = np.repeat(generator.permutation(40) % 2, 8)

    def known(pixels, **options):
        found = gather(knowing(), pixels, targets, **options)
        return found.depths[-1].neighbours.value

    assert known(pixels) < 0.7
    # Other pictures of the same things, which only the caller can know.
    nearly = pixels.copy()
    nearly[:, 0, 0, 0] = np.arange(320) % 8
    assert known(nearly) > 0.9
    assert known(nearly, groups=[str(each // 8) for each in range(320)]) < 0.7


def test_a_row_has_the_same_columns_for_all_networks(found):
    keras.utils.set_random_seed(0)
    network = small.SmallResNet(input_shape=(8, 8, 3))
    other = gather(
        bases.Base(network, backbone="SmallResNet", scaling="tf"), *drawn()
    )
    assert len(other.depths) != len(found.depths)
    one, two = evidence.flat(found), evidence.flat(other)
    assert list(one) == list(two)
    for value in (*one.values(), *two.values()):
        assert value is None or type(value) in (int, float)
    assert one["last_linear"] == found.depths[-1].linear.value
    assert one["last_linear_low"] == found.depths[-1].linear.low
    assert one["curve_all"] == one["last_linear"]
    assert one["curve_quarter_images"] < one["curve_half_images"]
    assert (one["measured_ratio"], two["measured_ratio"]) == (1, 1)
    assert one["seconds_training"] > one["seconds_forward"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "ConvNeXtTiny",
        "DenseNet121",
        "EfficientNetB0",
        "MobileNetV3Small",
        "NASNetMobile",
        "ResNet50V2",
        "VGG16",
        "Xception",
    ],
)
def test_all_kinds_of_networks(name):
    base = classifiers.build_base(name, weights="none", image_size=96)
    for layer in base.network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(2 * layer.moving_variance)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (10, 96, 96, 3)).astype(np.uint8)
    found = gather(base, pixels, np.arange(10) % 2)
    stages = graph.stages(base.network)
    assert [each.layer for each in found.depths] == [
        stage.end.layer for stage in stages
    ]
    assert found.depths[-1].channels == base.network.output.shape[-1]
    known = name not in ("ConvNeXtTiny", "VGG16")
    assert (evidence.distance(found) is not None) == known
    assert found.depths[-1].kl is None or np.isfinite(found.depths[-1].kl)


def test_a_sample_is_even_and_the_same_for_a_seed():
    targets = np.repeat([0, 1, 2], [600, 390, 10])
    chosen = evidence.sample(targets, 100, seed=0)
    assert np.bincount(targets[chosen]).tolist() == [60, 39, 1]
    assert (np.diff(chosen) > 0).all()
    assert (chosen == evidence.sample(targets, 100, seed=0)).all()
    assert (chosen != evidence.sample(targets, 100, seed=1)).any()
    assert evidence.sample(targets, 1000, seed=0).tolist() == list(range(1000))


@pytest.mark.parametrize("classes", [7, 150])
def test_a_sample_has_every_class(classes):
    targets = np.arange(1000) % classes
    chosen = evidence.sample(targets, 100, seed=0)
    assert len(np.unique(targets[chosen])) == classes
    assert len(chosen) == max(100, classes)


@pytest.mark.parametrize("name", ["groups", "sizes"])
def test_what_does_not_fit_is_refused(name):
    pixels, targets = drawn()
    with pytest.raises(ValueError, match=f"`{name}` must have one entry"):
        gather(knowing(), pixels, targets, **{name: [("a", "b")]})


def test_a_set_of_one_picture_is_refused():
    pixels, targets = drawn()
    with pytest.raises(ValueError, match="two or more"):
        gather(knowing(), pixels[:1].repeat(50, axis=0), targets)


def test_a_curve_ends_at_the_probe(found):
    assert [point.images for point in found.curve] == [10, 20, 40]
    assert found.curve[-1].linear == found.depths[-1].linear
    assert isinstance(found.curve[0].linear, intervals.Share)
