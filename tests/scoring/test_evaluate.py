import csv
import dataclasses
import json
import os
import pathlib
import shutil

import numpy as np
import PIL.Image
import pytest
from conftest import LABELS
from conftest import run
from conftest import small
from conftest import write_digits

from tlkeras import cli
from tlkeras import errors
from tlkeras import files
from tlkeras import progress
from tlkeras.data import sources
from tlkeras.scoring import evaluate as evaluation
from tlkeras.scoring import predicting

QUIET = progress.Progress(quiet=True)


def opened(name: str) -> sources.Source:
    return sources.open(name, progress=QUIET)


def evaluate(trained, source, split="auto") -> evaluation.Evaluation:
    return evaluation.evaluate(
        trained.directory,
        source,
        split=split,
        cache_dir=files.cache_directory(),
        progress=QUIET,
    )


def predictions(trained) -> list[dict[str, str]]:
    with open(
        trained.directory / "predictions.csv", newline="", encoding="utf-8"
    ) as stream:
        return list(csv.DictReader(stream))


def write_csv(path, rows) -> sources.Source:
    """Writes (image, label) rows and opens them as a source."""
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("path", "label"), *rows])
    return opened(f"csv:{path}")


def test_every_way_gives_the_labels_of_predictions_csv(trained, photos):
    rows = predictions(trained)
    expected = {row["path"]: row["label"] for row in rows}
    assert set(expected.values()) == set(LABELS)
    scored = evaluate(trained, opened(f"folder:{photos}"), "all")
    predicted = predicting.predict(
        trained.directory, sorted(expected), progress=QUIET
    )
    for prediction in (scored.prediction, predicted):
        answers = prediction.probabilities.argmax(axis=1)
        labels = {
            path: prediction.labels[answer]
            for path, answer in zip(prediction.paths, answers, strict=True)
        }
        assert {path: labels[path] for path in expected} == expected


@pytest.mark.parametrize("split", ["auto", "test", "validation", "train"])
def test_the_runs_own_splits_are_found_again(trained, photos, split):
    found = evaluate(trained, opened(f"folder:{photos}"), split)
    name = "test" if split == "auto" else split
    assert len(found.prediction.paths) == sum(
        trained.report["data"]["images"][name].values()
    )
    if name == "train":
        return
    mine = [row for row in predictions(trained) if row["split"] == name]
    assert list(found.prediction.paths) == [row["path"] for row in mine]
    assert list(found.true_labels) == [row["true_label"] for row in mine]
    assert found.quality["accuracy"] == trained.report[name]["accuracy"]
    assert ("test split is scored" in " ".join(found.notes)) == (
        split == "auto"
    )


def test_few_images_of_training_are_found_again(photos, tmp_path):
    values = {"images_per_class": 4, "batch_size": 12, "epochs": 1}
    settings = small(data=f"folder:{photos}", **values)
    few = run(settings, tmp_path / "run")
    found = evaluate(few, opened(f"folder:{photos}"), "train")
    assert sorted(found.true_labels) == sorted(LABELS * 4)


def test_pictures_that_the_model_has_seen_are_left_out(
    trained, photos, tmp_path
):
    shutil.copytree(photos, tmp_path / "copy")
    names = dict(enumerate(LABELS))
    new = write_digits(tmp_path / "copy", names, 5, first=60)
    held_out = [row for row in predictions(trained) if row["split"] == "test"]
    found = evaluate(trained, opened(f"folder:{tmp_path}/copy"))
    assert len(found.prediction.paths) == len(held_out) + len(new)
    # The file that is broken is not known for one that was seen.
    assert len(found.prediction.failed) == 1
    seen = 150 - len(held_out)
    assert found.notes[0].startswith(f"{seen} of {151 + len(new)} images are ")

    everything = evaluate(trained, opened(f"folder:{tmp_path}/copy"), "all")
    assert len(everything.prediction.paths) == 150 + len(new)
    assert f"{seen} of these " in everything.notes[0]


def test_pictures_that_were_saved_anew_since_are_left_out(
    trained, photos, tmp_path
):
    rows = predictions(trained)
    known = [row for row in rows if row["split"] == "validation"]
    changed = {}
    for number, row in enumerate(known):
        picture = PIL.Image.open(row["path"]).convert("RGB")
        picture = picture.resize((64, 64), PIL.Image.Resampling.BICUBIC)
        path = tmp_path / "new" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        picture.save(path, quality=90)
        changed[path] = row["true_label"]
    new = write_digits(tmp_path, dict(enumerate(LABELS)), 5, first=60)
    source = write_csv(tmp_path / "a.csv", [*changed.items(), *new.items()])
    found = evaluate(trained, source)
    assert set(found.prediction.paths) == set(new)
    count = len(known)
    assert found.notes[0].startswith(
        f"{count} of {count + len(new)} images are left out"
    )
    assert f"({count} saved anew, resized, cropped or turned)" in found.notes[0]
    # A run of an earlier version kept no thumbnails.
    copy = tmp_path / "run"
    shutil.copytree(trained.directory, copy)
    for damaged in (b"", b"\x93NUMPY", None):
        if damaged is None:
            os.remove(copy / "thumbnails.npy")
        else:
            (copy / "thumbnails.npy").write_bytes(damaged)
        found = evaluation.evaluate(
            copy,
            source,
            cache_dir=files.cache_directory(),
            progress=QUIET,
        )
        assert found.notes == ("All images are scored.",)


