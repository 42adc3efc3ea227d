"""The first screen of a report: three sentences that follow the measures."""

import copy

import pytest
from test_page import report

from tlkeras.report import answer


def changed(**changes):
    found = copy.deepcopy(report())
    found["test"]["accuracy"] |= changes
    return found


def test_how_good_against_always_the_commonest():
    found = report()
    accuracy = found["test"]["accuracy"]
    said, _, _ = answer.sentences(found)
    assert f"about {100 * accuracy['value']:.0f} rightly" in said
    assert "not clearly better" not in said
    said, trust, _ = answer.sentences(
        changed(value=0.3, low=found["test"]["majority"] - 0.1, high=0.4)
    )
    assert "not clearly better than always" in said
    assert "Do not use it yet" in trust


def test_trust_falls_with_what_spoils_it():
    assert "can be trusted" in answer.sentences(report())[1]
    assert "roughly" in answer.sentences(changed(groups=60))[1]
    found = report()
    found["data"]["duplicates"]["alike_across_splits"] = 100
    assert "Do not trust it yet" in answer.sentences(found)[1]


@pytest.mark.parametrize(
    ("low", "words"), [(0.01, "mean what they say"), (0.2, "points off")]
)
def test_scores_that_are_not_true_are_told(low, words):
    found = report()
    after = {**found["calibration"]["after"], "low": low, "chance": 0.05}
    found["calibration"]["after"] = after
    assert words in answer.sentences(found)[1]


def test_what_next_is_the_first_step_and_the_weakest_class():
    found = report()
    for row in found["test"]["per_class"]:
        row["recall"] = found["test"]["balanced_accuracy"]
    nothing = "Nothing that was measured asks for a change."
    assert answer.sentences(found)[2] == nothing
    found["next_steps"] = [
        {"reason": "Overfitting: a lot", "command": "x"},
        {"reason": "Second", "command": "y"},
    ]
    assert answer.sentences(found)[2] == "Overfitting: a lot."
    weak = found["test"]["per_class"][1]
    weak["recall"] = 0.4
    said = answer.sentences(found)[2]
    assert said.startswith("Overfitting: a lot; of ")
    assert f"of {weak['label']} only 40 % are found" in said
    # Of three images nothing is known.
    weak["n"] = 3
    assert answer.sentences(found)[2] == "Overfitting: a lot."


def test_without_a_test_nothing_is_claimed():
    said = answer.sentences(report(test=None))
    assert "not known" in said[0]
    assert len(said) == 3
