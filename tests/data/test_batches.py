"""Tests of the batches: what a model sees, when, and how often."""

import tempfile

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies

from tlkeras import errors
from tlkeras import records
from tlkeras.data import augment as augmentation
from tlkeras.data import batches
from tlkeras.data import images as image_stores
from tlkeras.data import sources

COUNT = 23
SIZE = 4
# Every image is of one value, which tells which one it is.
PIXELS = np.zeros([COUNT + 5, SIZE, SIZE, 3], np.uint8)
PIXELS += np.arange(COUNT + 5, dtype=np.uint8)[:, None, None, None]


def images_of(store_bytes: float) -> image_stores.Images:
    """Returns `PIXELS` as a store gives them, kept or decoded each time."""
    encoded = [tf.io.encode_png(each).numpy() for each in PIXELS]
    examples = tuple(
        sources.Example(f"{number}.png", "a") for number in range(len(encoded))
    )
    return image_stores.Store(
        sources.Source("folder:/x", ("a",), examples, encoded.__getitem__),
        [None] * len(encoded),
        image_stores.Shape(SIZE, "pad"),
        store_bytes=store_bytes,
        directory=tempfile.gettempdir(),
    ).images()


STORED = images_of(1e9)
LIVE = images_of(0)
# Rows of the store that are trained on; the others belong to other splits.
INDICES = np.random.default_rng(3).permutation(COUNT + 5)[:COUNT]
TARGETS = INDICES % 3
WEIGHTS = np.array([0.5, 1.0, 2.0])


def training(
    images=STORED, *, batch_size=5, seed=7, augment="none", weights=WEIGHTS
):
    return feed(
        images,
        batch_size=batch_size,
        seed=seed,
        augment=augment,
        weights=weights,
    ).train


def feed(
    images=STORED,
    *,
    batch_size=5,
    seed=7,
    augment="none",
    weights=WEIGHTS,
    **options,
):
    hashes = np.array([f"{index * 10**15:015x}" for index in INDICES])
    part = batches.Subset(INDICES, TARGETS, hashes)
    return batches.feed(
        images,
        part,
        part,
        batch_size=batch_size,
        augment=augment,
        seed=seed,
        class_weights=weights,
        **options,
    )


def rows_of(dataset) -> list[int]:
    """Returns which images the batches hold, in their order."""
    return [int(row) for batch in dataset for row in batch[0][:, 0, 0, 0]]


def expected_rows(
    first: int, epochs: int, seed: int = 7, batch_size: int = 5
) -> list[int]:
    whole = sum(batches.equal_sizes(COUNT, batch_size))
    return [
        int(INDICES[position])
        for epoch in range(first, first + epochs)
        for position in np.resize(
            batches.permutation(COUNT, seed=seed, epoch=epoch), whole
        )
    ]


class TestPermutation:
    def test_is_one_and_the_same_for_the_same_seed(self):
        first = batches.permutation(100, seed=1, epoch=2)
        assert sorted(first) == list(range(100))
        assert (first == batches.permutation(100, seed=1, epoch=2)).all()

    def test_seeds_and_epochs_differ(self):
        orders = {
            tuple(batches.permutation(100, seed=seed, epoch=epoch))
            for seed in range(5)
            for epoch in range(5)
        }
        assert len(orders) == 25


@pytest.mark.parametrize("images", [STORED, LIVE], ids=["stored", "live"])
class TestTraining:
    def test_an_epoch_has_each_image(self, images):
        sizes = []
        rows = []
        for pixels, targets, weights in training(images)(4, 1):
            assert pixels.dtype == tf.uint8
            assert pixels.shape[1:] == [SIZE, SIZE, 3]
            assert targets.dtype == tf.int32
            assert weights.dtype == tf.float32
            sizes.append(len(pixels))
            some = pixels.numpy()[:, 0, 0, 0].astype(int)
            np.testing.assert_array_equal(targets, some % 3)
            np.testing.assert_array_equal(weights, WEIGHTS[some % 3])
            rows += some.tolist()
        # As many in each batch, though 23 are no multiple of 5: two images
        # come once more at the end.
        assert sizes == [5, 5, 5, 5, 5]
        assert sorted(rows[:COUNT]) == sorted(INDICES)
        assert rows[COUNT:] == rows[:2]

    @pytest.mark.parametrize("augment", ["none", "strong"])
    def test_two_instances_agree_to_the_bit(self, images, augment):
        one = training(images, augment=augment)(0, 3)
        other = training(images, augment=augment)(0, 3)
        pairs = list(zip(one, other, strict=True))
        assert len(pairs) == 15
        for first, second in pairs:
            for left, right in zip(first, second, strict=True):
                np.testing.assert_array_equal(left, right)


