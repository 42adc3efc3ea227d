"""Tests of augmentation: pure in (seed, epoch, image), and within bounds."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tlkeras.data import augment

NAMES = tuple(augment.POLICIES)
# 33 is no multiple of the numbers that a processor computes at once.
KEYS = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, 33)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Returns smooth pictures with an edge, none like its mirror image."""
    y, x = np.mgrid[:31, :28]
    waves = [
        127 + 100 * np.sin(x / (3 + n % 5) + n) * np.cos(y / 6 - c) + x - y
        for n in range(33)
        for c in range(3)
    ]
    pixels = np.clip(waves, 0, 255).astype(np.uint8)
    return pixels.reshape(33, 3, 31, 28).transpose(0, 2, 3, 1)


@functools.cache
def graph(policy: str, seed: int):
    return tf.function(
        lambda images, keys, epoch: augment.augment(
            images, keys, epoch=epoch, seed=seed, policy=policy
        ),
        input_signature=[
            tf.TensorSpec([None, None, None, 3], tf.uint8),
            tf.TensorSpec([None], tf.int64),
            tf.TensorSpec([], tf.int64),
        ],
    )


def changed(images, keys, *, policy, epoch=0, seed=0) -> np.ndarray:
    return graph(policy, seed)(images, keys, epoch).numpy()


@pytest.mark.parametrize("policy", NAMES)
class TestAll:
    def test_type_and_range(self, images, policy):
        for epoch in range(10):
            result = changed(images, KEYS, policy=policy, epoch=epoch)
            assert result.dtype == np.uint8
            assert result.shape == images.shape
            assert result.min() >= 0
            assert result.max() <= 255
            extremes = np.where(images > 127, 255, 0).astype(np.uint8)
            result = changed(extremes, KEYS, policy=policy, epoch=epoch)
            assert result.min() >= 0
            assert result.max() <= 255

    def test_the_rest_of_the_batch_does_not_matter(self, images, policy):
        """Equal to the last bit: a mean or a sine must not tell."""
        whole = changed(images, KEYS, policy=policy, epoch=3)
        order = np.random.default_rng(0).permutation(33)
        turned = changed(images[order], KEYS[order], policy=policy, epoch=3)
        np.testing.assert_array_equal(turned, whole[order])
        for count in (1, 2, 5, 8, 13):
            for start in range(0, 33 - count, 7):
                part = slice(start, start + count)
                np.testing.assert_array_equal(
                    changed(images[part], KEYS[part], policy=policy, epoch=3),
                    whole[part],
                )

    def test_outside_of_a_graph(self, images, policy):
        result = augment.augment(
            tf.constant(images),
            tf.constant(KEYS),
            epoch=tf.constant(4, tf.int64),
            seed=5,
            policy=policy,
        )
        expected = changed(images, KEYS, policy=policy, epoch=4, seed=5)
        # Optimising a graph changes the order of products, and so now and then
        # to which whole number one is rounded.
        apart = np.abs(result.numpy().astype(int) - expected)
        assert apart.max() <= 1
        assert apart.mean() < 1e-3


@pytest.mark.parametrize("policy", ["flip", "light", "strong"])
def test_seed_epoch_and_key_all_matter(images, policy):
    first = changed(images, KEYS, policy=policy)
    for other in (
        changed(images, KEYS, policy=policy, epoch=1),
        changed(images, KEYS, policy=policy, seed=1),
        changed(images, KEYS + 1, policy=policy),
        changed(images, KEYS, policy=policy, epoch=1, seed=2**31 - 1),
    ):
        assert (first != other).any(axis=(1, 2, 3)).sum() > 5
    again = changed(images, KEYS, policy=policy)
    np.testing.assert_array_equal(first, again)


def test_seed_and_epoch_are_not_added(images):
    first = changed(images, KEYS, policy="flip", seed=0, epoch=1)
    other = changed(images, KEYS, policy="flip", seed=1, epoch=0)
    assert (first != other).any()


def test_none_changes_nothing(images):
    result = changed(images, KEYS, policy="none")
    np.testing.assert_array_equal(result, images)


def test_flip_is_the_image_or_its_mirror(images):
    mirrored = images[:, :, ::-1]
    total = 0
    for epoch in range(20):
        result = changed(images, KEYS, policy="flip", epoch=epoch)
        same = (result == images).all(axis=(1, 2, 3))
        mirror = (result == mirrored).all(axis=(1, 2, 3))
        assert (same ^ mirror).all()
        total += mirror.sum()
    # Half of 660, within four standard deviations.
    assert 278 < total < 382


