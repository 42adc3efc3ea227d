"""What travels with an exported file: what it is, its labels, an example."""

import dataclasses
import hashlib
import inspect
import os
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from tlkeras import files
from tlkeras.backbones import base as bases
from tlkeras.backbones import locate
from tlkeras.export import picture
from tlkeras.export import proof
from tlkeras.machine import devices
from tlkeras.models import saving

_EXAMPLE = '''\
"""Classifies pictures with {file}, where tlkeras is not.

    python classify.py photo.jpg more.png

Needs numpy, pillow and {runtime}.
"""

import json
import os
import pathlib
import sys

import numpy as np
import PIL.Image
import PIL.ImageOps

PLACE = pathlib.Path(__file__).resolve().parent


{square}

{opener}

def main():
    known = json.loads((PLACE / "model.json").read_text(encoding="utf-8"))
    answer = {name}(PLACE / known["file"])
    for path in sys.argv[1:]:
        image = square(path, known["image_size"], known["resize"])
        found = answer(image[None])
        (probabilities,) = found["probabilities"]
        best = int(probabilities.argmax())
        if known["threshold"]:
            one = known["labels"].index(known["threshold"]["label"])
            least = known["threshold"]["probability"]
            best = one if probabilities[one] >= least else 1 - one
        score = 100 * float(probabilities[best])
        # Then it may be none of the classes.
        strange = "known" in found and not found["known"][0]
        more = ", unlike the training images" if strange else ""
        print(f"{{path}}: {{known['labels'][best]}} {{score:.1f}} %{{more}}")


if __name__ == "__main__":
    main()
'''


def describe(
    model: str | os.PathLike,
    classifier: saving.TrainedModel,
    *,
    name: str,
    file: str,
    dtype: str,
    batch: int | None,
    packages: Mapping[str, str],
) -> dict[str, Any]:
    """Returns what is known of an exported file before it is proved.

    name: of the format. file: its name. dtype: of the input. batch: how many
    images it takes at a time; None is any. packages: versions of what writes
    and runs it, by name.
    """
    size = classifier.shape.size
    with locate.model(model).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "schema": 1,
        "format": name,
        "file": file,
        "labels": list(classifier.labels),
        "image_size": size,
        "resize": classifier.shape.resize,
        "averaged_over": classifier.tta,
        # From this probability on this label is answered, of two.
        "threshold": classifier.threshold
        and {
            "label": classifier.labels[classifier.threshold.positive],
            "probability": classifier.threshold.probability,
        },
        "input": {
            "name": "images",
            "shape": [batch, size, size, 3],
            "dtype": dtype,
            "range": [0, 255],
            "channels": "RGB",
        },
        "output": {
            "name": "probabilities",
            "shape": [batch, len(classifier.labels)],
            "dtype": "float32",
        },
        # From this similarity on a picture is `known`.
        "unknown": {
            "similarity": classifier.reference.similarity,
            "outputs": [
                {"name": "similarity", "shape": [batch], "dtype": "float32"},
                {"name": "known", "shape": [batch], "dtype": "bool"},
            ],
        }
        if classifier.reference and classifier.tells_unknown
        else None,
        "backbone": bases.of(classifier.model).backbone,
        # Of the model.keras that it was written from.
        "digest": f"sha256:{digest}",
        "versions": {**devices.versions(), **packages},
    }


def write(
    directory: pathlib.Path,
    known: Mapping[str, Any],
    proved: proof.Proof,
    opener: Callable[..., proof.Answer],
    runtime: str,
) -> dict[str, Any]:
    """Writes model.json, labels.txt and classify.py into `directory`.

    Returns the proof as model.json has it.
    """
    found = dataclasses.asdict(proved)
    files.write_json(directory / "model.json", {**known, "proof": found})
    files.write_text(
        directory / "labels.txt",
        "".join(f"{label}\n" for label in known["labels"]),
    )
    files.write_text(
        directory / "classify.py",
        _EXAMPLE.format(
            file=known["file"],
            runtime=runtime,
            square=inspect.getsource(picture.square),
            opener=inspect.getsource(opener),
            name=opener.__name__,
        ),
    )
    return found
