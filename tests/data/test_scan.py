"""The one pass over all images: what it finds, and what it does not repeat."""

import concurrent.futures
import errno
import os
import pathlib
import threading

import numpy as np
import pictures
import PIL.Image
import pytest
import tensorflow as tf

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.data import decode
from tlkeras.data import images
from tlkeras.data import scan
from tlkeras.data import sources
from tlkeras.data.facts import Facts

PHOTO = pictures.photo(0, 40, 60)
SHAPE = images.Shape(12, "pad")


@pytest.fixture
def settled(monkeypatch) -> None:
    """Lets files that were written this moment pass for old ones."""
    monkeypatch.setattr(scan, "_SETTLED", -60.0)


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    root = tmp_path / "photos"
    contents = {
        f"{'ab'[seed % 2]}/{seed}.png": pictures.encode(
            pictures.photo(seed, 9, 9 + seed)
        )
        for seed in range(6)
    }
    contents["a/broken.png"] = contents["a/0.png"][:60]
    pictures.write(root, contents)
    return root


def again(
    folder: pathlib.Path, keep: os.PathLike, **options
) -> tuple[tuple[Facts, ...], list[str]]:
    """Returns what a scan of `folder` finds, and the names that it read."""
    source, read = pictures.counted(pictures.opened(folder))
    found = pictures.scan(source, keep, **options)
    names = [
        pathlib.Path(source.examples[index].path).name for index in sorted(read)
    ]
    return found, sorted(names)


NAMES = ["0.png", "1.png", "2.png", "3.png", "4.png", "5.png", "broken.png"]


