"""Models for serving, each checked against the live one by a round trip.

Where Keras computes on another backend than TensorFlow, a process of its own
opens the model in TensorFlow and writes it.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tlkeras import errors
from tlkeras import files
from tlkeras.backbones import base as bases
from tlkeras.data import decode
from tlkeras.data import images as image_stores
from tlkeras.export import elsewhere
from tlkeras.export import proof
from tlkeras.export import samples as all_samples
from tlkeras.export import warmup
from tlkeras.machine import devices
from tlkeras.models import forward
from tlkeras.models import reference as references
from tlkeras.models import saving
from tlkeras.scoring import predicting


@dataclasses.dataclass(frozen=True)
class Verified:
    """How an export compares with the live model on real images."""

    images: int
    largest_difference: float


def write(
    classifier: saving.TrainedModel,
    directory: str | os.PathLike,
    *,
    samples: Sequence[bytes],
) -> Verified:
    """Writes a SavedModel to `directory`, whole or not at all, and checks it.

    `serving_default(image_bytes [n] string)` and `images(images [n, h, w, 3]
    uint8)` return `probabilities` [n, k], `label` [n] and `score` [n], n = 0
    included; and, where the classifier tells pictures that are none of its
    classes, `similarity` [n] to training images and whether that is `known`
    [n]. An undecodable image fails the request, and so does one whose
    scores are not finite.

    samples: encoded images on which both signatures must agree with the live
    model. Raises `proof.ExportError` if they do not; nothing is then left.
    """
    native = keras.backend.backend() == "tensorflow"
    with files.replacing(directory) as temporary:
        (_write if native else _write_elsewhere)(classifier, temporary)
        return _verify(classifier, temporary, samples)


def convert(
    classifier: saving.TrainedModel,
    directory: pathlib.Path,
    known: Mapping[str, Any],
    samples: all_samples.Samples,
) -> None:
    """Writes a SavedModel into `directory`, as `write` does."""
    _write(classifier, directory)
    _verify(classifier, directory, samples.encoded)


def _write(classifier: saving.TrainedModel, directory: pathlib.Path) -> None:
    model = classifier.answering
    small = forward.is_small(model)
    run = forward.constant_graph(model) if small else classifier.forward.graph
    labels = tf.constant(classifier.labels)
    known, threshold = classifier.reference, classifier.threshold
    shape = classifier.shape
    size = shape.size
    activation = keras.activations.get(classifier.task.activation)

    def answer(squares: tf.Tensor, images: tf.Tensor) -> dict[str, tf.Tensor]:
        features, logits = run(squares)
        probabilities = tf.debugging.check_numerics(
            activation(tf.cast(logits, tf.float32)),
            "the model gives no finite scores for these images",
        )
        chosen = tf.argmax(logits, axis=-1)
        if threshold is not None:
            own = probabilities[:, threshold.positive]
            chosen = tf.where(
                own >= threshold.probability,
                tf.constant(threshold.positive, tf.int64),
                tf.constant(1 - threshold.positive, tf.int64),
            )
        answers = {
            "probabilities": probabilities,
            "label": tf.gather(labels, chosen),
            "score": tf.gather(probabilities, chosen, batch_dims=1),
        }
        if known is not None and classifier.tells_unknown:
            similarity = references.similarity(features, known.features)
            answers["similarity"] = similarity
            answers["known"] = similarity >= known.similarity
        count = tf.shape(images)[0]
        return {name: values[:count] for name, values in answers.items()}

    def serve_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        squares = tf.map_fn(
            lambda encoded: decode.load(
                encoded, size, shape.resize, shape.max_pixels
            ),
            image_bytes,
            fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8),
        )
        squares = tf.pad(squares, [[0, _missing(image_bytes)], *[[0, 0]] * 3])
        return answer(
            tf.ensure_shape(squares, [None, size, size, 3]), image_bytes
        )

    def serve_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        # An empty request may have no height and no width either.
        added = [0, _missing(images)]
        filled = tf.pad(images, [added, added, added, [0, 0]])
        return answer(decode.resize(filled, size, shape.resize), images)

    # Keras' ExportArchive would trace all of it twice, as TensorFlow does with
    # what is no concrete function.
    served = tf.Module()
    if not small:
        served.variables_of_model = [
            each.value for each in classifier.model.variables
        ]
    # Nothing here is for autograph to rewrite, which takes as long as a trace.
    trace = functools.partial(tf.function, autograph=False)
    served.serving_default = trace(serve_bytes).get_concrete_function(
        tf.TensorSpec([None], tf.string, "image_bytes")
    )
    served.images = trace(serve_images).get_concrete_function(
        tf.TensorSpec([None, None, None, 3], tf.uint8, "images")
    )
    tf.saved_model.save(
        served,
        os.fspath(directory),
        signatures={
            "serving_default": served.serving_default,
            "images": served.images,
        },
    )
    warmup.write(directory, size)


def _missing(images: tf.Tensor) -> tf.Tensor:
    """Returns how many images are to be added, because no layer takes none.

    Of an empty batch TensorFlow's fused BatchNorm gives no shape.
    """
    return tf.cast(tf.equal(tf.shape(images)[0], 0), tf.int32)


def write_unchecked(model: str, directory: str) -> None:
    """Writes the SavedModel of a saved model; who asks for it looks at it."""
    _write(saving.load(model), pathlib.Path(directory))


def _write_elsewhere(
    classifier: saving.TrainedModel, directory: pathlib.Path
) -> None:
    """Lets a process that computes on TensorFlow write."""
    with tempfile.TemporaryDirectory() as place:
        model = pathlib.Path(place, "model.keras")
        output = pathlib.Path(place, "saved_model")
        saving.save(model, classifier)
        done = elsewhere.write_saved_model(model, output)
        if done.returncode:
            raise proof.ExportError(
                "the TensorFlow process that writes the SavedModel ended with "
                f"status {done.returncode}: {elsewhere.last_line(done)}"
            )
        shutil.move(output, directory)


def _verify(
    classifier: saving.TrainedModel,
    directory: str | os.PathLike,
    samples: Sequence[bytes],
) -> Verified:
    signatures = tf.saved_model.load(str(directory)).signatures
    decoder = image_stores.decoder(classifier.shape)
    decoded = [decoder(sample) for sample in samples]
    squares = np.stack([square.numpy() for _, square in decoded])
    with _exact():
        live = predicting.predict_squares(classifier, list(squares))
    expected = live.probabilities
    # Pixels of one request have one size, so each image is one of its own.
    answers = [
        signatures["serving_default"](image_bytes=tf.constant(list(samples)))
    ]
    answers += [
        signatures["images"](images=pixels[None]) for pixels, _ in decoded
    ]
    rows = [expected, *expected[:, None]]
    # A tensor minus an array would be rounded to float32, and a score that
    # rounding alone moved then exceeds a difference of zero.
    difference = max(
        float(np.abs(answer["probabilities"].numpy() - row).max())
        for answer, row in zip(answers, rows, strict=True)
    )
    allowed = proof.TOLERANCE[bases.of(classifier.model).compute_dtype]
    # A comparison with NaN is false.
    if not difference <= allowed:
        raise proof.ExportError(
            f"the SavedModel's probabilities differ by {difference:.3g} from "
            f"the model's on {errors.count(len(samples), 'image')}; "
            f"{allowed:g} are allowed."
        )
    for answer, row in zip(answers, rows, strict=True):
        _check_words(answer, row, classifier, difference)
    if live.similarity is not None:
        _check_similarity(answers, live.similarity, allowed)
    return Verified(len(samples), difference)


def _check_similarity(
    answers: Sequence[Mapping[str, tf.Tensor]],
    expected: np.ndarray,
    allowed: float,
) -> None:
    """Raises `ExportError` unless the likeness to training images is equal."""
    for answer, row in zip(
        answers, [expected, *expected[:, None]], strict=True
    ):
        difference = float(np.abs(answer["similarity"].numpy() - row).max())
        if not difference <= allowed:
            raise proof.ExportError(
                f"the SavedModel's similarities differ by {difference:.3g} "
                f"from the model's; {allowed:g} are allowed."
            )


def _exact() -> contextlib.AbstractContextManager:
    """Lets JAX multiply float32 as such, as TensorFlow does on the CPU.

    By itself it rounds the factors, on a TPU to bfloat16 and on a GPU to 10
    bits, and the model would be blamed for it.
    """
    if keras.backend.backend() != "jax" or not devices.has_accelerator():
        return contextlib.nullcontext()
    import jax

    return jax.default_matmul_precision("float32")


def _check_words(
    answer: Mapping[str, tf.Tensor],
    expected: np.ndarray,
    classifier: saving.TrainedModel,
    difference: float,
) -> None:
    """Raises `proof.ExportError` unless label and score say what is `expected`.

    expected: probabilities [n, k]; two classes whose probabilities are closer
      than the difference found may change places, and those that lie as close
      to a threshold.
    """
    labels, threshold = classifier.labels, classifier.threshold
    for label, score, row in zip(
        answer["label"].numpy(), answer["score"].numpy(), expected, strict=True
    ):
        own = dict(zip(labels, row, strict=True)).get(label.decode(), 0.0)
        (wanted,), (best,) = classifier.task.answers(row[None])
        gap = best - own
        if threshold is not None and label.decode() != labels[wanted]:
            gap = abs(row[threshold.positive] - threshold.probability)
        if gap > 2 * difference or abs(own - score) > 2 * difference:
            raise proof.ExportError(
                f"the SavedModel predicts {label.decode()} with {score:.3g}; "
                f"the model predicts {labels[wanted]} with {best:.3g}."
            )
