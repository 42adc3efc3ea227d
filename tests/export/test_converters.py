"""What converters are given, what they lack, and what they write wrongly."""

import dataclasses
import inspect
import os
import shutil
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_formats import installed

from tlkeras import files
from tlkeras.backbones import base as bases
from tlkeras.data import images as image_stores
from tlkeras.export import formats
from tlkeras.export import frozen
from tlkeras.export import proof
from tlkeras.export import runtimes
from tlkeras.export import samples as all_samples
from tlkeras.models import averaging
from tlkeras.models import reference as references
from tlkeras.models import saving
from tlkeras.scoring import predicting

SIZE = 12
OTHERS = [name for name in formats.NAMES if name != "saved_model"]


def slow(*values):
    """Returns a parameter that only says once more what others have said."""
    return pytest.param(*values, marks=pytest.mark.slow)


def build(block=lambda x: x, *, precision="float32", scaling="tf"):
    """Returns a small classifier with `block` in its network."""
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        pixels = keras.Input([SIZE, SIZE, 3])
        x = keras.layers.Conv2D(8, 3, padding="same", strides=2)(pixels)
        x = block(x)
        features = keras.layers.GlobalAveragePooling2D()(x)
        base = bases.Base(
            keras.Model(pixels, features),
            backbone="SmallResNet",
            scaling=scaling,
            name="base",
        )
        images = keras.Input([SIZE, SIZE, 3])
        spread = keras.initializers.RandomNormal(stddev=4)
        head = keras.layers.Dense(3, kernel_initializer=spread, dtype="float32")
        model = keras.Model(images, head(base(images)))
    finally:
        keras.config.set_dtype_policy(before)
    return saving.TrainedModel(
        model, ("a", "b", "c"), image_stores.Shape(SIZE, "stretch")
    )


@pytest.fixture(scope="module")
def samples():
    generator = np.random.default_rng(0)
    squares = generator.integers(0, 256, [24, 1, 1, 3]) + generator.integers(
        -40, 40, [24, SIZE, SIZE, 3]
    )
    squares = squares.clip(0, 255).astype(np.uint8)
    return all_samples.Samples(
        "pictures", (), squares, (None,) * 24, calibration=squares
    )


@pytest.fixture
def export(tmp_path, samples, monkeypatch):
    """Returns a function that exports a classifier to one format, proved."""
    monkeypatch.setattr(
        formats.importlib.import_module("tlkeras.backbones.locate"),
        "model",
        lambda path: path,
    )
    model = tmp_path / "model.keras"
    model.write_bytes(b"")

    def run(classifier, name, samples=samples, max_changed=0.2):
        return formats._one(
            formats.FORMATS[formats.NAMES.index(installed(name))],
            *(model, classifier, tmp_path / name, samples, max_changed),
        )

    return run


@pytest.mark.parametrize(
    ("name", "tta"),
    [(name, "none") for name in formats.NAMES]
    + [("onnx", "flip")]
    + [slow(name, "flip") for name in formats.NAMES if name != "onnx"],
)
def test_every_format_tells_what_is_none_of_the_classes(
    export, tmp_path, samples, name, tta
):
    assert tta in averaging.WAYS
    classifier = knowing(build(), samples.squares, tta)
    encoded = tf.io.encode_png(samples.squares[0]).numpy()
    proved = export(
        classifier, name, dataclasses.replace(samples, encoded=(encoded,))
    )
    live = predicting.predict_squares(classifier, list(samples.squares))
    assert 0 < live.known.sum() < len(live.known)
    assert proved["known_changed"] <= 4 * (name == "litert_int8")
    assert proved["similarity_difference"] < (
        0.02 if name == "litert_int8" else 1e-5
    )
    described = files.read_json(tmp_path / name / "model.json")
    given = described["unknown"]
    assert given["similarity"] == classifier.reference.similarity
    row = formats.FORMATS[formats.NAMES.index(name)]
    answer = getattr(runtimes, row.opener)(tmp_path / name / row.file)
    found = answer(samples.squares)
    for each in given["outputs"]:
        assert found[each["name"]].dtype == each["dtype"]
        assert found[each["name"]].shape == (24,)
    if name in ("onnx", "openvino"):
        assert list(found) == ["probabilities", "similarity", "known"]


@pytest.mark.parametrize("name", ["litert", "litert_int8"])
def test_the_first_signature_is_as_android_reads_it(
    export, tmp_path, samples, name
):
    """One output; the second one shares its weights."""
    plain = build()
    alone = export(plain, name)["bytes"]
    shutil.rmtree(tmp_path / name)
    both = export(knowing(plain, samples.squares), name)["bytes"]
    file = tmp_path / name / "model.tflite"
    # The network is small, so its operations are most of the file.
    assert both < 3 * alone + 30 * 8 * 4
    from ai_edge_litert.interpreter import Interpreter

    (found,) = Interpreter(str(file)).get_output_details()
    assert found["shape"].tolist() == [1, 3]


