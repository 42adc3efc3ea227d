"""A run that decides: what it leaves, and that it goes on as it began."""

import json
import os

import pytest
from conftest import run
from conftest import small

import tlkeras
from tlkeras import errors
from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras import run_directory
from tlkeras.advisor import advice
from tlkeras.advisor import decision
from tlkeras.machine import processes
from tlkeras.settings import config as configs
from tlkeras.settings import strategies
from tlkeras.training import checkpoint

QUIET = progresses.Progress(quiet=True)
HARD = {name: decision.Line(0.0, 1.0, 0.0, 0.0, 0.3) for name in decision.LINES}


def settings(photos, **others) -> configs.Config:
    return small(
        data=f"folder:{photos}",
        strategy="auto",
        **{"budget": "2e", "final_fit": "train", **others},
    )


def prefer(monkeypatch, name: str) -> None:
    """Lets evidence speak for an option, whatever it is."""
    lines = {**HARD, name: decision.Line(2.0, 1.0, 0.0, 0.0, 0.3)}
    monkeypatch.setattr(decision, "LINES", lines)


@pytest.mark.parametrize(
    "name",
    [
        # Tests below decide for the others.
        pytest.param(
            name,
            marks=pytest.mark.slow
            if name in ("feature_extraction", "fine_tuning_high")
            else (),
        )
        for name in strategies.BY_NAME["auto"].options
    ],
)
def test_what_is_decided_is_trained_and_reported(
    name, photos, tmp_path, no_export, monkeypatch
):
    prefer(monkeypatch, name)
    done = run(settings(photos), tmp_path / "run")
    advised = done.report["advice"]
    assert advised["strategy"] == name
    assert advised["reasons"]
    assert "unless it is clearly worse" in done.report["selection_metric"]
    options = [each["strategy"] for each in advised["options"]]
    assert options == list(decision.LINES)
    phases = [
        (phase["unfreeze"], phase["batch_norm"])
        for phase in done.report["phases"]
    ]
    assert phases[0] == ("none", "frozen")
    assert (
        phases[1:]
        == {
            "feature_extraction": [],
            "last_stage_high": [("stages:1", "frozen")],
            "fine_tuning_high": [("all", "frozen")],
            "pretrained_init": [("all", "training")],
        }[name]
    )
    assert run_directory.DECISION not in os.listdir(tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Why" in page
    assert name in page


class Killed(BaseException):
    """As if the process were gone."""


def test_a_killed_run_does_not_decide_again(
    photos, tmp_path, no_page, monkeypatch
):
    prefer(monkeypatch, "fine_tuning_high")
    whole = run(settings(photos), tmp_path / "whole")
    save = checkpoint.save

    def killed(directory, *arguments, **options):
        save(directory, *arguments, **options)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed)
        with pytest.raises(Killed):
            run(settings(photos), tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "decision.json").read_text())
    assert kept["strategy"] == "fine_tuning_high"
    # Other evidence, such as that of a slower machine, must not count.
    prefer(monkeypatch, "feature_extraction")
    monkeypatch.setattr(advice, "examine", None)
    resumed = run(settings(photos), tmp_path / "run")
    assert resumed.report["advice"] == kept
    for file in ("predictions.csv", "labels.txt"):
        first = (tmp_path / "whole" / file).read_bytes()
        assert (tmp_path / "run" / file).read_bytes() == first
    assert whole.report["test"] == resumed.report["test"]


def test_few_images_teach_once_more_by_default(
    photos, tmp_path, no_page, monkeypatch
):
    prefer(monkeypatch, "feature_extraction")
    done = run(settings(photos, final_fit="auto"), tmp_path / "run")
    assert done.report["final_fit"]["splits"] == ["train", "validation"]
    config = settings(photos, final_fit="auto")
    assert configs.learned(config, 500) == ("train", "validation")
    assert configs.learned(config, 501) == ("train",)
    fixed = small(data="", strategy="fine_tuning")
    assert configs.learned(fixed, 10) == ("train",)


def test_it_is_a_candidate_of_a_comparison(photos, tmp_path, monkeypatch):
    prefer(monkeypatch, "last_stage_high")
    report = tlkeras.compare(
        f"folder:{photos}",
        strategies=["feature_extraction", "auto"],
        seeds=1,
        budget=4,
        workdir=tmp_path / "compare",
        backbone="SmallResNet",
        weights=str(save_weights(tmp_path)),
        image_size=16,
        batch_size=16,
        quiet=True,
    ).report
    rows = {row["strategy"]: row for row in report["strategies"]}
    assert rows["auto"]["epochs"][-1] >= 1
    member = tmp_path / "compare" / "runs" / "auto-seed0"
    written = configs.resolve(member / "config.toml")
    assert (written.strategy, written.budget[-1]) == ("auto", "e")


def save_weights(directory):
    """Returns a file of weights for the network of these tests."""
    model = tlkeras.build_classifier(
        3, backbone="SmallResNet", weights="none", image_size=16
    )
    path = directory / "base.weights.h5"
    model.get_layer("base").network.save_weights(path)
    return path


def test_several_processes_are_refused_beforehand(
    photos, tmp_path, monkeypatch
):
    group = processes.ProcessGroup(processes=2)
    monkeypatch.setattr(processes, "join", lambda *a, **k: group)
    monkeypatch.setattr(
        processes.ProcessGroup, "main_first", lambda self, work: work()
    )
    with pytest.raises(errors.UserError, match="decides in one process"):
        plans.make(settings(photos), tmp_path / "run", progress=QUIET)
