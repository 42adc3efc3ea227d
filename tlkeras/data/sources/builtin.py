"""`builtin:digits[CLASSES]`: handwritten digits that need no network."""

import re

import numpy as np

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.data.sources.source import Example
from tlkeras.data.sources.source import Source


def open(
    place: str, *, data_dir: str = "", progress: progresses.Progress
) -> Source:
    """Returns the source of scikit-learn's digits, of the classes in `place`.

    They are 1,797 grey images of 8 x 8 pixels.
    """
    classes = _digit_classes(place)
    # scikit-learn takes a second to import.
    import sklearn.datasets

    digits = sklearn.datasets.load_digits()
    indices = np.flatnonzero(np.isin(digits.target, sorted(classes)))
    # The values are counts of inked points in 4 x 4 fields: 0 to 16.
    pixels = (digits.images * 255 / 16).round().astype(np.uint8)

    def read(index: int) -> bytes:
        # TensorFlow is imported by whoever decodes the bytes.
        import tensorflow as tf

        return tf.io.encode_png(pixels[indices[index]][..., None]).numpy()

    examples = tuple(
        Example(f"builtin:digits/{index}", str(digits.target[index]))
        for index in indices
    )
    labels = tuple(str(digit) for digit in sorted(classes))
    return Source(f"builtin:{place}", labels, examples, read)


def _digit_classes(place: str) -> set[int]:
    span = "[0-9](?:-[0-9])?"
    match = re.fullmatch(rf"digits(?:\[({span}(?:,{span})*)\])?", place)
    spans = (match[1] or "0-9").split(",") if match else []
    if not spans or any(span[0] > span[-1] for span in spans):
        raise errors.UserError(
            "`data` builtin:NAME must be builtin:digits, or with classes and "
            "ranges of them, builtin:digits[0-4] or builtin:digits[1,3,7-9]. "
            f"Received: builtin:{place}."
        )
    return {
        digit
        for span in spans
        for digit in range(int(span[0]), int(span[-1]) + 1)
    }
