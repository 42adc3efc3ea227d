"""model_card.md says what report.json says, in the form of the hub."""

import re

import numpy as np
import pytest

from tlkeras.backbones import catalog
from tlkeras.backbones import origins
from tlkeras.report import card

SIZES = np.array([[8, 8], [30, 20]])


@pytest.fixture(scope="module")
def text(trained) -> str:
    return (trained.directory / "model_card.md").read_text(encoding="utf-8")


def render(report, **changed):
    return card.render(
        {**report, **changed},
        sizes=SIZES,
        resize="pad",
        environment={"tlkeras": "0.1"},
    )


def metadata(text: str) -> dict:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(text.split("---\n")[1])


def test_the_hub_finds_its_metadata(text, trained):
    found = metadata(text)
    assert text.startswith("---\n")
    assert found["pipeline_tag"] == "image-classification"
    assert found["library_name"] == "keras"
    (entry,) = found["model-index"]
    (result,) = entry["results"]
    accuracy, macro = result["metrics"]
    test = trained.report["test"]
    assert accuracy["type"] == "accuracy"
    assert accuracy["value"] == pytest.approx(
        test["accuracy"]["value"], abs=1e-4
    )
    assert macro["value"] == pytest.approx(test["macro_f1"], abs=1e-4)
    assert result["dataset"]["name"] == "photos"


def test_readme_is_what_the_hub_shows(text, trained):
    assert (trained.directory / "README.md").read_text("utf-8") == text


def test_it_says_what_the_report_says(text, trained):
    report = trained.report
    accuracy = report["test"]["accuracy"]
    for share in (accuracy["value"], accuracy["low"], accuracy["high"]):
        assert f"{100 * share:.1f} %" in text
    assert f"On {accuracy['n']} test pictures" in text
    images = report["data"]["images"]
    for row in report["test"]["per_class"]:
        label = row["label"]
        counts = " | ".join(str(images[split][label]) for split in images)
        assert f"| {label} | {counts} |" in text
        recall = f"{100 * row['recall']:.1f} %"
        assert re.search(
            rf"\| {label} \| {row['n']} \| .* \| {recall} \|", text
        )
    for phase in report["phases"]:
        assert f"| {phase['name']} | {phase['unfreeze']} |" in text
    for limit in (*report["test"]["warnings"], *report["data"]["notes"]):
        assert limit in text
    assert "1 files could not be read" in text
    assert "8 x 8 pixels" in text
    assert "every weight began at random" in text


def test_no_place_on_the_disk_is_told(text, trained, photos):
    assert str(photos.parent) not in text
    assert str(trained.directory) not in text
    given = render(trained.report, weights="/home/somebody/secret.h5")
    assert "/home" not in given and "`secret.h5`" in given


def test_names_of_classes_are_text(trained):
    strange = "a|b <i>*c* \x1b[2J"
    data = trained.report["data"]
    images = {
        split: {strange: 1, **counts}
        for split, counts in data["images"].items()
    }
    classes = [strange, *data["classes"]]
    text = render(
        trained.report,
        data={**data, "classes": classes, "images": images},
    )
    assert "\x1b" not in text
    assert r"| a\|b \<i\>\*c\* " in text
    assert metadata(text)


def test_a_run_without_test_pictures(trained):
    text = render(trained.report, test=None)
    assert "nothing is known of how good it is" in text
    assert "model-index" not in metadata(text)


@pytest.mark.parametrize("row", catalog.BACKBONES, ids=lambda row: row.name)
def test_whose_the_weights_are_is_known_where_there_are_some(row):
    if row.weights:
        assert row.family in origins.ORIGINS
        assert "licence: " in origins.describe(row.name, "imagenet")
    assert "not known" in origins.describe(row.name, "runs/a/")
    assert "`a`" in origins.describe(row.name, "runs/a/")
