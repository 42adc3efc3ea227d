import dataclasses
import json
import os

import numpy as np
import pytest
from conftest import write_digits

from tlkeras import api
from tlkeras import cli
from tlkeras import errors
from tlkeras import files
from tlkeras.comparison import ranking
from tlkeras.experiment import running
from tlkeras.settings import config as configs
from tlkeras.training import checkpoint
from tlkeras.training import phases as all_phases

SHARED = {
    "backbone": "SmallResNet",
    "image_size": 16,
    "resize": "pad",
    "augment": "none",
    "batch_size": 16,
    "quiet": True,
}


@pytest.fixture(scope="module")
def compared(trained, photos, tmp_path_factory):
    """Two strategies that are quick, with two seeds."""
    cache = tmp_path_factory.mktemp("cache")
    return api.compare(
        f"folder:{photos}",
        weights=str(trained.directory),
        strategies="feature_extraction,scratch",
        seeds=2,
        budget=12,
        workdir=tmp_path_factory.mktemp("compare") / "c",
        cache_dir=str(cache),
        **SHARED,
    )


def test_a_member_is_what_train_makes_of_its_settings(
    compared, tmp_path, no_page
):
    for name in ("feature_extraction", "scratch"):
        member = compared.directory / "runs" / f"{name}-seed1"
        run = api.train(
            config=member / "config.toml", workdir=tmp_path / name, quiet=True
        )
        for file in ("predictions.csv", "config.toml"):
            assert (run.directory / file).read_bytes() == (
                member / file
            ).read_bytes()


@pytest.mark.slow
def test_a_name_typed_after_strategy_trains_that_candidate(
    trained, photos, tmp_path
):
    names = ("last_stage", "fine_tuning_low", "feature_extraction")
    shared = {
        **SHARED,
        "weights": str(trained.directory),
        "cache_dir": str(tmp_path / "cache"),
    }
    compared = api.compare(
        f"folder:{photos}",
        strategies=names,
        seeds=1,
        budget=7,
        workdir=tmp_path / "c",
        **shared,
    )
    for row in compared.report["strategies"]:
        name = row["strategy"]
        *_, epochs = row["epochs"]
        settings = {"finetune_epochs": epochs}
        if name == "feature_extraction":
            # Its head is solved, which takes no epochs.
            settings = {}
        run = api.train(
            f"folder:{photos}",
            strategy=name,
            workdir=tmp_path / name,
            **settings,
            **shared,
        )
        member = compared.directory / "runs" / f"{name}-seed0"
        predictions = "predictions.csv"
        assert (run.directory / predictions).read_bytes() == (
            member / predictions
        ).read_bytes()
    assert {row["strategy"] for row in compared.report["strategies"]} == set(
        names
    )


def test_all_candidates_have_the_same_images_and_steps(compared):
    reports = [
        json.loads(path.read_text())
        for path in sorted(compared.directory.glob("runs/*/report.json"))
    ]
    assert len(reports) == 4
    assert len({json.dumps(each["data"]) for each in reports}) == 1
    # The budget of 12 steps is nearest to two epochs of seven.
    trained = [
        phase
        for report in reports
        for phase in report["phases"]
        if phase["settings"]["solver"] == "adam"
    ]
    # A head that is solved takes none of the steps.
    assert len(trained) == 2
    assert {phase["steps"] for phase in trained} == {14}


def test_the_report_is_of_the_members(compared):
    report = compared.report
    assert json.loads((compared.directory / "compare.json").read_text()) == (
        report
    )
    for row in report["strategies"]:
        assert row["accuracy"]["value"] == pytest.approx(
            np.mean(row["accuracy"]["by_seed"])
        )
        for member in row["runs"]:
            own = json.loads(open(f"{member['directory']}/report.json").read())
            assert member["accuracy"] == own["test"]["accuracy"]["value"]
    validation = [row["validation_accuracy"] for row in report["strategies"]]
    assert validation == sorted(validation, reverse=True)
    assert report["leader"] == report["strategies"][0]["strategy"]
    page = (compared.directory / "compare.html").read_text()
    assert all(row["strategy"] in page for row in report["strategies"])
    assert "http" not in page.replace("http://www.w3.org", "").replace(
        "http-equiv", ""
    )


