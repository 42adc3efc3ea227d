import csv
import errno
import os
import pathlib

import pytest
from conftest import tree

from tlkeras import errors
from tlkeras import files


class Stop(Exception):
    pass


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "new" / "deep" / "a.txt"
    files.write_text(path, "first")
    with pytest.raises(Stop):
        with files.replacing(path) as temporary:
            temporary.write_text("second, half")
            assert temporary.suffix == ".txt"
            raise Stop
    assert path.read_text() == "first"
    files.write_text(path, "second")
    assert path.read_text() == "second"
    assert os.listdir(path.parent) == ["a.txt"]


def test_directories_made_for_a_file_that_failed_are_gone(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(Stop):
        with files.replacing(tmp_path / "there" / "new" / "deep" / "a.txt"):
            raise Stop
    assert list(tree(tmp_path)) == [str(tmp_path / "there")]


def test_a_directory_replaces_a_directory(tmp_path):
    for content in ("first", "second"):
        with files.replacing(tmp_path / "out") as temporary:
            temporary.mkdir()
            (temporary / "a.txt").write_text(content)
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["a.txt"]
    assert (tmp_path / "out" / "a.txt").read_text() == "second"


def test_a_directory_that_somebody_wrote_to_meanwhile_stays(tmp_path):
    with pytest.raises(errors.UserError, match="out holds theirs.txt"):
        with files.replacing(tmp_path / "out") as temporary:
            temporary.mkdir()
            (temporary / "a.txt").touch()
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs.txt").touch()
    assert list(tree(tmp_path)) == [
        str(tmp_path / "out"),
        str(tmp_path / "out" / "theirs.txt"),
    ]


def test_a_file_never_replaces_a_directory(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "precious").touch()
    with pytest.raises(errors.UserError, match="cannot be written"):
        files.write_text(tmp_path / "results", "")
    assert os.listdir(tmp_path) == ["results"]
    assert os.listdir(tmp_path / "results") == ["precious"]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "a.txt")
    files.write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "a.txt").read_text() == "text"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError("HDF5 (errno = 28, message = 'No space left on device')"),
        # What TensorFlow raises is of a class of its own.
        RuntimeError("/x/.1-1/variables; No space left on device [Op:SaveV2]"),
    ],
)
def test_a_full_disk_is_told_in_one_line(tmp_path, error):
    with pytest.raises(errors.UserError) as caught:
        with files.replacing(tmp_path / "new" / "a.txt") as temporary:
            temporary.write_text("half")
            raise error
    assert str(caught.value) == (
        f"{tmp_path}/new/a.txt cannot be written: No space left on device."
    )
    assert not tree(tmp_path)


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(tmp_path / "a.json", {"value": float("nan")})
    assert not tree(tmp_path)


def test_names_that_are_not_utf8_are_written_as_they_are(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    files.write_csv(tmp_path / "a.csv", ["path"], [[name], ["a,b\n"]])
    assert (tmp_path / "a.csv").read_bytes() == (
        b'path\ncaf\xe9.png\n"a,b\n"\n'
    )
    with open(
        tmp_path / "a.csv", errors="surrogateescape", newline=""
    ) as stream:
        assert list(csv.reader(stream)) == [["path"], [name], ["a,b\n"]]


def test_what_a_killed_run_left_unfinished_is_not_counted_and_removed(
    tmp_path,
):
    (tmp_path / ".tlkeras-unfinished-12-checkpoint").mkdir()
    (tmp_path / ".tlkeras-unfinished-12-checkpoint" / "weights").touch()
    (tmp_path / "saved_model" / ".tlkeras-unfinished-34-1").mkdir(parents=True)
    (tmp_path / ".tlkeras-unfinished-56-report.json").touch()
    # Of a user's: hidden files, and a temporary name of another program.
    mine = [".1-notes", ".2024-backup.csv", ".hidden", ".99-x"]
    for name in mine:
        (tmp_path / name).touch()
    kept = sorted(tmp_path / name for name in (*mine, "saved_model"))
    assert files.entries(tmp_path) == kept
    files.remove_unfinished(tmp_path)
    assert sorted(tmp_path.rglob("*")) == kept


def test_check_directory_makes_nothing(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "new" / "deep"
    assert files.check_directory(path, "workdir") == path
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(errors.UserError, match="`workdir`.*/file is no"):
            files.check_directory(bad, "workdir")
    assert os.listdir(tmp_path) == ["file"]


def test_check_file_refuses_what_is_no_file(tmp_path):
    path = tmp_path / "new" / "a.csv"
    assert files.check_file(path, "csv") == path
    for bad in (tmp_path, "/dev/null"):
        with pytest.raises(errors.UserError, match="`csv` must be a file"):
            files.check_file(bad, "csv")
    assert not tree(tmp_path)


def test_a_cache_directory_that_cannot_be_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(errors.UserError, match="`cache_dir` must be a"):
        files.cache_directory(tmp_path / "file")
    assert files.cache_directory(tmp_path / "new") == tmp_path / "new"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "kept"))
    assert files.cache_directory() == tmp_path / "kept" / "tlkeras"
    assert not (tmp_path / "new").exists()


