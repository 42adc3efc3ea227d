"""Pictures that are there more than once are found, and no others."""

import io
import pathlib
import time

import numpy as np
import pictures
import PIL.Image
import pytest

from tlkeras.data import duplicates
from tlkeras.data import scan as scans

SHARED = pathlib.Path(__file__).parents[2] / ".." / "shared" / "data"


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    side = scans.THUMBNAIL
    small = PIL.Image.fromarray(pixels).resize((side, side), 2)
    return np.asarray(small).mean(axis=-1).round().astype(np.uint8)


def recompressed(pixels: np.ndarray) -> np.ndarray:
    encoded = pictures.encode(pixels, "JPEG", quality=40)
    return np.asarray(PIL.Image.open(io.BytesIO(encoded)))


def noisy(pixels: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 12, pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.uint8)


COPIES = {
    "mirrored": lambda pixels: pixels[:, ::-1],
    "lighter": lambda pixels: (40 + 0.8 * pixels).astype(np.uint8),
    "noisy": noisy,
    "recompressed": recompressed,
    "half": lambda pixels: np.asarray(
        PIL.Image.fromarray(pixels).resize((60, 48), 2)
    ),
    "grey": lambda pixels: np.stack([pixels.mean(-1).astype(np.uint8)] * 3, -1),
    "cropped": lambda pixels: pixels[2:-2, 3:-2],
    "cropped and mirrored": lambda pixels: pixels[2:-2, 3:-2][:, ::-1],
    "turned": lambda pixels: np.asarray(
        PIL.Image.fromarray(pixels).rotate(3, PIL.Image.Resampling.BILINEAR)
    ),
    "mirrored and recompressed": lambda pixels: recompressed(pixels[:, ::-1]),
}


def groups(thumbnails) -> list[duplicates.Alike]:
    return duplicates.alike(np.array(thumbnails), progress=pictures.QUIET)


@pytest.fixture(scope="module")
def different() -> list[np.ndarray]:
    return [thumbnail(pictures.photo(seed)) for seed in range(300)]


def test_different_pictures_are_not_alike(different):
    assert groups(different) == []
    noise = np.random.default_rng(0).integers(0, 256, [700, 32, 32], np.uint8)
    assert groups(noise) == []


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found(different, name):
    random = np.random.default_rng(1)
    originals = random.permutation(300)[:20].tolist()
    copies = [
        thumbnail(COPIES[name](pictures.photo(seed))) for seed in originals
    ]
    found = groups([*different, *copies])
    assert {group.images for group in found} == {
        (seed, 300 + place) for place, seed in enumerate(originals)
    }
    assert all(group.mirrored == ("mirrored" in name) for group in found)
    for group in found:
        assert len(group.likeness) == 2
        assert all(0.96 <= each <= 1.001 for each in group.likeness)


def test_the_order_of_the_pictures_does_not_matter(different):
    """Over the limits of blocks, too."""
    thumbnails = list(different)
    for seed in range(0, 60, 3):
        thumbnails += [different[seed][:, ::-1], different[seed] // 2]
    thumbnails = np.array(thumbnails)
    expected = {
        frozenset(group.images): group.mirrored for group in groups(thumbnails)
    }
    assert len(expected) == 20
    assert all(len(group) == 3 for group in expected)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(thumbnails))
        found = groups(thumbnails[order])
        assert {
            frozenset(order[list(group.images)].tolist()): group.mirrored
            for group in found
        } == expected
        for group in found:
            assert list(group.images) == sorted(group.images)


def test_links_join_into_chains():
    """The first and the last need not look alike themselves."""
    random = np.random.default_rng(0)
    first, last = random.normal(0, 40, [2, 32, 32])
    angles = np.linspace(0, np.pi / 2, 9)[:, None, None]
    chain = 128 + np.cos(angles) * first + np.sin(angles) * last
    chain = chain.clip(0, 255).astype(np.uint8)
    assert groups(chain[[0, -1]]) == []
    (group,) = groups(chain)
    assert group.images == tuple(range(9))
    assert not group.mirrored


