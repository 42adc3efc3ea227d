import copy
import json
import pathlib

import numpy as np
import pytest

from tlkeras import errors
from tlkeras.comparison import ranking
from tlkeras.report import comparison

IMAGES = 200


@pytest.fixture
def member(tmp_path):
    """Returns a function that makes a member which was right on some."""
    (tmp_path / "model.keras").write_bytes(b"1234")

    def make(
        name,
        seed,
        accuracy,
        *,
        seconds=10.0,
        stored=0.0,
        validation=None,
        steps=150,
        apart=False,
    ):
        # Those apart are right on other images than the rest.
        generator = np.random.default_rng(seed + 1000 * apart)
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
            "views_cached": 2 if name == "feature_extraction" else 0,
            "cached_at": "end" if name == "feature_extraction" else "",
            "settings": {"solver": "adam"},
            "trainable_parameters": 1,
            "unfreeze": "none" if name == "feature_extraction" else "all",
            "steps": steps,
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


def told(members, names, seeds, margin=1.0) -> dict:
    found = ranking.report(
        members,
        names,
        seeds=seeds,
        epochs=dict.fromkeys(names, (1,)),
        margin=margin,
    )
    return {**found, "seeds": seeds}


def test_a_candidate_that_was_dropped_is_neither_best_nor_as_good(member):
    members = [member("fine_tuning", seed, 0.8) for seed in range(3)]
    # Its one seed was lucky, and it is the cheaper one.
    members.append(member("feature_extraction", 0, 0.85, seconds=1.0))
    for names in (
        ("fine_tuning", "feature_extraction"),
        ("feature_extraction", "fine_tuning"),
    ):
        found = told(members, names, 3)
        assert found["leader"] == "fine_tuning"
        assert found["cheapest_as_good"] == "fine_tuning"
        assert [row["dropped"] for row in found["strategies"]] == [False, True]
        assert "dropped, worse on" in comparison.verdict(
            found["strategies"][1], found
        )
        said = comparison.conclusion(found)
        assert said.startswith("Take fine_tuning")
        assert "feature_extraction dropped out" in said


def test_candidates_pay_the_same_for_activations_whoever_comes_first(member):
    for first, second in ((5.0, 0.1), (0.1, 5.0)):
        members = [
            member(
                "feature_extraction", 0, 0.8, seconds=1 + first, stored=first
            ),
            member(
                "feature_extraction", 1, 0.8, seconds=1 + second, stored=second
            ),
            member("fine_tuning", 0, 0.8, seconds=3.0),
            member("fine_tuning", 1, 0.8, seconds=3.0),
        ]
        found = told(members, ("feature_extraction", "fine_tuning"), 2)
        seconds = {
            row["strategy"]: row["seconds"] for row in found["strategies"]
        }
        assert seconds == {
            "feature_extraction": pytest.approx(6.0),
            "fine_tuning": 3.0,
        }


def test_with_one_seed_nothing_is_as_good(member):
    members = [
        member("fine_tuning", 0, 0.9),
        member("feature_extraction", 0, 0.9, seconds=1.0),
    ]
    found = told(members, ("fine_tuning", "feature_extraction"), 1)
    assert found["cheapest_as_good"] == found["leader"]
    assert "With one seed no" in comparison.conclusion(found)


def test_a_clear_loser_on_validation_is_found(member):
    members = [
        member("fine_tuning", 0, 0.6, validation=0.9),
        member("feature_extraction", 0, 0.9, validation=0.6),
    ]
    assert ranking.losers(members, ("fine_tuning", "feature_extraction")) == [
        "feature_extraction"
    ]
    assert ranking.losers(members[:1] * 2, ("fine_tuning",)) == []


def two(member, *, accuracy, validation, margin=1.0, apart=False):
    """Fine-tuning, and a head at a tenth of its cost; (first, second) each."""
    members = [
        member(
            name,
            seed,
            accuracy[place],
            validation=validation[place],
            seconds=(20.0, 2.0)[place],
            apart=apart and place == 1,
        )
        for seed in range(2)
        for place, name in enumerate(("fine_tuning", "feature_extraction"))
    ]
    return told(members, ("fine_tuning", "feature_extraction"), 2, margin)


def test_as_good_is_claimed_by_a_test_of_equivalence(member):
    equal = {"accuracy": (0.8, 0.8), "validation": (0.9, 0.8)}
    # Equal answers on so few images leave room for a loss of a point.
    found = two(member, **equal)
    assert found["cheapest_as_good"] == found["leader"] == "fine_tuning"
    assert not found["strategies"][1]["as_good"]
    assert found["strategies"][1]["against_leader"]["p_images"] == 1.0
    found = two(member, **equal, margin=3.0)
    assert found["cheapest_as_good"] == "feature_extraction"
    verdict = comparison.verdict(found["strategies"][1], found)
    assert verdict.startswith("as good within 3 points, p = 0.002")
    said = comparison.conclusion(found)
    assert said.startswith(
        "Take feature_extraction: it is as good as fine_tuning within 3 points"
    )
    assert said.endswith("and 10 times cheaper.")


