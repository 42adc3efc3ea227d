"""What the server says of one picture."""

import base64
import functools
import io
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import tensorflow as tf

from tlkeras import errors
from tlkeras.data import images as image_stores
from tlkeras.models import saving
from tlkeras.scoring import explaining
from tlkeras.scoring import predicting


class Answerer:
    """Answers encoded pictures, from any thread.

    Pictures are decoded side by side; the model itself, whose operations take
    all cores anyway, computes one after the other.
    """

    def __init__(self, classifier: saving.TrainedModel):
        self.classifier = classifier
        self._model = threading.Lock()

    @functools.cached_property
    def _explain(self) -> Callable[..., explaining.Maps]:
        return explaining.explainer(self.classifier.model)

    def answer(self, encoded: bytes, *, explain: bool = False) -> dict:
        """Returns label, score and the probability of each class.

        Where the model knows it, `similarity` to training images, and whether
        that is enough to be `known`.

        explain: whether `map`, a PNG as a data address, shows where the
        evidence lies; `map_note` is its method, or why there is none.

        Raises `UserError` where the picture cannot be read.
        """
        try:
            square = image_stores.square(encoded, self.classifier.shape)
        except tf.errors.OpError as error:
            raise errors.UserError(
                image_stores.reason(
                    error, encoded, self.classifier.shape.max_pixels
                )
            ) from None
        extra: dict[str, Any] = {}
        with self._model:
            found = predicting.predict_squares(self.classifier, [square])
            (answer,), (score,) = self.classifier.task.answers(
                found.probabilities
            )
            if explain:
                extra = self._map(square, int(answer))
        if found.similarity is not None and found.known is not None:
            extra["similarity"] = float(found.similarity[0])
            extra["known"] = bool(found.known[0])
        labels = self.classifier.labels
        return {
            "label": labels[answer],
            "score": float(score),
            "probabilities": dict(
                zip(labels, map(float, found.probabilities[0]), strict=True)
            ),
            **extra,
        }

    def warm_up(self) -> None:
        """Answers a grey picture, so that the first client need not wait."""
        picture = io.BytesIO()
        PIL.Image.new("RGB", (64, 64), "grey").save(picture, "JPEG")
        self.answer(picture.getvalue(), explain=True)

    def _map(self, square: np.ndarray, answer: int) -> dict[str, str]:
        try:
            maps = self._explain(square[None], [answer])
        except errors.UserError as error:
            return {"map_note": str(error)}
        picture = io.BytesIO()
        overlay = explaining.overlay(square, maps.values[0])
        PIL.Image.fromarray(overlay).save(picture, "PNG")
        data = base64.b64encode(picture.getvalue()).decode("ascii")
        return {"map": f"data:image/png;base64,{data}", "map_note": maps.method}
