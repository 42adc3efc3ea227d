"""The table of formats: each file answers as the live model, by its runtime."""

import json
import os
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import LABELS
from conftest import environment
from conftest import tree

from tlkeras import api
from tlkeras import cli
from tlkeras import errors
from tlkeras.export import formats
from tlkeras.export import proof
from tlkeras.models import saving

# Nothing of ours, and no TensorFlow but where it is the runtime.
CLASSIFY = """
import runpy, sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def installed(name: str) -> str:
    """Returns a format's name; skips the test where it cannot be proved."""
    try:
        formats.parse(name)
    except errors.UserError as error:
        pytest.skip(str(error))
    return name


@pytest.fixture(scope="module", params=formats.NAMES)
def exported(request, trained, tmp_path_factory):
    """Returns what an export of each format came to, and its place."""
    name = installed(request.param)
    place = tmp_path_factory.mktemp("exported") / "new"
    done = api.export_model(
        trained.directory, place, format=name, max_changed=0.2, quiet=True
    )
    assert done.refused == {}
    assert done.directories == {name: place}
    return name, place, done.proofs[name]


def test_every_file_answers_as_the_model(exported, trained):
    name, _, proved = exported
    assert proved["source"] == "test images of the run"
    assert proved["images"] == trained.report["test"]["accuracy"]["n"]
    if name != "litert_int8":
        assert proved["changed"] == 0
        assert proved["largest_difference"] < 1e-4
    # What 8 bits can do is not nothing, and no accident either.
    assert proved["largest_difference"] < 0.3
    live, file = proved["live"], proved["file"]
    assert live["value"] == pytest.approx(
        trained.report["test"]["accuracy"]["value"]
    )
    difference = proved["difference"]
    assert difference["low"] <= file["value"] - live["value"]
    assert file["value"] - live["value"] <= difference["high"]
    assert proved["pillow_changed"] <= 1
    assert proved["bytes"] > 50_000
    for milliseconds in filter(None, proved["milliseconds"].values()):
        assert 0 < milliseconds < 1000
    assert re.fullmatch(r"[\w-]+ \d+\.\d+.*", proved["runtime"])


def test_what_travels_with_a_file(exported, trained):
    name, place, proved = exported
    known = json.loads((place / "model.json").read_text())
    assert known["format"] == name
    assert (place / known["file"]).exists()
    assert known["labels"] == list(LABELS)
    assert (known["image_size"], known["resize"]) == (16, "pad")
    assert known["input"]["channels"] == "RGB"
    assert known["input"]["shape"][1:] == [16, 16, 3]
    assert known["proof"] == json.loads(json.dumps(proved))
    assert {"tlkeras", "keras", "tensorflow"} < set(known["versions"])
    assert proved["runtime"].split()[0] in known["versions"]
    assert re.fullmatch("sha256:[0-9a-f]{64}", known["digest"])
    assert (place / "labels.txt").read_text().split() == list(LABELS)


def test_the_file_itself_says_what_it_is(exported):
    name, place, _ = exported
    known = json.loads((place / "model.json").read_text())
    del known["proof"]
    if name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(place / "model.onnx")
        held = session.get_modelmeta().custom_metadata_map
        assert json.loads(held["labels"]) == list(LABELS)
        assert {key: held[key] for key in ("resize", "digest")} == {
            key: known[key] for key in ("resize", "digest")
        }
        assert session.get_inputs()[0].shape == ["n", 16, 16, 3]
    elif name == "openvino":
        import openvino

        model = openvino.Core().read_model(place / "model.xml")
        held = model.get_rt_info(["model_info", "tlkeras"]).value
        assert json.loads(held) == known
    elif name.startswith("litert"):
        from tlkeras.export import litert_metadata

        assert litert_metadata.read(place / "model.tflite") == known
        with zipfile.ZipFile(place / "model.tflite") as archive:
            assert archive.read("labels.txt").decode().split() == list(LABELS)


