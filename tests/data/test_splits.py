"""Tests of the splits: what must hold of any data set."""

import collections

import hypothesis
import pytest
from hypothesis import strategies

from tlkeras import errors
from tlkeras.data import splits

QUICK = hypothesis.settings(
    max_examples=300, deadline=None, derandomize=True, database=None
)
SEEDS = strategies.integers(0, 2**31 - 1)


def assign(hashes, labels, *, given=None, groups=None, seed=0):
    empty = [""] * len(hashes)
    return splits.assign(
        hashes,
        labels,
        given=given or empty,
        groups=groups or empty,
        seed=seed,
    )


def many(number, classes=2):
    """Returns hashes and labels of different images."""
    hashes = [f"{index:x}" for index in range(number)]
    return hashes, [f"class {index % classes}" for index in range(number)]


@strategies.composite
def data_sets(draw, given=(("",),)):
    """Draws small data sets full of equal pictures, groups and rare classes."""
    images = draw(strategies.integers(3, 80))
    pictures = draw(strategies.integers(3, 300))
    people = draw(strategies.integers(3, 60))
    grouped = draw(strategies.sampled_from([0.0, 0.3, 1.0]))
    classes = draw(strategies.sampled_from(["AB", "ABBBB", "ABCCCC"]))
    kinds = draw(strategies.sampled_from(given))
    random = draw(strategies.randoms(use_true_random=False))
    return {
        "hashes": [str(random.randrange(pictures)) for _ in range(images)],
        "labels": [random.choice(classes) for _ in range(images)],
        "groups": [
            str(random.randrange(people)) if random.random() < grouped else ""
            for _ in range(images)
        ],
        "given": [random.choice(kinds) for _ in range(images)],
        "seed": draw(SEEDS),
    }


def sides(names, marks):
    """Returns the splits in which each mark stands."""
    found = collections.defaultdict(set)
    for name, mark in zip(names, marks, strict=True):
        if mark:
            found[mark].add(name)
    return found


