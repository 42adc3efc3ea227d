import csv

import numpy as np
import PIL.Image
import pytest
from conftest import LABELS

import tlkeras
from tlkeras import cli
from tlkeras import errors
from tlkeras.report import explained
from tlkeras.scoring import explaining


def of(index: int, peak: tuple[int, int]) -> explaining.Explanation:
    values = np.zeros([2, 2], np.float32)
    values[peak] = 1.0
    square = np.full([32, 32, 3], 100, np.uint8)
    return explaining.Explanation(
        index, "dog", 0.75, "cat", square, values, explaining.CAM
    )


def test_each_picture_stands_beside_its_map(tmp_path):
    place = tmp_path / "seen"
    paths = ["a/one.jpg", "b/one.jpg", "b/not text \udce9.png"]
    found = [of(0, (0, 0)), of(2, (1, 1))]
    assert explained.write(place, found, paths, model="pets") == 2
    with (place / "explained.csv").open(newline="", errors="replace") as stream:
        first, second = csv.DictReader(stream)
    assert first["label"] == "dog" and first["explained_label"] == "cat"
    for row, corner in ((first, np.s_[:8, 32:40]), (second, np.s_[-8:, -8:])):
        pixels = np.asarray(PIL.Image.open(place / row["picture"]))
        assert pixels.shape == (32, 64, 3)
        assert (pixels[:, :32] == 100).all()
        assert pixels[corner].max() > 150
    page = (place / "index.html").read_text()
    assert page.count("data:image/jpeg") == 2 and "b/not text" in page
    assert "2 × 2 places" in page and "no outline" in page


def test_nothing_is_left_of_an_error(tmp_path):
    def broken():
        yield of(0, (0, 0))
        raise errors.UserError("gone")

    with pytest.raises(errors.UserError):
        explained.write(tmp_path / "seen", broken(), ["a.jpg"], model="pets")
    assert list(tmp_path.iterdir()) == []


def test_the_command(trained, photos, tmp_path, capsys):
    place = tmp_path / "seen"
    broken = photos / LABELS[0] / "broken.png"
    some = sorted((photos / LABELS[1]).glob("*.png"))[:2]
    words = ["explain", f"--model={trained.directory}", f"--output={place}"]
    assert cli.main([*words, *map(str, some), str(broken)]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == f"2 images: {place}/index.html"
    assert "broken.png" in printed.err
    with (place / "explained.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == list(map(str, some))
    # Nothing that could be read leaves nothing.
    words[-1] = f"--output={tmp_path / 'none'}"
    assert cli.main([*words, str(broken)]) == 2
    assert "none of 1 images can be read" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_the_report_of_a_run_shows_them(trained):
    page = (trained.directory / "report.html").read_text()
    assert "What such a map can show, and what not" in page
    assert page.count('alt="evidence for') >= 2 * len(LABELS)


def test_from_python(trained, photos):
    classifier = tlkeras.load(trained.directory)
    path = min((photos / LABELS[1]).glob("*.png"))
    (answer,) = classifier.predict(path)
    by_path = classifier.explain(path)[0]
    array = np.asarray(PIL.Image.open(path).convert("RGB"))
    by_array = classifier.explain([array], label=LABELS[2])[0]
    assert by_path["label"] == answer["label"] == by_array["label"]
    assert by_path["score"] == pytest.approx(answer["score"], abs=1e-6)
    assert by_array["explained"] == LABELS[2]
    assert by_path["picture"].size == (16, 16)
    assert by_path["map"].shape == by_array["map"].shape
    with pytest.raises(errors.UserError, match="`label` must be a class"):
        classifier.explain(path, label="zwolf")
