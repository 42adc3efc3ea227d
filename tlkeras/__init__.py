"""Image classifiers by transfer learning and fine-tuning in Keras 3.

The public names are loaded when they are first used: importing this package
imports neither Keras nor TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.2.0"

# Public name: (module, name there).
_PUBLIC = {
    "Classifier": ("tlkeras.inference", "Classifier"),
    "Run": ("tlkeras.experiment.running", "Run"),
    "UserError": ("tlkeras.errors", "UserError"),
    "advise": ("tlkeras.api", "advise"),
    "build_classifier": ("tlkeras.models.classifier", "build_classifier"),
    "compare": ("tlkeras.api", "compare"),
    "cuts": ("tlkeras.models.graph", "block_cuts"),
    # `tlkeras.export` is the room.
    "export_model": ("tlkeras.api", "export_model"),
    "freeze": ("tlkeras.models.classifier", "freeze"),
    "initialize_model": ("tlkeras.models.classifier", "initialize_model"),
    "load": ("tlkeras.api", "load"),
    "set_parameter_requires_grad": (
        "tlkeras.models.classifier",
        "set_parameter_requires_grad",
    ),
    "split": ("tlkeras.models.graph", "split"),
    "train": ("tlkeras.api", "train"),
    "unfreeze": ("tlkeras.models.classifier", "unfreeze"),
}
__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from tlkeras.api import advise as advise
    from tlkeras.api import compare as compare
    from tlkeras.api import export_model as export_model
    from tlkeras.api import load as load
    from tlkeras.api import train as train
    from tlkeras.errors import UserError as UserError
    from tlkeras.experiment.running import Run as Run
    from tlkeras.inference import Classifier as Classifier
    from tlkeras.models.classifier import build_classifier as build_classifier
    from tlkeras.models.classifier import freeze as freeze
    from tlkeras.models.classifier import initialize_model as initialize_model
    from tlkeras.models.classifier import (
        set_parameter_requires_grad as set_parameter_requires_grad,
    )
    from tlkeras.models.classifier import unfreeze as unfreeze
    from tlkeras.models.graph import block_cuts as cuts  # noqa: F401
    from tlkeras.models.graph import split as split


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tlkeras' has no attribute {name!r}")
    if name != "UserError":
        # Keras would raise an error of its own.
        importlib.import_module("tlkeras.machine.processes").check_backend()
    module, attribute = _PUBLIC[name]
    if module not in ("tlkeras.api", "tlkeras.errors"):
        # Functions of the API may connect processes before.
        importlib.import_module("tlkeras.machine.processes").take_devices()
    messages = importlib.import_module("tlkeras.machine.native_messages")
    messages.ask_for_errors_only()
    with messages.silenced():
        value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