def test_a_killed_comparison_goes_on(
    trained, photos, tmp_path, monkeypatch, compared
):
    again = {
        **SHARED,
        "weights": str(trained.directory),
        "strategies": "feature_extraction,converged_head",
        "seeds": 1,
        "budget": 4,
        "workdir": tmp_path / "c",
        "cache_dir": str(tmp_path / "cache"),
    }
    learn = running.learn
    ran = []

    def killed(plan, *arguments, **options):
        if len(ran) == 1:
            raise KeyboardInterrupt
        ran.append(plan.directory.name)
        return learn(plan, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(running, "learn", killed)
        with pytest.raises(KeyboardInterrupt):
            api.compare(f"folder:{photos}", **again)
    assert ran == ["feature_extraction-seed0"]
    assert not (tmp_path / "c" / "compare.json").exists()
    with pytest.raises(errors.UserError, match=r"other settings .budget."):
        api.compare(f"folder:{photos}", **{**again, "budget": 5})

    def noted(plan, *arguments, **options):
        ran.append(plan.directory.name)
        return learn(plan, *arguments, **options)

    monkeypatch.setattr(running, "learn", noted)
    found = api.compare(f"folder:{photos}", **again)
    assert ran == ["feature_extraction-seed0", "converged_head-seed0"]
    assert (
        "With one seed no difference"
        in (found.directory / "compare.html").read_text()
    )
    with pytest.raises(errors.UserError, match="finished comparison"):
        api.compare(f"folder:{photos}", **again)
    # What was spent before the kill is spent, too.
    spent = sum(
        json.loads(path.read_text())["seconds"]
        for path in found.directory.glob("runs/*/report.json")
    )
    assert found.report["seconds"] > spent


def test_a_comparison_of_other_images_does_not_go_on(
    trained, tmp_path, monkeypatch
):
    names = {0: "a", 1: "b"}
    rows = write_digits(tmp_path / "d", names, 40)
    again = {
        **SHARED,
        "data": f"folder:{tmp_path}/d",
        "weights": str(trained.directory),
        "strategies": "feature_extraction,converged_head",
        "seeds": 1,
        "budget": 2,
        "workdir": tmp_path / "c",
        "cache_dir": str(tmp_path / "cache"),
    }

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ranking, "load", killed)
        with pytest.raises(KeyboardInterrupt):
            api.compare(**again)
    assert (tmp_path / "c/runs/feature_extraction-seed0").exists()
    # Under another name the pictures would be paired in another order.
    first = sorted(rows)[0]
    os.rename(first, f"{os.path.dirname(first)}/zzz.png")
    with pytest.raises(errors.UserError, match="images were other ones"):
        api.compare(**again)
    with pytest.raises(errors.UserError, match="an unfinished comparison"):
        api.train(
            workdir=tmp_path / "c",
            strategy="scratch",
            **{name: again[name] for name in (*SHARED, "data", "cache_dir")},
        )


def test_what_fails_before_a_member_leaves_nothing(trained, photos, tmp_path):
    given = {
        **SHARED,
        "data": f"folder:{photos}",
        "weights": str(trained.directory),
        "strategies": "feature_extraction,scratch",
        "workdir": tmp_path / "c",
        "cache_dir": str(tmp_path / "cache"),
    }
    for changed, message in (
        ({"batch_size": 149}, "`batch_size` must be at most"),
        ({"budget": 10**9}, "`budget` must be at most 700,000 steps"),
        ({"backbone": "MobileNet-0.25", "image_size": 32}, "are those of"),
    ):
        with pytest.raises(errors.UserError, match=message):
            api.compare(**{**given, **changed})
        assert not (tmp_path / "c").exists()


