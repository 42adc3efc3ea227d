"""Requests by which TensorFlow Serving warms a model up before it answers.

It reads a TFRecord file of `PredictionLog` messages from `assets.extra`. The
package that has these messages, tensorflow-serving-api, asks for the newest
TensorFlow; numbers below are those of their fields (prediction_log.proto,
predict.proto, model.proto of tensorflow/serving). A test reads them by it.
"""

import io
import pathlib
from collections.abc import Mapping

import numpy as np
import PIL.Image
import tensorflow as tf

FILE = "tf_serving_warmup_requests"
# PredictionLog.predict_log, PredictLog.request; then those of PredictRequest
# and of ModelSpec.
_PREDICT_LOG, _REQUEST = 6, 1
_MODEL_SPEC, _INPUTS = 1, 2
_SIGNATURE_NAME = 3
# Of an entry of any map.
_KEY, _VALUE = 1, 2
# Images of a request: TensorFlow plans for each batch size anew, and one is the
# commonest.
_BATCHES = (1, 4)


def write(directory: pathlib.Path, size: int) -> None:
    """Writes requests for both signatures into a SavedModel's directory.

    size: side of the model's input [pixels]. The pictures are grey: no image
    of anybody's goes into the file.
    """
    picture = io.BytesIO()
    PIL.Image.new("RGB", (size, size), "grey").save(picture, "JPEG")
    place = directory / "assets.extra"
    place.mkdir()
    with tf.io.TFRecordWriter(str(place / FILE)) as stream:
        for images in _BATCHES:
            for signature, inputs in (
                ("serving_default", {"image_bytes": [picture.getvalue()]}),
                ("images", {"images": np.full([1, size, size, 3], 128)}),
            ):
                kind = tf.string if signature == "serving_default" else tf.uint8
                tensors = {
                    name: tf.make_tensor_proto(
                        np.repeat(np.asarray(value), images, axis=0), kind
                    ).SerializeToString()
                    for name, value in inputs.items()
                }
                stream.write(_prediction_log(signature, tensors))


def _prediction_log(signature: str, inputs: Mapping[str, bytes]) -> bytes:
    request = _field(_MODEL_SPEC, _field(_SIGNATURE_NAME, signature.encode()))
    for name, tensor in inputs.items():
        entry = _field(_KEY, name.encode()) + _field(_VALUE, tensor)
        request += _field(_INPUTS, entry)
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    """Returns a field of a protocol buffer that holds bytes."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
