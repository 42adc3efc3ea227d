"""The SavedModel takes what TensorFlow Serving sends it."""

import base64
import io
import json

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tlkeras import api
from tlkeras.export import warmup


@pytest.fixture(scope="module")
def served(trained):
    place = trained.directory / "saved_model" / "1"
    return tf.saved_model.load(str(place)).signatures


def test_a_run_has_requests_that_its_signatures_answer(trained, served):
    """Read by the server's own messages."""
    place = trained.directory / "saved_model" / "1" / "assets.extra"
    asked = []
    for record in tf.data.TFRecordDataset(str(place / warmup.FILE)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        log.DiscardUnknownFields()
        assert log.ByteSize() == len(record.numpy())
        ((name, tensor),) = request.inputs.items()
        signature = request.model_spec.signature_name
        answer = served[signature](
            **{name: tf.constant(tf.make_ndarray(tensor))}
        )
        asked.append((signature, len(answer["label"])))
    assert sorted(asked) == [
        ("images", 1),
        ("images", 4),
        ("serving_default", 1),
        ("serving_default", 4),
    ]


def test_base64_of_pictures_of_many_sizes_in_one_request(trained, served):
    """As TensorFlow Serving's REST turns {"b64": ...} into strings."""
    generator = np.random.default_rng(0)
    arrays = [
        generator.integers(0, 256, shape, np.uint8)
        for shape in ([5, 40, 3], [64, 64, 3], [16, 16, 3])
    ]
    files = []
    for array in arrays:
        stream = io.BytesIO()
        PIL.Image.fromarray(array).save(stream, "PNG")
        files.append(base64.b64encode(stream.getvalue()).decode())
    sent = json.dumps({"instances": [{"b64": each} for each in files]})
    received = [
        base64.b64decode(each["b64"]) for each in json.loads(sent)["instances"]
    ]
    # A value needs no name where there is but one input, and is decoded where
    # that takes strings.
    ((name, spec),) = (
        served["serving_default"].structured_input_signature[1].items()
    )
    assert spec.dtype == tf.string
    answer = served["serving_default"](**{name: tf.constant(received)})
    for output, values in answer.items():
        # Those with this ending it would write in base64.
        assert not output.endswith("_bytes")
        # It answers a row an image, of what JSON has.
        assert len(values) == 3
        assert values.dtype in (tf.string, tf.float32, tf.bool)
    expected = api.load(trained.directory).predict(arrays)
    assert [each.decode() for each in answer["label"].numpy()] == [
        each["label"] for each in expected
    ]
    np.testing.assert_allclose(
        answer["score"], [each["score"] for each in expected], atol=1e-5
    )


def test_a_broken_file_is_the_fault_of_who_sent_it(served):
    """That server makes 400 of it."""
    with pytest.raises(tf.errors.InvalidArgumentError):
        served["serving_default"](image_bytes=tf.constant([b"\xff\xd8\xffno"]))
