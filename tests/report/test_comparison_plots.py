"""The pictures of a comparison can be read, whatever it took."""

import itertools
import re

import pytest

from tlkeras.report import comparison_plots


def row(strategy: str, seconds: float) -> dict:
    return {
        "strategy": strategy,
        "seconds": seconds,
        "accuracy": {"value": 0.8, "low": 0.7, "high": 0.9},
        "runs": [],
        "dropped": False,
    }


@pytest.mark.parametrize(
    "fast, slow",
    itertools.pairwise((0.15, 0.5, 1.7, 2.8, 8.7, 30, 100, 290, 1100, 4000)),
)
def test_a_scale_of_times_has_two_at_least(fast, slow):
    rows = [row("one", slow), row("other", fast)]
    svg = comparison_plots._costs(rows).svg
    times = re.findall(
        r"[\d.]+ (?:s|min|h)\b",
        re.sub(r"<style.*?</style>", "", svg, flags=re.S),
    )
    assert len(set(times)) >= 2