class TestOwnSplits:
    @QUICK
    @hypothesis.given(data_sets())
    def test_what_must_hold_of_any_data(self, data):
        try:
            names = assign(**data).names
        except errors.UserError as error:
            assert len(str(error).splitlines()) == 1
            return
        present = set(zip(data["labels"], names, strict=True))
        for label in set(data["labels"]):
            assert {(label, split) for split in splits.SPLITS} <= present
        for marks in (data["hashes"], data["groups"]):
            assert all(len(each) == 1 for each in sides(names, marks).values())
        assert assign(**data).names == names

    @QUICK
    @hypothesis.given(data_sets())
    def test_order_of_the_images_does_not_matter(self, data):
        def backwards(values):
            return values[::-1] if isinstance(values, list) else values

        turned = {name: backwards(value) for name, value in data.items()}
        try:
            names = assign(**data).names
        except errors.UserError:
            with pytest.raises(errors.UserError):
                assign(**turned)
        else:
            assert assign(**turned).names == names[::-1]

    @QUICK
    @hypothesis.given(
        strategies.lists(
            strategies.sampled_from("ABC"), min_size=1, max_size=30
        ),
        SEEDS,
    )
    def test_three_different_images_a_class_are_enough(self, labels, seed):
        hashes = [str(index) for index in range(len(labels))]
        small = min(collections.Counter(labels).values()) < 3
        if small:
            with pytest.raises(
                errors.UserError, match="images and groups count|cannot have"
            ):
                assign(hashes, labels, seed=seed)
        else:
            assign(hashes, labels, seed=seed)

    @QUICK
    @hypothesis.given(SEEDS, strategies.integers(200, 399))
    def test_adding_images_moves_none(self, seed, before):
        hashes, labels = many(400)
        whole = assign(hashes, labels, seed=seed)
        part = slice(0, before)
        less = assign(hashes[part], labels[part], seed=seed)
        # So many that no class misses a split by chance.
        assert whole.notes == less.notes == ()
        assert whole.names[part] == less.names

    def test_adding_groups_moves_none(self):
        hashes, labels = many(600)
        groups = [f"patient {index // 6}" for index in range(600)]
        whole = assign(hashes, labels, groups=groups).names
        part = slice(0, 300)
        less = assign(hashes[part], labels[part], groups=groups[part]).names
        assert whole[part] == less

    def test_shares(self):
        hashes, labels = many(20_000)
        count = collections.Counter(assign(hashes, labels).names)
        # Four standard deviations of 20,000 draws.
        assert count["test"] / 20_000 == pytest.approx(0.15, abs=0.0101)
        assert count["validation"] / 20_000 == pytest.approx(0.15, abs=0.0101)

    def test_seeds_differ(self):
        hashes, labels = many(2000)
        first = assign(hashes, labels, seed=0).names
        second = assign(hashes, labels, seed=1).names
        both = sum(a == b == "test" for a, b in zip(first, second, strict=True))
        # Independent draws agree on 0.15 * 0.15.
        assert 20 < both < 75

    def test_known_answer(self):
        """What was split once stays so in later versions."""
        split = assign(*many(40), seed=7)
        assert split.notes == ()
        letters = "".join(name[1] for name in split.names)
        assert letters == "rrrrararearraearrrrrrrrararrerrrrerrrerr"

    def test_rare_class_is_filled_and_reported(self):
        hashes, labels = many(300)
        names = assign(hashes, labels).names
        train = [index for index in range(300) if names[index] == "train"][:3]
        for index in train:
            labels[index] = "rare"
        split = assign(hashes, labels)
        assert {split.names[index] for index in train} == set(splits.SPLITS)
        # No other image moved.
        assert [
            index for index in range(300) if split.names[index] != names[index]
        ] == sorted(index for index in train if split.names[index] != "train")
        assert len(split.notes) == 2
        assert all("rare" in note for note in split.notes)

    def test_filling_robs_no_other_class(self):
        """A picture under two labels may be the only one of one of them."""
        for seed in range(200):
            hashes = ["x", "y", "z", "x", "v", "w"]
            labels = ["a", "a", "a", "b", "b", "b"]
            names = assign(hashes, labels, seed=seed).names
            assert set(names[:3]) == set(names[3:]) == set(splits.SPLITS)
            assert names[0] == names[3]

    def test_a_group_that_is_a_class(self):
        hashes, labels = many(100)
        groups = ["one" if label == "class 0" else "" for label in labels]
        with pytest.raises(
            errors.UserError,
            match="'class 0' .* 50 training images, 1 where equal",
        ):
            assign(hashes, labels, groups=groups)

    def test_groups_that_no_one_can_part(self):
        """Three classes share four groups so that there is no way."""
        rows = [
            (label, group)
            for label, groups in (
                ("a", "123"),
                ("b", "124"),
                ("c", "341"),
                ("d", "342"),
            )
            for group in groups
        ]
        labels, groups = zip(*rows, strict=True)
        hashes = [str(index) for index in range(len(rows))]
        with pytest.raises(errors.UserError, match="share group"):
            assign(hashes, labels, groups=groups)

    def test_all_classes_that_are_too_small_are_named_at_once(self):
        labels = ["a"] * 20 + ["b", "c", "c", "d", "d", "e", "e", "e"]
        hashes = [str(index) for index in range(len(labels))]
        hashes[21] = hashes[22]
        with pytest.raises(splits.CannotSplit) as caught:
            assign(hashes, labels)
        assert caught.value.labels == ("b", "c", "d")
        assert "3 classes " in str(caught.value)
        assert "each: 'b' (1), 'c' (1), 'd' (2)." in str(caught.value)
        kept = [index for index, label in enumerate(labels) if label in "ae"]
        assign([hashes[i] for i in kept], [labels[i] for i in kept])

    def test_groups_joined_by_equal_pictures(self):
        hashes, labels = many(200)
        groups = [f"g{index // 4}" for index in range(200)]
        hashes[0] = hashes[50] = hashes[99] = "same"
        for seed in range(20):
            names = assign(hashes, labels, groups=groups, seed=seed).names
            joined = [*range(4), *range(48, 52), *range(96, 100)]
            assert len({names[index] for index in joined}) == 1


GIVEN = (
    ("train", "validation", "test"),
    ("train", "test"),
    ("train", "validation"),
    ("train",),
)


