"""A run that learns once more from what was held back."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from conftest import LABELS
from conftest import PHASES
from conftest import SMALL
from conftest import run
from conftest import unexported

from tlkeras import errors
from tlkeras import files
from tlkeras import plan
from tlkeras import progress
from tlkeras.data import sources
from tlkeras.experiment import running
from tlkeras.models import saving
from tlkeras.scoring import evaluate as evaluation
from tlkeras.settings import config as configs
from tlkeras.training import checkpoint
from tlkeras.training import phase as one_phase

QUIET = progress.Progress(quiet=True)


def settings(photos, **more) -> configs.Config:
    values = {key: SMALL[key] for key in SMALL if key != "strategy"}
    values |= {"data": f"folder:{photos}", "phases": PHASES}
    return configs.build({**values, **more})


def rows(path, split="") -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    return [row for row in found if not split or row["split"] == split]


def evaluate(directory, photos, split="auto") -> evaluation.Evaluation:
    return evaluation.evaluate(
        directory,
        sources.open(f"folder:{photos}", progress=QUIET),
        split=split,
        cache_dir=files.cache_directory(),
        progress=QUIET,
    )


@pytest.fixture(scope="module")
def both(photos, tmp_path_factory):
    """A run whose model has learned from training and validation."""
    place = tmp_path_factory.mktemp("final") / "run"
    with unexported():
        return run(settings(photos, final_fit="train_and_validation"), place)


def test_which_model_each_figure_is_of(both, trained, photos):
    predictions = both.directory / "predictions.csv"
    before = trained.directory / "predictions.csv"
    # The choice is that of a run without a final fit, to the last digit.
    assert rows(predictions, "validation") == rows(before, "validation")
    assert both.report["validation"] == trained.report["validation"]
    test, earlier = rows(predictions, "test"), rows(before, "test")
    assert [row["path"] for row in test] == [row["path"] for row in earlier]
    assert [row["score"] for row in test] != [row["score"] for row in earlier]
    measured = {"validation": "chosen", "test": "delivered"}
    assert both.report["final_fit"]["measured"] == measured
    # The delivered model gives the test figures.
    found = evaluate(both.directory, photos)
    assert found.quality["accuracy"] == both.report["test"]["accuracy"]
    assert found.quality["majority"] == both.report["test"]["majority"]
    assert list(found.prediction.paths) == [row["path"] for row in test]


def test_the_report_says_so(both):
    page = (both.directory / "report.html").read_text(encoding="utf-8")
    final = both.report["final_fit"]
    images = both.report["data"]["images"]
    learned = sum(
        sum(images[split].values()) for split in ("train", "validation")
    )
    assert (final["images"], final["delivered"]) == (learned, True)
    assert final["text"] in page
    assert "Test, delivered model" in page
    assert "Validation, model before the final fit" in page
    assert "the test figures are its own" in final["text"]
    # The recipe: the phases that were kept, for as many steps.
    assert json.loads((both.directory / "report.json").read_text()) == (
        both.report
    )
    per_epoch = {
        phase["name"]: phase["steps"] / phase["epochs"]
        for phase in both.report["phases"]
    }
    for phase in final["phases"]:
        (chosen,) = [
            each
            for each in both.report["phases"]
            if each["name"] == phase["name"] and not each["rolled_back"]
        ]
        assert phase["validation_accuracy"] is None
        assert len(phase["losses"]) == phase["epochs"]
        if phase["stopped"] != "solved":
            steps = chosen["best_epoch"] * per_epoch[phase["name"]]
            each = phase["steps"] / phase["epochs"]
            assert abs(phase["steps"] - steps) <= max(each / 2, each - steps)


def test_images_csv_counts_what_was_learned_from(both, trained):
    learned = {
        row["split"]: row["learned"]
        for row in rows(both.directory / "images.csv")
    }
    assert learned == {"train": "yes", "validation": "yes", "test": "no"}
    for row in rows(trained.directory / "images.csv"):
        assert (row["learned"] == "yes") == (row["split"] == "train")


def test_a_list_of_images_of_an_earlier_version_is_read(
    trained, photos, tmp_path
):
    for name in ("config.toml", "model.keras"):
        (tmp_path / name).write_bytes((trained.directory / name).read_bytes())
    old = ("path", "label", "split", "pixels")
    found = rows(trained.directory / "images.csv")
    files.write_csv(
        tmp_path / "images.csv",
        old,
        ([row[key] for key in old] for row in found),
    )
    quality = evaluate(tmp_path, photos).quality
    assert quality["accuracy"] == trained.report["test"]["accuracy"]
    assert quality["majority"] == trained.report["test"]["majority"]


def test_all_leaves_the_figures_of_the_model_before(
    trained, photos, tmp_path, no_page
):
    done = run(settings(photos, final_fit="all"), tmp_path / "run")
    name = "predictions.csv"
    assert (done.directory / name).read_bytes() == (
        trained.directory / name
    ).read_bytes()
    for split in ("test", "validation"):
        assert done.report[split] == trained.report[split]
    assert "no figure is its own" in done.report["final_fit"]["text"]
    learned = {row["learned"] for row in rows(done.directory / "images.csv")}
    assert learned == {"yes"}
    one, other = (
        saving.load(each.directory).model.get_weights()
        for each in (trained, done)
    )
    assert any(
        (left != right).any() for left, right in zip(one, other, strict=True)
    )
    # Nothing is left that could measure it.
    with pytest.raises(
        errors.UserError, match="all 150 images of .* that can be "
    ):
        evaluate(done.directory, photos)


class Killed(BaseException):
    pass


def test_kills_do_not_change_a_bit_nor_repeat_the_choice(
    both, photos, tmp_path, monkeypatch, no_page
):
    """A run that is killed in its final fit, goes on, and is killed again."""
    wanted = settings(photos, final_fit="train_and_validation")
    fit, save = one_phase.fit, checkpoint.save
    phases = []

    def die_in_it(model, phase, feed, setup, **options):
        if not feed.validation_images:
            raise Killed
        return fit(model, phase, feed, setup, **options)

    def die_behind_it(*arguments, final=None, **options):
        save(*arguments, final=final, **options)
        if final is not None:
            raise Killed

    def watched(model, phase, feed, setup, **options):
        phases.append((phase.name, feed.validation_images > 0))
        return fit(model, phase, feed, setup, **options)

    with monkeypatch.context() as patch:
        patch.setattr(one_phase, "fit", die_in_it)
        with pytest.raises(Killed):
            run(wanted, tmp_path)
    monkeypatch.setattr(one_phase, "fit", watched)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", die_behind_it)
        with pytest.raises(Killed):
            run(wanted, tmp_path)
    assert phases == [
        (each["name"], False) for each in both.report["final_fit"]["phases"]
    ]
    phases.clear()
    resumed = run(wanted, tmp_path)
    assert phases == []
    for name in ("predictions.csv", "images.csv"):
        first = (both.directory / name).read_bytes()
        assert (resumed.directory / name).read_bytes() == first
    one, other = (
        saving.load(each.directory).model.get_weights()
        for each in (both, resumed)
    )
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)
    assert not (tmp_path / checkpoint._NAME).exists()


def test_ctrl_c_in_it_leaves_the_chosen_model(
    trained, photos, tmp_path, no_page
):
    said = []

    class Interrupt(progress.Progress):
        def say(self, text):
            said.append(text)

        def epoch_ends(self, row):
            if np.isnan(row.validation_accuracy):
                raise KeyboardInterrupt

    shown = Interrupt(quiet=True)
    made = plan.make(
        settings(photos, final_fit="train_and_validation"),
        tmp_path / "run",
        progress=shown,
    )
    with pytest.raises(KeyboardInterrupt):
        running.run(made, progress=shown)
    left = saving.load(tmp_path / "run" / "model.keras").model
    chosen = saving.load(trained.directory).model
    for one, other in zip(left.weights, chosen.weights, strict=True):
        assert np.array_equal(one, other)
    assert "best so far is" in said[-1]
    assert not (tmp_path / "run" / "report.json").exists()


def test_a_run_without_it_says_nothing_of_it(trained):
    assert trained.report["final_fit"] is None
    page = (trained.directory / "report.html").read_text(encoding="utf-8")
    assert "final fit" not in page.replace("final_fit", "")


def test_settings_of_another_final_fit_are_another_run(photos):
    one, other = (
        configs.decisive(settings(photos, final_fit=name))
        for name in ("train", "all")
    )
    assert one != other
    assert dataclasses.replace(one, final_fit="all") == other
    assert LABELS
