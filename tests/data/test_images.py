"""Tests of the image store: the same images, stored or decoded anew."""

import concurrent.futures
import dataclasses
import errno
import os

import numpy as np
import pictures
import pytest
import samples
import tensorflow as tf

from tlkeras import errors
from tlkeras.data import decode
from tlkeras.data import images
from tlkeras.data import sources

SIZE = 12


def noise(seed: int, height: int = 9, width: int = 14) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), np.uint8)


def encoded(seed: int) -> bytes:
    """Returns an image of a shape of its own, JPEG or PNG."""
    return pictures.encode(
        noise(seed, 5 + seed % 9, 20 - seed % 7), ("PNG", "JPEG")[seed % 2]
    )


def store_of(
    source: sources.Source, directory, *, store_bytes=1e9, resize="pad"
) -> images.Store:
    return images.Store(
        source,
        sources.stamps(source),
        images.Shape(SIZE, resize),
        store_bytes=store_bytes,
        directory=directory,
    )


@pytest.fixture(scope="module")
def readable() -> list[bytes]:
    return [encoded(seed) for seed in range(30)]


@pytest.mark.parametrize("resize", decode.RESIZE_POLICIES)
def test_stored_and_live_images_are_what_decode_gives(
    readable, tmp_path, resize
):
    order = np.random.default_rng(0).permutation(30)[:17]
    expected = [
        decode.load(readable[index], SIZE, resize).numpy() for index in order
    ]
    for store_bytes in (1e9, 0):
        source, read = pictures.counted(pictures.of(readable))
        store = store_of(
            source, tmp_path, store_bytes=store_bytes, resize=resize
        )
        given = store.images()
        assert given.size == SIZE
        assert not read, "an image is read when it is asked for"
        for _ in range(2):
            rows = given.rows(order)
            assert rows.dtype == np.uint8
            np.testing.assert_array_equal(rows, expected)
        # What is stored is read once, anything else whenever it is wanted.
        times = 1 if store_bytes else 2
        assert sorted(read) == sorted(order.tolist() * times)


def test_what_a_scan_has_decoded_is_not_read_again(readable, tmp_path):
    source, read = pictures.counted(pictures.of(readable))
    stored = store_of(source, tmp_path)
    live = store_of(source, tmp_path, store_bytes=0)
    for store in (stored, live):
        pictures.scan(source, tmp_path, store=store)
    read.clear()
    rows = stored.images().rows(np.arange(30))
    assert not read
    np.testing.assert_array_equal(rows, live.images().rows(np.arange(30)))
    assert sorted(read) == list(range(30))


def test_the_store_keeps_as_many_as_fit(readable, tmp_path):
    expected = store_of(pictures.of(readable), tmp_path).rows(np.arange(30))
    orders = [np.random.default_rng(0).permutation(30), np.arange(30)]
    for kept in (30, 29, 12, 1, 0):
        source, read = pictures.counted(pictures.of(readable))
        limit = (kept + 0.9) * SIZE * SIZE * 3
        store = store_of(source, tmp_path, store_bytes=limit)
        for order in (*orders, np.arange(25, 30), np.array([3, 29, 3])):
            np.testing.assert_array_equal(store.rows(order), expected[order])
        if not kept:
            continue
        read.clear()
        store.rows(orders[0])
        assert sorted(read) == list(range(kept, 30))


def test_a_full_disk_is_told_before_anything_is_read(
    readable, tmp_path, monkeypatch
):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    source, read = pictures.counted(pictures.of(readable))
    with pytest.raises(errors.UserError, match="has no room"):
        store_of(source, tmp_path)
    assert not read
    for some in (0, 5 * SIZE * SIZE * 3):
        store_of(source, tmp_path, store_bytes=some).rows(np.arange(2))


@pytest.mark.parametrize("store_bytes", [1e9, 0])
def test_rows_from_many_threads(readable, tmp_path, store_bytes):
    expected = store_of(pictures.of(readable), tmp_path).rows(np.arange(30))
    store = store_of(pictures.of(readable), tmp_path, store_bytes=store_bytes)
    random = np.random.default_rng(0)
    orders = [random.permutation(30)[:8] for _ in range(40)]
    # Threads of another pool ask for what they all lack.
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for order, rows in zip(
            orders, pool.map(store.images().rows, orders), strict=True
        ):
            np.testing.assert_array_equal(rows, expected[order])


@pytest.fixture
def folder(tmp_path) -> sources.Source:
    root = tmp_path / "photos"
    contents = {
        f"{'ab'[number % 2]}/{number}.png": encoded(2 * number)
        for number in range(4)
    }
    pictures.write(root, contents)
    return pictures.opened(root)


@pytest.mark.parametrize("store_bytes", [1e9, 0])
class TestAFileThatChanges:
    def told(self, store: images.Store, index: int) -> str:
        with pytest.raises(errors.UserError) as caught:
            store.images().rows(np.array([0, index]))
        line = str(caught.value)
        assert "\n" not in line
        assert store.source.examples[index].path in line
        return line

    def test_in_any_way_that_its_stamp_shows(
        self, folder, tmp_path, store_bytes
    ):
        store = store_of(folder, tmp_path, store_bytes=store_bytes)
        paths = [example.path for example in folder.examples]
        with open(paths[1], "ab") as stream:
            stream.write(b"one more")
        # Of the same size, and with the time set back.
        content, before = open(paths[2], "rb").read(), os.stat(paths[2])
        with open(paths[2], "r+b") as stream:
            stream.write(content[:-1] + b"x")
        os.utime(paths[2], ns=(before.st_atime_ns, before.st_mtime_ns))
        os.unlink(paths[3])
        assert "changed while" in self.told(store, 1)
        assert "changed while" in self.told(store, 2)
        assert "No such file" in self.told(store, 3)
        assert store.images().rows(np.array([0, 0])).any()

    def test_to_something_else_than_an_image(
        self, folder, tmp_path, store_bytes
    ):
        store = store_of(folder, tmp_path, store_bytes=store_bytes)
        path = folder.examples[3].path
        with open(path, "wb") as stream:
            stream.write(b"now a text")
        assert "changed while" in self.told(store, 3)


