"""Curves of two classes, and thresholds that do what is wished."""

import csv
import json

import numpy as np
import PIL.Image
import pytest
import sklearn.metrics
import tensorflow as tf
from conftest import run
from conftest import small

from tlkeras import api
from tlkeras import cli
from tlkeras import cross_validation
from tlkeras import errors
from tlkeras import plan
from tlkeras import progress
from tlkeras.models import saving
from tlkeras.models import threshold as thresholds
from tlkeras.scoring import metrics
from tlkeras.scoring import two_classes
from tlkeras.settings import wish as wishes


def answers(seed: int = 0, images: int = 300) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    targets = (random.random(images) < 0.3).astype(int)
    logits = random.normal(1.2 * targets - 1, 1)
    own = 1 / (1 + np.exp(-logits))
    return np.stack([1 - own, own], 1), targets


def counts(found, probabilities, targets) -> tuple[float, float, int]:
    chosen, _ = found.task.answers(probabilities)
    truth, said = targets == found.positive, chosen == found.positive
    hits = (truth & said).sum()
    return hits / truth.sum(), hits / said.sum(), (said & ~truth).sum()


def test_areas_are_those_of_scikit_learn():
    probabilities, targets = answers()
    quality = metrics.compute(probabilities, targets, ("no", "yes"))
    found = quality["two_classes"]
    own = probabilities[:, 1]
    assert found["positive"] == "yes"
    assert found["roc_area"] == sklearn.metrics.roc_auc_score(targets, own)
    x, y = np.transpose(found["roc"])
    assert np.trapezoid(y, x) == pytest.approx(found["roc_area"], abs=0.01)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert len(found["precision_recall"]) <= 200
    other = metrics.compute(probabilities, targets, ("no", "yes"), positive=0)
    assert other["two_classes"]["positive"] == "no"
    assert other["two_classes"]["base"] == pytest.approx(1 - found["base"])
    json.dumps(quality, allow_nan=False)
    one = metrics.compute(probabilities, 0 * targets, ("no", "yes"))
    assert one["two_classes"] is None


@pytest.mark.parametrize("positive", [0, 1])
def test_a_recall_has_the_fewest_false_alarms(positive):
    probabilities, targets = answers()
    found = two_classes.choose(
        wishes.parse("recall:0.9"), probabilities, targets, positive
    )
    recall, _, alarms = counts(found, probabilities, targets)
    assert recall >= 0.9
    # One more that is left out, and it is missed.
    own = probabilities[:, positive]
    higher = thresholds.Threshold(
        positive, own[(own > found.probability)].min() + 1e-9
    )
    more = counts(higher, probabilities, targets)
    assert more[0] < 0.9 or more[2] == alarms


def test_a_precision_finds_most():
    probabilities, targets = answers()
    found = two_classes.choose(
        wishes.parse("precision:0.6"), probabilities, targets, 1
    )
    recall, precision, _ = counts(found, probabilities, targets)
    assert precision >= 0.6
    others = np.linspace(0.01, 0.9, 200)
    for probability in others:
        other = thresholds.Threshold(1, probability)
        if (probabilities[:, 1] >= probability).any():
            more = counts(other, probabilities, targets)
            assert more[1] < 0.6 or more[0] <= recall + 1e-9
    never = two_classes.choose(
        wishes.parse("precision:0.99"), probabilities, 1 - targets * 0 - 1, 1
    )
    assert never is None


def test_costs_are_lowest():
    probabilities, targets = answers()
    found = two_classes.choose(
        wishes.parse("cost:5"), probabilities, targets, 1
    )

    def cost(threshold):
        said = probabilities[:, 1] >= threshold.probability
        missed = (targets[~said] == 1).sum()
        return 5 * missed + (targets[said] == 0).sum()

    least = min(
        cost(thresholds.Threshold(1, each)) for each in np.linspace(0, 1, 300)
    )
    assert cost(found) <= least < cost(thresholds.Threshold(1, 0.5))
    # Where the scores are true it lies near 1 / (1 + 5).
    assert 0.05 < found.probability < 0.35


