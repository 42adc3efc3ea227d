"""A strategy is a choice of weights and a function to the next phase."""

import pytest

from tlkeras import records
from tlkeras import strategies

EVIDENCE = records.Evidence(100, 20, 3)
HEAD = records.Phase("head", "none", 5, 1e-3)
WHOLE = records.Phase("whole", "all", 5, 1e-4)


@pytest.mark.parametrize(
    "strategy, pretrained, phases",
    [
        (strategies.feature_extraction(HEAD), True, (HEAD,)),
        (strategies.fine_tuning(HEAD, WHOLE), True, (HEAD, WHOLE)),
        (strategies.pretrained_init(WHOLE), True, (WHOLE,)),
        (strategies.scratch(WHOLE), False, (WHOLE,)),
        (strategies.walk("own", (WHOLE, HEAD)), True, (WHOLE, HEAD)),
        (strategies.walk("own", ()), True, ()),
    ],
)
def test_walks_through_its_phases(strategy, pretrained, phases):
    assert strategy.pretrained == pretrained
    assert strategy.planned == phases
    found = []
    while phase := strategy.next_phase(EVIDENCE, tuple(found)):
        found.append(phase)
    assert tuple(found) == phases


def test_names_are_those_of_the_functions():
    made = (
        strategies.scratch(WHOLE),
        strategies.feature_extraction(HEAD),
        strategies.fine_tuning(HEAD, WHOLE),
        strategies.pretrained_init(WHOLE),
    )
    assert tuple(each.name for each in made) == strategies.NAMES
