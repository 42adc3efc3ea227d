"""Tests of where images come from: what is found, and what is refused."""

import concurrent.futures
import io
import os
import pathlib
import re
import shutil
import socket
import tempfile
import time
import types
import unicodedata

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from tlkeras import errors
from tlkeras import files
from tlkeras import progress as progresses
from tlkeras.data import sources
from tlkeras.data.sources import builtin
from tlkeras.settings import config as configs

QUICK = hypothesis.settings(
    max_examples=200, deadline=None, derandomize=True, database=None
)
QUIET = progresses.Progress(quiet=True)


def fill(root: pathlib.Path, *names: str) -> pathlib.Path:
    """Makes files that hold their own names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))
    return root


def opened(name: str, **options) -> sources.Source:
    return sources.open(name, progress=QUIET, **options)


def refused(name: str, **options) -> str:
    """Returns the one line that says why there is no such source."""
    with pytest.raises(errors.UserError) as caught:
        opened(name, **options)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert len(line) < 600
    return line


def found(source: sources.Source) -> set[tuple[str, str, str]]:
    return {
        (pathlib.Path(each.path).name, each.label, each.split)
        for each in source.examples
    }


class TestName:
    @pytest.mark.parametrize(
        "name",
        ["", "folder:", "zip:a.zip", "csv:", "tfds:", ":"],
    )
    def test_unknown_kind(self, name):
        assert "folder:PATH, csv:PATH, tfds:NAME" in refused(name)

    def test_a_path_alone_is_a_folder_or_a_table(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        fill(tmp_path, "photos/a/1.png", "photos/b/1.png", "odd.csv/1.png")
        pathlib.Path("labels").write_text("path,label\nphotos/a/1.png,a\n")
        for name, wanted in (
            ("photos/", f"folder:{tmp_path}/photos"),
            ("nowhere", f"folder:{tmp_path}/nowhere"),
            ("nowhere.csv", f"csv:{tmp_path}/nowhere.csv"),
            ("labels", f"csv:{tmp_path}/labels"),
            ("odd.csv", f"folder:{tmp_path}/odd.csv"),
        ):
            assert sources.absolute(name) == wanted
            assert sources.file_place(name) == name
        assert sources.open("photos", progress=QUIET).labels == ("a", "b")
        assert sources.open("labels", progress=QUIET).labels == ("a",)
        assert "nowhere, which does not exist" in refused("nowhere")

    def test_guesses(self):
        assert "Did you mean folder?" in refused("foldr:photos")

    def test_absolute(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", "/home/somebody")
        assert sources.absolute("folder:a") == f"folder:{tmp_path}/a"
        assert sources.absolute("csv:~/a.csv") == "csv:/home/somebody/a.csv"
        assert sources.absolute("folder:~nobody-here/a").endswith("here/a")
        for name in ("tfds:a/b", "builtin:digits", "", "zip:a"):
            assert sources.absolute(name) == name
            assert sources.file_place(name) == ""
        assert sources.file_place("csv:a/b.csv") == "a/b.csv"

    def test_help_and_errors_name_every_kind(self):
        line, help = refused("zip:a.zip"), configs.settings()["data"].rule.help
        for kind in sources.KINDS:
            assert kind.syntax in line
            assert kind.syntax in help


class TestFolder:
    def test_flat(self, tmp_path):
        fill(tmp_path, "b/1.png", "b/deep/2.png", "a/1.png", "README.md")
        source = opened(f"folder:{tmp_path}")
        assert source.labels == ("a", "b")
        assert source.name == f"folder:{tmp_path}"
        assert [
            str(pathlib.Path(each.path).relative_to(tmp_path))
            for each in source.examples
        ] == ["a/1.png", "b/1.png", "b/deep/2.png"]
        assert {each.split for each in source.examples} == {""}
        assert source.read(2) == b"b/deep/2.png"

    def test_order_is_that_of_the_names(self, tmp_path, monkeypatch):
        fill(tmp_path, *(f"{c}/{n}" for c in "cab" for n in (3, 1, 2)))
        first = opened(f"folder:{tmp_path}").examples
        assert [each.path[-3:] for each in first] == [
            f"{c}/{n}" for c in "abc" for n in (1, 2, 3)
        ]
        listdir, walk = os.listdir, os.walk

        def reversed_walk(top, **options):
            for place, folders, names in walk(top, **options):
                yield place, folders, sorted(names, reverse=True)

        monkeypatch.setattr(os, "walk", reversed_walk)
        monkeypatch.setattr(
            os, "listdir", lambda path: sorted(listdir(path), reverse=True)
        )
        assert opened(f"folder:{tmp_path}").examples == first

    def test_splits_above_the_classes(self, tmp_path):
        fill(
            tmp_path,
            "Train/a/1",
            "Train/b/2",
            "val/a/3",
            "val/b/4",
            "test/a/5",
            "test/b/6",
            "notes.txt",
        )
        assert found(opened(f"folder:{tmp_path}")) == {
            ("1", "a", "train"),
            ("2", "b", "train"),
            ("3", "a", "validation"),
            ("4", "b", "validation"),
            ("5", "a", "test"),
            ("6", "b", "test"),
        }

    def test_a_class_named_train(self, tmp_path):
        fill(tmp_path, "car/1.png", "train/2.png", "bus/3.png")
        source = opened(f"folder:{tmp_path}")
        assert source.labels == ("bus", "car", "train")

    def test_another_folder_beside_the_splits(self, tmp_path):
        fill(tmp_path, "train/a/1", "test/a/1", "extra/a/1")
        line = refused(f"folder:{tmp_path}")
        assert "must be train, validation or test. Received: extra." in line

    def test_splits_without_classes(self, tmp_path):
        fill(tmp_path, "train/1.png", "test/2.png")
        assert "holds no class folder" in refused(f"folder:{tmp_path}")

    def test_hidden_and_system_files(self, tmp_path):
        fill(
            tmp_path,
            "a/1.png",
            "a/.DS_Store",
            "a/Thumbs.db",
            "a/desktop.ini",
            "a/.hidden/2.png",
            "a/__MACOSX/3.png",
            ".ipynb_checkpoints/4.png",
            "__MACOSX/a/5.png",
            "b/6.png",
        )
        assert found(opened(f"folder:{tmp_path}")) == {
            ("1.png", "a", ""),
            ("6.png", "b", ""),
        }

    def test_links_are_followed_once(self, tmp_path):
        fill(tmp_path / "data", "a/1.png", "b/2.png")
        fill(tmp_path / "elsewhere", "3.png")
        (tmp_path / "data/a/more").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "data/b/ring").symlink_to(tmp_path / "data/b")
        assert found(opened(f"folder:{tmp_path}/data")) == {
            ("1.png", "a", ""),
            ("2.png", "b", ""),
            ("3.png", "a", ""),
        }

    def test_empty_class(self, tmp_path):
        fill(tmp_path, "a/1.png", "b/.DS_Store", "c/1.png")
        source = opened(f"folder:{tmp_path}")
        assert source.empty == (f"{tmp_path}/b",)
        with pytest.raises(errors.UserError, match="b holds no image"):
            sources.check_classes(source)
        (tmp_path / "empty" / "a").mkdir(parents=True)
        assert "a holds no image, nor" in refused(f"folder:{tmp_path}/empty")

    def test_pictures_in_no_class(self, tmp_path):
        fill(tmp_path, "train/a/1.png", "test/a/2.png", "0.JPG", "read.me")
        fill(tmp_path, "train/5.webp", "train/a/deep/6.png")
        assert opened(f"folder:{tmp_path}").loose == (
            f"{tmp_path}/0.JPG",
            f"{tmp_path}/train/5.webp",
        )

    def test_no_folder(self, tmp_path):
        missing = tmp_path / "missing"
        assert f"{missing}, which does not exist" in refused(
            f"folder:{missing}"
        )
        fill(tmp_path, "file.png")
        assert "is no folder" in refused(f"folder:{tmp_path}/file.png")
        assert "does not exist" in refused(f"folder:{tmp_path}/file.png/x")
        assert "does not exist" in refused(f"folder:{'x' * 300}")
        assert "does not exist" in refused("folder:~nobody-here/photos")
        assert "does not exist" in refused("folder:a\0b")
        assert "which holds no folder" in refused(f"folder:{tmp_path}")

    @pytest.mark.parametrize("closed", ["", "a", "a/deep"])
    def test_no_permission(self, tmp_path, monkeypatch, closed):
        # Root may read everything, so the refusal is played.
        fill(tmp_path, "a/deep/1.png", "b/2.png")

        def guarded(call):
            def guard(path):
                if pathlib.Path(path) == tmp_path / closed:
                    raise PermissionError(13, "Permission denied", str(path))
                return call(path)

            return guard

        monkeypatch.setattr(os, "listdir", guarded(os.listdir))
        monkeypatch.setattr(os, "scandir", guarded(os.scandir))
        line = refused(f"folder:{tmp_path}")
        assert f"{tmp_path / closed} cannot be read: Permission" in line

    @pytest.mark.parametrize(
        "name",
        [
            "zwölf",
            "二",
            "a b",
            " a",
            "a ",
            "a.b.c",
            "%s{}$x",
            "-x",
            "x" * 250,
            "é" * 125,
            os.fsdecode(b"caf\xe9"),
            "'\"",
            "*?[a]",
        ],
    )
    def test_any_name_of_a_class_and_of_a_file(self, tmp_path, name):
        fill(tmp_path, f"{name}/{name}.jpg"[:600], "other/1.png")
        source = opened(f"folder:{tmp_path}")
        assert set(source.labels) == {name.strip(), "other"}
        (index,) = (
            index
            for index, example in enumerate(source.examples)
            if example.label == name.strip()
        )
        assert source.examples[index].path == f"{tmp_path}/{name}/{name}.jpg"
        assert (
            source.read(index)
            == pathlib.Path(tmp_path, name, f"{name}.jpg").read_bytes()
        )
        assert source.stamp(index).size == len(source.read(index))

    def test_links_to_files_and_to_nowhere(self, tmp_path):
        fill(tmp_path, "a/1.png", "b/2.png")
        (tmp_path / "b" / "link.png").symlink_to(tmp_path / "a" / "1.png")
        (tmp_path / "b" / "gone.png").symlink_to(tmp_path / "nowhere")
        (tmp_path / "b" / "self.png").symlink_to(tmp_path / "b" / "self.png")
        source = opened(f"folder:{tmp_path}")
        names = [pathlib.Path(each.path).name for each in source.examples]
        assert names == ["1.png", "2.png", "gone.png", "link.png", "self.png"]
        stamps = sources.stamps(source)
        assert stamps[0] == stamps[3]
        assert stamps[2] is stamps[4] is None
        assert source.read(3) == source.read(0)
        for index in (2, 4):
            with pytest.raises(OSError):
                sources.read(source, stamps, index)

    def test_a_ring_of_links_ends(self, tmp_path):
        fill(tmp_path, "data/a/1.png", "data/b/in/2.png", "data/b/3.png")
        (tmp_path / "data" / "b" / "up").symlink_to(tmp_path / "data" / "b")
        (tmp_path / "data" / "b" / "in" / "top").symlink_to(tmp_path)
        source = opened(f"folder:{tmp_path}/data")
        real = {os.path.realpath(each.path) for each in source.examples}
        assert len(real) == 3

    def test_images_in_folders_below_a_class(self, tmp_path):
        fill(tmp_path, "a/1.png", "a/x/2.png", "a/x/y/3.png", "b/4.png")
        labels = {
            pathlib.Path(each.path).name: each.label
            for each in opened(f"folder:{tmp_path}").examples
        }
        assert labels == dict(
            zip(("1.png", "2.png", "3.png", "4.png"), "aaab", strict=True)
        )

    def test_class_folders_that_hold_only_folders(self, tmp_path):
        fill(tmp_path, "2024/a/1.png", "2024/b/2.png", "2025/a/3.png")
        line = refused(f"folder:{tmp_path}")
        assert f"{tmp_path}/2024 holds no image itself" in line
        assert "(a, b)" in line
        fill(tmp_path / "x", "train/2024/a/1.png", "train/b/2.png")
        assert "2024 holds no image itself" in refused(f"folder:{tmp_path}/x")
        # A hidden file is no image.
        fill(tmp_path / "y", "a/.hidden.png", "a/in/1.png", "b/2.png")
        assert "a holds no image itself" in refused(f"folder:{tmp_path}/y")

    @pytest.mark.parametrize(
        "name",
        [
            "#recycle",
            "@eaDir",
            "lost+found",
            "$RECYCLE.BIN",
            "System Volume Information",
            ".Trashes",
            "__MACOSX",
        ],
    )
    def test_folders_that_systems_make_are_said_once(self, tmp_path, name):
        fill(tmp_path / "flat", "a/1.png", "b/2.png", f"{name}/x/3.png")
        fill(tmp_path / "flat", f"a/{name}/4.png", f"b/{name}/5.png")
        fill(tmp_path / "split", "train/a/1.png", "test/a/2.png")
        fill(tmp_path / "split", f"{name}/x.png", f"train/{name}/3.png")
        (tmp_path / "flat" / "b" / name.upper()).mkdir(exist_ok=True)
        for place, labels in (("flat", ("a", "b")), ("split", ("a",))):
            said: list[str] = []
            watched = progresses.Progress(quiet=True)
            watched.say = said.append
            source = sources.open(
                f"folder:{tmp_path / place}", progress=watched
            )
            assert source.labels == labels
            assert len(source.examples) == 2
            assert len(said) == 1
            assert name in said[0]

    @pytest.mark.parametrize("kind", ["folder", "csv"])
    def test_one_class_in_two_unicode_forms(self, tmp_path, kind):
        composed, parted = (
            unicodedata.normalize(form, "café") for form in ("NFC", "NFD")
        )
        assert composed != parted
        names = (f"{composed}/1.png", f"{parted}/2.png", "bees/3.png")
        name = f"folder:{fill(tmp_path / 'x', *names)}"
        if kind == "csv":
            rows = "".join(
                f"{each},{each[:-6]},{each[:-6]}\n" for each in names
            )
            table = tmp_path / "x" / "t.csv"
            table.write_text(f"path,label,group\n{rows}", encoding="utf-8")
            name = f"csv:{table}"
        source = opened(name)
        assert source.labels == ("bees", composed)
        if kind == "csv":
            assert {each.group for each in source.examples} == {
                "bees",
                composed,
            }
        for index, example in enumerate(source.examples):
            assert source.read(index).endswith(example.path[-5:].encode())
        fill(tmp_path / "y", f"train/{composed}/1.png", f"val/{parted}/2.png")
        fill(tmp_path / "y", "train/bees/1.png", "val/bees/2.png")
        source = opened(f"folder:{tmp_path}/y")
        assert source.labels == ("bees", composed)
        assert len({(each.label, each.split) for each in source.examples}) == 4

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
    def test_only_regular_files_are_read(self, tmp_path):
        fill(tmp_path, "a/1.png", "b/2.png")
        os.mkfifo(tmp_path / "a" / "2.png")
        (tmp_path / "b" / "zero.png").symlink_to("/dev/zero")
        source = opened(f"folder:{tmp_path}")
        stamps = sources.stamps(source)
        for index, example in enumerate(source.examples):
            if example.path.endswith(("a/2.png", "zero.png")):
                with pytest.raises(OSError, match="not a regular file"):
                    sources.read(source, stamps, index)
            else:
                assert sources.read(source, stamps, index)
        os.mkfifo(tmp_path / "t.csv")
        for name in (f"csv:{tmp_path}/t.csv", "csv:/dev/zero"):
            assert "not a regular file" in refused(name)

    def test_a_file_that_vanished(self, tmp_path):
        source = opened(f"folder:{fill(tmp_path, 'a/1.png', 'b/2.png')}")
        (tmp_path / "a/1.png").unlink()
        with pytest.raises(OSError):
            source.read(0)


class TestCsv:
    def table(self, folder: pathlib.Path, text: str | bytes) -> str:
        """Returns the source of a table beside files 1 to 4."""
        fill(folder, "1.png", "2.png", "in/3.png", "a, b.png")
        data = text.encode() if isinstance(text, str) else text
        (folder / "t.csv").write_bytes(data)
        return f"csv:{folder}/t.csv"

    def test_paths_are_relative_to_the_table(self, tmp_path):
        name = self.table(
            tmp_path,
            "path,label\n1.png,b\nin/3.png,a\n"
            f'{tmp_path}/2.png,a\n"a, b.png",b\n\n',
        )
        source = opened(name)
        assert source.name == name
        assert source.labels == ("a", "b")
        assert [each.path for each in source.examples] == [
            f"{tmp_path}/{each}"
            for each in ("1.png", "in/3.png", "2.png", "a, b.png")
        ]
        assert [each.label for each in source.examples] == ["b", "a", "a", "b"]
        assert source.read(1) == b"in/3.png"

    @pytest.mark.parametrize(
        "text",
        [
            b"\xef\xbb\xbfpath,label\r\n1.png,a\r\n2.png,b\r\n",
            b"path,label\r1.png,a\r2.png,b",
            b'label, path\na, 1.png\nb, "2.png"\n',
            b'"path","label",,\n1.png, a ,,\n2.png,"b",,\n',
            b"path,label,split,group,age\n1.png,a,,,7\n2.png,b,,,8\n",
        ],
        ids=["BOM", "CR", "order", "quotes", "columns"],
    )
    def test_forms_of_one_table(self, tmp_path, text):
        source = opened(self.table(tmp_path, text))
        assert found(source) == {("1.png", "a", ""), ("2.png", "b", "")}

    def test_splits_and_groups(self, tmp_path):
        source = opened(
            self.table(
                tmp_path,
                "path,group,label,split\n1.png,p1,a,TRAIN\n"
                "2.png,,b,val\nin/3.png, p1 ,a,testing\n",
            )
        )
        assert [(each.split, each.group) for each in source.examples] == [
            ("train", "p1"),
            ("validation", ""),
            ("test", "p1"),
        ]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "Received: none."),
            ("path;label\n1.png;a\n", "Received: path;label."),
            ("file,label\n1.png,a\n", "Received: file, label."),
            ("path,label,label\n1.png,a,b\n", "each once"),
            ("path,label\n", "a header and no row"),
            ("path,label\n1.png,a\n2.png\n", "line 3: a row needs"),
            ("path,label\n1.png,a\n,b\n", "line 3: a row needs"),
            ("path,label\n1.png, \n", "line 2: a row needs"),
            ("path,label\n1.png,a,b\n", "line 2: a row needs"),
            ("path,label\n\n1.png,a\n\n1.png,b\n", "line 5: "),
            ("path,label\n1.png,a\n1.png,b\n", "stands in line 2 already"),
            ("path,label\n1.png,a\nx.png,a\ny.png,a\n", "lists 2 files"),
            ("path,label\n1.png,a\nx\\y.png,a\n", "not \\ as on Windows"),
            ("path,label\n1.png,a\nx.png,a\n", "x.png (line 3)"),
            ("path,label\nin,a\n", "in (line 2)"),
            ("path,label\nx\0.png,a\n", "(line 2)"),
            ("path,label,split\n1.png,a,dev\n", "Received: 'dev'."),
            (
                "path,label,split\n1.png,a,test\n2.png,a,\n",
                "line 3: `split` must be filled in every row or in none",
            ),
            ('path,label\n1.png,"a\n', "line 2, is no CSV"),
            ('path,label\n1.png,a\n2.png,"a"b\n', "line 3, is no CSV"),
            (f"path,label\n1.png,{'a' * 200_000}\n", "line 2, is no CSV"),
            ("x" * 5000, "Received: "),
            ('"pa\nth",label\n', "Received: pa th, label."),
            (b"path,label\n1.png,\xff\n", "must be CSV in UTF-8"),
            ("path,label\n1.png,a\n".encode("utf-16"), "must be CSV in UTF-8"),
        ],
    )
    def test_what_is_wrong_is_told_with_its_line(self, tmp_path, text, words):
        name = self.table(tmp_path, text)
        line = refused(name)
        assert words in line
        assert f"{tmp_path}/t.csv" in line

    def test_no_file(self, tmp_path):
        fill(tmp_path, "file")
        for place, why in [
            ("missing.csv", "No such file"),
            ("", "Is a directory"),
            ("file/t.csv", "Not a directory"),
            ("x" * 300, "File name too long"),
        ]:
            assert why in refused(f"csv:{tmp_path}/{place}")


@pytest.mark.parametrize("other", ["a ", " a", "a\u3000", "a\n", "\ta\xa0"])
def test_white_space_around_a_class_counts_in_no_source(tmp_path, other):
    """It is one class, in folders and tables alike, and that is said."""
    names = ("a/1.png", f"{other}/2.png", "b/3.png")
    root = fill(tmp_path / "x", *names)
    table = root / "t.csv"
    files.write_csv(
        table,
        ("path", "label"),
        [(root / name, name[:-6]) for name in names],
    )
    for name in (f"folder:{root}", f"csv:{table}"):
        said: list[str] = []
        watched = progresses.Progress(quiet=True)
        watched.say = said.append
        source = sources.open(name, progress=watched)
        assert source.labels == ("a", "b")
        assert [each.label for each in source.examples].count("a") == 2
        told = [line for line in said if "which count as one" in line]
        # Of a table, white space after a comma is taken for the table's.
        assert len(told) == 1 or other == " a" and name[:3] == "csv"
        assert all("\n" not in line for line in told)
    sources.check_classes(source)
    fill(root, " /4.png")
    assert "white space alone" in refused(f"folder:{root}")


class TestClasses:
    def source(self, *labels: str) -> sources.Source:
        examples = tuple(sources.Example("x", label) for label in labels)
        return sources.Source("folder:/x", labels, examples, lambda index: b"")

    def test_two_or_more(self):
        sources.check_classes(self.source("a", "b"))
        sources.check_classes(self.source("grün", "Пёс", "犬", "a b"))
        for labels in ((), ("a",)):
            with pytest.raises(errors.UserError, match="at least 2 classes"):
                sources.check_classes(self.source(*labels))

    @pytest.mark.parametrize("label", ["a\nb", "a\r", "\udcff", "a\u2028b"])
    def test_names_that_files_of_lines_cannot_hold(self, label):
        with pytest.raises(errors.UserError) as caught:
            sources.check_classes(self.source("a", label))
        assert len(str(caught.value).splitlines()) == 1
        str(caught.value).encode()


class TestDigits:
    def test_all(self):
        source = opened("builtin:digits")
        assert source.labels == tuple("0123456789")
        assert len(source.examples) == 1797
        assert len({each.path for each in source.examples}) == 1797

    def test_pixels(self):
        import sklearn.datasets
        import tensorflow as tf

        digits = sklearn.datasets.load_digits()
        source = opened("builtin:digits[7,5]")
        assert source.labels == ("5", "7")
        for number in (0, 1, 100):
            index = int(source.examples[number].path.rpartition("/")[2])
            assert source.examples[number].label == str(digits.target[index])
            pixels = tf.io.decode_png(source.read(number)).numpy()[..., 0]
            expected = digits.images[index] * 255 / 16
            assert np.abs(pixels - expected).max() <= 0.5

    @QUICK
    @hypothesis.given(
        strategies.lists(
            strategies.tuples(
                strategies.integers(0, 9), strategies.integers(0, 9)
            ),
            min_size=1,
            max_size=5,
        )
    )
    def test_classes(self, ranges):
        text = ",".join(
            str(low) if low == high else f"{low}-{high}" for low, high in ranges
        )
        place = f"digits[{text}]"
        if all(low <= high for low, high in ranges):
            expected = set()
            for low, high in ranges:
                expected |= set(range(low, high + 1))
            assert builtin._digit_classes(place) == expected
        else:
            assert f"Received: builtin:{place}." in refused(f"builtin:{place}")

    @QUICK
    @hypothesis.given(strategies.text("0123456789-,[] xd", max_size=8))
    def test_any_text(self, text):
        place = f"digits{text}"
        try:
            classes = builtin._digit_classes(place)
        except errors.UserError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert classes
            assert set(re.findall("[0-9]", place)) <= set(map(str, classes))

    @pytest.mark.parametrize(
        "place",
        [
            "mnist",
            "Digits",
            "digits[]",
            "digits[10]",
            "digits[5-3]",
            "digits[0,]",
            "digits[0-]",
            "digits[0, 1]",
            "digits[\u0663]",
        ],
    )
    def test_refused(self, place):
        line = refused(f"builtin:{place}")
        assert "builtin:digits[0-4]" in line
        assert f"Received: builtin:{place}." in line


class TestTfds:
    def test_splits_labels_and_bytes_are_kept(self, prepared):
        source = opened("tfds:tiny_shapes", data_dir=prepared.directory)
        assert source.name == "tfds:tiny_shapes"
        assert source.labels == ("square", "circle")
        made = {
            (split, label, encoded)
            for split, rows in prepared.rows.items()
            for encoded, label in rows
            if split != "extra" and label != -1
        }
        assert len(made) == len(source.examples)
        assert made == {
            (
                each.split,
                ("square", "circle").index(each.label),
                source.read(index),
            )
            for index, each in enumerate(source.examples)
        }
        assert {each.split for each in source.examples} == {"train", "test"}
        assert len({each.path for each in source.examples}) == len(made)

    def test_order_is_fixed(self, prepared):
        first, second = (
            opened("tfds:tiny_shapes", data_dir=prepared.directory)
            for _ in range(2)
        )
        assert first.examples == second.examples
        assert first.read(3) == second.read(3)

    def test_config(self, prepared):
        source = opened("tfds:tiny_shapes/grey", data_dir=prepared.directory)
        assert source.name == "tfds:tiny_shapes/grey"
        # This one has only a split for training, so all are free.
        assert {each.split for each in source.examples} == {""}
        assert len(source.examples) == 6

    def test_without_its_code(self, prepared, monkeypatch):
        """A prepared data set opens where its builder is unknown."""
        from tensorflow_datasets.core import registered

        with_code = opened("tfds:tiny_shapes", data_dir=prepared.directory)
        monkeypatch.delitem(registered._DATASET_REGISTRY, "tiny_shapes")
        source = opened("tfds:tiny_shapes", data_dir=prepared.directory)
        assert source.examples == with_code.examples
        assert source.read(0) == with_code.read(0)

    def test_reading_in_any_order_and_threads(self, prepared):
        source = opened("tfds:tiny_shapes", data_dir=prepared.directory)
        order = list(range(len(source.examples))) * 20
        one_by_one = {index: source.read(index) for index in set(order)}
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            together = list(pool.map(source.read, order))
        assert together == [one_by_one[index] for index in order]

    def test_unknown_name(self, tmp_path, no_network):
        began = time.perf_counter()
        line = refused("tfds:tf_flower", data_dir=str(tmp_path))
        assert time.perf_counter() - began < 20
        assert "Did you mean tf_flowers?" in line
        assert str(tmp_path) in line

    def test_unknown_name_near_a_prepared_one(self, tmp_path, no_network):
        (tmp_path / "my_own_beetles").mkdir()
        line = refused("tfds:my_own_beetle", data_dir=str(tmp_path))
        assert "Did you mean my_own_beetles?" in line

    @pytest.mark.parametrize(
        ("place", "words"),
        [
            ("tf_flowers/large", "BuilderConfig large not found"),
            ("tf_flowers:9.9.9", "cannot be loaded at version 9.9.9"),
            ("cifar10/version=x", "Invalid version"),
            ("a b c", "a b c"),
            ("imdb_reviews", "features text, label"),
        ],
    )
    def test_what_cannot_be_opened(self, tmp_path, no_network, place, words):
        line = refused(f"tfds:{place}", data_dir=str(tmp_path))
        assert words in line
        assert "builder_kwargs" not in line

    def test_known_name_without_network(self, tmp_path, no_network):
        began = time.perf_counter()
        line = refused("tfds:tf_flowers", data_dir=str(tmp_path))
        assert time.perf_counter() - began < 20
        assert "no way to download.tensorflow.org" in line
        assert "--data_dir" in line

    def test_a_damaged_one(self, prepared, tmp_path):
        copy = tmp_path / "copy"
        shutil.copytree(prepared.directory, copy)
        for file in copy.rglob("*train.tfrecord*"):
            file.write_bytes(file.read_bytes()[:-20])
        line = refused("tfds:tiny_shapes", data_dir=str(copy))
        assert "cannot be read" in line

    def test_a_full_disk(self, prepared, monkeypatch):
        if not os.path.exists("/dev/full"):
            pytest.skip("there is no /dev/full")
        full = os.open("/dev/full", os.O_RDWR)
        monkeypatch.setattr(
            tempfile, "TemporaryFile", lambda: os.fdopen(full, "r+b", 1 << 20)
        )
        line = refused("tfds:tiny_shapes", data_dir=prepared.directory)
        assert "No space left on device" in line
        assert "TMPDIR" in line


@pytest.fixture
def no_network(monkeypatch):
    """Lets no name be resolved, and no proxy be asked."""

    def fail(host, *args, **options):
        raise socket.gaierror(-2, "Name or service not known")

    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(socket, "getaddrinfo", fail)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Prepares a tiny data set as TFDS does, and says what is in it."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    random = np.random.default_rng(0)

    def image(kind: str, channels: int) -> bytes:
        pixels = random.integers(0, 256, (5, 7, channels), np.uint8)
        encode = {"png": tf.io.encode_png, "jpeg": tf.io.encode_jpeg}[kind]
        return encode(pixels).numpy()

    made = {
        "train": [(image("jpeg", 3), number % 2) for number in range(9)],
        "test": [
            *((image("jpeg", 3), number % 2) for number in range(5)),
            # The label is secret.
            (image("jpeg", 3), -1),
        ],
        "extra": [(image("jpeg", 3), 0)],
    }
    grey = {"train": [(image("png", 1), number % 2) for number in range(6)]}

    class TinyShapes(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [
            tfds.core.BuilderConfig(name="colour"),
            tfds.core.BuilderConfig(name="grey"),
        ]

        @property
        def _rows(self):
            return grey if self.builder_config.name == "grey" else made

        def _info(self):
            grey_one = self.builder_config.name == "grey"
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "picture": tfds.features.Image(
                            shape=(None, None, 1 if grey_one else 3),
                            encoding_format="png" if grey_one else "jpeg",
                        ),
                        "kind": tfds.features.ClassLabel(
                            names=["square", "circle", "never"]
                        ),
                        "weight": np.float32,
                    }
                ),
            )

        def _split_generators(self, dl_manager):
            return {
                split: self._generate_examples(split) for split in self._rows
            }

        def _generate_examples(self, split):
            for number, (encoded, label) in enumerate(self._rows[split]):
                yield (
                    number,
                    {
                        "picture": io.BytesIO(encoded),
                        "kind": label,
                        "weight": 1.0,
                    },
                )

    directory = tmp_path_factory.mktemp("tfds")
    for config in ("colour", "grey"):
        builder = TinyShapes(config=config, data_dir=directory)
        builder.download_and_prepare()

    return types.SimpleNamespace(directory=str(directory), rows=made)


def test_tables_that_we_wrote_are_read_back(tmp_path):
    """Names that a spreadsheet would compute, as `check --fix` writes them."""
    rows = [("=a.png", "-b"), ("@c.png", "=1+1"), ("'=d.png", "-1")]
    for path, _ in rows:
        (tmp_path / path).write_bytes(b"")
    files.write_csv(tmp_path / "a.csv", ("path", "label"), rows)
    source = sources.open(f"csv:{tmp_path}/a.csv", progress=QUIET)
    found = [(example.path, example.label) for example in source.examples]
    assert found == [(str(tmp_path / path), label) for path, label in rows]