@pytest.mark.parametrize(
    "text", ["recall", "recall:1", "recall:0", "cost:0", "cost:x", "f1:0.5"]
)
def test_what_is_no_wish(text):
    with pytest.raises(errors.UserError, match="`threshold`"):
        wishes.parse(text)
    assert wishes.parse("none") is None


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder of two classes that are hard to tell apart."""
    root = tmp_path_factory.mktemp("two")
    random = np.random.default_rng(0)
    for label, value in (("off", 118), ("on", 138)):
        (root / "photos" / label).mkdir(parents=True)
        for number in range(60):
            pixels = random.normal(value, 3) + random.normal(0, 30, [16, 16, 3])
            picture = PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            picture.save(root / "photos" / label / f"{number}.png")
    with open(root / "table.csv", "w", newline="") as stream:
        paths = sorted((root / "photos").glob("*/*.png"))
        rows = [
            (path, path.parent.name, "ab"[number % 2])
            for number, path in enumerate(paths)
        ]
        csv.writer(stream).writerows([("path", "label", "camera"), *rows])
    return root


@pytest.fixture(scope="module")
def careful(two):
    return run(
        small(
            data=f"csv:{two}/table.csv",
            slices="camera",
            epochs=2,
            threshold="recall:0.99",
            positive="off",
        ),
        two / "run",
    )


def test_a_run_answers_by_its_threshold(careful, two):
    chosen = careful.report["threshold"]
    assert chosen["positive"] == "off"
    assert chosen["validation"]["recall"]["value"] >= 0.99
    saved = saving.load(careful.directory)
    assert saved.threshold == thresholds.Threshold(0, chosen["probability"])
    per_class = careful.report["test"]["per_class"][0]
    assert per_class["recall"] == pytest.approx(
        chosen["test"]["recall"]["value"]
    )
    with open(careful.directory / "predictions.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        expected = float(row["p_off"]) >= chosen["probability"]
        assert (row["label"] == "off") is expected
    page = (careful.directory / "report.html").read_text()
    assert chosen["text"].split(",")[0] in page
    assert "area under the ROC curve" in page


def test_exports_answer_by_the_threshold(careful, two):
    saved = saving.load(careful.directory)
    squares = np.stack(
        [
            np.asarray(PIL.Image.open(path))
            for path in sorted((two / "photos").glob("*/*.png"))
        ]
    )
    served = tf.saved_model.load(
        str(careful.directory / "saved_model" / "1")
    ).signatures["images"](images=tf.constant(squares))
    own = served["probabilities"].numpy()[:, 0]
    by_threshold = np.where(own >= saved.threshold.probability, "off", "on")
    labels = [each.decode() for each in served["label"].numpy()]
    assert labels == by_threshold.tolist()
    expected = api.load(careful.directory).predict(list(squares))
    assert labels == [each["label"] for each in expected]


def test_a_file_of_another_format_says_the_threshold(careful, two):
    pytest.importorskip("ai_edge_litert")
    out = two / "litert"
    done = api.export_model(careful.directory, out, format="litert", quiet=True)
    assert not done.refused
    known = json.loads((out / "model.json").read_text())["threshold"]
    chosen = careful.report["threshold"]
    assert known == {"label": "off", "probability": chosen["probability"]}


def test_a_threshold_takes_two_classes(photos, tmp_path, capsys):
    words = [f"--data=folder:{photos}", f"--workdir={tmp_path}/run"]
    words += ["--backbone=SmallResNet", "--strategy=scratch"]
    assert cli.main(["train", *words, "--threshold=recall:0.9"]) == 2
    assert "`threshold` is for two classes" in capsys.readouterr().err


def test_slices_give_the_accuracy_of_each_value(careful, two, tmp_path, capsys):
    words = [
        f"--model={careful.directory}",
        f"--data=csv:{two}/table.csv",
        "--quiet",
    ]
    words += ["--split=all", f"--json={tmp_path}/out.json"]
    more = ["--slices=camera", "--top_k=1"]
    assert cli.main(["evaluate", *words, *more]) == 0
    quality = json.loads((tmp_path / "out.json").read_text())["quality"]
    assert quality["top_k"]["k"] == 1
    # The probabilities' own order knows no threshold.
    assert 0 < quality["top_k"]["low"] < quality["top_k"]["value"] < 1
    assert "right among the 1 most probable" in capsys.readouterr().out
    check_slices(quality)
    check_slices(careful.report["test"])
    page = (careful.directory / "report.html").read_text()
    assert "By camera" in page
    for more, said in (
        ("--slices=year", "`slices` must be a column"),
        ("--top_k=2", "`top_k` must be below"),
    ):
        assert cli.main(["evaluate", *words, more]) == 2
        assert said in capsys.readouterr().err
    words[1] = f"--data=folder:{two}/photos"
    assert cli.main(["evaluate", *words, "--slices=camera"]) == 2
    assert cli.main(["train", words[1], "--slices=camera"]) == 2
    assert "`slices` names a column" in capsys.readouterr().err


@pytest.mark.slow
def test_folds_have_slices_of_all_images(two, tmp_path):
    wanted = small(
        data=f"csv:{two}/table.csv", slices="camera", epochs=1, folds=3
    )
    quiet = progress.Progress(quiet=True)
    made = plan.make(wanted, tmp_path / "run", progress=quiet)
    report = cross_validation.run(made, progress=quiet).report
    check_slices(report["test"])
    with open(tmp_path / "run" / "predictions.csv", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "test"]
    cameras = dict(
        line[::2] for line in csv.reader((two / "table.csv").open(newline=""))
    )
    for row in report["test"]["slices"]["values"]:
        mine = [each for each in rows if cameras[each["path"]] == row["value"]]
        right = [each["label"] == each["true_label"] for each in mine]
        assert row["n"] == len(mine) > 0
        assert row["accuracy"] == pytest.approx(np.mean(right))


def check_slices(quality) -> None:
    found = quality["slices"]
    assert found["column"] == "camera"
    assert sorted(row["value"] for row in found["values"]) == ["a", "b"]
    right = sum(row["accuracy"] * row["n"] for row in found["values"])
    accuracy = quality["accuracy"]
    assert right == pytest.approx(accuracy["value"] * accuracy["n"])
    for row in found["values"]:
        assert row["low"] <= row["accuracy"] <= row["high"]