class TestGivenSplits:
    @QUICK
    @hypothesis.given(data_sets(given=GIVEN))
    def test_what_must_hold_of_any_data(self, data):
        given = data["given"]
        try:
            names = assign(**data).names
        except errors.UserError as error:
            assert len(str(error).splitlines()) == 1
            return
        lacking = {"validation", "test"} - set(given)
        for before, after in zip(given, names, strict=True):
            assert after == before or (before == "train" and after in lacking)
        present = set(zip(data["labels"], names, strict=True))
        for label in set(data["labels"]):
            assert {(label, split) for split in ("train", *lacking)} <= present
        free = [index for index, name in enumerate(given) if name == "train"]
        for marks in (data["hashes"], data["groups"]):
            assert all(
                len(each) == 1
                for each in sides(
                    [names[index] for index in free],
                    [marks[index] for index in free],
                ).values()
            )

    def test_all_given(self):
        hashes, labels = many(300)
        given = [splits.SPLITS[index // 100] for index in range(300)]
        split = assign(hashes, labels, given=given)
        assert split.names == tuple(given)
        assert split.notes == ()

    @pytest.mark.parametrize("lacking", ["validation", "test"])
    def test_what_is_lacking_comes_from_training(self, lacking):
        other = "test" if lacking == "validation" else "validation"
        hashes, labels = many(4000)
        given = ["train"] * 3000 + [other] * 1000
        split = assign(hashes, labels, given=given)
        count = collections.Counter(split.names)
        assert count[other] == 1000
        assert 370 < count[lacking] < 530
        assert split.names[3000:] == (other,) * 1000
        assert f"without a split for {lacking}" in split.notes[0]

    def test_training_alone_is_split_as_if_nothing_were_given(self):
        hashes, labels = many(500)
        split = assign(hashes, labels, given=["train"] * 500)
        assert split.names == assign(hashes, labels).names
        assert "validation and test" in split.notes[0]

    def test_none_for_training(self):
        hashes, labels = many(10)
        with pytest.raises(errors.UserError, match="none for training.*test"):
            assign(hashes, labels, given=["test"] * 10)

    def test_a_class_that_is_only_tested(self):
        hashes, labels = many(30)
        given = ["test" if label == "class 1" else "train" for label in labels]
        with pytest.raises(errors.UserError, match="'class 1' .* 0 training"):
            assign(hashes, labels, given=given)

    def test_a_class_that_is_not_tested_is_reported(self):
        hashes, labels = many(400)
        given = [
            "test" if label == "class 1" and index < 100 else "train"
            for index, label in enumerate(labels)
        ]
        notes = assign(hashes, labels, given=given).notes
        assert "The given test split has no image of: class 0." in notes

    def test_a_group_across_given_splits_is_reported(self):
        hashes, labels = many(300)
        given = [splits.SPLITS[index // 100] for index in range(300)]
        groups = [""] * 300
        groups[0] = groups[150] = "patient 7"
        split = assign(hashes, labels, given=given, groups=groups)
        assert split.names == tuple(given)
        assert len(split.notes) == 1
        assert "patient 7" in split.notes[0]


class TestFew:
    @QUICK
    @hypothesis.given(
        strategies.lists(
            strategies.tuples(
                strategies.sampled_from(splits.SPLITS),
                strategies.sampled_from("AB"),
                strategies.sampled_from("0123456789"),
            ),
            max_size=40,
        ),
        strategies.integers(1, 10),
        SEEDS,
    )
    def test_each_number_is_a_part_of_the_next(self, images, number, seed):
        names = [name for name, _, _ in images]
        labels = [label for _, label, _ in images]
        hashes = [pixels for _, _, pixels in images]

        def few(count):
            return splits.few(
                names, labels, hashes, images_per_class=count, seed=seed
            )

        less, more = few(number), few(number + 1)
        for before, small, large in zip(names, less, more, strict=True):
            assert small in (before, "unused")
            assert small == before or before == "train"
            assert small == "unused" or large == before
        for label in "AB":
            there = list(zip(labels, names, strict=True)).count(
                (label, "train")
            )
            kept = list(zip(labels, less, strict=True)).count((label, "train"))
            assert kept == min(there, number)

    def test_another_seed_takes_others(self):
        hashes, labels = many(100)
        names = ["train"] * 100
        first, second = (
            splits.few(names, labels, hashes, images_per_class=10, seed=seed)
            for seed in (0, 1)
        )
        assert first != second


def test_thousands_of_classes_that_are_too_small_are_not_all_named():
    names = [f"class_{number}" for number in range(3000)]
    with pytest.raises(errors.UserError) as caught:
        assign(names, names)
    told = str(caught.value)
    assert told.startswith("3,000 classes cannot") and len(told) < 1000
    assert told.count("'class_") == 20 and " (1), 2,980 more." in told
