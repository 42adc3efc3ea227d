import pytest

from tlkeras.advisor import costs
from tlkeras.backbones import catalog


@pytest.mark.parametrize("family", costs._MEASURED)
def test_every_measured_family_is_in_the_catalogue(family):
    name = next(row.name for row in catalog.BACKBONES if row.family == family)
    found = costs.ratio(name)
    assert found.measured
    # A backward pass costs about two forward ones.
    assert 2 < found.training < 5
    assert found.last_stage < found.training


def test_any_other_network_gets_the_middle_one():
    found = costs.ratio("of my own")
    assert not found.measured
    values = [training for training, _ in costs._MEASURED.values()]
    assert min(values) <= found.training <= max(values)