def test_two_at_once_do_not_share_a_directory(trained, photos, tmp_path):
    (tmp_path / "c").mkdir()
    with files.alone(tmp_path / "c"):
        with pytest.raises(errors.UserError, match="another process is work"):
            api.train(
                f"folder:{photos}",
                workdir=tmp_path / "c",
                strategy="scratch",
                **SHARED,
            )
    assert not list((tmp_path / "c").iterdir())


@pytest.mark.parametrize(
    ("augment", "count"),
    # Only random views would differ by the seed.
    [("flip", 2), pytest.param("light", 4, marks=pytest.mark.slow)],
)
def test_a_solved_head_is_trained_once(
    trained, photos, tmp_path, monkeypatch, augment, count
):
    learn = running.learn
    ran = []

    def noted(plan, *arguments, **options):
        ran.append(plan.directory.name)
        return learn(plan, *arguments, **options)

    monkeypatch.setattr(running, "learn", noted)
    found = api.compare(
        f"folder:{photos}",
        **{**SHARED, "augment": augment},
        weights=str(trained.directory),
        strategies="feature_extraction,converged_head",
        seeds=2,
        budget=7,
        workdir=tmp_path / augment,
        cache_dir=str(tmp_path / "cache"),
    )
    assert len(ran) == len(set(ran)) == count
    members = found.directory / "runs"
    for name in ("feature_extraction", "converged_head"):
        first, second = (members / f"{name}-seed{seed}" for seed in (0, 1))
        assert {path.name for path in first.iterdir()} == {
            path.name for path in second.iterdir()
        }
        one, two = (
            configs.build(configs.read(member / "config.toml"))
            for member in (first, second)
        )
        assert (one.seed, two.seed) == (0, 1)
        assert dataclasses.replace(two, seed=0) == one
        equal = [
            (first / file).read_bytes() == (second / file).read_bytes()
            for file in ("predictions.csv", "model.keras")
        ]
        assert equal == [augment == "flip"] * 2
        seconds = [
            json.loads((member / "report.json").read_text())["seconds"]
            for member in (first, second)
        ]
        assert min(seconds) > 0
        if augment == "flip":
            # It was copied.
            assert seconds[1] < seconds[0]
    (other,) = found.report["strategies"][1:]
    if augment == "flip":
        # Both are constants, of which seeds tell nothing.
        assert other["against_leader"]["p_seeds"] == 1.0
    assert not other["against_leader"]["distinguishable"]


def test_a_resumed_member_counts_all_its_calls(
    trained, photos, tmp_path, monkeypatch
):
    again = {
        **SHARED,
        "weights": str(trained.directory),
        "strategies": "fine_tuning,feature_extraction",
        "seeds": 1,
        "budget": 7,
        "workdir": tmp_path / "c",
        "cache_dir": str(tmp_path / "cache"),
        "head_solver": "adam",
    }
    fit = all_phases.one_phase.fit
    spent = 1000.0

    def slow_head(model, phase, *arguments, **options):
        if phase.name == "finetune":
            raise KeyboardInterrupt
        result = fit(model, phase, *arguments, **options)
        return dataclasses.replace(result, seconds=spent)

    with monkeypatch.context() as patch:
        patch.setattr(all_phases.one_phase, "fit", slow_head)
        with pytest.raises(KeyboardInterrupt):
            api.compare(f"folder:{photos}", **again)
    # What is stored where decides nothing.
    found = api.compare(
        f"folder:{photos}",
        **{
            **again,
            "cache_dir": str(tmp_path / "other"),
            "feature_cache_gb": 1.0,
        },
    )
    member = found.directory / "runs" / "fine_tuning-seed0"
    report = json.loads((member / "report.json").read_text())
    assert report["phases"][0]["seconds"] == spent
    assert report["seconds"] > spent
    assert found.report["seconds"] > report["seconds"]


