"""Folds: every image measures, and none by a model that has seen it."""

import csv

import numpy as np
import pytest
from conftest import LABELS
from conftest import small
from conftest import unexported
from conftest import write_digits

from tlkeras import cross_validation
from tlkeras import errors
from tlkeras import files
from tlkeras import plan
from tlkeras import progress
from tlkeras.comparison import candidates
from tlkeras.data import sources
from tlkeras.data import splits
from tlkeras.models import saving
from tlkeras.scoring import evaluate as evaluation
from tlkeras.settings import config as configs
from tlkeras.training import phase as one_phase

QUIET = progress.Progress(quiet=True)
FOLDS = 3


def settings(photos, **more) -> configs.Config:
    return small(
        **{"data": f"folder:{photos}", "folds": FOLDS, "epochs": 2, **more}
    )


def run(wanted, workdir, shown=QUIET):
    made = plan.make(wanted, workdir, progress=shown)
    return cross_validation.run(made, progress=shown)


def rows(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def folded(photos, tmp_path_factory):
    with unexported():
        return run(settings(photos), tmp_path_factory.mktemp("folds") / "run")


def test_every_image_is_answered_by_a_fold_that_did_not_see_it(folded):
    answers = {
        row["path"]: row for row in rows(folded.directory / "predictions.csv")
    }
    assert len(answers) == 150
    tested = []
    for number in range(1, FOLDS + 1):
        place = folded.directory / "folds" / f"fold{number}"
        known = {row["path"]: row for row in rows(place / "images.csv")}
        assert len(known) == 150
        for row in rows(place / "predictions.csv"):
            if row["split"] == "test":
                assert known[row["path"]]["learned"] == "no"
                # That of a fold also says how like its images are.
                own = answers[row["path"]]
                assert {name: own[name] for name in own if name in row} == {
                    name: row[name] for name in own if name in row
                }
                tested.append(row["path"])
    assert sorted(tested) == sorted(answers)


def test_the_report_is_of_all_images_and_says_so(folded):
    report = folded.report
    found = rows(folded.directory / "predictions.csv")
    right = np.mean([row["label"] == row["true_label"] for row in found])
    accuracy = report["test"]["accuracy"]
    assert (accuracy["n"], accuracy["value"]) == (150, pytest.approx(right))
    assert report["validation"]["accuracy"]["n"] == 150
    assert report["folds"]["count"] == len(report["folds"]["each"]) == FOLDS
    assert "3-fold cross-validation: each of 150" in report["folds"]["text"]
    page = (folded.directory / "report.html").read_text(encoding="utf-8")
    assert report["folds"]["text"] in page
    assert "Test, by 3-fold cross-validation" in page
    assert report["final_fit"]["text"] in page
    assert report["final_fit"]["measured"]["test"] == "folds"


def test_the_delivered_model_has_learned_from_all(folded, photos):
    learned = {row["learned"] for row in rows(folded.directory / "images.csv")}
    assert learned == {"yes"}
    assert folded.report["final_fit"]["images"] == 150
    one, other = (
        saving.load(place).model.get_weights()
        for place in (folded.directory, folded.directory / "folds" / "fold1")
    )
    assert any(
        (left != right).any() for left, right in zip(one, other, strict=True)
    )
    with pytest.raises(errors.UserError, match="learned from"):
        evaluation.evaluate(
            folded.directory,
            sources.open(f"folder:{photos}", progress=QUIET),
            cache_dir=files.cache_directory(),
            progress=QUIET,
        )


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_finished_folds_are_not_trained_again(
    folded, photos, tmp_path, monkeypatch, no_page
):
    fit = one_phase.fit
    fitted = []
    said = []

    class Heard(progress.Progress):
        def say(self, text):
            said.append(text)

    def watched(model, phase, feed, setup, **options):
        if len(fitted) == 2:
            raise Killed
        fitted.append(feed.validation_images > 0)
        return fit(model, phase, feed, setup, **options)

    monkeypatch.setattr(one_phase, "fit", watched)
    with pytest.raises(Killed):
        run(settings(photos), tmp_path)
    fitted.clear()
    resumed = run(settings(photos), tmp_path, Heard(quiet=True))
    # The third fold, and the final fit.
    assert fitted == [True, False]
    assert [each for each in said if each.startswith("fold ")] == [
        "fold 3 of 3"
    ]
    name = "predictions.csv"
    assert (resumed.directory / name).read_bytes() == (
        folded.directory / name
    ).read_bytes()
    one, other = (
        saving.load(each.directory).model.get_weights()
        for each in (folded, resumed)
    )
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


def test_given_splits_are_refused_beforehand(tmp_path):
    for split in ("train", "test"):
        names = dict(enumerate(LABELS))
        write_digits(tmp_path / "data" / split, names, 9)
    with pytest.raises(errors.UserError, match="given splits: test, train"):
        plan.make(settings(tmp_path / "data"), tmp_path / "run", progress=QUIET)
    assert not (tmp_path / "run").exists()


def test_a_comparison_has_none(photos):
    with pytest.raises(errors.UserError, match="`folds` cannot be given here"):
        candidates.resolve("", {"data": f"folder:{photos}", "folds": 5})


class TestFolded:
    def test_groups_and_equal_pictures_stand_on_one_side(self):
        hashes = [f"{index // 2}" for index in range(60)]
        groups = ["", "", "", ""] + [f"g{index // 4}" for index in range(56)]
        labels = [str(index // 4 % 3) for index in range(60)]
        numbers = splits.folded(hashes, labels, groups=groups, count=4, seed=0)
        assert set(numbers) == set(range(4))
        for key in {*hashes, *groups} - {""}:
            named = [key in pair for pair in zip(hashes, groups, strict=True)]
            assert len(set(numbers[named])) == 1

    def test_each_fold_tests_once_chooses_once_and_teaches_else(self):
        numbers = np.array([0, 1, 2, 3, -1])
        names = np.array([splits.of_fold(numbers, at, 4) for at in range(4)])
        assert set(names[:, 4]) == {"unused"}
        for column in names.T[:4]:
            assert sorted(column) == ["test", "train", "train", "validation"]

    def test_a_class_of_two_sets_is_refused_by_its_name(self):
        labels = ["a"] * 30 + ["rare"] * 2
        hashes = [str(index) for index in range(32)]
        with pytest.raises(errors.UserError, match="of: rare"):
            splits.folded(hashes, labels, groups=[""] * 32, count=3, seed=0)

    def test_what_is_more_than_asked_for_is_left_aside(self):
        numbers = splits.folded(
            [str(index) for index in range(40)],
            ["a", "b"] * 20,
            groups=[""] * 40,
            images_per_class=6,
            count=3,
            seed=0,
        )
        assert (numbers >= 0).sum() == 12
