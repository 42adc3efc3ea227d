"""A process on TensorFlow writes what is asked, or says why not."""

import numpy as np
import pytest

from tlkeras.export import elsewhere
from tlkeras.export import runtimes
from tlkeras.models import saving


@pytest.mark.slow
def test_what_it_writes_answers_and_what_it_cannot_is_said(trained, tmp_path):
    model = trained.directory / "model.keras"
    done = elsewhere.write_saved_model(model, tmp_path / "written")
    assert done.returncode == 0, done.stderr
    size = saving.load(model).shape.size
    images = np.zeros([2, size, size, 3], np.uint8)
    answers = runtimes.saved_model(tmp_path / "written")(images)
    assert answers["probabilities"].shape[0] == 2
    done = elsewhere.write_saved_model(tmp_path / "none", tmp_path / "other")
    assert done.returncode
    assert "none" in elsewhere.last_line(done)
    assert not (tmp_path / "other").exists()
