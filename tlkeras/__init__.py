"""Image classifiers by transfer learning and fine-tuning in Keras 3.

The public names are loaded when they are first used: importing this package
imports neither Keras nor TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Public name: (module, name there).
_PUBLIC = {
    "Classifier": ("tlkeras.door", "Classifier"),
    "Run": ("tlkeras.experiment", "Run"),
    "UserError": ("tlkeras.errors", "UserError"),
    "advise": ("tlkeras.door", "advise"),
    "build_classifier": ("tlkeras.model", "build_classifier"),
    "compare": ("tlkeras.door", "compare"),
    "freeze": ("tlkeras.model", "freeze"),
    "initialize_model": ("tlkeras.model", "initialize_model"),
    "load": ("tlkeras.door", "load"),
    "set_parameter_requires_grad": (
        "tlkeras.model",
        "set_parameter_requires_grad",
    ),
    "split": ("tlkeras.graph", "split"),
    "train": ("tlkeras.door", "train"),
    "unfreeze": ("tlkeras.model", "unfreeze"),
}
__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from tlkeras.door import Classifier as Classifier
    from tlkeras.door import advise as advise
    from tlkeras.door import compare as compare
    from tlkeras.door import load as load
    from tlkeras.door import train as train
    from tlkeras.errors import UserError as UserError
    from tlkeras.experiment import Run as Run
    from tlkeras.graph import split as split
    from tlkeras.model import build_classifier as build_classifier
    from tlkeras.model import freeze as freeze
    from tlkeras.model import initialize_model as initialize_model
    from tlkeras.model import (
        set_parameter_requires_grad as set_parameter_requires_grad,
    )
    from tlkeras.model import unfreeze as unfreeze


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tlkeras' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