def test_the_example_needs_the_runtime_alone(exported, photos, trained):
    name, place, proved = exported
    paths = [str(next((photos / label).glob("[0-9]*.png"))) for label in LABELS]
    absent = ["tlkeras", "keras", "tensorflow", "onnx", "tf2onnx"]
    if name == "saved_model":
        absent.remove("tensorflow")
    done = subprocess.run(
        [
            *(sys.executable, "-c", CLASSIFY, ",".join(absent)),
            *(str(place / "classify.py"), *paths),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        cwd=place.parent,
        check=True,
    )
    expected = api.load(trained.directory).predict(paths)
    answers = [
        re.fullmatch(r"(.*): (\w+) (\d+\.\d) %", line).groups()
        for line in done.stdout.splitlines()
    ]
    assert [each[:2] for each in answers] == [
        (each["image"], each["label"]) for each in expected
    ]
    for (*_, score), each in zip(answers, expected, strict=True):
        assert (
            abs(float(score) - 100 * each["score"])
            < 30 * (name == "litert_int8")
            + 0.1
            + 100 * proved["pillow_difference"]
        )


def test_several_formats_get_a_folder_each(trained, tmp_path, capsys):
    names = f"{installed('onnx')},{installed('litert')}"
    words = ["export", f"--model={trained.directory}", f"--format={names}"]
    assert cli.main([*words, f"--output={tmp_path / 'new'}"]) == 0
    assert sorted(each.name for each in (tmp_path / "new").iterdir()) == [
        "litert",
        "onnx",
    ]
    out = capsys.readouterr().out
    assert re.search(r"^onnx +\d+ +0 +\S+ +\d+\.\d % -> \d+\.\d %", out, re.M)
    assert f"litert: {tmp_path / 'new' / 'litert'}" in out


def test_what_fails_leaves_nothing_and_the_rest_is_written(
    trained, tmp_path, capsys, monkeypatch
):
    installed("onnx")
    from tlkeras.export import saved_model

    def refuse(*arguments):
        raise proof.ExportError("no operation for Roll")

    monkeypatch.setattr(saved_model, "convert", refuse)
    words = ["export", f"--model={trained.directory}"]
    words += ["--format=saved_model,onnx", f"--output={tmp_path / 'new'}"]
    assert cli.main(words) == 2
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["onnx"]
    assert capsys.readouterr().err == (
        "tlkeras: saved_model: no operation for Roll\n"
    )
    words[2] = "--format=saved_model"
    words[3] = f"--output={tmp_path / 'other' / 'deep'}"
    assert cli.main(words) == 2
    assert not (tmp_path / "other").exists()


def test_a_lone_model_is_proved_on_photographs(trained, tmp_path):
    installed("onnx")
    lone = tmp_path / "lone.keras"
    saving.save(lone, saving.load(trained.directory))
    done = api.export_model(lone, tmp_path / "new", format="onnx", quiet=True)
    assert done.proofs["onnx"]["images"] == 2
    assert done.proofs["onnx"]["source"] == "photographs"
    assert done.proofs["onnx"]["live"] is None
    with pytest.raises(errors.UserError, match="--calibration=folder:PATH"):
        api.export_model(lone, tmp_path / "b", format="litert_int8", quiet=True)


def test_images_to_prove_it_on_may_be_given(trained, photos, tmp_path):
    installed("onnx")
    done = api.export_model(
        *(trained.directory, tmp_path / "new"),
        format="onnx",
        data=f"folder:{photos}",
        max_images=7,
        quiet=True,
    )
    # One of the seven cannot be read.
    assert done.proofs["onnx"]["images"] == 6
    assert done.proofs["onnx"]["source"] == f"images of folder:{photos}"


def test_unknown_formats_and_missing_packages(monkeypatch):
    with pytest.raises(errors.UserError, match="Did you mean onnx"):
        formats.parse("onx")
    with pytest.raises(errors.UserError, match="names saved_model twice"):
        formats.parse("saved_model,saved_model")
    found = formats.importlib.util.find_spec
    monkeypatch.setattr(
        formats.importlib.util,
        "find_spec",
        lambda name: None if name == "tf2onnx" else found("os"),
    )
    with pytest.raises(errors.UserError, match=r"needs tf2onnx: pip install"):
        formats.parse("onnx")


@pytest.mark.slow
def test_a_process_on_jax_lets_one_on_tensorflow_export(
    trained, tmp_path, tlkeras_process
):
    installed("onnx")
    pytest.importorskip("jax")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tlkeras", "export", "--format=onnx"),
            *(f"--model={trained.directory}", f"--output={tmp_path / 'new'}"),
        ],
        env=environment(KERAS_BACKEND="jax", TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^onnx +\d+ +0 ", done.stdout, re.M)
    assert (tmp_path / "new" / "model.onnx").exists()


def test_no_temporary_file_is_left(exported):
    _, place, _ = exported
    assert [name for name in tree(place.parent) if "unfinished" in name] == []
    assert os.listdir(place.parent) == ["new"]
    assert np.isfinite(proof.size(place))