def test_draws_of_an_image_are_independent_over_epochs():
    keys = tf.range(100, dtype=tf.int64)
    policy = augment.POLICIES["strong"]
    draw = tf.function(lambda epoch: augment._draw(keys, epoch, 0, policy))
    epochs = [tf.constant(epoch, tf.int64) for epoch in range(100)]
    draws = np.stack([draw(epoch).flip for epoch in epochs])
    assert abs(draws.mean()) < 0.03
    for one, other in ((draws[1:], draws[:-1]), (draws[:, 1:], draws[:, :-1])):
        # Of a uniform draw in -1..1 the variance is a third.
        assert abs((3 * one * other).mean()) < 0.05


@pytest.mark.parametrize("value", [0, 1, 200, 255])
def test_geometry_keeps_a_constant_image(monkeypatch, value):
    monkeypatch.setitem(
        augment.POLICIES,
        "moved",
        augment.Policy(turn=180, shift=0.4, zoom=0.9),
    )
    plain = np.full([33, 31, 28, 3], value, np.uint8)
    result = augment.augment(
        tf.constant(plain),
        tf.constant(KEYS),
        epoch=tf.constant(0, tf.int64),
        seed=0,
        policy="moved",
    )
    np.testing.assert_allclose(result, value, atol=1e-3)


def draw_of(**amounts) -> augment._Change:
    """Returns a change of one image that does nothing but `amounts`."""
    still = dict.fromkeys(augment._Change._fields, 0.0)
    still |= {"cosine": 1.0, "contrast": 1.0, **amounts}
    return augment._Change(
        **{name: tf.constant([value]) for name, value in still.items()}
    )


def test_no_move_is_the_image(images):
    pixels = images[:1].astype(np.float32)
    np.testing.assert_array_equal(augment._move(pixels, draw_of()), pixels)


def test_a_shift_by_whole_pixels(images):
    pixels = images[:1].astype(np.float32)
    moved = augment._move(pixels, draw_of(right=2 / 28, down=1 / 31))
    np.testing.assert_allclose(moved[:, :-1, :-2], pixels[:, 1:, 2:], atol=1e-2)
    # What is uncovered shows the mirrored picture.
    np.testing.assert_allclose(moved[:, :-1, -1], pixels[:, 1:, -2], atol=1e-2)


def test_a_quarter_turn():
    pixels = np.random.default_rng(0).uniform(0, 255, [1, 9, 9, 3])
    pixels = pixels.astype(np.float32)
    moved = augment._move(pixels, draw_of(cosine=0.0, sine=1.0))
    turned = [np.rot90(pixels[0], turns) for turns in (1, 3)]
    assert min(np.abs(moved[0] - each).max() for each in turned) < 1e-2


def test_mean_is_exact_in_any_batch():
    """One of floats is not, at 299 pixels and in some parts of a batch."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (17, 299, 299, 3), np.uint8)
    shape = tf.TensorSpec([None, 299, 299, 3], tf.uint8)
    mean = tf.function(augment._mean, input_signature=[shape])
    whole = mean(images).numpy()
    expected = images.mean(axis=(1, 2, 3), dtype=np.float64)
    np.testing.assert_array_max_ulp(whole, expected.astype(np.float32), 1)
    for count in (1, 2, 5):
        for start in range(0, 17 - count, 3):
            part = slice(start, start + count)
            np.testing.assert_array_equal(mean(images[part]), whole[part])


def test_contrast_keeps_the_mean_and_brightness_moves_it():
    pixels = np.random.default_rng(0).uniform(100, 150, [1, 20, 20, 3])
    pixels = pixels.astype(np.float32)
    mean = tf.constant([pixels.mean()])
    spread = augment._tone(pixels, draw_of(contrast=1.5), mean).numpy()
    assert spread.mean() == pytest.approx(pixels.mean(), abs=1e-3)
    assert spread.std() == pytest.approx(1.5 * pixels.std(), rel=1e-4)
    lighter = augment._tone(pixels, draw_of(brightness=10.0), mean).numpy()
    np.testing.assert_allclose(lighter, pixels + 10, atol=1e-3)


@pytest.mark.parametrize("place", [-1.0, 0.0, 0.99])
def test_erased_square(place):
    pixels = np.zeros([1, 20, 40, 3], np.float32)
    result = augment._erase(pixels, draw_of(column=place, row=place), 0.25)
    grey = (result.numpy() == 127.5).all(axis=3)[0]
    assert grey.any(axis=1).sum() == 5
    assert grey.any(axis=0).sum() == 10
    assert grey.sum() == 50
