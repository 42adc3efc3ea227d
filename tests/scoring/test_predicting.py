import io
import os

import numpy as np
import PIL.Image
import pytest
from conftest import tree

from tlkeras import errors
from tlkeras import progress
from tlkeras.models import saving
from tlkeras.scoring import predicting

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


def test_files_and_arrays_of_any_size_get_the_same_logits(classifier):
    # More than two batches, the last of them of one image.
    arrays = pictures(65)
    encoded = [png(array) for array in arrays]
    by_bytes = predicting.predict_encoded(
        classifier, range(65), encoded.__getitem__, progress=QUIET
    )
    by_pixels = predicting.predict_arrays(classifier, arrays)
    assert by_bytes.indices.tolist() == list(range(65))
    assert by_bytes.logits.shape == (65, 3)
    np.testing.assert_array_equal(by_bytes.logits, by_pixels)
    alone = predicting.predict_arrays(classifier, arrays[64:])
    np.testing.assert_allclose(alone, by_pixels[64:], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_read_is_named_and_the_rest_is_done(classifier):
    files = {3: png(pictures(1)[0]), 5: b"text", 8: b""}

    def read(index: int) -> bytes:
        if index not in files:
            raise FileNotFoundError(2, "No such file or directory")
        return files[index]

    answers = predicting.predict_encoded(
        classifier, [5, 3, 8, 9, 3], read, progress=QUIET
    )
    assert answers.indices.tolist() == [3, 3]
    np.testing.assert_array_equal(answers.logits[0], answers.logits[1])
    assert dict(answers.failed) == {
        5: "not an image",
        8: "empty file",
        9: "cannot be read: No such file or directory",
    }


@pytest.mark.parametrize("indices", [[], [0]])
def test_nothing_that_can_be_read_is_no_error(classifier, indices):
    answers = predicting.predict_encoded(
        classifier, indices, lambda index: b"", progress=QUIET
    )
    assert answers.logits.shape == (0, 3)
    assert len(answers.failed) == len(indices)


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
