"""Tables are no wider than the terminal, and lose nothing but by order."""

import pytest

from tlkeras.report import tables

HEADER = ("name", "points", "seconds", "verdict", "source")
ROWS = [
    ("first", "87.5", "1,200", "the best of all of them", "somewhere"),
    ("the_second", "9.0", "3", "", "二 elsewhere"),
]
RIGHT = ("points", "seconds")


def test_all_in_a_row_where_nothing_is_known_of_the_width():
    found = tables.lines(HEADER, ROWS, right=RIGHT)
    assert found[0] == (
        "name        points  seconds  verdict                  source"
    )
    assert found[1] == (
        "first         87.5    1,200  the best of all of them  somewhere"
    )
    assert len(found) == 3


@pytest.mark.parametrize("columns", [79, 50, 40, 28, 20])
def test_never_wider_and_nothing_is_lost(columns):
    found = tables.lines(HEADER, ROWS, right=RIGHT, columns=columns)
    assert max(map(len, found)) <= columns
    words = " ".join(found).replace(",", "").replace(";", "").split()
    for row in ROWS:
        for cell in row:
            assert set(cell.replace(",", "").split()) <= set(words)


def test_numbers_stay_in_the_row_longest():
    found = tables.lines(HEADER, ROWS, right=RIGHT, columns=30)
    assert found[0].split() == ["name", "points", "seconds"]
    assert found[1].split() == ["first", "87.5", "1,200"]
    assert found[-1] == "    source: 二 elsewhere"


def test_what_may_go_goes_before_anything_moves():
    found = tables.lines(
        HEADER, ROWS, right=RIGHT, drop=("verdict", "name"), columns=42
    )
    assert found[0].split() == ["name", "points", "seconds", "source"]
    assert len(found) == 3