def test_data_that_was_all_learned_from_is_refused(trained, photos, tmp_path):
    found = evaluate(trained, opened(f"folder:{photos}"), "train")
    rows = zip(found.prediction.paths, found.true_labels, strict=True)
    source = write_csv(tmp_path / "a.csv", rows)
    with pytest.raises(errors.UserError, match="model learned from all"):
        evaluate(trained, source)
    assert len(evaluate(trained, source, "all").prediction.paths) == len(
        found.prediction.paths
    )


def test_what_came_and_went_since_training_is_told(tmp_path):
    folder = tmp_path / "photos"
    names = dict(enumerate(LABELS))
    write_digits(folder, names, 40)
    made = run(small(data=f"folder:{folder}", epochs=1), tmp_path / "run")
    before = evaluate(made, opened(f"folder:{folder}"))
    assert before.quality["majority"] == made.report["test"]["majority"]
    write_digits(folder, names, 10, first=40)
    found = evaluate(made, opened(f"folder:{folder}"))
    assert found.prediction.paths == before.prediction.paths
    assert "30 images added since the model was trained" in found.notes[1]

    mine = list(before.prediction.paths)
    pathlib.Path(mine[0]).write_bytes(b"no picture")
    os.remove(mine[1])
    found = evaluate(made, opened(f"folder:{folder}"))
    assert list(found.prediction.paths) == mine[2:]
    assert [path for path, _ in found.prediction.failed] == mine[:1]
    assert f"2 of {len(mine)} images of the test split" in found.notes[2]


def test_a_damaged_list_of_images_is_one_line(trained, photos, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(trained.directory, copy)
    for text in ("", "path,label\n", "path,label,split,pixels\na,b,c\n"):
        (copy / "images.csv").write_text(text)
        with pytest.raises(errors.UserError, match="images.csv is damaged"):
            evaluation.evaluate(
                copy,
                opened(f"folder:{photos}"),
                cache_dir=files.cache_directory(),
                progress=QUIET,
            )


def test_all_images_of_other_data_are_scored(trained, tmp_path):
    write_digits(tmp_path, dict(enumerate(LABELS)), 5, first=60)
    found = evaluate(trained, opened(f"folder:{tmp_path}"))
    assert len(found.prediction.paths) == 15
    assert found.notes == ("All images are scored.",)
    assert not found.prediction.failed


def test_splits_that_the_data_has_are_kept(trained, tmp_path):
    names = dict(enumerate(LABELS))
    for split, first in (("train", 60), ("test", 80)):
        write_digits(tmp_path / split, names, 4, first=first)
    found = evaluate(trained, opened(f"folder:{tmp_path}"), "test")
    assert len(found.prediction.paths) == 12
    assert all(f"{tmp_path}/test/" in path for path in found.prediction.paths)
    # Of a table with test images alone, too.
    rows = [
        (path, label, "test")
        for path, label in zip(
            found.prediction.paths, found.true_labels, strict=True
        )
    ]
    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("path", "label", "split"), *rows])
    again = evaluate(trained, opened(f"csv:{tmp_path}/a.csv"), "test")
    assert again.prediction.paths == found.prediction.paths


def test_a_subset_of_the_classes(trained, tmp_path):
    rows = write_digits(tmp_path, {0: LABELS[0], 2: LABELS[2]}, 6, first=60)
    found = evaluate(trained, write_csv(tmp_path / "a.csv", rows.items()))
    assert len(found.prediction.paths) == 12
    assert "knows 1 class not in the data: zwölf" in found.notes[1]
    per_class = {row["label"]: row["n"] for row in found.quality["per_class"]}
    assert per_class == {LABELS[0]: 6, LABELS[1]: 0, LABELS[2]: 6}


def test_a_superset_of_the_classes(trained, tmp_path):
    names = {**dict(enumerate(LABELS)), 3: "apple", 4: "zoo"}
    rows = write_digits(tmp_path, names, 6, first=60)
    found = evaluate(trained, write_csv(tmp_path / "a.csv", rows.items()))
    assert len(found.prediction.paths) == 18
    assert set(found.true_labels) == set(LABELS)
    assert found.notes[1] == (
        "12 images of classes that the model does not know left out: "
        "apple, zoo."
    )


