import json

import numpy as np
import pytest
from conftest import LABELS
from test_calibration import answers

from tlkeras import cli
from tlkeras import errors
from tlkeras.models import saving
from tlkeras.scoring import label_sets


def test_the_sets_hold_the_truth_as_often_as_wished():
    held = []
    for seed in range(200):
        # Far too sure, which does not matter.
        probabilities, targets = answers(239, seed, 3.0)
        scores = np.sort(probabilities[np.arange(139), targets[:139]])
        found = label_sets.measure(
            probabilities[139:],
            targets[139:],
            list(range(100)),
            scores,
            0.9,
        )
        held.append(found["held"]["value"])
    # Standard error 0.003.
    assert np.mean(held) == pytest.approx(0.9, abs=0.012)


@pytest.mark.parametrize("coverage, images", [(0.95, 19), (0.9, 9), (0.5, 1)])
def test_how_many_images_it_takes(coverage, images):
    assert label_sets.fewest(coverage) == images
    scores = np.linspace(0.1, 1, images)
    assert label_sets.least(scores, coverage) == pytest.approx(scores[0])
    assert label_sets.least(scores[1:], coverage) is None


def test_a_set_is_never_empty_and_begins_with_the_answer():
    probabilities = np.array([[0.2, 0.5, 0.3], [0.4, 0.35, 0.25]])
    assert label_sets.words(probabilities, 0.3, ("a", "b", "ü")) == [
        '["b", "ü"]',
        '["a", "b"]',
    ]
    assert label_sets.of(probabilities, 0.9).sum(axis=1).tolist() == [1, 1]


def test_a_run_keeps_what_they_take(trained):
    known = saving.load(trained.directory).reference
    images = trained.report["validation"]["accuracy"]["n"]
    assert len(known.scores) == images == 18
    assert (np.diff(known.scores) >= 0).all()
    # One fewer than it takes.
    sets = trained.report["label_sets"]
    assert sets["fewest"] == 19 and sets["held"] is None
    assert label_sets.least(known.scores, 0.9) == known.scores[0]


def test_the_commands_give_them(trained, photos, tmp_path, capsys):
    table = tmp_path / "a.csv"
    images = sorted((photos / LABELS[1]).glob("*.png"))[:3]
    words = [f"--model={trained.directory}", "--coverage=0.9"]
    assert (
        cli.main(["predict", *words, f"--csv={table}", *map(str, images)]) == 0
    )
    header, *rows = table.read_text().splitlines()
    assert header.endswith(",labels") and len(rows) == 3
    assert LABELS[1] in json.loads(
        rows[0].partition('"')[2][:-1].replace('""', '"')
    )
    capsys.readouterr()
    assert cli.main(["evaluate", *words, f"--data=folder:{photos}"]) == 0
    assert "sets of labels for 90 %: 1." in capsys.readouterr().out


def test_too_few_images_are_told(trained):
    classifier = saving.load(trained.directory)
    with pytest.raises(errors.UserError, match="on at least 999 validation"):
        label_sets.needed_by(classifier, 0.999)
