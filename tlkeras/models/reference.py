"""What the answers on new images are compared with, kept in model.keras.

It is a member of the archive, which Keras ignores, as the metadata are.
"""

import dataclasses
import functools
import io
import os
import zipfile
from typing import Any

import keras
import numpy as np

from tlkeras import errors
from tlkeras import files

# Of 1, 3 and 10 nearest none was better on two data sets and eleven others.
_NEAREST = 10
_SHORTEST = 1e-12
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

    @functools.cached_property
    def _wide(self) -> np.ndarray:
        return self.features.astype(np.float32).T

    def similarities(self, features: np.ndarray) -> np.ndarray:
        """Returns what `similarity` does, of arrays [n, c], float32 [n]."""
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        cosines = features / np.maximum(lengths, _SHORTEST) @ self._wide
        nearest = min(_NEAREST, cosines.shape[1])
        return np.partition(cosines, -nearest)[:, -nearest:].mean(axis=1)


def similarity(features: Any, known: np.ndarray) -> Any:
    """Returns how like training images others are [n], in [-1, 1].

    features: of these [n, c]. known: as `Reference.features`. It is the mean
    cosine to the 10 nearest (Sun et al., 2022, https://arxiv.org/abs/2204.06507,
    take the distance to the last).
    """
    # Keras' own `normalize` makes nothing of features as small as those of an
    # untrained network.
    squares = keras.ops.square(features)
    lengths = keras.ops.sqrt(keras.ops.sum(squares, axis=-1, keepdims=True))
    own = features / keras.ops.maximum(lengths, _SHORTEST)
    cosines = keras.ops.matmul(own, np.asarray(known, np.float32).T)
    nearest, _ = keras.ops.top_k(cosines, min(_NEAREST, len(known)))
    return keras.ops.mean(nearest, axis=-1)


def append(path: str | os.PathLike, reference: Reference) -> None:
    """Adds `reference` to the archive `path`."""
    stream = io.BytesIO()
    np.savez(stream, **dataclasses.asdict(reference))
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
