import pathlib

import numpy as np
import pytest

from tlkeras.comparison import ranking
from tlkeras.report import comparison

IMAGES = 200


@pytest.fixture
def member(tmp_path):
    """Returns a function that makes a member which was right on some."""
    (tmp_path / "model.keras").write_bytes(b"1234")

    def make(
        name, seed, accuracy, *, seconds=10.0, stored=0.0, validation=None
    ):
        generator = np.random.default_rng(seed)
        right = {
            split: generator.permutation(IMAGES) < share * IMAGES
            for split, share in (
                ("validation", validation or accuracy),
                ("test", accuracy),
            )
        }
        quality = {
            split: {
                "accuracy": {"value": float(found.mean()), "n": IMAGES},
                "balanced_accuracy": 0.5,
                "macro_f1": 0.5,
                "cross_entropy": 1.0,
                "majority": 0.5,
            }
            for split, found in right.items()
        }
        phase = {
            "seconds": seconds,
            "shared_seconds": stored,
            "views_cached": 2 if name == "head" else 0,
            "cached_at": "end" if name == "head" else "",
            "settings": {"solver": "adam"},
            "trainable_parameters": 1,
            "rolled_back": False,
        }
        report = {
            **quality,
            "phases": [phase],
            "scoring_images_per_second": 1.0,
        }
        return ranking.Member(
            name, seed, pathlib.Path(tmp_path), report, right, ()
        )

    return make


def told(members, names, seeds) -> dict:
    found = ranking.report(
        members, names, seeds=seeds, epochs=dict.fromkeys(names, (1,))
    )
    return {**found, "seeds": seeds}


def test_a_candidate_that_was_dropped_is_neither_best_nor_as_good(member):
    members = [member("whole", seed, 0.8) for seed in range(3)]
    # Its one seed was lucky, and it is the cheaper one.
    members.append(member("head", 0, 0.85, seconds=1.0))
    for names in (("whole", "head"), ("head", "whole")):
        found = told(members, names, 3)
        assert found["leader"] == "whole"
        assert found["cheapest_as_good"] == "whole"
        assert [row["dropped"] for row in found["ways"]] == [False, True]
        assert "dropped, worse on" in comparison.verdict(
            found["ways"][1], ranking.CLAIMED
        )
        said = comparison.conclusion(found)
        assert said.startswith("Take whole")
        assert "head dropped out" in said


def test_candidates_pay_the_same_for_activations_whoever_comes_first(member):
    for first, second in ((5.0, 0.1), (0.1, 5.0)):
        members = [
            member("head", 0, 0.8, seconds=1 + first, stored=first),
            member("head", 1, 0.8, seconds=1 + second, stored=second),
            member("whole", 0, 0.8, seconds=3.0),
            member("whole", 1, 0.8, seconds=3.0),
        ]
        found = told(members, ("head", "whole"), 2)
        seconds = {row["way"]: row["seconds"] for row in found["ways"]}
        assert seconds == {"head": pytest.approx(6.0), "whole": 3.0}


def test_with_one_seed_nothing_is_as_good(member):
    members = [member("whole", 0, 0.9), member("head", 0, 0.9, seconds=1.0)]
    found = told(members, ("whole", "head"), 1)
    assert found["cheapest_as_good"] == found["leader"]
    assert "With one seed no" in comparison.conclusion(found)


def test_a_clear_loser_on_validation_is_found(member):
    members = [
        member("whole", 0, 0.6, validation=0.9),
        member("head", 0, 0.9, validation=0.6),
    ]
    assert ranking.losers(members, ("whole", "head")) == ["head"]
    assert ranking.losers(members[:1] * 2, ("whole",)) == []


def test_the_advice_is_what_to_take(member):
    members = [
        member(name, seed, 0.8, seconds=seconds)
        for seed in range(2)
        for name, seconds in (("whole", 20.0), ("head", 2.0))
    ]
    found = told(members, ("whole", "head"), 2)
    assert (found["leader"], found["cheapest_as_good"]) == ("whole", "head")
    said = comparison.conclusion(found)
    assert said.startswith("Take head: it learns in 2.0 s, whole in 20 s")
    assert "equal on the validation images" in said
    found = told(members, ("head", "whole"), 2)
    assert "and it is the cheapest of these" in comparison.conclusion(found)


def test_who_is_better_on_the_test_images_is_as_good(member):
    members = [
        member(name, seed, accuracy, validation=validation, seconds=seconds)
        for seed in range(2)
        for name, accuracy, validation, seconds in (
            ("whole", 0.6, 0.9, 20.0),
            ("head", 0.9, 0.8, 2.0),
        )
    ]
    found = told(members, ("whole", "head"), 2)
    row = found["ways"][1]
    assert row["against_leader"]["p_images"] < ranking.CLAIMED
    assert row["against_leader"]["behind"] < 0
    assert row["as_good"]
    assert found["cheapest_as_good"] == "head"


def test_why_seeds_are_in_the_way_is_said(member):
    members = [member("whole", seed, 0.9) for seed in range(2)]
    members += [member("head", 0, 0.85), member("head", 1, 0.55)]
    row = told(members, ("whole", "head"), 2)["ways"][1]
    assert row["against_leader"]["p_images"] < 0.05
    assert not row["against_leader"]["distinguishable"]
    assert "which the seeds could have made" in comparison.verdict(
        row, ranking.CLAIMED
    )
    # Not claimed to be worse, nor recommended as equal and cheap.
    assert not row["as_good"]