def test_what_is_likely_is_told_from_what_is_proved(member):
    found = two(
        member, accuracy=(0.82, 0.8), validation=(0.84, 0.8), apart=True
    )
    assert comparison.conclusion(found) == (
        "Take fine_tuning: it is best on the validation images. fine_tuning "
        "is probably better than feature_extraction (+4.0 points on "
        "validation): not proved with 200 test images and 2 seeds. "
        "feature_extraction is 10 times cheaper."
    )
    assert "probably worse, not proved: -2.0 points" in comparison.verdict(
        found["strategies"][1], found
    )


def test_what_validation_and_test_do_not_agree_on_is_open(member):
    found = two(
        member, accuracy=(0.8, 0.81), validation=(0.84, 0.8), apart=True
    )
    assert "Whether it is better than feature_extraction is open" in (
        comparison.conclusion(found)
    )
    verdict = comparison.verdict(found["strategies"][1], found)
    assert verdict.startswith("undecided: +1.0 points")


def test_what_is_proved_is_said(member):
    # Seeds that vary a little, so that a t-test has something to say.
    members = [member("fine_tuning", s, 0.9 + s / 100) for s in range(3)]
    members += [
        member("feature_extraction", s, 0.6 + s / 100) for s in range(3)
    ]
    found = told(members, ("fine_tuning", "feature_extraction"), 3)
    said = comparison.conclusion(found)
    assert "fine_tuning is better than feature_extraction." in said
    assert "probably" not in said
    assert comparison.verdict(found["strategies"][1], found).startswith(
        "worse, p = "
    )


def test_a_budget_too_small_to_judge_by_is_said(member):
    members = [
        member(name, seed, 0.8, steps=54)
        for seed in range(2)
        for name in ("scratch", "fine_tuning", "feature_extraction")
    ]
    names = ("scratch", "fine_tuning", "feature_extraction")
    found = told(members, names, 2)
    said = {
        row["strategy"]: comparison.short_budget(row)
        for row in found["strategies"]
    }
    assert said == {
        "scratch": "only 54 steps from scratch",
        "fine_tuning": "only 54 steps",
        "feature_extraction": "",
    }
    enough = told([member("fine_tuning", 0, 0.8)] * 2, ("fine_tuning",), 2)
    assert comparison.short_budget(enough["strategies"][0]) == ""


def test_who_is_better_on_the_test_images_is_as_good(member):
    members = [
        member(name, seed, accuracy, validation=validation, seconds=seconds)
        for seed in range(2)
        for name, accuracy, validation, seconds in (
            ("fine_tuning", 0.6, 0.9, 20.0),
            ("feature_extraction", 0.9, 0.8, 2.0),
        )
    ]
    found = told(members, ("fine_tuning", "feature_extraction"), 2)
    row = found["strategies"][1]
    assert row["against_leader"]["p_images"] < ranking.CLAIMED
    assert row["against_leader"]["behind"] < 0
    assert row["as_good"]
    assert found["cheapest_as_good"] == "feature_extraction"


def test_why_seeds_are_in_the_way_is_said(member):
    members = [member("fine_tuning", seed, 0.9) for seed in range(2)]
    members += [
        member("feature_extraction", 0, 0.85),
        member("feature_extraction", 1, 0.55),
    ]
    row = told(members, ("fine_tuning", "feature_extraction"), 2)["strategies"][
        1
    ]
    assert row["against_leader"]["p_images"] < 0.05
    assert not row["against_leader"]["distinguishable"]
    found = told(members, ("fine_tuning", "feature_extraction"), 2)
    assert "but the seeds could have made it" in comparison.verdict(row, found)
    # Not claimed to be worse, nor recommended as equal and cheap.
    assert not row["as_good"]


@pytest.mark.parametrize("where", [(), ("test", "accuracy"), ("phases", 0)])
def test_a_report_that_lacks_a_key_is_one_line(member, tmp_path, where):
    whole = member("fine_tuning", 0, 0.8).report | {
        "seconds": 1.0,
        "strategy": "fine_tuning",
    }
    path = tmp_path / "report.json"
    path.write_text(json.dumps(whole))
    assert ranking.read_report(tmp_path) == whole
    table = whole
    for name in where:
        table = table[name]
    for name in set(table) - {"groups"}:
        broken = copy.deepcopy(whole)
        table = broken
        for each in where:
            table = table[each]
        del table[name]
        path.write_text(json.dumps(broken))
        with pytest.raises(errors.UserError, match=f"'{name}' is missing"):
            ranking.read_report(tmp_path)
    for damaged in ([], {"test": 7}, {**whole, "phases": 3}):
        path.write_text(json.dumps(damaged))
        with pytest.raises(errors.UserError, match="is not whole"):
            ranking.read_report(tmp_path)
