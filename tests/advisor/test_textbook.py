import pytest

from tlkeras.advisor import textbook
from tlkeras.settings import strategies


@pytest.mark.parametrize(
    ("images", "distance", "number", "strategy"),
    [
        (2, 0.0, 1, "feature_extraction"),
        (800, 0.3, 1, "feature_extraction"),
        (801, 0.3, 2, "fine_tuning"),
        (1_000_000, 0.0, 2, "fine_tuning"),
        (800, 0.301, 3, "feature_extraction"),
        (2, 9.0, 3, "feature_extraction"),
        (801, 0.301, 4, "pretrained_init"),
        (1_000_000, 9.0, 4, "pretrained_init"),
    ],
)
def test_size_and_distance_name_the_scenario(
    images, distance, number, strategy
):
    found = textbook.scenario(images, distance)
    assert (found.number, found.strategy) == (number, strategy)
    assert found.small == (number in (1, 3))
    assert found.similar == (number in (1, 2))


def test_every_scenario_is_a_strategy_of_ours():
    assert [each.number for each in textbook.SCENARIOS] == [1, 2, 3, 4]
    assert {each.strategy for each in textbook.SCENARIOS} <= set(
        strategies.NAMES
    )


def test_the_lines_are_told_with_their_source():
    text = textbook.explain()
    for words in (str(textbook.SMALL), str(textbook.SIMILAR), "our choice"):
        assert words in text
