"""The table of situations is what benchmarks/recipes.csv holds."""

import collections
import csv
import pathlib
import statistics

import pytest

from tlkeras.advisor import situations

ROOT = pathlib.Path(__file__).parents[2]
PHOTOGRAPHS = set(
    "flowers hymenoptera instruments monkeys scenes weather".split()
)
# Made of others.
CHANGED = {"flowers-small", "instruments-grey", "mnist3", "weather-noise"}
# In the order of what they cost.
RECIPES = {
    "stage-1e-3": "last_stage_high",
    "frozen-1e-3": "fine_tuning_high",
    "zero-norm-1e-3": "pretrained_init",
}


@pytest.fixture(scope="module")
def measured():
    """Returns gains over the head and seconds, by situation and strategy."""
    cells = collections.defaultdict(dict)
    path = ROOT / "benchmarks" / "recipes.csv"
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["data"] not in CHANGED:
                key = row["data"], int(row["size"]), row["base"], row["seed"]
                cells[key][row["recipe"]] = row
    gains = collections.defaultdict(lambda: collections.defaultdict(list))
    seconds = collections.defaultdict(list)
    for (data, size, *_), cell in cells.items():
        for recipe, strategy in RECIPES.items():
            if recipe in cell and "head" in cell:
                key = size, data in PHOTOGRAPHS, strategy
                won = float(cell[recipe]["test_accuracy"])
                won -= float(cell["head"]["test_accuracy"])
                gains[key][data].append(100 * won)
                seconds[key].append(float(cell[recipe]["cpu_seconds"]))
    return gains, seconds


@pytest.mark.parametrize("row", situations.SITUATIONS, ids=lambda row: row.text)
def test_a_row_is_what_was_measured(row, measured):
    gains, seconds = measured
    means = {}
    for strategy in RECIPES.values():
        by_set = gains[row.images, row.photographs, strategy].values()
        means[strategy] = [statistics.mean(values) for values in by_set]
    best = max(statistics.mean(values) for values in means.values())
    near = [
        strategy
        for strategy, values in means.items()
        if statistics.mean(values) >= best - 0.5
    ]
    assert row.strategy == near[0]
    own = means[row.strategy]
    assert row.sets == len(own)
    assert f"{statistics.mean(own):+.1f}" == f"{row.gain:+.1f}"
    if row.error is None:
        assert len(own) == 1
    else:
        error = statistics.stdev(own) / len(own) ** 0.5
        assert f"{error:.1f}" == f"{row.error:.1f}"
    spent = seconds[row.images, row.photographs, row.strategy]
    assert row.seconds == round(statistics.median(spent))


@pytest.mark.parametrize("row", situations.SITUATIONS, ids=lambda row: row.text)
def test_the_first_page_of_the_docs_has_it(row):
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert f"| {row.text} | `{row.strategy}` |" in page
    assert f"| {row.gain_text} " in page


def test_the_nearest_situation_is_found():
    assert situations.find(200, 0.2).images in (100, 300)
    assert situations.find(5000, 0.2) == situations.SITUATIONS[2]
    assert situations.find(90, 0.5) == situations.SITUATIONS[3]
    assert situations.find(90, None) is None