KINDS = {
    "JPEG RGB": pictures.encode(PHOTO, "JPEG"),
    "JPEG L": pictures.encode(PHOTO[..., 0], "JPEG"),
    "PNG RGB": pictures.encode(PHOTO),
    "PNG RGBA": pictures.encode(
        np.dstack([PHOTO, np.full_like(PHOTO[..., 0], 255)])
    ),
    "PNG L": pictures.encode(PHOTO[..., 0]),
    "PNG I;16": pictures.encode(PHOTO[..., 0].astype(np.uint16) * 257),
    "WebP RGB": pictures.encode(PHOTO, "WEBP", lossless=True),
    "GIF P": pictures.encode(PHOTO[..., 0], "GIF"),
    "BMP RGB": pictures.encode(PHOTO, "BMP"),
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> dict[str, Facts]:
    found = pictures.scan(
        pictures.of(KINDS.values()), tmp_path_factory.mktemp("keep")
    )
    return dict(zip(KINDS, found, strict=True))


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_what_it_was_made_as(kinds, name):
    found = kinds[name]
    assert found.kind == name.split()[0]
    assert (found.width, found.height, found.orientation) == (60, 40, 1)
    assert found.reason == ""
    opened = PIL.Image.open(pictures.io.BytesIO(KINDS[name]))
    assert f"{opened.format.replace('WEBP', 'WebP')} {opened.mode}" == name
    expected = PHOTO if "RGB" in name else PHOTO[..., :1]
    thumbnail = np.frombuffer(found.thumbnail, np.uint8).reshape(32, 32)
    wanted = decode.resize(
        np.broadcast_to(expected, PHOTO.shape), 32, "stretch"
    )
    difference = thumbnail - wanted.numpy().mean(axis=-1)
    assert np.abs(difference).max() < (20 if "JPEG" in name else 3)
    assert found.contrast == pytest.approx(expected.std(), rel=0.1)


def test_transparent_files_and_12_bits_are_told(tmp_path):
    alpha = np.full_like(PHOTO[..., :1], 255)
    alpha[3, 4] = 51
    deep = PHOTO[..., 0].astype(np.uint16)
    contents = [
        KINDS["PNG RGBA"],
        pictures.encode(np.dstack([PHOTO, alpha])),
        pictures.encode(deep * 16),
        pictures.encode(deep * 257),
        pictures.encode(np.full_like(deep, 700)),
    ]
    found = pictures.scan(pictures.of(contents), tmp_path)
    assert [round(each.opacity, 6) for each in found] == [1, 0.2, 1, 1, 1]
    assert [each.is_dark for each in found] == [False] * 2 + [True] + [
        False
    ] * 2


def test_equal_pixels_have_one_hash(kinds):
    lossless = ("PNG RGB", "PNG RGBA", "WebP RGB", "BMP RGB")
    assert len({kinds[name].pixels for name in lossless}) == 1
    grey = ("PNG L", "PNG I;16", "GIF P")
    assert len({kinds[name].pixels for name in grey}) == 1
    assert len({each.pixels for each in kinds.values()}) == 4


def test_hash_is_of_the_pixels_and_their_shape(tmp_path):
    pixels = pictures.photo(1, 6, 8)
    contents = [
        pictures.encode(pixels),
        pictures.encode(pixels, compress_level=0),
        pictures.encode(pixels.reshape(8, 6, 3)),
        pictures.encode(pixels ^ 1),
    ]
    assert contents[0] != contents[1]
    found = pictures.scan(pictures.of(contents), tmp_path)
    assert found[0].pixels == found[1].pixels
    assert len({each.pixels for each in found}) == 3


def test_orientation_is_told_and_applied(tmp_path):
    contents = [pictures.turned(PHOTO, number) for number in range(1, 9)]
    found = pictures.scan(pictures.of(contents), tmp_path)
    assert [each.orientation for each in found] == list(range(1, 9))
    # As stored; what is upright differs.
    assert {(each.width, each.height) for each in found} == {(60, 40)}
    assert len({each.pixels for each in found}) == 8
    upright = PIL.Image.open(pictures.io.BytesIO(contents[5]))
    upright = np.asarray(PIL.ImageOps.exif_transpose(upright))
    expected = decode.resize(upright, 32, "stretch").numpy().mean(axis=-1)
    thumbnail = np.frombuffer(found[5].thumbnail, np.uint8).reshape(32, 32)
    assert np.abs(thumbnail - expected).max() < 4


def test_contrast_is_none_of_a_flat_picture(tmp_path):
    flat = np.full([300, 500, 3], 77, np.uint8)
    split = np.zeros([300, 500], np.uint8)
    split[:, 250:] = 255
    found = pictures.scan(
        pictures.of([pictures.encode(flat), pictures.encode(split)]), tmp_path
    )
    assert found[0].contrast == 0
    assert found[1].contrast == pytest.approx(127.5, abs=2)
    assert set(found[0].thumbnail) == {77}


def test_what_cannot_be_used_is_told_with_its_reason(tmp_path):
    def cut(kind: str, **options) -> bytes:
        content = pictures.encode(PHOTO, kind, **options)
        return content[: len(content) // 2]

    def damaged(content: bytes) -> bytes:
        middle = len(content) // 2
        return content[:middle] + bytes(16) + content[middle + 16 :]

    rows = [
        (KINDS["PNG RGB"], ""),
        (b"", "empty file"),
        (b"hello", "not an image"),
        (cut("JPEG"), "truncated JPEG"),
        (cut("PNG"), "truncated PNG"),
        (cut("GIF"), "truncated GIF"),
        (cut("WEBP"), "truncated WebP"),
        (cut("BMP"), "truncated BMP"),
        (damaged(KINDS["PNG RGB"]), "damaged PNG"),
        (pictures.encode(PHOTO, "TIFF"), "TIFF"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
            "cannot be read: No such file or directory",
        ),
        (OSError("strange"), "cannot be read: strange"),
        (KINDS["PNG RGB"], ""),
    ]
    contents, reasons = zip(*rows, strict=True)
    for store_bytes in (None, 1e9):
        source = pictures.of(contents)
        stamps = sources.stamps(source)
        store = None
        if store_bytes:
            store = images.Store(
                source,
                stamps,
                SHAPE,
                store_bytes=store_bytes,
                directory=tmp_path,
            )
        found = pictures.scan(source, tmp_path, store=store)
        assert tuple(each.reason for each in found) == reasons
        for each in found:
            usable = not each.reason
            assert bool(each.pixels) is bool(each.thumbnail) is usable


def test_too_large_by_max_pixels(tmp_path):
    bomb = bytearray(KINDS["PNG RGB"])
    bomb[16:24] = (30_000).to_bytes(4) * 2
    contents = [bytes(bomb), KINDS["PNG RGB"], KINDS["JPEG RGB"]]
    found = pictures.scan(pictures.of(contents), tmp_path)
    assert [each.reason for each in found] == [
        "too large: PNG of 30,000 x 30,000 pixels; at most "
        f"{decode.MAX_PIXELS:,} are allowed (--max_pixels)",
        "",
        "",
    ]
    assert (found[0].width, found[0].kind) == (30_000, "PNG")
    found = pictures.scan(pictures.of(contents), tmp_path, max_pixels=2399)
    for each in found[1:]:
        assert each.reason == (
            f"too large: {each.kind} of 60 x 40 pixels; at most 2,399 are "
            "allowed (--max_pixels)"
        )


def test_blocks_do_not_matter(tmp_path, monkeypatch):
    contents = [*KINDS.values(), b"text"]
    expected = pictures.scan(pictures.of(contents), tmp_path)
    for block in (1, 3, 10):
        monkeypatch.setattr(scan, "_BLOCK", block)
        assert pictures.scan(pictures.of(contents), tmp_path) == expected
    assert pictures.scan(pictures.of([]), tmp_path) == ()


def test_large_images_take_turns(tmp_path, monkeypatch):
    expected = pictures.scan(pictures.of(KINDS.values()), tmp_path)
    monkeypatch.setattr(images, "LARGE", 1)
    assert pictures.scan(pictures.of(KINDS.values()), tmp_path) == expected


class TestWhatIsKept:
    def test_an_unchanged_folder_is_not_read_again(
        self, folder, tmp_path, settled
    ):
        first, read = again(folder, tmp_path / "keep")
        assert read == NAMES
        said = []

        class Watched(progresses.Progress):
            def say(self, text):
                said.append(text)

        second, read = again(
            folder, tmp_path / "keep", progress=Watched(quiet=True)
        )
        assert read == []
        assert second == first
        assert [each.reason for each in first].count("truncated PNG") == 1
        assert said == ["7 of 7 images unchanged since an earlier scan"]

    def test_only_what_has_changed_is(self, folder, tmp_path, settled):
        keep = tmp_path / "keep"
        first, _ = again(folder, keep)
        path = folder / "a" / "2.png"
        other = bytearray(path.read_bytes())
        before = path.stat()
        other[-20] ^= 1
        with path.open("r+b") as stream:
            stream.write(other)
        # Of the same size, and with the time set back.
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
        found, read = again(folder, keep)
        assert read == ["2.png"]
        assert found[1] != first[1]
        pictures.write(folder, {"b/9.png": KINDS["PNG L"]})
        (folder / "b" / "5.png").unlink()
        os.rename(folder / "b" / "3.png", folder / "b" / "8.png")
        found, read = again(folder, keep)
        assert read == ["8.png", "9.png"]
        assert found[-2] == first[-2]

    def test_a_link_to_another_file(self, folder, tmp_path, settled):
        keep = tmp_path / "keep"
        link = folder / "b" / "link.png"
        link.symlink_to(folder / "a" / "0.png")
        first, _ = again(folder, keep)
        link.unlink()
        link.symlink_to(folder / "a" / "4.png")
        found, read = again(folder, keep)
        assert read == ["link.png"]
        assert found[-1] == first[2]

    def test_what_changed_just_now_is_read_again(self, folder, tmp_path):
        keep = tmp_path / "keep"
        for _ in range(2):
            _, read = again(folder, keep)
            assert read == NAMES

    def test_two_seconds_later_it_counts(self, folder, tmp_path, monkeypatch):
        now = scan.time.time_ns
        later = [1.5e9]
        monkeypatch.setattr(scan.time, "time_ns", lambda: now() + int(later[0]))
        # A copy with its old time is new all the same.
        for path in folder.glob("*/*"):
            os.utime(path, (1, 1))
        again(folder, tmp_path)
        later[0] = 60e9
        _, read = again(folder, tmp_path)
        assert read == NAMES
        _, read = again(folder, tmp_path)
        assert read == []

    def test_another_limit_or_tensorflow(
        self, folder, tmp_path, settled, monkeypatch
    ):
        first, _ = again(folder, tmp_path / "keep")
        low, read = again(folder, tmp_path / "keep", max_pixels=2399)
        assert read == NAMES
        monkeypatch.setattr(tf, "__version__", "9.9.9")
        _, read = again(folder, tmp_path / "keep")
        assert read == NAMES
        _, read = again(folder, tmp_path / "keep")
        assert read == []

    def test_a_file_that_cannot_be_opened_gets_another_chance(
        self, folder, tmp_path, settled
    ):
        link = folder / "b" / "link.png"
        link.symlink_to(tmp_path / "later.png")
        found, _ = again(folder, tmp_path / "keep")
        assert found[-1].reason.startswith("cannot be read: No such file")
        (tmp_path / "later.png").write_bytes(KINDS["PNG RGB"])
        found, read = again(folder, tmp_path / "keep")
        assert read == ["link.png"]
        assert found[-1].reason == ""

    @pytest.mark.parametrize("damage", [b"", b"no database" * 999])
    def test_a_damaged_memory_is_made_anew(
        self, folder, tmp_path, settled, damage
    ):
        keep = tmp_path / "keep"
        first, _ = again(folder, keep)
        for path in keep.iterdir():
            path.write_bytes(damage)
        assert again(folder, keep) == (first, NAMES)
        assert again(folder, keep) == (first, [])

    def test_a_place_that_cannot_be_does_not_disturb(
        self, folder, tmp_path, settled
    ):
        expected, _ = again(folder, tmp_path / "keep")
        (tmp_path / "file").write_text("in the way")
        for place in (tmp_path / "file", tmp_path / "file" / "x", "/dev/null"):
            assert again(folder, place) == (expected, NAMES)

    def test_several_scans_at_once(self, folder, tmp_path, settled):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            found = list(
                pool.map(lambda _: again(folder, tmp_path / "keep")[0], "1234")
            )
        assert len(set(found)) == 1
        assert again(folder, tmp_path / "keep") == (found[0], [])

    def test_nothing_of_images_that_are_no_files(self, tmp_path, settled):
        source, read = pictures.counted(pictures.of([KINDS["PNG L"]]))
        for _ in range(2):
            pictures.scan(source, tmp_path / "keep")
        assert read == [0, 0]
        assert not (tmp_path / "keep").exists()


def test_an_interrupted_scan_keeps_what_it_has_read(
    tmp_path, settled, monkeypatch
):
    root = tmp_path / "photos"
    content = pictures.encode(pictures.photo(0, 9, 9))
    pictures.write(
        root, {f"a/{number:03}.png": content for number in range(90)}
    )
    started = threading.Event()

    def stop(index: int) -> None:
        # What stands before it is done by then. It begins a block.
        if index == 64:
            started.wait(0.5)
            raise KeyboardInterrupt

    source, _ = pictures.counted(pictures.opened(root), stop)
    progress = progresses.Progress(quiet=True)
    with pytest.raises(KeyboardInterrupt):
        pictures.scan(source, tmp_path / "keep", progress=progress)
    assert progress.bar is None
    _, read = again(root, tmp_path / "keep")
    assert read == [f"{number:03}.png" for number in range(64, 90)]


def test_an_error_of_ours_ends_the_bar(tmp_path):
    progress = progresses.Progress(quiet=True)
    with pytest.raises(RuntimeError, match="of ours"):
        pictures.scan(
            pictures.of([RuntimeError("a mistake of ours")]),
            tmp_path,
            progress=progress,
        )
    assert progress.bar is None


def test_a_file_that_changes_while_it_is_read(folder, tmp_path, settled):
    def change(index: int) -> None:
        if index == 4:
            with (folder / "b" / "1.png").open("ab") as stream:
                stream.write(b"more")

    source, _ = pictures.counted(pictures.opened(folder), change)
    with pytest.raises(errors.UserError, match="1.png changed while") as caught:
        pictures.scan(source, tmp_path / "keep")
    assert "\n" not in str(caught.value)
    # Nothing wrong was kept.
    expected, _ = again(folder, tmp_path / "other")
    assert again(folder, tmp_path / "keep")[0] == expected


def test_a_store_is_filled_by_the_first_scan_or_when_asked(
    folder, tmp_path, settled
):
    def stored() -> tuple[images.Store, list[int]]:
        source, read = pictures.counted(pictures.opened(folder))
        stamps = sources.stamps(source)
        store = images.Store(
            source, stamps, SHAPE, store_bytes=1e9, directory=tmp_path
        )
        pictures.scan(source, tmp_path / "keep", stamps=stamps, store=store)
        return store, read

    good = np.array([5, 0, 2, 4, 1, 6])
    first, read = stored()
    assert sorted(read) == list(range(7))
    expected = first.images().rows(good)
    assert len(read) == 7
    second, read = stored()
    assert read == []
    np.testing.assert_array_equal(second.images().rows(good), expected)
    np.testing.assert_array_equal(second.images().rows(good), expected)
    assert sorted(read) == sorted(good)
