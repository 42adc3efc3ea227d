import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from conftest import LABELS

from tlkeras import errors
from tlkeras.backbones import catalog
from tlkeras.data import decode
from tlkeras.data import images as image_stores
from tlkeras.data import sources
from tlkeras.data.sources import listing
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
        "tta": "none",
        "threshold": None,
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


def rewritten(
    trained, tmp_path: pathlib.Path, changes: dict[str, bytes | None]
) -> pathlib.Path:
    """Returns the model of a run with other members; None leaves one out."""
    path = tmp_path / "model.keras"
    with (
        zipfile.ZipFile(trained.directory / "model.keras") as old,
        zipfile.ZipFile(path, "w") as new,
    ):
        for name in old.namelist():
            content = changes.get(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return path


def refused(path: pathlib.Path) -> str:
    """Returns the message of the `UserError`, which is one short line."""
    with pytest.raises(errors.UserError) as caught:
        saving.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert len(message) < 700 + len(str(path))
    return message


def member(trained, name: str) -> dict:
    with zipfile.ZipFile(trained.directory / "model.keras") as archive:
        return json.loads(archive.read(name))


@pytest.mark.parametrize(
    "values",
    [
        {"schema": 2},
        {"schema": "1"},
        {"schema": True},
        {"schema": 1.0},
        {"outputs": "probabilities"},
        {"outputs": ["logits"]},
        {"labels": ["", "b", "c"]},
        {"labels": ["a\nb", "b", "c"]},
        {"labels": ["a\u2028", "b", "c"]},
        {"labels": ["a\ud800", "b", "c"]},
        {"labels": ["caf\u00e9", "cafe\u0301", "c"]},
        {"labels": ["a", "b"]},
        {"labels": ["a", "b", "a"]},
        {"labels": ["a", "b", 3]},
        {"labels": "abc"},
        {"labels": None},
        {"resize": "fold"},
        {"resize": ["pad"]},
        {"image_size": "16"},
        {"image_size": "auto"},
        {"image_size": 17},
        {"image_size": -1},
        {"image_size": True},
        {"image_size": 16.0},
        {"max_pixels": 0},
        {"max_pixels": None},
        {"backbone": 7},
        {"backbone": "SmallRestNet"},
        {"backbone": "small_resnet"},
        {"backbone": "x\n\x1b[2J"},
    ],
    ids=str,
)
def test_metadata_that_cannot_be_are_refused_by_name(trained, tmp_path, values):
    changed = json.dumps({**member(trained, "tlkeras.json"), **values})
    path = rewritten(trained, tmp_path, {"tlkeras.json": changed.encode()})
    (name,) = values
    assert name in refused(path)


def test_metadata_that_lack_a_key_are_refused_by_its_name(trained, tmp_path):
    whole = member(trained, "tlkeras.json")
    # Models of earlier versions lack these.
    for name in whole.keys() - {"tta", "threshold"}:
        fewer = {key: whole[key] for key in whole if key != name}
        path = rewritten(
            trained, tmp_path, {"tlkeras.json": json.dumps(fewer).encode()}
        )
        assert f"`{name}`" in refused(path)


@hypothesis.given(
    names=st.lists(st.text(), max_size=9),
    backbone=st.sampled_from([row.name for row in catalog.BACKBONES]),
)
def test_what_a_source_may_name_its_classes_is_read_back(names, backbone):
    """All that training takes passes, and nothing else."""
    source = listing.source(
        "folder:photos",
        [sources.Example("a", sources.normal_form(name)) for name in names],
    )
    known = metadata.Metadata(source.labels, "pad", 64, 10_000, backbone)
    with tempfile.TemporaryDirectory() as place:
        path = pathlib.Path(place, "a.keras")
        metadata.append(path, known)
        try:
            sources.check_classes(source)
        except errors.UserError:
            with pytest.raises(errors.UserError) as caught:
                metadata.read(path)
            assert "`labels`" in str(caught.value)
            assert "\n" not in str(caught.value)
        else:
            assert metadata.read(path) == known


@pytest.mark.parametrize(
    "name", ["tlkeras.json", "config.json", "metadata.json"]
)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda content: content[:6].hex(),
)
def test_members_of_another_content_are_one_line(
    trained, tmp_path, name, content
):
    path = rewritten(trained, tmp_path, {name: content})
    if name == "metadata.json":
        # Not every version of Keras reads it.
        with contextlib.suppress(errors.UserError):
            saving.load(path)
        return
    refused(path)


def test_a_network_that_cannot_be_is_one_line(trained, tmp_path):
    config = member(trained, "config.json")
    deep: dict = {}
    for _ in range(400):
        deep = {"config": deep, "class_name": "Functional", "module": "keras"}
    for changes in (
        {"config": {**config["config"], "layers": []}},
        {"config": {}},
        {"class_name": "Dense", "module": "keras.layers"},
        {"class_name": "Of a later Keras"},
        deep,
    ):
        content = json.dumps({**config, **changes}).encode()
        refused(rewritten(trained, tmp_path, {"config.json": content}))


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_a_model_without_a_member_is_one_line(trained, tmp_path, name):
    refused(rewritten(trained, tmp_path, {name: None}))


def test_a_model_of_a_newer_keras_says_so(trained, tmp_path):
    config = member(trained, "config.json")
    config["config"]["layers"][0]["class_name"] = "LayerToCome"
    metadata_of_keras = {"keras_version": "99.1.0", "date_saved": "2099"}
    path = rewritten(
        trained,
        tmp_path,
        {
            "config.json": json.dumps(config).encode(),
            "metadata.json": json.dumps(metadata_of_keras).encode(),
        },
    )
    message = refused(path)
    assert "saved by Keras 99.1.0, this is Keras " + keras.version() in message
    assert "LayerToCome" in message


def test_flipped_bits_are_one_line_or_no_harm(trained, tmp_path):
    content = (trained.directory / "model.keras").read_bytes()
    wanted = saving.load(trained.directory)
    images = np.zeros([1, *wanted.model.input_shape[1:]], np.float32)
    logits = wanted.model.predict_on_batch(images)
    generator = np.random.default_rng(0)
    # The archive's list of members, at the end, is read first.
    places = np.concatenate(
        [
            generator.integers(0, len(content), 4),
            generator.integers(len(content) - 1500, len(content), 10),
        ]
    )
    path = tmp_path / "model.keras"
    opened = 0
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(flipped)
        try:
            found = saving.load(path)
        except errors.UserError as error:
            assert "\n" not in str(error)
            continue
        # Such as the time at which a member was written.
        opened += 1
        np.testing.assert_array_equal(
            found.model.predict_on_batch(images), logits
        )
    assert opened < len(places)


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
