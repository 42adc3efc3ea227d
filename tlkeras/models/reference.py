"""What the answers on new images are compared with, kept in model.keras.

It is a member of the archive, which Keras ignores, as the metadata are.
"""

import dataclasses
import io
import os
import zipfile

import keras
import numpy as np

from tlkeras import errors
from tlkeras import files

# Of 1, 3 and 10 nearest none was better on two data sets and eleven others.
_NEAREST = 10
_MEMBER = "tlkeras_reference.npz"


@dataclasses.dataclass(frozen=True)
class Reference:
    """What a run knows of images that its model did not learn from.

    scores: [m] the probabilities of the true class of validation images,
      ascending.
    features: [r, c] of training images, of length 1, float16; [0, c] where
      nothing is to be refused.
    similarity: the least to them of an image that is known, in [-1, 1]; an
      image with less is none of the classes.
    """

    scores: np.ndarray
    features: np.ndarray
    similarity: float = -1.0


def with_similarity(
    averaged: keras.Model, model: keras.Model, features: np.ndarray
) -> keras.Model:
    """Returns a model, images -> logits [n, k], similarity [n].

    averaged: what gives the logits, from the input of `model`, whose base gives
    the features that are compared. features: as of `Reference`. The similarity
    is the mean cosine to the 10 nearest of them (Sun et al., 2022,
    https://arxiv.org/abs/2204.06507, take the distance to the last). It shares
    the weights of `model`.
    """
    known = np.asarray(features, np.float32).T
    own = keras.ops.cast(model.get_layer("base").output, "float32")
    own = keras.ops.normalize(own, axis=-1)
    cosines = keras.ops.matmul(own, known)
    nearest, _ = keras.ops.top_k(cosines, min(_NEAREST, known.shape[1]))
    similarity = keras.ops.mean(nearest, axis=-1)
    return keras.Model(model.input, [averaged.output, similarity])


def append(path: str | os.PathLike, reference: Reference) -> None:
    """Adds `reference` to the archive `path`."""
    stream = io.BytesIO()
    np.savez(stream, **vars(reference))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_MEMBER, stream.getvalue())


def read(path: str | os.PathLike) -> Reference | None:
    """Returns what the archive `path` holds; None where it has none.

    Raises `UserError` where that is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(_MEMBER).file_size > files.LARGEST_SETTINGS:
                raise ValueError
            content = archive.read(_MEMBER)
    except KeyError:
        return None
    try:
        with np.load(io.BytesIO(content)) as saved:
            return Reference(
                saved["scores"], saved["features"], float(saved["similarity"])
            )
    # Of a damaged archive zipfile, zlib and NumPy raise what they like.
    except Exception as error:
        raise errors.UserError(
            f"`model` {path}, {_MEMBER}: damaged. Copy the file again, or "
            "train again."
        ) from error
