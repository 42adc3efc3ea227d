"""Models for serving, each checked against the live one by a round trip."""

import dataclasses
import os
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tlkeras import files
from tlkeras import saving
from tlkeras.data import decode
from tlkeras.data import images as image_stores

FORMATS = ("saved_model",)

# Probabilities of the exported graph and of the live model differ by the
# order of float32 sums in batches of another size; narrow formats by more.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 5e-3}


class ExportError(RuntimeError):
    """The exported model does not answer as the live one."""


@dataclasses.dataclass(frozen=True)
class Verified:
    """How an export compares with the live model on real images."""

    images: int
    largest_difference: float


def saved_model(
    classifier: saving.Classifier,
    directory: str | os.PathLike,
    *,
    samples: Sequence[bytes],
) -> Verified:
    """Writes a SavedModel to `directory`, whole or not at all, and checks it.

    `serving_default(image_bytes [n] string)` and `images(images [n, h, w, 3]
    uint8)` return `probabilities` [n, k], `label` [n] and `score` [n]. An
    undecodable image fails the request.

    samples: encoded images on which both signatures must agree with the live
    model. Raises `ExportError` if they do not; nothing is then left.
    """
    model, labels = classifier.model, tf.constant(classifier.labels)
    size, resize = classifier.image_size, classifier.resize

    def answer(squares: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(tf.cast(squares, tf.float32), training=False)
        probabilities = tf.nn.softmax(tf.cast(logits, tf.float32))
        return {
            "probabilities": probabilities,
            "label": tf.gather(labels, tf.argmax(logits, axis=-1)),
            "score": tf.reduce_max(probabilities, axis=-1),
        }

    def serve_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(
            tf.map_fn(
                lambda encoded: decode.load(encoded, size, resize),
                image_bytes,
                fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8),
            )
        )

    def serve_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(decode.resize(images, size, resize))

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default",
        serve_bytes,
        input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")],
    )
    archive.add_endpoint(
        "images",
        serve_images,
        input_signature=[
            tf.TensorSpec([None, None, None, 3], tf.uint8, "images")
        ],
    )
    with files.replacing(directory) as temporary:
        archive.write_out(temporary, verbose=False)
        return _verify(classifier, temporary, samples)


def _verify(
    classifier: saving.Classifier,
    directory: str | os.PathLike,
    samples: Sequence[bytes],
) -> Verified:
    loaded = tf.saved_model.load(str(directory))
    size, resize = classifier.image_size, classifier.resize
    decoder = image_stores.decoder(size, resize)
    decoded = [decoder(sample) for sample in samples]
    squares = np.stack([square.numpy() for _, square in decoded])
    logits = classifier.model.predict(squares.astype(np.float32), verbose=0)
    expected = tf.nn.softmax(logits).numpy()
    by_bytes = loaded.signatures["serving_default"](
        image_bytes=tf.constant(list(samples))
    )
    by_pixels = [
        loaded.signatures["images"](images=pixels[None])[
            "probabilities"
        ][0].numpy()
        for pixels, _ in decoded
    ]
    difference = max(
        float(np.abs(by_bytes["probabilities"].numpy() - expected).max()),
        float(np.abs(np.stack(by_pixels) - expected).max()),
    )
    precision = classifier.model.get_layer("base").compute_dtype
    if not difference <= _TOLERANCE[precision]:
        raise ExportError(
            f"the SavedModel's probabilities differ by {difference:.3g} from "
            f"the model's on {len(samples)} images; {_TOLERANCE[precision]:g} "
            "are allowed."
        )
    for index, label in enumerate(by_bytes["label"].numpy()):
        chosen = classifier.labels.index(label.decode())
        # Two classes within the tolerance may change places.
        if expected[index].max() - expected[index, chosen] > 2 * difference:
            raise ExportError(
                f"the SavedModel calls image {index} {label.decode()}, the "
                "model does not."
            )
    return Verified(len(samples), difference)
