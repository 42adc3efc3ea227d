import csv

import numpy as np
import pytest
from conftest import write_digits

from tlkeras import cli
from tlkeras import errors
from tlkeras.advisor import suspects


def clusters(images: int = 300, classes: int = 3, seed: int = 0):
    random = np.random.default_rng(seed)
    targets = np.arange(images) % classes
    centres = random.normal(0, 1.5, (classes, 8))
    features = centres[targets] + random.normal(size=(images, 8))
    return features.astype(np.float32), targets


def test_planted_errors_come_first():
    features, targets = clusters()
    wrong = targets.copy()
    planted = np.arange(0, 300, 20)
    wrong[planted] = (targets[planted] + 1) % 3
    groups = np.arange(300)
    found = suspects.rank(
        features, suspects.out_of_fold(features, wrong, groups, 3), wrong
    )
    first = [each.position for each in found[: len(planted)]]
    assert np.isin(first, planted).mean() > 0.8
    for each in found[:3]:
        assert each.own < each.score
        assert all(wrong[like] == each.answer for like in each.like_answer)
        assert each.position not in (*each.like_answer, *each.like_label)


def test_copies_of_an_image_do_not_vouch_for_it():
    features, targets = clusters()
    # An image with a wrong label, and nine copies of it with the same.
    features[:10], targets[:10] = features[0], (targets[0] + 1) % 3
    together = np.r_[np.zeros(10), np.arange(1, 291)].astype(int)
    found = suspects.out_of_fold(features, targets, together, 3)
    apart = suspects.out_of_fold(features, targets, np.arange(300), 3)
    assert found[0, targets[0]] < 0.5 * apart[0, targets[0]]


@pytest.mark.parametrize(
    "text, message",
    [
        ("path,label\na,b\n", "the columns leave_out and path"),
        ("leave_out,path\nmaybe,a.jpg\n", "Received: 'maybe', for a.jpg"),
    ],
)
def test_a_table_that_says_nothing_is_refused(tmp_path, text, message):
    table = tmp_path / "marked.csv"
    table.write_text(text)
    with pytest.raises(errors.UserError, match=message):
        suspects.marked(table)


def test_what_a_person_marks_is_left_out(tmp_path, capsys):
    data, page = tmp_path / "photos", tmp_path / "page.html"
    write_digits(data, {0: "null", 1: "eins", 2: "zwei"}, 40)
    # Three more of 0 that are called 1.
    planted = write_digits(data, {0: "eins"}, 3, first=60)
    words = ["check", f"--data=folder:{data}", f"--html={page}"]
    learn = ["--labels", "--backbone=SmallResNet", "--weights=none"]
    cli.main([*words, *learn, "--image_size=16"])
    table = tmp_path / "page-labels.csv"
    assert f"mark them in {table}" in capsys.readouterr().out
    html = (tmp_path / "page-labels.html").read_text()
    assert "answered <b><bdi>null</bdi></b>" in html
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    first = [row for row in rows[:5] if row["path"] in planted]
    assert len(first) >= 2
    # Nothing is changed by itself.
    clean = tmp_path / "clean.csv"
    assert not clean.exists() and all(row["leave_out"] == "" for row in rows)
    first[0]["leave_out"] = "x"
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert cli.main([*words, f"--marked={table}"]) == 2
    cli.main([*words, f"--marked={table}", f"--fix={clean}"])
    text = clean.read_text()
    assert first[0]["path"] not in text and first[1]["path"] in text
