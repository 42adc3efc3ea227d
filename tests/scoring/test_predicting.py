import csv
import io
import os
import pathlib

import numpy as np
import PIL.Image
import pytest
from conftest import tree

from tlkeras import api
from tlkeras import cli
from tlkeras import errors
from tlkeras import progress
from tlkeras.models import saving
from tlkeras.scoring import predicting
from tlkeras.scoring import sorting

QUIET = progress.Progress(quiet=True)


@pytest.fixture(scope="module")
def classifier(trained):
    return saving.load(trained.directory)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def pictures(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [
        random.integers(0, 256, [8 + index % 3, 9, 3], np.uint8)
        for index in range(count)
    ]


def test_files_and_arrays_of_any_size_get_the_same_answers(classifier):
    # More than two batches, the last of them of one image.
    arrays = pictures(65)
    encoded = [png(array) for array in arrays]
    by_bytes = predicting.predict_encoded(
        classifier, ["a"] * 65, encoded.__getitem__, progress=QUIET
    )
    by_pixels = predicting.predict_arrays(classifier, arrays).probabilities
    assert by_bytes.indices.tolist() == list(range(65))
    assert by_bytes.probabilities.shape == (65, 3)
    np.testing.assert_array_equal(by_bytes.probabilities, by_pixels)
    alone = predicting.predict_arrays(classifier, arrays[64:]).probabilities
    np.testing.assert_allclose(alone, by_pixels[64:], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_read_is_named_and_the_rest_is_done(classifier):
    contents = {"3": png(pictures(1)[0]), "5": b"text", "8": b""}
    paths = ["5", "3", "8", "9", "3"]

    def read(index: int) -> bytes:
        if paths[index] not in contents:
            raise FileNotFoundError(2, "No such file or directory")
        return contents[paths[index]]

    answers = predicting.predict_encoded(
        classifier, paths, read, progress=QUIET
    )
    assert answers.indices.tolist() == [1, 4]
    assert answers.paths == ("3", "3")
    np.testing.assert_array_equal(*answers.probabilities)
    assert answers.failed == (
        ("5", "not an image"),
        ("8", "empty file"),
        ("9", "cannot be read: No such file or directory"),
    )


@pytest.mark.parametrize("paths", [[], ["a"]])
def test_nothing_that_can_be_read_is_no_error(classifier, paths):
    answers = predicting.predict_encoded(
        classifier, paths, lambda index: b"", progress=QUIET
    )
    assert answers.probabilities.shape == (0, 3)
    assert len(answers.failed) == len(paths)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_only_regular_files_are_read(classifier, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "good.png").write_bytes(png(pictures(1)[0]))
    paths = [str(tmp_path / "pipe.png"), "/dev/zero", str(tmp_path)]
    answers = predicting.predict_files(
        classifier, [*paths, str(tmp_path / "good.png")], progress=QUIET
    )
    assert answers.indices.tolist() == [3]
    reasons = dict(answers.failed)
    assert reasons[paths[0]] == "cannot be read: not a regular file"
    assert reasons[paths[1]] == "cannot be read: not a regular file"
    assert reasons[paths[2]] == "cannot be read: Is a directory"


def test_predicting_leaves_no_file(classifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(png(pictures(1)[0]))
    before = tree(tmp_path)
    predicting.predict_files(classifier, ["a.png"], progress=QUIET)
    assert tree(tmp_path) == before
    assert os.listdir() == ["a.png"]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros([8, 8, 3], np.float32),
        np.zeros([8, 8], np.uint8),
        np.zeros([8, 8, 4], np.uint8),
        np.zeros([1, 8, 8, 3], np.uint8),
        np.zeros([0, 8, 3], np.uint8),
        "a.png",
    ],
)
def test_other_arrays_are_refused(classifier, array):
    with pytest.raises(errors.UserError, match="uint8 .height, width, 3."):
        predicting.predict_arrays(classifier, [array])


def table(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_predictions_are_written_by_the_contract(tmp_path):
    probabilities = np.array([[0.25, 0.75], [0.9, 0.1]], np.float32)
    predicting.write(
        tmp_path / "a.csv",
        {
            "path": ["a/1.png", "b,2.png"],
            "split": ["test", "train"],
            "true_label": ["cat", "cat"],
        },
        probabilities,
        ("cat", "dog"),
    )
    rows = table(tmp_path / "a.csv")
    assert rows[0] == {
        "path": "a/1.png",
        "split": "test",
        "true_label": "cat",
        "label": "dog",
        "score": "0.75",
        "p_cat": "0.25",
        "p_dog": "0.75",
    }
    assert np.float32(rows[1]["score"]) == np.float32(0.9)
    assert rows[1]["path"] == "b,2.png"


def test_predictions_without_truth_have_no_column_for_it(tmp_path):
    predicting.write(
        tmp_path / "a.csv", {"path": ["x.jpg"]}, np.array([[0.4, 0.6]]), "ab"
    )
    assert (tmp_path / "a.csv").read_text() == (
        "path,label,score,p_a,p_b\nx.jpg,b,0.6,0.4,0.6\n"
    )


def test_predictions_of_many_classes_are_the_five_highest(tmp_path):
    labels = [f"class {index}" for index in range(101)]
    probabilities = np.random.default_rng(0).dirichlet(np.ones(101), 20)
    # A tie goes to the earlier class, as the answer does.
    probabilities[0] = 1 / 101
    for name, every in (("some.csv", False), ("all.csv", True)):
        predicting.write(
            tmp_path / name,
            {"path": ["a"] * 20},
            probabilities,
            labels,
            all_classes=every,
        )
    some, every = table(tmp_path / "some.csv"), table(tmp_path / "all.csv")
    others = [f"label_{rank},score_{rank}" for rank in range(2, 6)]
    header = (tmp_path / "some.csv").read_text().splitlines()[0]
    assert header == ",".join(["path", "label", "score", *others])
    assert len(every[0]) == 3 + 101
    assert some[0]["label_5"] == "class 4"
    for row, whole, scores in zip(some, every, probabilities, strict=True):
        assert row["label"] == whole["label"] == labels[scores.argmax()]
        order = np.argsort(-scores, kind="stable")
        for rank, index in enumerate(order[1:5], 2):
            assert row[f"label_{rank}"] == labels[index]
            assert row[f"score_{rank}"] == whole[f"p_{labels[index]}"]


def test_as_many_of_the_most_probable_as_asked_for(tmp_path):
    shares = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    predicting.write(
        tmp_path / "a.csv", {"path": ["x", "y"]}, shares, "abc", top=2
    )
    rows = table(tmp_path / "a.csv")
    assert [row["label_2"] for row in rows] == ["c", "c"]
    assert [row["label"] for row in rows] == ["b", "a"]
    assert "label_3" not in rows[0] and rows[0]["p_a"] == "0.2"
    # More than there are is all.
    predicting.write(
        tmp_path / "b.csv", {"path": ["x", "y"]}, shares, "abc", top=9
    )
    assert table(tmp_path / "b.csv")[0]["label_3"] == "a"


def test_pictures_are_copied_by_label(tmp_path):
    paths = []
    for place, content in (("1", b"first"), ("2", b"second"), ("3", b"third")):
        (tmp_path / place).mkdir()
        path = tmp_path / place / "a.jpg"
        path.write_bytes(content)
        paths.append(str(path))
    prediction = predicting.Prediction(
        ("../up", ".", "cat"),
        np.arange(3),
        tuple(paths),
        np.eye(3)[[0, 1, 0]],
        (("text.txt", "not an image"),),
    )
    sorting.copy(prediction, tmp_path / "sorted")
    assert {
        str(path.relative_to(tmp_path / "sorted")): path.read_bytes()
        for path in (tmp_path / "sorted").rglob("*.jpg")
    } == {
        "%2E.%2Fup/a.jpg": b"first",
        "%2E.%2Fup/a-2.jpg": b"third",
        "%2E/a.jpg": b"second",
    }
    os.unlink(paths[1])
    with pytest.raises(errors.UserError, match="2/a.jpg cannot be copied"):
        sorting.copy(prediction, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_predictions_of_lengths_that_differ_are_refused(tmp_path):
    for columns in ({"path": ["x", "y"]}, {"path": "xyz", "split": ["test"]}):
        with pytest.raises(ValueError, match="must be .n, k."):
            predicting.write(
                tmp_path / "a.csv", columns, np.eye(3), ("a", "b", "c")
            )
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def overflowing(trained, tmp_path_factory) -> pathlib.Path:
    """A model of finite weights whose logits are infinite for all images."""
    model = saving.load(trained.directory)
    layer = model.model.get_layer("head").get_layer("logits")
    kernel = np.full(layer.kernel.shape, 3e38, np.float32)
    layer.kernel.assign(kernel)
    layer.bias.assign(kernel[0])
    directory = tmp_path_factory.mktemp("overflowing")
    saving.save(directory / "model.keras", model)
    return directory


def test_what_is_no_number_is_no_answer(overflowing, photos, tmp_path, capsys):
    """NaN's largest entry is the first: no door may answer with a class."""
    image = sorted(photos.glob("*/1*.png"))[0]
    model, table = f"--model={overflowing}", tmp_path / "a.csv"
    for command in (
        ["predict", model, f"--csv={table}", str(image)],
        ["evaluate", model, f"--csv={table}", f"--data=folder:{photos}"],
        ["export", model, f"--output={tmp_path}/b"],
    ):
        assert cli.main(command) == 2
        told = capsys.readouterr()
        assert "gives no finite scores" in told.err
        assert "nan" not in told.out
    assert not list(tmp_path.iterdir())
    classifier = api.load(overflowing)
    for given in (str(image), np.zeros([9, 9, 3], np.uint8)):
        with pytest.raises(errors.UserError, match="no finite scores for 1"):
            classifier.predict(given)