def test_a_kill_while_a_member_ends_leaves_no_checkpoint(
    trained, photos, tmp_path, monkeypatch
):
    again = {
        **SHARED,
        "weights": str(trained.directory),
        "strategies": "feature_extraction,converged_head",
        "seeds": 1,
        "budget": 2,
        "workdir": tmp_path / "c",
        "cache_dir": str(tmp_path / "cache"),
    }

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            api.compare(f"folder:{photos}", **again)
    member = tmp_path / "c" / "runs" / "feature_extraction-seed0"
    assert (member / "report.json").exists()
    assert checkpoint.exists(member)
    found = api.compare(f"folder:{photos}", **again)
    assert not list(found.directory.rglob("checkpoint*"))


@pytest.fixture
def interrupted(monkeypatch):
    """Lets the next phase of a name end by Ctrl-C."""

    def interrupt(name):
        fit = all_phases.one_phase.fit

        def cut_short(model, phase, *arguments, **options):
            result = fit(model, phase, *arguments, **options)
            if phase.name == name:
                monkeypatch.undo()
                result = dataclasses.replace(result, stopped="interrupted")
            return result

        monkeypatch.setattr(all_phases.one_phase, "fit", cut_short)

    return interrupt


@pytest.mark.parametrize(
    "budget", ["7", pytest.param("1s", marks=pytest.mark.slow)]
)
def test_an_interrupted_phase_is_trained_again(
    trained, photos, tmp_path, interrupted, budget
):
    again = {
        **SHARED,
        "weights": str(trained.directory),
        "strategies": "converged_head,last_stage",
        "seeds": 1,
        "budget": budget,
        "workdir": tmp_path / "c",
        "cache_dir": str(tmp_path / "cache"),
    }
    # With a budget in seconds that is in the trial.
    interrupted("finetune")
    with pytest.raises(KeyboardInterrupt):
        api.compare(f"folder:{photos}", **again)
    found = api.compare(f"folder:{photos}", **again)
    report = json.loads(
        (found.directory / "runs/last_stage-seed0/report.json").read_text()
    )
    phases = {phase["name"]: phase for phase in report["phases"]}
    assert phases["head"]["stopped"] == "solved"
    assert phases["finetune"]["stopped"] in ("budget", "patience")
    assert phases["finetune"]["steps"] >= 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--weights=none",), "leaves nothing to compare"),
        (("--strategies=scratch,nothing",), "Received: 'nothing'"),
        (("--budget=5m",), "`budget` must be auto"),
        (("--budget=7", "--strategies=scratch,no"), "Received: 'no'"),
        (("--seeds=0",), "`seeds` must be"),
        (("--margin=0",), "`margin` must be"),
        (("--unfreeze=all",), "is a flag of `tlkeras train`"),
    ],
)
def test_a_mistake_is_one_line(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["compare", "--data=builtin:digits", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_the_strategies_decide_is_refused_in_python():
    with pytest.raises(errors.UserError, match="`epochs` is decided by each"):
        api.compare("builtin:digits", epochs=3)


def test_seconds_become_epochs(trained, photos, tmp_path):
    found = api.compare(
        f"folder:{photos}",
        weights=str(trained.directory),
        strategies=("feature_extraction", "converged_head"),
        seeds=1,
        budget="1s",
        workdir=tmp_path / "c",
        cache_dir=str(tmp_path / "cache"),
        **SHARED,
    )
    budget = json.loads((found.directory / "budget.json").read_text())
    assert budget["converged_head"] == [1]
    assert budget["feature_extraction"][0] >= 1
    assert sorted(path.name for path in found.directory.iterdir()) == [
        "budget.json",
        "compare.html",
        "compare.json",
        "compare_settings.json",
        "config.toml",
        "costs.png",
        "courses.png",
        "runs",
    ]
