import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from conftest import LABELS

from tlkeras import errors
from tlkeras.data import decode
from tlkeras.data import images as image_stores
from tlkeras.models import metadata
from tlkeras.models import saving


def test_a_model_comes_back_with_what_belongs_to_it(trained, tmp_path):
    first = saving.load(trained.directory)
    assert first.labels == LABELS
    assert first.shape == image_stores.Shape(16, "pad")
    saving.save(tmp_path / "new" / "copy.keras", first)
    second = saving.load(tmp_path / "new" / "copy.keras")
    assert (second.labels, second.shape) == (first.labels, first.shape)
    images = np.random.default_rng(0).uniform(0, 255, [4, 16, 16, 3])
    images = images.astype(np.float32)
    np.testing.assert_array_equal(
        first.model.predict_on_batch(images),
        second.model.predict_on_batch(images),
    )


def test_the_metadata_say_what_the_model_gives_and_need_no_keras(trained):
    file = trained.directory / "model.keras"
    with zipfile.ZipFile(file) as archive:
        values = metadata.json.loads(archive.read("tlkeras.json"))
    assert values == {
        "schema": 1,
        "outputs": "logits",
        "labels": list(LABELS),
        "resize": "pad",
        "image_size": 16,
        "max_pixels": decode.MAX_PIXELS,
        "backbone": "SmallResNet",
    }
    program = (
        "import sys; sys.modules['keras'] = None; "
        "sys.modules['tensorflow'] = None\n"
        "from tlkeras.models import metadata; "
        f"print(metadata.read({str(file)!r}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        encoding="utf-8",
        env={"PYTHONIOENCODING": "utf-8"},
        check=True,
    )
    assert found.stdout.strip() == repr(metadata.read(file))


def test_models_of_others_are_refused(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.save(tmp_path / "other.keras")
    with pytest.raises(errors.UserError, match="not saved by tlkeras"):
        saving.load(tmp_path / "other.keras")


def test_a_damaged_file_is_one_line(trained, tmp_path):
    content = (trained.directory / "model.keras").read_bytes()
    (tmp_path / "model.keras").write_bytes(content[: len(content) // 2])
    with pytest.raises(errors.UserError, match="damaged"):
        saving.load(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("what", ["logits/kernel", "moving_variance"])
def test_weights_that_are_no_numbers_are_refused_by_name(
    trained, tmp_path, what, value
):
    broken = saving.load(trained.directory)
    variable = next(v for v in broken.model.variables if what in v.path)
    array = np.array(keras.ops.convert_to_numpy(variable))
    array.flat[-1] = value
    variable.assign(array)
    saving.save(tmp_path / "model.keras", broken)
    with pytest.raises(errors.UserError, match=f"NaN or infinity.*{what}"):
        saving.load(tmp_path)
