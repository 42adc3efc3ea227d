"""What is known of files between runs, and that it never disturbs."""

import dataclasses
import os
import pathlib
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from tlkeras.data import facts
from tlkeras.data.facts import Facts

GOOD = Facts(
    "PNG",
    400,
    300,
    6,
    "",
    "0123abcd",
    41.625,
    bytes(range(256)),
    0.2,
    0.0625,
)
BAD = Facts("TIFF", reason="TIFF")

# Keeps what it is told in a file, in a process of its own.
SAVE = """
import sys
from tlkeras.data import facts
place, start = sys.argv[1], int(sys.argv[2])
for first in range(start, start + 400, 20):
    facts.save(place, [
        (f"/{number}", "s", facts.Facts("PNG", number))
        for number in range(first, first + 20)
    ])
"""


def test_what_was_kept_is_known(tmp_path):
    latin = os.fsdecode(b"/caf\xe9/\xff.png")
    rows = {"/a.jpg": GOOD, "/zwölf/二 b.tif": BAD, latin: GOOD}
    stamps = {path: f"s{len(path)}" for path in rows}
    facts.save(tmp_path, [(path, stamps[path], rows[path]) for path in rows])
    assert facts.load(tmp_path, stamps) == rows
    assert facts.load(tmp_path, {"/a.jpg": "s6", "/no": "s"}) == {
        "/a.jpg": GOOD
    }


def test_every_fact_is_kept(tmp_path):
    values = vars(GOOD) | {"reason": "said"}
    # A fact at its default would come back even if it were not kept.
    for field in dataclasses.fields(Facts):
        assert values[field.name] != field.default
    facts.save(tmp_path, [("/a", "s", Facts(**values))])
    assert facts.load(tmp_path, {"/a": "s"}) == {"/a": Facts(**values)}


def test_another_stamp_or_another_way_to_find_facts(tmp_path, monkeypatch):
    facts.save(tmp_path, [("/a", "s", GOOD)])
    assert facts.load(tmp_path, {"/a": "t"}) == {}
    assert facts.load(tmp_path, {"/a": "s"}) == {"/a": GOOD}
    facts.save(tmp_path, [("/a", "t", BAD)])
    assert facts.load(tmp_path, {"/a": "s"}) == {}
    assert facts.load(tmp_path, {"/a": "t"}) == {"/a": BAD}
    monkeypatch.setattr(facts, "_VERSION", facts._VERSION + 1)
    assert facts.load(tmp_path, {"/a": "t"}) == {}


def test_many_files_at_once(tmp_path):
    rows = [(f"/{number}", "s", Facts("PNG", number)) for number in range(1777)]
    facts.save(tmp_path, rows)
    found = facts.load(tmp_path, {path: "s" for path, _, _ in rows[::-1]})
    assert found == {path: each for path, _, each in rows}


def test_those_not_used_for_longest_go(tmp_path, monkeypatch):
    now = [1000]
    monkeypatch.setattr(facts.time, "time", lambda: now[0])
    monkeypatch.setattr(facts, "_MOST", 3)
    for path in "abc":
        facts.save(tmp_path, [(path, "s", GOOD)])
        now[0] += 1
    facts.load(tmp_path, {"a": "s"})
    now[0] += 1
    facts.save(tmp_path, [("d", "s", GOOD)])
    assert set(facts.load(tmp_path, dict.fromkeys("abcd", "s"))) == set("acd")


def database(directory: pathlib.Path) -> pathlib.Path:
    (path,) = (path for path in directory.iterdir() if path.is_file())
    return path


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"no database" * 1000,
        lambda content: content[:5000],
        lambda content: content[:100] + b"\xff" * (len(content) - 100),
        lambda content: b"",
    ],
    ids=["text", "cut off", "overwritten", "empty"],
)
def test_a_damaged_file_is_made_anew(tmp_path, damage):
    rows = [(f"/{number}", "s", GOOD) for number in range(300)]
    stamps = {path: "s" for path, _, _ in rows}
    facts.save(tmp_path, rows)
    path = database(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert len(facts.load(tmp_path, stamps)) < 300
    for _ in range(2):
        facts.save(tmp_path, rows)
    assert len(facts.load(tmp_path, stamps)) == 300


def test_a_damaged_byte_anywhere_disturbs_nothing(tmp_path):
    rows = [(f"/{number}", "s", GOOD) for number in range(30)]
    stamps = {path: "s" for path, _, _ in rows}
    facts.save(tmp_path, rows)
    path = database(tmp_path)
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for place in (*range(0, 120, 7), *random.integers(0, len(content), 200)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        facts.kept(tmp_path)
        for found in facts.load(tmp_path, stamps).values():
            assert found == GOOD
        facts.save(tmp_path, rows)


def test_a_file_of_another_version_is_no_obstacle(tmp_path, monkeypatch):
    """A later version with more facts keeps them, beside or instead."""
    facts.save(tmp_path, [("/a", "s", GOOD)])
    path = database(tmp_path)
    monkeypatch.setattr(facts, "_VERSION", facts._VERSION + 1)
    with sqlite3.connect(path) as old:
        old.execute("ALTER TABLE facts DROP COLUMN contrast")
    facts.save(tmp_path, [("/a", "s", BAD)])
    facts.save(tmp_path, [("/a", "s", BAD)])
    assert facts.load(tmp_path, {"/a": "s"}) == {"/a": BAD}


def test_a_place_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "below", "/dev/null"):
        facts.save(place, [("/a", "s", GOOD)])
        assert facts.load(place, {"/a": "s"}) == {}
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_directory_in_the_place_of_the_file(tmp_path):
    facts.save(tmp_path, [("/a", "s", GOOD)])
    path = database(tmp_path)
    path.unlink()
    path.mkdir()
    facts.save(tmp_path, [("/a", "s", GOOD)])
    assert facts.load(tmp_path, {"/a": "s"}) == {}


def test_where_nothing_can_be_written_all_is_known(tmp_path, monkeypatch):
    rows = [(f"/{number}", "s", Facts("PNG", number)) for number in range(1200)]
    facts.save(tmp_path, rows)
    connect = sqlite3.connect

    def read_only(path, **options):
        return connect(f"file:{path}?mode=ro", uri=True, **options)

    monkeypatch.setattr(facts.sqlite3, "connect", read_only)
    found = facts.load(tmp_path, {path: "s" for path, _, _ in rows})
    assert len(found) == 1200
    facts.save(tmp_path, [("/a", "s", GOOD)])
    assert facts.load(tmp_path, {"/a": "s"}) == {}


def test_several_processes_at_once(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SAVE, str(tmp_path), str(start)],
            stderr=subprocess.PIPE,
        )
        for start in (0, 400, 800)
    ]
    for process in processes:
        assert process.communicate(timeout=60)[1] == b""
    stamps = {f"/{number}": "s" for number in range(1200)}
    found = facts.load(tmp_path, stamps)
    assert found == {
        f"/{number}": Facts("PNG", number) for number in range(1200)
    }
