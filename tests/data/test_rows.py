"""An array in a file: what was written is read, and nothing else remains."""

import concurrent.futures
import errno
import gc
import os
import pathlib
import types
import warnings

import numpy as np
import pytest

from tlkeras import errors
from tlkeras.data import rows as row_files


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64, np.float16])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5, 2)])
def test_what_was_written_is_read_in_any_order(tmp_path, dtype, shape):
    random = np.random.default_rng(0)
    expected = random.integers(0, 250, [40, *shape]).astype(dtype)
    rows = row_files.Rows(40, shape, dtype, directory=tmp_path)
    for index in random.permutation(40).tolist():
        rows.write(index, expected[index])
    for order in (
        random.permutation(40),
        np.array([7, 7, 0, 39, 7]),
        np.zeros(0, np.int64),
    ):
        found = rows.read(order)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected[order])


def test_a_row_may_be_written_again_and_be_a_view(tmp_path):
    rows = row_files.Rows(2, (2, 3), np.float32, directory=tmp_path)
    rows.write(1, np.ones([2, 3], np.float32))
    turned = np.arange(6.0).reshape(3, 2).T
    rows.write(1, turned)
    np.testing.assert_array_equal(rows.read(np.array([1]))[0], turned)
    # Nobody who reads can change what is stored.
    rows.read(np.array([1]))[:] = 9
    np.testing.assert_array_equal(rows.read(np.array([1]))[0], turned)


def test_no_row_at_all(tmp_path):
    rows = row_files.Rows(0, (4, 4, 3), np.uint8, directory=tmp_path)
    assert rows.read(np.zeros(0, np.int64)).shape == (0, 4, 4, 3)


def test_many_threads_write_and_read(tmp_path):
    rows = row_files.Rows(200, (30, 30), np.int32, directory=tmp_path)

    def work(index: int) -> bool:
        rows.write(index, np.full([30, 30], index))
        return bool((rows.read(np.array([index])) == index).all())

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(200)))
    found = rows.read(np.arange(200)[::-1])
    assert found[:, 0, 0].tolist() == list(range(200))[::-1]
    assert (found == found[:, :1, :1]).all()


def test_the_file_has_no_name_and_outlives_its_directory(tmp_path):
    directory = tmp_path / "new" / "place"
    rows = row_files.Rows(3, (5,), np.uint8, directory=directory)
    assert not list(directory.iterdir())
    directory.rmdir()
    rows.write(2, np.arange(5))
    assert rows.read(np.array([2])).tolist() == [[0, 1, 2, 3, 4]]


def full(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fallocate", [True, False])
def test_a_full_disk_is_told_in_one_line(tmp_path, monkeypatch, fallocate):
    if fallocate:
        monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    else:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
        monkeypatch.setattr(
            row_files.shutil,
            "disk_usage",
            lambda path: types.SimpleNamespace(free=10),
        )
    with pytest.raises(errors.UserError) as caught:
        row_files.Rows(10**6, (50, 50), np.uint8, directory=tmp_path)
    line = str(caught.value)
    assert f"{tmp_path} has no room for 2.50 GB" in line
    assert "No space left on device" in line
    assert "--image_store_gb=0" in line
    assert "\n" not in line
    assert not list(tmp_path.iterdir())


def test_where_room_cannot_be_taken_at_once(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    rows = row_files.Rows(9, (4,), np.uint8, directory=tmp_path)
    rows.write(8, np.arange(4))
    assert rows.read(np.array([8])).tolist() == [[0, 1, 2, 3]]


def test_a_directory_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(errors.UserError, match="file has no room .*exists"):
        row_files.Rows(1, (1,), np.uint8, directory=tmp_path / "file")


def test_forgotten_in_a_circle_the_file_is_closed_without_a_warning(tmp_path):
    rows = row_files.Rows(2, (4,), np.uint8, directory=tmp_path)
    file = rows.file
    rows.itself = rows
    del rows
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
    assert file.closed


def resident() -> int:
    """Returns the memory of this process that is no swap [bytes]."""
    pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(
    not pathlib.Path("/proc/self/statm").exists(), reason="needs /proc"
)
def test_what_is_read_is_not_kept_in_memory(tmp_path):
    rows = row_files.Rows(300, (1000, 1000), np.uint8, directory=tmp_path)
    for index in range(300):
        rows.write(index, np.full([1000, 1000], index % 251))
    before = resident()
    for start in range(0, 300, 10):
        found = rows.read(np.arange(start, start + 10))
        assert found[3, -1, -1] == (start + 3) % 251
    assert resident() - before < 60e6
