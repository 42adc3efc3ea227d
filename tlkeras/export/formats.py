"""What a model can be exported to: a row each."""

import dataclasses
import importlib
import os
import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tlkeras.export import saved_model


@dataclasses.dataclass(frozen=True)
class Format:
    """A format for serving.

    module: in `tlkeras.export`; its `write(trained, directory, samples=...)`
      writes the files, whole or not at all, after they have answered as the
      live model on the encoded images `samples`.
    """

    name: str
    module: str


FORMATS = (Format("saved_model", "saved_model"),)
NAMES = tuple(known.name for known in FORMATS)


def export(
    model: str | os.PathLike, directory: str | os.PathLike, name: str
) -> "saved_model.Verified":
    """Writes the model of a run or .keras file to a new directory.

    name: of the format. It is checked on two photographs that come with
    scikit-learn, since the run's own images may be gone.
    """
    import sklearn.datasets

    from tlkeras.models import saving

    chosen = next(known for known in FORMATS if known.name == name)
    trained = saving.load(model)
    folder = pathlib.Path(sklearn.datasets.__file__).parent / "images"
    samples = [
        (folder / file).read_bytes() for file in ("china.jpg", "flower.jpg")
    ]
    module = importlib.import_module(f"tlkeras.export.{chosen.module}")
    return module.write(trained, directory, samples=samples)