@pytest.mark.parametrize("name", COPIES)
def test_of_many_pictures_the_same_are_found(different, name, monkeypatch):
    copies = [
        thumbnail(COPIES[name](pictures.photo(seed))) for seed in range(20)
    ]
    flat = [np.full([32, 32], 99, np.uint8)] * 50
    film = np.random.default_rng(0).integers(124, 129, [200, 32, 32])
    film = (film + different[40].astype(int) // 2).clip(0, 255)
    many = np.uint8([*different, *flat, *copies, *film])
    expected = groups(many)
    monkeypatch.setattr(duplicates, "ALL_PAIRS", 0)
    found = {(one.images, one.mirrored) for one in groups(many)}
    wanted = {(one.images, one.mirrored) for one in expected}
    assert found <= wanted
    # Hashes of many bits that differ may meet in no order.
    assert len(wanted - found) <= (name == "turned")
    assert groups(flat) == groups(np.zeros([0, 32, 32], np.uint8)) == []


def test_many_pictures_take_bounded_work(monkeypatch):
    """As many comparisons for each, also where all are alike."""
    random = np.random.default_rng(0)
    film = random.integers(0, 200, [32, 32]) + random.integers(
        0, 6, [3_000, 32, 32]
    )
    compared = []
    einsum = np.einsum

    def counted(how, one, other):
        compared.append(len(one))
        return einsum(how, one, other)

    monkeypatch.setattr(duplicates, "ALL_PAIRS", 0)
    monkeypatch.setattr(np, "einsum", counted)
    (group,) = groups(film.astype(np.uint8))
    assert len(group.images) == 3_000
    # Of thumbnails and of hashes, as they are and mirrored.
    assert sum(compared) < 2 * 2 * 2 * 3_000 * 24 * 4


def test_flat_pictures_are_never_alike():
    random = np.random.default_rng(0)
    flat = [np.full([32, 32], value) for value in (0, 0, 128, 255, 255)]
    # The noise of a camera, and the shade of a lamp.
    flat += 2 * [np.full([32, 32], 99) + random.integers(-1, 2, [32, 32])]
    flat += 2 * [np.add.outer(np.arange(32), 3 * np.arange(32)) // 2]
    flat = np.array(flat, np.uint8)
    assert groups(flat) == []
    assert groups(flat[:1]) == []
    assert groups(np.zeros([0, 32, 32], np.uint8)) == []


def test_a_long_film_is_one_group_in_bounded_time(different):
    random = np.random.default_rng(0)
    noise = random.integers(-2, 3, [2000, 32, 32])
    film = (different[0].astype(int) + noise).clip(0, 255).astype(np.uint8)
    began = time.process_time()
    (group,) = groups([*film, *different[1:30]])
    assert group.images == tuple(range(2000))
    # 2 million links; 0.5 s where nothing else runs.
    assert time.process_time() - began < 10


def test_equal_hashes():
    assert duplicates.equal([]) == []
    assert duplicates.equal(["a", "", "b", "", "c"]) == []
    assert duplicates.equal(["a", "b", "", "a", "c", "b", "", "a"]) == [
        [0, 3, 7],
        [1, 5],
    ]


def test_a_copy_of_what_was_learned_from_is_recognised(different):
    copies = [
        thumbnail(change(pictures.photo(seed)))
        for seed, change in enumerate(COPIES.values())
    ]
    originals, strangers = np.array(different[:150]), different[150:]
    found = duplicates.are_copies(np.array([*copies, *strangers]), originals)
    assert found.tolist() == [True] * len(copies) + [False] * len(strangers)
    assert not duplicates.are_copies(np.array(copies), originals[:0]).any()


def test_where_all_look_alike_a_copy_is_what_is_nearly_equal():
    """Spectrograms in one frame, digits."""
    random = np.random.default_rng(0)
    frame = random.integers(0, 200, [32, 32])
    digits = (frame + random.integers(0, 40, [60, 32, 32])).astype(np.uint8)
    assert len(groups(digits)) == 1
    assert not duplicates.are_copies(digits[:20], digits[20:]).any()


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not here")
class TestRealPictures:
    def alike(self, name: str, directory) -> list[set[str]]:
        """Returns the names of the pictures of each group."""
        source = pictures.opened(SHARED / name)
        found = pictures.scan(source, directory)
        paths = [example.path for example in source.examples]
        copies = {
            index
            for group in duplicates.equal([each.pixels for each in found])
            for index in group[1:]
        }
        kept = [
            index
            for index, each in enumerate(found)
            if each.thumbnail and index not in copies
        ]
        thumbnails = [
            np.frombuffer(found[index].thumbnail, np.uint8).reshape(
                scans.THUMBNAIL, -1
            )
            for index in kept
        ]
        return [
            {paths[kept[index]] for index in group.images}
            for group in groups(thumbnails)
        ]

    def test_brain_scans(self, tmp_path):
        found = self.alike("brain_mri", tmp_path)
        # Two of them cropped, or under another window.
        assert len(found) == 21
        assert sum(map(len, found)) == 43
        for group in found:
            assert len({pathlib.Path(path).parent for path in group}) == 1

    def test_flowers(self, tmp_path):
        found = self.alike("flowers", tmp_path)
        assert [len(group) for group in found] == [2, 2, 2]

    def test_steel(self, tmp_path):
        """Two pictures of one place, one shifted by a tenth."""
        (found,) = self.alike("steel_defects", tmp_path)
        names = {pathlib.Path(path).stem for path in found}
        assert names == {"inclusion_151", "inclusion_162"}

    def test_digits_are_no_more_alike_than_by_their_thumbnails(self, tmp_path):
        found = self.alike("mnist", tmp_path)
        assert sum(map(len, found)) <= 65

    def test_where_none_are(self, tmp_path):
        assert self.alike("hymenoptera", tmp_path) == []