CELLS = (
    "=cmd|' /C calc'!A0",
    "@SUM(A1)",
    "+49 30",
    "-dash.png",
    "\t=1",
    "\r=1",
    "'=1",
    "'" * 2 + "-x",
    "'quoted'",
    "a=b",
    "-1",
    "+1.5e-3",
    "",
    "zwölf",
)


def test_no_cell_is_a_formula_and_all_can_be_read_back(tmp_path):
    files.write_csv(tmp_path / "a.csv", CELLS, [CELLS, [1, -2.5, None]])
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as stream:
        header, row, numbers = csv.reader(stream)
    for cell, text in zip(header, CELLS, strict=True):
        # Numbers compute nothing, and other programs compare them with labels.
        assert text in ("-1", "+1.5e-3") or cell[:1] not in [*"=+-@\t\r"]
        assert files.cell_text(cell) == text
    assert row == header
    assert numbers == ["1", "-2.5", ""]
    assert header[:2] == ["'=cmd|' /C calc'!A0", "'@SUM(A1)"]
    assert header[6:10] == ["''=1", "'" * 3 + "-x", "'quoted'", "a=b"]


@pytest.mark.parametrize("check", [files.check_directory, files.check_file])
def test_a_place_that_takes_nothing_is_refused(check):
    with pytest.raises(errors.UserError, match="`some` cannot be written"):
        check("/proc/new", "some")


def test_a_path_too_long_for_what_is_in_it_is_refused(tmp_path):
    deep = pathlib.Path(*[tmp_path, *["x" * 200] * 20])
    with pytest.raises(errors.UserError, match="`some` must be a path of at"):
        files.check_directory(deep, "some")
    assert not list(tmp_path.iterdir())


def test_a_path_that_is_not_utf8_is_refused_for_a_saved_model(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(errors.UserError, match="`some` must be .* in UTF-8"):
        files.check_utf8(path, "some")
    files.check_utf8(tmp_path / "café", "some")


def test_a_check_leaves_nothing(tmp_path):
    assert files.check_directory(tmp_path, "some") == tmp_path
    assert files.check_directory(tmp_path / "a" / "b", "some")
    assert not list(tmp_path.iterdir())


def test_no_more_is_read_than_is_allowed(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1234")
    assert files.read(path, most=4) == b"1234"
    with pytest.raises(OSError, match="larger than 3 bytes"):
        files.read(path, most=3)
    # A file with holes takes no room on the disk.
    os.truncate(path, files.LARGEST + 1)
    with pytest.raises(OSError, match="larger than 1,073,741,824 bytes"):
        files.read(path)
    with pytest.raises(errors.UserError, match="a is damaged: larger than"):
        files.read_json(path)


def test_nothing_but_another_name_is_proposed(tmp_path):
    (tmp_path / "photos").mkdir()
    assert files.nearest(tmp_path / "photos") == ""
    assert files.nearest(tmp_path / "photo").endswith("photos?")
