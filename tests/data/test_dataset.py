"""Tests of a data set: scanned, split, counted, reported."""

import contextlib
import io
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.data import dataset
from tlkeras.data import images as image_stores
from tlkeras.data import sources

QUIET = progresses.Progress(quiet=True)


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return tf.io.encode_png(pixels).numpy()


def source_of(rows: list[tuple]) -> sources.Source:
    """Returns a source of rows (content, label, split, group)."""
    contents = [row[0] for row in rows]
    examples = tuple(
        sources.Example(f"{index}.png", *row[1:])
        for index, row in enumerate(rows)
    )
    labels = tuple(sorted({row[1] for row in rows}))
    return sources.Source("folder:/x", labels, examples, contents.__getitem__)


def prepare(source: sources.Source, directory, **options) -> dataset.Dataset:
    settings = {
        "shape": image_stores.Shape(4, "pad"),
        "split_seed": 0,
        "store_bytes": 1e9,
        "directory": directory,
        "cache_dir": directory,
        "progress": QUIET,
    }
    return dataset.prepare(source, **{**settings, **options})


@pytest.fixture(scope="module")
def rows() -> list[tuple]:
    return [(png(seed), "ab"[seed % 2]) for seed in range(60)]


def test_each_image_keeps_its_label_and_place(rows, tmp_path):
    data = prepare(source_of(rows), tmp_path)
    assert data.labels == ("a", "b")
    assert data.skipped == ()
    for position, path in enumerate(data.paths):
        content, label = rows[int(path.partition(".")[0])]
        assert data.labels[data.targets[position]] == label
        np.testing.assert_array_equal(
            data.images.rows(data.rows[[position]])[0],
            tf.io.decode_png(content),
        )
    positions = [
        data.positions(split) for split in ("train", "validation", "test")
    ]
    assert sorted(np.concatenate(positions)) == list(range(60))


def test_unreadable_images_are_left_out(rows, tmp_path):
    bad = [(b"text", "a"), (b"", "b")]
    mixed = [bad[0], *rows[:30], bad[1], *rows[30:]]
    data = prepare(source_of(mixed), tmp_path)
    assert data.skipped == (
        ("0.png", "not an image"),
        ("31.png", "empty file"),
    )
    clean = prepare(source_of(rows), tmp_path)
    assert data.splits == clean.splits
    assert (data.targets == clean.targets).all()
    assert (data.hashes == clean.hashes).all()
    np.testing.assert_array_equal(
        data.images.rows(data.rows), clean.images.rows(clean.rows)
    )
    with pytest.raises(errors.UserError, match="2 images.* first 0.png: not"):
        prepare(source_of(mixed), tmp_path, on_bad_image="fail")


def test_a_class_that_cannot_be_read(rows, tmp_path):
    bad = [(b"", "a"), *rows, (b"text", "c"), (b"text", "c"), (b"", "d")]
    with pytest.raises(
        errors.UserError,
        match="'c', 'd' .* can be read, first 61.png: not an image",
    ):
        prepare(source_of(bad), tmp_path)


def test_duplicates_are_counted_and_reported(rows, tmp_path):
    twice = [
        *rows,
        rows[0],
        rows[0],
        (rows[1][0], "a"),
        (rows[2][0], "b"),
    ]
    data = prepare(source_of(twice), tmp_path)
    assert data.duplicates == dataset.Duplicates(3, 0, 2)
    assert data.splits[0] == data.splits[60] == data.splits[61]
    assert data.splits[1] == data.splits[62]
    assert data.hashes[0] == data.hashes[60] != data.hashes[1]
    notes = " ".join(data.notes)
    assert "exact copies: 3;" in notes
    assert "right on all of them: 2." in notes
    assert prepare(source_of(rows), tmp_path).notes == ()


def test_duplicates_across_given_splits(rows, tmp_path):
    given = [
        (*row, ("train", "validation", "test")[index // 20], "")
        for index, row in enumerate(rows)
    ]
    assert prepare(source_of(given), tmp_path).duplicates.groups == 0
    given[40] = (*given[0][:2], "test", "")
    data = prepare(source_of(given), tmp_path)
    assert data.splits == tuple(row[2] for row in given)
    assert data.duplicates == dataset.Duplicates(1, 1, 0)
    assert "results are too good: 1." in data.notes[-1]


def test_what_is_transparent_or_of_12_bits_is_reported(rows, tmp_path):
    assert prepare(source_of(rows), tmp_path).notes == ()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 4), np.uint8)
    deep = pixels.astype(np.uint16) * 16
    extra = [
        (tf.io.encode_png(pixels).numpy(), "a"),
        (tf.io.encode_png(deep[..., :3]).numpy(), "b"),
        (tf.io.encode_png(deep[::-1, :, :3]).numpy(), "b"),
    ]
    notes = prepare(source_of([*rows, *extra]), tmp_path).notes
    assert notes[0].endswith("put onto white: 1.")
    assert notes[1].startswith("Warning: images of 16 bits that use less than")
    assert "without contrast: 2." in notes[1]
    assert len(notes) == 2


def test_the_file_of_decoded_images_is_given_back(rows, tmp_path):
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    with contextlib.closing(prepare(source_of(rows), tmp_path)) as data:
        assert data.images.rows(data.rows[:1]).any()
        assert descriptors() == before + 1
    assert descriptors() == before
    # Also where the images turn out to be no good.
    bad = [*rows, (b"text", "c")]
    with pytest.raises(errors.UserError) as caught:
        prepare(source_of(bad), tmp_path)
    assert descriptors() == before
    assert caught.value


def test_images_per_class(rows, tmp_path):
    source = source_of(rows)
    whole = dataset.counts(prepare(source, tmp_path))
    assert "unused" not in whole
    few = dataset.counts(prepare(source, tmp_path, images_per_class=5))
    assert few["train"] == {"a": 5, "b": 5}
    assert few["validation"] == whole["validation"]
    assert few["test"] == whole["test"]
    assert few["unused"] == {
        label: whole["train"][label] - 5 for label in ("a", "b")
    }


def test_hashes_are_those_of_the_pixels(rows, tmp_path):
    hashes = prepare(source_of(rows), tmp_path).hashes
    assert hashes.shape == (60,)
    assert len(set(hashes.tolist())) == 60
    backwards = prepare(source_of(rows[::-1]), tmp_path).hashes
    assert (backwards[::-1] == hashes).all()


def test_real_digits(tmp_path):
    source = sources.open("builtin:digits[0-1]", progress=QUIET)
    data = prepare(source, tmp_path, shape=image_stores.Shape(8, "pad"))
    assert data.skipped == ()
    assert data.duplicates.under_two_labels == 0
    counts = dataset.counts(data)
    assert sum(map(sum, (each.values() for each in counts.values()))) == 360
    assert all(min(each.values()) > 10 for each in counts.values())


def test_pictures_that_look_alike_across_splits_are_told(tmp_path):
    """As a JPEG saved again, in whatever split its hash puts it."""
    generator = np.random.default_rng(0)
    rows = []
    for index in range(40):
        coarse = generator.integers(0, 256, (8, 8, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((64, 64))
        for quality in (95, 60):
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=quality)
            rows.append((stream.getvalue(), "ab"[index % 2]))
    data = prepare(source_of(rows), tmp_path)
    expected = sum(
        {data.splits[first], data.splits[first + 1]}
        in ({"train", "test"}, {"train", "validation"})
        for first in range(0, 80, 2)
    )
    assert expected > 0
    assert data.duplicates.alike_across_splits == expected
    assert f"results may be too good: {expected}." in data.notes[-1]
