"""A trained classifier from Python: predict, and see where it looked."""

import dataclasses
import os
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import PIL.Image

from tlkeras import errors
from tlkeras import places
from tlkeras import progress as progresses
from tlkeras.models import saving
from tlkeras.scoring import explaining
from tlkeras.scoring import predicting

# What `Classifier.predict` takes one of.
Image = str | os.PathLike | np.ndarray | PIL.Image.Image


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained classifier, as `tlkeras.load` returns it.

    model: images [n, size, size, 3], float32 in 0..255 -> logits [n, k], of the
      image alone; `predict` averages where the model was saved so.
    labels: the k classes, in the order of the logits.

    Example:
        >>> import tlkeras
        >>> classifier = tlkeras.load("runs/photos")
        >>> classifier.labels
        ('null', 'zwölf', '二')
    """

    model: keras.Model
    labels: tuple[str, ...]
    saved: saving.TrainedModel = dataclasses.field(repr=False)

    def predict(self, images: Image | Sequence[Image]) -> list[dict[str, Any]]:
        """Returns label, score and probabilities [k] of each image.

        `known` is False where an image is unlike all that the model learned
        from, so that none of its classes fits; None where the model was saved
        without what that takes.

        images: one or several paths, globs or folders; or one or several
          pictures: arrays [h, w, 3], uint8, or Pillow images; or one array
          [n, h, w, 3]. A Pillow image is turned as its EXIF says, and answered
          as the file that it came from.

        Raises `UserError` for a path or a picture that is no image.

        Example:
            >>> import PIL.Image
            >>> import tlkeras
            >>> classifier = tlkeras.load("runs/photos")
            >>> (answer,) = classifier.predict("photo.png")
            >>> answer["label"], len(answer["probabilities"])
            ('null', 3)
            >>> picture = PIL.Image.open("photo.png")
            >>> (answer,) = classifier.predict(picture)
            >>> answer["label"]
            'null'
        """
        given = _listed(images)
        if not given:
            return []
        if _are_paths(given):
            names = places.find_images(given)
            answers = self._of_files(names)
        else:
            names = [f"array {index}" for index in range(len(given))]
            answers = predicting.predict_arrays(self.saved, self._arrays(given))
        known = [None] * len(names)
        if answers.known is not None:
            known = answers.known.tolist()
        return [
            {
                "image": name,
                "label": self.labels[answer],
                "score": float(score),
                "probabilities": scores,
                "known": accepted,
            }
            for name, answer, score, scores, accepted in zip(
                names,
                *self.saved.task.answers(answers.probabilities),
                answers.probabilities,
                known,
                strict=True,
            )
        ]

    def explain(
        self, images: Image | Sequence[Image], label: str = ""
    ) -> list[dict[str, Any]]:
        """Returns where on each image the evidence for a class lies.

        images: as for `predict`. label: the class; '' is the answer to each.

        Beside the answer each has the class `explained`, the `map` [h, w] of
        the evidence for it, the `method` of the map, and a Pillow `picture` of
        the image as the model sees it, in grey, with the map on it in colour.

        Raises `UserError` as `predict` does, for a class that the model does
        not know, for a network without maps, and for a `label` where the maps
        are of attention, which is the same for every class.

        Example:
            >>> import tlkeras
            >>> classifier = tlkeras.load("runs/photos")
            >>> (found,) = classifier.explain("photo.png")
            >>> found["explained"], found["method"], found["map"].ndim
            ('null', 'class activation map', 2)
            >>> found["picture"].save("where.png")
        """
        given = _listed(images)
        explaining.check_label(self.saved, label)
        names = [f"array {index}" for index in range(len(given))]
        failed: list[tuple[str, str]] = []
        if given and _are_paths(given):
            names = places.find_images(given)
            found = list(
                explaining.explain_files(
                    self.saved,
                    names,
                    label=label,
                    failed=failed,
                    progress=progresses.Progress(quiet=True),
                )
            )
        else:
            squares = predicting.squares_of(self.saved, self._arrays(given))
            found = explaining.explain_squares(
                self.saved, list(squares), label=label
            )
        for path, reason in failed:
            raise errors.UserError(f"{path}: {reason}.")
        return [
            {
                "image": names[each.index],
                "label": each.label,
                "score": each.score,
                "explained": each.explained,
                "map": each.values,
                "method": each.method,
                "picture": PIL.Image.fromarray(
                    explaining.overlay(each.square, each.values)
                ),
            }
            for each in found
        ]

    def _arrays(self, given: Sequence[Any]) -> Iterator[np.ndarray]:
        """Yields pictures one by one: many need not be decoded at once."""
        for image in given:
            if isinstance(image, PIL.Image.Image):
                yield predicting.pillow_pixels(self.saved, image)
            else:
                yield image

    def _of_files(self, paths: Sequence[str]) -> predicting.Answers:
        prediction = predicting.predict_files(
            self.saved, paths, progress=progresses.Progress(quiet=True)
        )
        for path, reason in prediction.failed:
            raise errors.UserError(f"{path}: {reason}.")
        return predicting.Answers(
            prediction.probabilities, prediction.similarity, prediction.known
        )


def _listed(images: Image | Sequence[Image]) -> Sequence[Any]:
    """Returns what was given as one image or several as a list."""
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return list(images)
    return images if isinstance(images, list | tuple) else [images]


def _are_paths(given: Sequence[Any]) -> bool:
    return all(isinstance(image, str | os.PathLike) for image in given)