def knowing(classifier, squares, tta="none"):
    """Returns the classifier with features to compare with, of 12 `squares`."""
    found = bases.of(classifier.model)(squares.astype(np.float32)).numpy()
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    cosines = np.sort(found @ found[:12].T, axis=1)[:, -10:].mean(axis=1)
    middle = np.sort(cosines)[len(cosines) // 2 - 1 :][:2].mean()
    return dataclasses.replace(
        classifier,
        tta=tta,
        reference=references.Reference(
            np.zeros(3), found[:12].astype(np.float16), float(middle)
        ),
    )


def gelu(x):
    x = keras.layers.Activation("gelu")(x)
    return keras.layers.Dense(8, activation="gelu")(x)


def lacking(x):
    """Returns an exact GELU and what no converter takes as Keras makes it.

    EfficientNet's swish has a gradient that is a function of its own; Keras
    hands the grouped convolutions of ConvNeXt to XLA.
    """
    x = keras.layers.Activation("swish")(gelu(x))
    return keras.layers.Conv2D(8, 3, groups=8, padding="same")(x)


@pytest.mark.parametrize("name", ["litert", "onnx", "openvino"])
def test_what_networks_have_that_converters_lack(export, name):
    proved = export(build(lacking), name)
    assert proved["largest_difference"] < 1e-5


def test_tf2onnx_by_itself_lacks_exact_gelu(export, monkeypatch):
    """If it has it one day, `_complement` can go."""
    installed("onnx")
    import tf2onnx

    convert = tf2onnx.convert.from_function

    def plain(*arguments, custom_op_handlers, **keywords):
        return convert(*arguments, **keywords)

    monkeypatch.setattr(tf2onnx.convert, "from_function", plain)
    with pytest.raises(
        proof.ExportError, match="ONNX has no operation for Erfc of this"
    ):
        export(build(gelu), "onnx")


@pytest.mark.parametrize("name", OTHERS)
def test_what_only_tensorflow_computes_is_refused_by_its_name(export, name):
    strange = build(lambda x: keras.ops.erfinv(keras.ops.tanh(x) / 2))
    with pytest.raises(proof.ExportError, match="no operation for Erfinv of"):
        export(strange, name)


@pytest.mark.parametrize(
    "scaling", ["tf", "caffe", slow("torch"), slow("none")]
)
def test_integers_take_pixels_as_they_are(export, scaling, samples):
    """Also where no calibration image is black or white."""
    grey = samples.calibration // 4 + 90
    classifier = build(
        lambda x: keras.layers.ReLU()(x / 100 if scaling != "tf" else x),
        scaling=scaling,
    )
    narrow = dataclasses.replace(samples, squares=grey, calibration=grey)
    proved = export(classifier, "litert_int8", narrow)
    assert proved["largest_difference"] < 0.2


@pytest.mark.parametrize("narrow", ["mixed_bfloat16", slow("mixed_float16")])
def test_a_model_of_a_gpu_becomes_float32(export, narrow):
    classifier = build(precision=narrow)
    assert bases.of(classifier.model).compute_dtype == narrow[6:]
    function, spec = frozen.function(classifier, batch=1)
    used = {
        each.dtype
        for node in function.get_concrete_function(spec).graph.get_operations()
        for each in node.outputs
    }
    assert tf.float32 in used and not used & {tf.bfloat16, tf.float16}
    assert export(classifier, "onnx")["changed"] == 0


def planted(change):
    """Returns a `frozen.function` that loses something on the way."""
    original = frozen.function

    def function(classifier, *, batch, whole=True):
        answer, spec = original(classifier, batch=batch, whole=whole)

        @tf.function(input_signature=[spec], autograph=False)
        def wrong(images):
            return answer(change(images))

        return wrong, spec

    return function


@pytest.mark.parametrize(
    ("lost", "name"),
    [
        ("channels", "litert_int8"),
        ("scaling", "onnx"),
        *(slow("channels", name) for name in OTHERS if name != "litert_int8"),
        *(slow("scaling", name) for name in OTHERS if name != "onnx"),
    ],
)
def test_a_converter_that_loses_something_is_caught(
    export, name, lost, monkeypatch
):
    change, said = {
        "channels": (lambda images: images[..., ::-1], "BGR instead of RGB"),
        "scaling": (
            lambda images: 127.5 * (images + 1),
            "without the network's own",
        ),
    }[lost]
    monkeypatch.setattr(frozen, "function", planted(change))
    with pytest.raises(proof.ExportError, match=said):
        export(build(), name)


def test_an_invalid_onnx_is_caught(export, monkeypatch):
    """As tf2onnx and Keras write them, and return normally."""
    installed("onnx")
    import onnx

    save = onnx.save

    def invalid(proto, path):
        proto.graph.node[0].op_type = "Erfc"
        save(proto, path)

    monkeypatch.setattr(onnx, "save", invalid)
    with pytest.raises(proof.ExportError, match="does not run what the conv"):
        export(build(), "onnx")


def test_a_converter_that_raises_is_one_line(export, monkeypatch):
    installed("onnx")
    import tf2onnx

    def fail(*arguments, **keywords):
        raise KeyError("a tensor\nof many lines")

    monkeypatch.setattr(tf2onnx.convert, "from_function", fail)
    with pytest.raises(
        proof.ExportError, match="ended with KeyError: "
    ) as told:
        export(build(), "onnx")
    assert "\n" not in str(told.value)


def test_a_file_that_ends_its_process_is_refused(export, monkeypatch):
    """And not with the export's own process."""
    installed("litert")

    def litert(path, threads=0, signature=""):
        os.abort()

    source = textwrap.dedent(inspect.getsource(litert))
    monkeypatch.setattr(inspect, "getsource", lambda function: source)
    with pytest.raises(proof.ExportError, match=r"ends the process .* 6\)"):
        export(build(), "litert")


@pytest.mark.parametrize("name", ["litert", "openvino"])
def test_a_damaged_file_is_caught(export, name, monkeypatch):
    installed(name)
    module = formats.importlib.import_module(f"tlkeras.export.{name}")
    convert = module.convert

    def damaged(classifier, directory, known, samples):
        convert(classifier, directory, known, samples)
        for file in directory.iterdir():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    monkeypatch.setattr(module, "convert", damaged)
    with pytest.raises(proof.ExportError, match="does not run what the conv"):
        export(build(), name)
