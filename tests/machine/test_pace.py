"""What is left is told right once it can be known."""

import dataclasses

import pytest

from tlkeras import records
from tlkeras.machine import pace

HEAD = records.Phase("head", "none", 50, 1e-3, solver="auto")
TUNE = records.Phase("tune", "all", 8, 1e-4, schedule="cosine")
STEPS, STEP, VALIDATION, GRAPH = 9, 1.0, 2.0, 40.0


def take(made: pace.Pace, epochs: int) -> list[float]:
    """Takes epochs whose first builds a graph; returns what was left."""
    told = []
    for number in range(epochs):
        if not number:
            made.first_step = GRAPH + STEP
        building = 0.0 if number else GRAPH
        made.ends_epoch(building + STEPS * STEP + VALIDATION)
        told.append(made.left(0, STEPS, 0.0))
    return told


def test_right_from_the_second_epoch_on():
    made = pace.Pace([HEAD, TUNE])
    made.built(1.0)
    made.scored = 0.4
    made.forget(HEAD)
    made.begin(TUNE, done=0, share=1.0, live_seconds=0.0)
    epoch = STEPS * STEP + VALIDATION
    # A forward pass over what is scored, then the end of the run.
    rest = epoch * 0.4 / 3 + GRAPH * pace.FINISHING
    for number, told in enumerate(take(made, 8), 1):
        truth = (8 - number) * epoch + rest
        assert told == pytest.approx(truth, rel=0.33 if number == 1 else 0.01)


@pytest.mark.parametrize(
    "best, off", [(1, 0.5), (12, 0.34), (30, 0.34), (60, 0.5)]
)
def test_a_final_fit_takes_as_long_as_the_phase_to_its_best_epoch(best, off):
    """Whatever of the network learns: the epochs of the phase are known."""
    long = dataclasses.replace(TUNE, unfreeze="stages:1", epochs=60)
    made = pace.Pace([long])
    made.again = [HEAD, long]
    made.begin(long, done=0, share=0.2, live_seconds=50.0)
    made.first_step = STEP
    told = []
    for number in range(1, 61):
        made.ends_epoch(STEP * STEPS, (0.9 if number == best else 0.5, -1.0))
        told.append(made.left(0, STEPS, 0.0))
    # The graph of a step is built once more, and at the end.
    end = made.graph * (0.2 + pace.FINISHING)
    assert told[-1] == pytest.approx(best * STEPS + end)
    truth = (58 + best) * STEPS + end
    assert told[1] == pytest.approx(truth, rel=off)


def test_a_small_part_of_a_network_says_nothing_of_its_graph():
    made = pace.Pace()
    made.built(3.0)
    guess = made.graph
    made.begin(TUNE, done=0, share=0.01, live_seconds=9.0)
    take(made, 3)
    assert made.graph == guess > 0
    made.begin(TUNE, done=0, share=0.5, live_seconds=9.0)
    take(made, 3)
    assert made.graph == pytest.approx(2 * GRAPH)


def test_what_may_end_sooner_is_at_most():
    made = pace.Pace([TUNE])
    made.begin(TUNE, done=0, share=1.0, live_seconds=0.0)
    assert not made.at_most()
    patient = records.Phase("head", "none", 50, 1e-3)
    made.begin(patient, done=0, share=1.0, live_seconds=0.0)
    assert made.at_most()


def test_a_member_of_many_is_not_exported():
    one, many = pace.Pace(), pace.Pace()
    many.exports = False
    for made in (one, many):
        made.begin(TUNE, done=0, share=1.0, live_seconds=0.0)
        take(made, 2)
    assert many.left(0, STEPS, 0.0) < one.left(0, STEPS, 0.0)