def test_stored_and_live_agree_to_the_bit():
    one = training(STORED, augment="light")(0, 2)
    other = training(LIVE, augment="light")(0, 2)
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first[0], second[0])


def test_a_later_start_continues_exactly():
    make = training(augment="light")
    whole = list(make(0, 6))
    rest = list(make(3, 3))
    assert len(whole) == 30
    for first, second in zip(whole[15:], rest, strict=True):
        for left, right in zip(first, second, strict=True):
            np.testing.assert_array_equal(left, right)


def test_orders_are_those_of_the_epochs():
    assert rows_of(training()(2, 4)) == expected_rows(2, 4)
    assert rows_of(training(seed=8)(0, 1)) == expected_rows(0, 1, seed=8)
    assert expected_rows(0, 1, seed=8) != expected_rows(0, 1)


def test_an_image_changes_alike_in_batches_of_any_size():
    """What is drawn depends on the image, not on its place."""
    looks = []
    for batch_size in (1, 5, 7, 100):
        seen = set()
        for pixels, _, weights in training(
            batch_size=batch_size, augment="strong", weights=WEIGHTS
        )(1, 1):
            for one, weight in zip(pixels.numpy(), weights, strict=True):
                seen.add((one.tobytes(), float(weight)))
        looks.append(seen)
    assert looks[0] == looks[1] == looks[2] == looks[3]


def test_epochs_are_augmented_anew():
    make = training(augment="light")
    looks = [
        {
            one.tobytes()
            for pixels, _, _ in make(epoch, 1)
            for one in pixels.numpy()
        }
        for epoch in range(2)
    ]
    assert len(looks[0] & looks[1]) < len(looks[0]) / 2


def test_a_batch_larger_than_the_data():
    (batch,) = training(batch_size=100)(0, 1)
    assert len(batch[0]) == COUNT


class TestEvaluation:
    @pytest.mark.parametrize("images", [STORED, LIVE], ids=["stored", "live"])
    @pytest.mark.parametrize("batch_size", [1, 5, COUNT, 100])
    def test_all_in_order(self, images, batch_size):
        dataset = batches.evaluation(
            images, INDICES, TARGETS, batch_size=batch_size
        )
        assert dataset.cardinality() == -(-COUNT // batch_size)
        for _ in range(2):
            assert rows_of(dataset) == INDICES.tolist()
        targets = np.concatenate([batch[1] for batch in dataset])
        np.testing.assert_array_equal(targets, TARGETS)
        assert targets.dtype == np.int32

    def test_images_alone(self):
        dataset = batches.evaluation(STORED, INDICES, batch_size=5)
        pixels = np.concatenate(list(dataset))
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, PIXELS[INDICES])

    def test_no_image(self):
        dataset = batches.evaluation(LIVE, INDICES[:0], batch_size=5)
        assert list(dataset) == []


def test_nobody_waits_for_a_thread_that_tunes():
    made = feed(augment="flip")
    features = made.views.feed(
        lambda views, at: tf.zeros([tf.shape(at)[0], 2]),
        lambda views, at: tf.zeros([tf.shape(at)[0], 2]),
    )
    for dataset in (
        made.train(0, 2),
        made.validation,
        made.views.load(np.arange(3), "train", made.views.names[0], 2),
        features.train(0, 2),
        features.validation,
        batches.evaluation(STORED, INDICES, batch_size=5),
        # As placement repeats it.
        made.train(0, 1).repeat(),
    ):
        assert dataset.options().autotune.enabled is False


class TestBalanced:
    def test_classes_count_the_same(self):
        targets = np.array([0] * 6 + [1] * 3 + [2])
        weights = batches.balanced(targets, 3)
        sums = np.bincount(targets, weights=weights[targets])
        np.testing.assert_allclose(sums, 10 / 3)
        assert weights[targets].mean() == pytest.approx(1)

    def test_even_classes_weigh_one(self):
        np.testing.assert_allclose(
            batches.balanced(np.array([0, 1, 2, 0, 1, 2]), 3), 1
        )


class Witness(keras.layers.Layer):
    """Notes the images that pass, apart by training and evaluation."""

    def __init__(self):
        super().__init__()
        self.trained_on = []
        self.judged_on = []

    def call(self, inputs, training=False):
        def note(values):
            seen = self.trained_on if training else self.judged_on
            seen.extend(values.numpy().astype(int).tolist())

        tf.py_function(note, [inputs[:, 0, 0, 0]], [])
        return inputs