def test_what_was_stored_needs_its_file_no_more(folder, tmp_path):
    store = store_of(folder, tmp_path)
    pictures.scan(folder, tmp_path, store=store)
    expected = store.images().rows(np.arange(4))
    for example in folder.examples:
        os.unlink(example.path)
    found = store.images().rows(np.arange(4))
    np.testing.assert_array_equal(found, expected)


def test_images_that_are_no_files_and_fail_later(readable, tmp_path):
    contents = list(readable[:3])
    source = pictures.of(contents)

    def read(index: int) -> bytes:
        return contents[index]

    source = dataclasses.replace(source, read=read)
    store = store_of(source, tmp_path, store_bytes=0)
    contents[1] = b"text"
    with pytest.raises(errors.UserError, match="1.png was .*: not an image"):
        store.images().rows(np.arange(3))


def test_larger_images_are_refused():
    decoder = images.decoder(images.Shape(SIZE, "pad", 9 * 5))
    assert decoder(pictures.encode(noise(0, 9, 5)))[0].shape == (9, 5, 3)
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoder(pictures.encode(noise(0, 9, 6)))


def test_a_jpeg_without_a_picture_writes_nothing(capfd):
    jpeg = tf.io.encode_jpeg(noise(0, 40, 40)).numpy()
    graph = images.decoder(images.Shape(SIZE, "pad"))
    for length in (3, 30, jpeg.index(b"\xff\xda"), len(jpeg) // 2):
        with pytest.raises(tf.errors.InvalidArgumentError):
            graph(jpeg[:length])
    # TensorFlow's own lines are turned off where the command line starts.
    assert "Improper call" not in capfd.readouterr().err
    assert graph(jpeg)[1].shape == (SIZE, SIZE, 3)


def test_large_images_take_turns_until_only_the_square_is_left(monkeypatch):
    """With the lock held, no other large image is decoded; small ones are."""
    monkeypatch.setattr(images, "LARGE", 9 * 14 - 1)
    shape = images.Shape(SIZE, "pad")
    small, large = noise(0, 9, 13), noise(1, 9, 14)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        with images.turn(pictures.encode(large)):
            waiting = pool.submit(images.square, pictures.encode(large), shape)
            found = pool.submit(images.square, pictures.encode(small), shape)
            assert found.result(60).shape == (SIZE, SIZE, 3)
            assert not waiting.done()
        assert waiting.result(60).shape == (SIZE, SIZE, 3)


def test_a_closed_store_has_given_back_its_file(readable, tmp_path):
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for store_bytes in (1e9, 0):
        store = store_of(
            pictures.of(readable), tmp_path, store_bytes=store_bytes
        )
        given = store.images()
        given.rows(np.arange(30))
        given.close()
        assert descriptors() == before


def test_files_of_all_kinds_at_once_are_what_each_is_alone(monkeypatch):
    monkeypatch.setattr(images, "LARGE", 15 * 20 - 1)
    shape = images.Shape(SIZE, "crop")
    sizes = [(9, 14), (15, 20), (4, 4), (30, 11), (15, 21)]
    files = [
        pictures.encode(noise(seed, *size), ("PNG", "JPEG", "BMP")[seed % 3])
        for seed, size in enumerate(sizes * 2)
    ]
    turned = samples.with_exif(files[1], samples.exif(6, "<"))
    files.insert(4, turned)
    assert (
        images.square(turned, shape) != images.square(files[1], shape)
    ).any()
    found = images.squares(files, shape)
    for file, square in zip(files, found, strict=True):
        np.testing.assert_array_equal(square, images.square(file, shape))
        np.testing.assert_array_equal(
            square, decode.load(file, SIZE, "crop").numpy()
        )


def test_one_that_cannot_be_decoded_fails_among_others(readable):
    shape = images.Shape(SIZE, "crop")
    for bad in (b"", b"no image", readable[1][:60]):
        with pytest.raises(tf.errors.OpError):
            images.squares([*readable[:4], bad, *readable[4:8]], shape)


def test_blocks_hold_few_files_and_few_bytes(monkeypatch):
    monkeypatch.setattr(images, "_BLOCK_BYTES", 100)
    sizes = [10] * 20 + [99, 1, 500, 500, 30]
    files = [bytes(size) for size in sizes]
    gone = {3, 23}
    blocks = list(
        images.in_blocks(
            lambda index: None if index in gone else files[index],
            range(len(files)),
        )
    )
    assert [index for block, _ in blocks for index in block] == [
        index for index in range(len(files)) if index not in gone
    ]
    for block, found in blocks:
        assert len(block) <= images.BLOCK
        assert found == [files[index] for index in block]
        assert sum(map(len, found[:-1])) < 100
