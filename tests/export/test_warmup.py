"""The SavedModel takes what TensorFlow Serving sends it."""

import base64
import io
import json

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2
from google.protobuf import descriptor_pool
from google.protobuf import message_factory

from tlkeras import api
from tlkeras.export import warmup

# The part of TensorFlow Serving's messages that a request has.
MESSAGES = {
    "ModelSpec": [("signature_name", 3, "string")],
    "Entry": [("key", 1, "string"), ("value", 2, "bytes")],
    "PredictRequest": [("model_spec", 1, "ModelSpec"), ("inputs", 2, "Entry")],
    "PredictLog": [("request", 1, "PredictRequest")],
    "PredictionLog": [("predict_log", 6, "PredictLog")],
}


@pytest.fixture(scope="module")
def prediction_log():
    """Returns the class of a message, made from `MESSAGES`."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="serving.proto")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            own = {"string": kinds.TYPE_STRING, "bytes": kinds.TYPE_BYTES}
            message.field.add(
                name=field,
                number=number,
                type=own.get(kind, kinds.TYPE_MESSAGE),
                type_name=None if kind in own else kind,
                label=kinds.LABEL_REPEATED
                if kind == "Entry"
                else kinds.LABEL_OPTIONAL,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("PredictionLog")
    return message_factory.GetMessageClass(found)


@pytest.fixture(scope="module")
def served(trained):
    place = trained.directory / "saved_model" / "1"
    return tf.saved_model.load(str(place)).signatures


def test_a_run_has_requests_that_its_signatures_answer(
    trained, served, prediction_log
):
    place = trained.directory / "saved_model" / "1" / "assets.extra"
    asked = []
    for record in tf.data.TFRecordDataset(str(place / warmup.FILE)):
        request = prediction_log.FromString(record.numpy()).predict_log.request
        (entry,) = request.inputs
        tensor = type(tf.make_tensor_proto(0)).FromString(entry.value)
        name = request.model_spec.signature_name
        answer = served[name](
            **{entry.key: tf.constant(tf.make_ndarray(tensor))}
        )
        asked.append((name, len(answer["label"])))
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
    # That server decodes base64 for inputs whose name ends so.
    (name,) = served["serving_default"].structured_input_signature[1]
    assert name.endswith("_bytes")
    answer = served["serving_default"](**{name: tf.constant(received)})
    expected = api.load(trained.directory).predict(arrays)
    assert [each.decode() for each in answer["label"].numpy()] == [
        each["label"] for each in expected
    ]
    np.testing.assert_allclose(
        answer["score"], [each["score"] for each in expected], atol=1e-5
    )