class EpochEnds(keras.callbacks.Callback):
    """Notes how many images had passed at the end of each epoch."""

    def __init__(self, witness):
        super().__init__()
        self.witness = witness
        self.passed = []

    def on_epoch_end(self, epoch, logs=None):
        self.passed.append(len(self.witness.trained_on))


def small_model(witness) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input([SIZE, SIZE, 3]),
            witness,
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("batch_size", [5, 23, 24])
def test_keras_sees_each_epoch_whole(first, batch_size):
    """`fit` takes one data set for all epochs: none may run into the next."""
    witness = Witness()
    ends = EpochEnds(witness)
    history = small_model(witness).fit(
        training(batch_size=batch_size)(first, 4),
        epochs=4,
        steps_per_epoch=-(-COUNT // batch_size),
        validation_data=batches.evaluation(
            STORED, INDICES[:7], TARGETS[:7], batch_size=5
        ),
        callbacks=[ends],
        shuffle=False,
        verbose=0,
    )
    assert len(history.epoch) == 4
    whole = sum(batches.equal_sizes(COUNT, batch_size))
    assert ends.passed == [whole, 2 * whole, 3 * whole, 4 * whole]
    assert list(witness.trained_on) == expected_rows(
        first, 4, batch_size=batch_size
    )
    # Every epoch is judged on all of the validation images, in their order.
    assert list(witness.judged_on) == INDICES[:7].tolist() * 4


def test_class_weights_reach_the_loss():
    """With a weight of 0 for all classes nothing is learned."""
    model = small_model(Witness())
    before = [np.array(each) for each in model.get_weights()]
    model.fit(
        training(weights=np.zeros(3))(0, 1),
        steps_per_epoch=5,
        shuffle=False,
        verbose=0,
    )
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    model.fit(training()(0, 1), steps_per_epoch=5, shuffle=False, verbose=0)
    assert (before[0] != model.get_weights()[0]).any()


class TestUserErrors:
    """An image that vanishes in an epoch ends in one line, not in fifty."""

    LINE = "a (1) [x].png was an image when it was read first, and now: gone."

    def images(self) -> image_stores.Images:
        def rows(indices: np.ndarray) -> np.ndarray:
            if INDICES[-1] in indices:
                raise errors.UserError(self.LINE)
            return PIXELS[indices]

        return image_stores.Images(SIZE, rows)

    def test_in_fit(self):
        model = small_model(Witness())
        with pytest.raises(errors.UserError) as caught, batches.user_errors():
            model.fit(training(self.images())(0, 2), shuffle=False, verbose=0)
        assert str(caught.value) == self.LINE

    def test_in_predict_and_evaluate(self):
        model = small_model(Witness())
        labelled = batches.evaluation(
            self.images(), INDICES, TARGETS, batch_size=5
        )
        for work in (
            lambda: model.predict(
                labelled.map(lambda pixels, _: pixels), verbose=0
            ),
            lambda: model.evaluate(labelled, verbose=0),
            lambda: list(labelled),
        ):
            with pytest.raises(errors.UserError) as caught:
                with batches.user_errors():
                    work()
            assert str(caught.value) == self.LINE

    def test_other_errors_pass(self):
        with pytest.raises(tf.errors.InvalidArgumentError):
            with batches.user_errors():
                tf.reshape(tf.zeros([3]), [2])
        with pytest.raises(errors.UserError, match="mine"):
            with batches.user_errors():
                raise errors.UserError("mine")


@pytest.mark.parametrize(
    "augment, count", [("none", 1), ("flip", 2), ("strong", 5)]
)
def test_what_was_computed_comes_as_the_images_would(augment, count):
    """The views of each image, chosen and ordered as live batches have them."""
    images = np.random.default_rng(0).integers(0, 256, PIXELS.shape)
    stored = image_stores.Images(SIZE, images.astype(np.uint8).__getitem__)
    live = feed(stored, augment=augment, cached_views=5)
    views = live.views
    assert len(views.names) == count
    train = np.arange(len(views.train_hashes))
    judged = np.arange(len(views.validation_hashes))
    looks = np.stack(
        [
            np.concatenate(list(views.load(train, "train", each, 7)))
            for each in views.names
        ]
    )
    plain = np.concatenate(
        list(views.load(judged, "validation", augmentation.PLAIN, 7))
    )
    cached = views.feed(
        lambda view, at: tf.gather_nd(looks, tf.stack([view, at], 1)),
        lambda view, at: tf.gather(plain, at),
    )
    for one, other in zip(live.train(0, 5), cached.train(0, 5), strict=True):
        for expected, found in zip(one, other, strict=True):
            np.testing.assert_array_equal(expected, found)
    for one, other in zip(live.validation, cached.validation, strict=True):
        for expected, found in zip(one, other, strict=True):
            np.testing.assert_array_equal(expected, found)
    assert cached.train_sizes == live.train_sizes


def test_views_come_round_again():
    live = feed(augment="light", cached_views=2)
    views = live.views
    cached = views.feed(lambda view, at: view, lambda view, at: view)
    epochs = [int(batch[0][0]) for batch in cached.train(0, 4)]
    per_epoch = len(live.train_sizes)
    assert epochs[::per_epoch] == [0, 1, 0, 1]
    assert feed(augment="light", cached_views=1).views.names == (
        views.names[0],
    )


class TestShares:
    SIZES = (8, 5, 3, 2, 1)

    def divide(self, size: int, sharding: batches.Sharding):
        whole = tf.data.Dataset.from_tensor_slices((np.arange(size),))
        return [
            (share.numpy().tolist(), float(factor))
            for share, factor in batches._divided(whole.batch(8), sharding)
        ]

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("count", [2, 3])
    def test_the_mean_of_their_means_is_the_mean(self, size, count):
        """As MirroredStrategy has it: every share, each with an image."""
        found = self.divide(size, batches.Sharding(count, tuple(range(count))))
        assert len(found) == count
        assert all(share for share, _ in found)
        means = [factor * np.mean(share) for share, factor in found]
        np.testing.assert_allclose(np.mean(means), np.mean(range(size)))
        images = [each for share, _ in found for each in share]
        assert set(images) == set(range(size))
        if size >= count:
            assert len(images) == size

    @pytest.mark.parametrize("size", SIZES)
    def test_processes_share_what_their_devices_can(self, size):
        """Two processes with two devices each."""
        found = [
            self.divide(size, batches.Sharding(2, (process,), 4))
            for process in (0, 1)
        ]
        everything = [(list(range(size)), 1.0)]
        if size % 4:
            assert found == [everything, everything]
        else:
            half = size // 2
            assert found == [
                [(list(range(half)), 1.0)],
                [(list(range(half, size)), 1.0)],
            ]

    @pytest.mark.parametrize("images", range(1, 40))
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_validation_counts_each_image_as_often(self, images, count):
        size, sharding = batches.Sharding(
            count, tuple(range(count))
        ).for_evaluation(images, 6)
        assert 1 <= size <= 12
        whole = tf.data.Dataset.from_tensor_slices((np.arange(images),))
        found = [
            share.numpy().tolist()
            for share, _ in batches._divided(whole.batch(size), sharding)
        ]
        assert len(found) == count * -(-images // size)
        assert all(found)
        # Keras takes the mean of the first batch's sharding.
        assert len(set(map(len, found[:count]))) == 1
        counts = np.bincount(np.concatenate(found), minlength=images)
        assert len(set(counts)) == 1
        assert counts[0] == 1 or size == 6

    @pytest.mark.parametrize("count", [2, 3, 4, 8])
    def test_validation_is_shared_at_usual_sizes(self, count):
        sharding = batches.Sharding(count, tuple(range(count)))
        for images in range(40, 1000):
            size, found = sharding.for_evaluation(images, 32)
            assert found == sharding
            assert size >= 16


@hypothesis.given(strategies.integers(1, 3000), strategies.integers(1, 200))
def test_batches_have_one_size_and_hold_all_images(images, batch_size):
    sizes = batches.equal_sizes(images, batch_size)
    assert len(set(sizes)) == 1
    assert images <= sum(sizes) < images + len(sizes)
    # One more than asked for only where one image would stand alone.
    assert max(sizes) <= batch_size + (batch_size == 2)
    if images > 1 and batch_size > 1:
        assert min(sizes) > 1


@pytest.mark.parametrize("batch_size, sizes", [(5, [5] * 5), (12, [12] * 2)])
def test_a_full_validation_has_one_size(batch_size, sizes):
    given = feed(batch_size=batch_size, full=True)
    columns = [
        np.concatenate(each) for each in zip(*given.validation, strict=True)
    ]
    assert [len(batch[1]) for batch in given.validation] == sizes
    assert sum(given.validation_sizes) == given.validation_images == COUNT
    plain = feed(batch_size=batch_size).validation
    for column, expected in zip(columns, zip(*plain, strict=True), strict=True):
        expected = np.concatenate(expected)
        np.testing.assert_array_equal(column[:COUNT], expected)
    pixels, targets, weights = columns
    assert (targets[COUNT:] == records.FILLING).all()
    assert not weights[COUNT:].any()