def test_classes_in_another_order_are_matched_by_name(trained, photos):
    source = opened(f"folder:{photos}")
    expected = evaluate(trained, source, "all")
    for labels in (LABELS[::-1], (LABELS[2], "new", *LABELS[:2])):
        other = dataclasses.replace(source, labels=labels)
        found = evaluate(trained, other, "all")
        assert found.quality == expected.quality
        assert "another order" in found.notes[-1]
    assert "another order" not in " ".join(expected.notes)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("kind", ["folder", "csv"])
def test_equal_pictures_are_one_observation(trained, tmp_path, kind, alone):
    """Also where nothing is known of the run that the model is from."""
    root, model = tmp_path / "data", trained.directory
    new = write_digits(root, dict(enumerate(LABELS)), 5, first=60)
    rows = []
    for path, label in new.items():
        for number in range(3):
            # Other files, the same pixels.
            copy = pathlib.Path(path).with_suffix(f".{number}.bmp")
            PIL.Image.open(path).save(copy)
            rows.append((copy, label))
        os.remove(path)
    source = opened(f"folder:{root}")
    if kind == "csv":
        source = write_csv(tmp_path / "table.csv", rows)
    if alone:
        model = shutil.copy(model / "model.keras", tmp_path / "copy.keras")
    found = evaluation.evaluate(
        model,
        source,
        split="all",
        cache_dir=files.cache_directory(),
        progress=QUIET,
    )
    accuracy = found.quality["accuracy"]
    assert (accuracy["n"], accuracy["groups"]) == (3 * len(new), len(new))


def test_no_class_in_common_is_refused(trained):
    with pytest.raises(errors.UserError, match="null, zwölf, 二.*0, 1"):
        evaluate(trained, opened("builtin:digits[0-1]"))


def test_unreadable_images_are_left_out_and_named(trained, photos):
    found = evaluate(trained, opened(f"folder:{photos}"), "all")
    assert len(found.prediction.paths) == 150
    assert found.prediction.failed == (
        (str(photos / LABELS[0] / "broken.png"), "truncated PNG"),
    )


def test_what_is_written_is_what_was_found(trained, photos, tmp_path):
    found = evaluate(trained, opened(f"folder:{photos}"))
    evaluation.write_metrics(found, tmp_path / "a.json")
    values = json.loads((tmp_path / "a.json").read_text())
    assert values["quality"] == found.quality
    command = [
        *(f"--model={trained.directory}", f"--data=folder:{photos}"),
        f"--csv={tmp_path}/a.csv",
    ]
    assert cli.main(["evaluate", *command]) == 0
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    columns = [f"p_{label}" for label in LABELS]
    assert list(rows[0]) == ["path", "true_label", "label", "score", *columns]
    mine = [row for row in predictions(trained) if row["split"] == "test"]
    for one, other in zip(rows, mine, strict=True):
        assert one["path"] == other["path"]
        assert one["label"] == other["label"]
        for column in ("score", *columns):
            assert float(one[column]) == pytest.approx(
                float(other[column]), abs=1e-5
            )
    command = [
        *(f"--model={trained.directory}", f"--csv={tmp_path}/b.csv"),
        *found.prediction.paths[:2],
    ]
    assert cli.main(["predict", *command]) == 0
    header = (tmp_path / "b.csv").read_text().splitlines()[0]
    assert header == ",".join(["path", "label", "score", *columns])


def test_a_model_alone_needs_no_run_beside_it(trained, photos, tmp_path):
    shutil.copy(trained.directory / "model.keras", tmp_path)
    found = evaluation.evaluate(
        tmp_path / "model.keras",
        opened(f"folder:{photos}"),
        cache_dir=tmp_path / "cache",
        progress=QUIET,
    )
    (note,) = found.notes
    assert note.startswith("All images are scored. Whether the model learned")
    assert len(found.prediction.paths) == 150


def test_images_given_by_a_group_stay_where_they_were(tmp_path, no_training):
    """A run on a table with groups, found again from its config alone."""
    names = dict(enumerate(LABELS[:2]))
    rows = write_digits(tmp_path, names, 24)
    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "group"))
        for number, (path, label) in enumerate(rows.items()):
            writer.writerow((path, label, f"patient {number // 3}"))
    data = f"csv:{tmp_path}/a.csv"
    finished = run(small(data=data), tmp_path / "run")
    found = evaluate(finished, opened(data), "test")
    mine = [row for row in predictions(finished) if row["split"] == "test"]
    assert list(found.prediction.paths) == [row["path"] for row in mine]
    assert np.isclose(found.prediction.probabilities.sum(axis=1), 1).all()
    # Here and there it is said how many patients speak.
    patients = {
        f"patient {number // 3}"
        for number, path in enumerate(rows)
        if str(path) in found.prediction.paths
    }
    for quality in (found.quality, finished.report["test"]):
        assert quality["accuracy"]["n"] == len(mine) > len(patients)
        assert quality["accuracy"]["groups"] == len(patients)
