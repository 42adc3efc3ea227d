"""Past runs: what is listed, in which order, and two side by side."""

import json
import shutil

import pytest

from tlkeras import cli
from tlkeras import errors
from tlkeras.comparison import past_runs
from tlkeras.settings import config as configs


def write(directory, *, right, seconds=10.0, paths=None, **settings):
    """Writes what a run leaves, with answers that are right or not."""
    directory.mkdir(parents=True)
    settings = {"data": "folder:/data/photos", **settings}
    (directory / "config.toml").write_text(
        configs.to_toml(configs.build(settings))
    )
    paths = paths or [
        f"/data/photos/{number}.png" for number in range(len(right))
    ]
    rows = [
        f"{path},test,a,{'a' if is_right else 'b'},0.9"
        for path, is_right in zip(paths, right, strict=True)
    ]
    header = "path,split,true_label,label,score"
    (directory / "predictions.csv").write_text("\n".join([header, *rows]))
    rows = [f"{path},a,test,{path.rpartition('/')[2]},no" for path in paths]
    header = "path,label,split,pixels,learned"
    (directory / "images.csv").write_text("\n".join([header, *rows]))
    share = sum(right) / len(right)
    accuracy = {"value": share, "low": share, "high": share, "n": len(right)}
    (directory / "report.json").write_text(
        json.dumps({"test": {"accuracy": accuracy}, "seconds": seconds})
    )
    return directory


@pytest.fixture
def runs(tmp_path):
    """Two runs on the same 40 images, of which one is far better."""
    root = tmp_path / "runs"
    write(root / "good", right=[True] * 38 + [False] * 2, seconds=70.0)
    write(
        root / "poor",
        right=[True] * 20 + [False] * 20,
        backbone="ResNet50",
        seconds=5.0,
        head_learning_rate=1e-2,
    )
    shutil.copytree(root / "good", root / "begun")
    (root / "begun" / "report.json").unlink()
    (root / "compare").mkdir()
    (root / "compare" / "config.toml").write_text("")
    (root / "compare" / "compare.json").write_text("{}")
    (root / "notes.txt").write_text("")
    return root


def test_the_list_has_runs_alone_and_their_numbers(runs, capsys, monkeypatch):
    monkeypatch.chdir(runs.parent)
    assert cli.main(["runs", "--sort=accuracy"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["run", "when", "data"]
    assert [line.split()[0] for line in lines] == ["good", "poor", "begun"]
    assert "95.0 %" in lines[0] and "1 min 10 s" in lines[0]
    assert "photos" in lines[0] and "ResNet50" in lines[1]
    assert "unfinished" in lines[2]


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("seconds", ["begun", "poor", "good"]),
        ("network", ["begun", "good", "poor"]),
    ],
)
def test_orders(runs, order, names):
    found = past_runs.find(runs, order)
    assert [run.directory.name for run in found] == names


def test_two_show_what_differs_and_a_paired_test(runs, capsys):
    words = ["runs", str(runs / "poor"), str(runs / "good")]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    settings = out.partition("setting")[2].partition("\n\n")[0]
    named = [line.split()[0] for line in settings.splitlines()[1:]]
    assert named == ["backbone", "head_learning_rate"]
    assert "The model of good is better by 45.0 points" in out
    assert "same 40 test images, 18 to 0 of them: p = 7.6e-06" in out


def test_the_same_is_within_chance(runs, capsys):
    write(runs / "other", right=[True] * 37 + [False, True, False])
    cli.main(["runs", str(runs / "good"), str(runs / "other")])
    out = capsys.readouterr().out
    assert "no setting differs" in out
    assert "Neither model is proved better: 0.0 points" in out


def test_images_that_were_moved_are_the_same_and_others_are_not(runs):
    good = past_runs.load(runs / "good")
    moved = [f"/elsewhere/{number}.png" for number in range(40)]
    write(runs / "moved", right=[True] * 40, paths=moved)
    found = past_runs.compare(good, past_runs.load(runs / "moved"))
    assert found.compared is not None and found.compared.losses == 2
    others = [f"/data/photos/{number}.png" for number in range(20, 60)]
    write(runs / "others", right=[True] * 40, paths=others)
    found = past_runs.compare(good, past_runs.load(runs / "others"))
    assert (found.compared, found.shared, found.images) == (None, 20, (40, 40))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there are no runs in nowhere"),
        (["a", "b", "c"], "Received: 3 paths"),
        (["{runs}/good", "{runs}/compare"], "not the directory of a run"),
        (["{runs}/good", "{runs}/begun"], "is not finished"),
        (["--sort=accuracies"], "Did you mean accuracy?"),
    ],
)
def test_a_mistake_is_one_line(runs, words, message, capsys):
    assert cli.main(["runs", *(word.format(runs=runs) for word in words)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_settings_of_another_version_are_no_run(runs):
    (runs / "good" / "config.toml").write_text("unknown = 1")
    assert "good" not in [run.directory.name for run in past_runs.find(runs)]
    with pytest.raises(errors.UserError, match="unknown"):
        past_runs.load(runs / "good")
