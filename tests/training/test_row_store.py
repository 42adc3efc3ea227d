"""Rows that are kept: whole, found again, never believed when damaged."""

import multiprocessing
import os

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from tlkeras import errors
from tlkeras.data import facts
from tlkeras.training import row_store


def rows_of(numbers, size: int = 5) -> np.ndarray:
    """Returns a row for each number, of it and of what follows."""
    return np.add.outer(np.asarray(numbers, np.float32), np.arange(size))


def keys_of(numbers) -> list[bytes]:
    return [row_store.key("row", str(number)) for number in numbers]


def table(folder, description="a", size=5) -> row_store.Table:
    return row_store.Table(folder, description, size)


def add(folder, numbers, **options) -> None:
    table(folder, **options).add(keys_of(numbers), [rows_of(numbers)])


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(
    strategies.lists(strategies.integers(1, 9), min_size=1, max_size=9),
    strategies.randoms(use_true_random=False),
)
def test_rows_come_back_in_any_order(tmp_path_factory, sizes, random):
    folder = tmp_path_factory.mktemp("cache")
    numbers = list(range(sum(sizes)))
    ends = np.cumsum(sizes)
    blocks = np.split(rows_of(numbers), ends[:-1])
    table(folder).add(keys_of(numbers), iter(blocks))
    other = table(folder)
    wanted = [random.choice(numbers) for _ in range(20)]
    assert other.missing(keys_of([*wanted, 1000])) == keys_of([1000])
    np.testing.assert_array_equal(other.read(keys_of(wanted)), rows_of(wanted))


def test_parts_of_limited_size(tmp_path, monkeypatch):
    monkeypatch.setattr(row_store, "_LARGEST", 4 * 5 * 3)
    add(tmp_path, range(10))
    assert row_store.kept(tmp_path)[0] == 4
    again = table(tmp_path)
    assert again.missing(keys_of(range(10))) == []
    np.testing.assert_array_equal(
        again.read(keys_of(range(10))), rows_of(range(10))
    )


def test_what_is_missing_is_named_once_in_order(tmp_path):
    add(tmp_path, [2, 4])
    wanted = keys_of([5, 2, 1, 5, 4, 1])
    assert table(tmp_path).missing(wanted) == keys_of([5, 1])


@pytest.mark.parametrize("change", [{"description": "b"}, {"size": 4}])
def test_another_table_has_none_of_them(tmp_path, change):
    add(tmp_path, [1])
    assert table(tmp_path, **change).missing(keys_of([1])) == keys_of([1])


@pytest.mark.parametrize("place", [0, 7, 8, 30, -1])
def test_a_damaged_file_is_removed_and_made_anew(tmp_path, place):
    add(tmp_path, [1, 2])
    add(tmp_path, [3])
    whole = row_store.kept(tmp_path)
    (path,) = [
        path for path in tmp_path.rglob("*.rows") if path.stat().st_size > 60
    ]
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    row_store._sound.clear()
    found = table(tmp_path)
    assert found.missing(keys_of([1, 2, 3])) == keys_of([1, 2])
    assert not path.exists()
    found.add(keys_of([1, 2]), [rows_of([1, 2])])
    np.testing.assert_array_equal(found.read(keys_of([3, 2])), rows_of([3, 2]))
    assert row_store.kept(tmp_path) == whole


def test_a_cut_off_file_is_removed(tmp_path):
    add(tmp_path, [1, 2])
    (path,) = tmp_path.rglob("*.rows")
    os.truncate(path, path.stat().st_size - 1)
    assert table(tmp_path).missing(keys_of([1])) == keys_of([1])
    assert row_store.kept(tmp_path) == (0, 0)


def test_nothing_is_left_of_rows_that_never_came(tmp_path):
    def broken():
        yield rows_of([1])
        raise errors.UserError("no more")

    with pytest.raises(errors.UserError, match="no more"):
        table(tmp_path).add(keys_of([1, 2]), broken())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    for number in (1, 2, 3):
        add(tmp_path, [number])
    paths = sorted(tmp_path.rglob("*.rows"))
    for path, age in zip(paths, (300, 200, 100), strict=True):
        os.utime(path, (1e9 - age, 1e9 - age))
    # The oldest is used again.
    (key,) = [
        each for each in keys_of([1, 2, 3]) if each in paths[0].read_bytes()
    ]
    table(tmp_path).missing([key])
    one = paths[0].stat().st_size
    assert row_store.trim(tmp_path, 2 * one) == one
    assert [path.exists() for path in paths] == [True, False, True]
    assert row_store.trim(tmp_path, 2 * one) == 0
    assert row_store.trim(tmp_path, 0) == 2 * one
    assert list(tmp_path.iterdir()) == []


def test_open_rows_can_be_read_after_they_were_removed(tmp_path):
    add(tmp_path, [1, 2])
    found = table(tmp_path)
    assert found.missing(keys_of([1, 2])) == []
    row_store.trim(tmp_path, 0)
    np.testing.assert_array_equal(found.read(keys_of([2])), rows_of([2]))


def _many(folder, first: int) -> None:
    for number in range(first, first + 40, 4):
        add(folder, range(number, number + 4))


def test_two_processes_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_many, args=(tmp_path, first))
        for first in (0, 20)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    found = table(tmp_path)
    assert found.missing(keys_of(range(60))) == []
    np.testing.assert_array_equal(
        found.read(keys_of(range(60))), rows_of(range(60))
    )


def test_no_place_to_write_to_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(errors.UserError, match="cannot be written"):
        add(tmp_path / "file", [1])


def test_the_command_lists_and_clears(tmp_path, tlkeras_process):
    add(tmp_path / row_store.FOLDER, [1, 2])
    facts.save(tmp_path, [("a.jpg", "stamp", facts.Facts("JPEG", 3, 4))])
    place = f"--cache_dir={tmp_path}"
    listed = tlkeras_process("cache", place, cwd=tmp_path)
    assert listed.returncode == 0
    lines = listed.stdout.splitlines()
    assert lines[0] == str(tmp_path)
    assert lines[2].split()[:3] == ["scanned", "images", "1"]
    assert lines[3].split()[:4] == ["files", "of", "activations", "1"]
    cleared = tlkeras_process("cache", "--clear", place, cwd=tmp_path)
    assert cleared.stdout.count(" 0 ") == 3
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
