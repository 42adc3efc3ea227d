"""All that the package knows of Keras, TensorFlow and JAX beyond their API.

Private names, and words of their error messages: one function each, which
says why there is no public way and what happens where a version lacks it.
`.ci/versions` runs their tests on several versions.
"""

import contextlib
import re
from collections.abc import Iterator
from collections.abc import MutableMapping
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    # `tlkeras --help` imports this module, and no Keras.
    import keras


def gradient_registry() -> MutableMapping[str, Any]:
    """Returns TensorFlow's custom gradients by name, to be removed from it.

    TensorFlow (2.21) has no way to forget a gradient. Where the registry is
    elsewhere an empty one is returned: memory then grows, training goes on.
    """
    try:
        from tensorflow.python.framework import ops

        return ops.gradient_registry._registry
    except (ImportError, AttributeError):
        return {}


def flatten_layers(layer: "keras.layers.Layer") -> list["keras.layers.Layer"]:
    """Returns `layer` and all layers inside it, at any depth.

    The public `layers` of a model lists the first level only. Without the
    private name the levels are walked by the public one, which finds no
    layers in layers that are not models, but `tlkeras`' own `Base`.
    """
    private = getattr(layer, "_flatten_layers", None)
    if private is not None:
        return list(private())
    inner = list(getattr(layer, "layers", ()))
    inner += [layer.network] if hasattr(layer, "network") else []
    return [layer, *(deep for each in inner for deep in flatten_layers(each))]


def node(tensor: "keras.KerasTensor") -> Any:
    """Returns the node of the graph that `tensor` leaves.

    It has `operation`, `input_tensors` and `outputs`. Keras' public API tells
    a model's layers, but not which tensors lead from one to another.

    Raises RuntimeError where this version keeps that elsewhere.
    """
    try:
        history = tensor._keras_history
        return history.operation._inbound_nodes[history.node_index]
    except AttributeError as error:
        import keras

        raise RuntimeError(
            f"Keras {keras.version()} keeps the graph of a network elsewhere "
            f"({error}). tlkeras knows that of Keras 3.8 to 3.15."
        ) from error


def variable_index(
    optimizer: "keras.optimizers.Optimizer", variable: Any
) -> int:
    """Returns the place of a variable among those of a built optimizer.

    `update_step` is given Keras' variables on JAX and TensorFlow's own on
    TensorFlow; no public name tells which is which. Without the private one
    training with layer-wise rates ends in an AttributeError.
    """
    return optimizer._get_variable_index(variable)


def forget_variable(layer: "keras.layers.Layer", name: str) -> None:
    """Removes a variable from a layer.

    The public `del` collects garbage each time: for the 144 of a ViT that
    takes longer than an epoch. It is used where the private name is missing.
    """
    private = getattr(layer, "_untrack_variable", None)
    if private is None:
        delattr(layer, name)
        return
    private(getattr(layer, name))
    object.__delattr__(layer, name)


def build_for_fit(model: "keras.Model", batch: Any) -> None:
    """Makes the variables that `fit` makes in its first step.

    model: compiled. batch: arrays as `fit` takes them, of any values.

    There is no public way to make the metrics' variables beforehand. Without
    the private one only the optimizer's, by far the most, are made here.

    Under a strategy of TensorFlow `fit` would look at its first batch for the
    same purpose, and add up its shards, which need not have one size. It does
    not look again then.
    """
    private = getattr(model, "_symbolic_build", None)
    if private is not None:
        private(data_batch=batch)
        if hasattr(model, "_maybe_symbolic_build"):
            model._maybe_symbolic_build = lambda **batches: None
    else:
        model.optimizer.build(model.trainable_variables)


@contextlib.contextmanager
def initialised_by_numpy() -> Iterator[None]:
    """Lets variables have their first values from NumPy, where JAX computes.

    Keras has each drawn by JAX, and XLA compiles a program for each shape
    first: for ResNet50 5 s of a CPU, and 8 s beside a GPU. There is no public
    way to say who draws. Where a private name is missing, JAX does.
    """
    import keras

    from tlkeras.machine import first_values

    changed: list[tuple[Any, str, Any]] = []
    if keras.backend.backend() == "jax":
        with contextlib.suppress(ImportError, AttributeError):
            from keras.src import backend

            changed = [
                (place, name, getattr(place, name))
                for place, names in (
                    (backend.random, tuple(first_values.DRAWS)),
                    (backend.numpy, ("zeros", "ones")),
                )
                for name in names
            ]
    for place, name, theirs in changed:
        setattr(place, name, first_values.by_numpy(name, theirs))
    try:
        yield
    finally:
        for place, name, theirs in changed:
            setattr(place, name, theirs)


def is_emptied(variable: "keras.Variable") -> bool:
    """Tells whether an interrupted step has taken a variable's value away.

    The public `value` then returns an initial value, without a word. Without
    the private name the answer is yes: the caller knows better values.
    """
    value = getattr(variable, "_value", None)
    # JAX gives the memory of what goes into a step to what comes out.
    deleted = getattr(value, "is_deleted", None)
    return value is None or (deleted is not None and deleted())


def is_failed_download(error: Exception) -> bool:
    """Tells whether `keras.utils.get_file` could not fetch a file.

    It raises a bare Exception, or a ValueError where the hash is another.
    Other words than these would show as Keras' own error.
    """
    words = ("URL fetch failure", "Incomplete or corrupted file")
    return isinstance(error, OSError) or any(
        each in str(error) for each in words
    )


def is_out_of_memory(error: Exception) -> bool:
    """Tells whether the machine's or the accelerator's memory was full.

    TensorFlow's class is known by name, because its import takes seconds;
    JAX's is a general one with TensorFlow's word in its message.
    """
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "ResourceExhaustedError"
        or "RESOURCE_EXHAUSTED" in str(error)
    )


def python_error(error: Exception, name: str) -> str:
    """Returns the message of a Python error that TensorFlow wrapped, or ''.

    TensorFlow raises an error of its own for what Python code in a data set
    raised, with its traceback as text. name: the wrapped error's class.
    """
    wrapped = re.search(rf"{name}: (.*)\nTraceback", str(error))
    return wrapped[1] if wrapped else ""


def freeze_function(function: Any) -> Any:
    """Returns a concrete function of TensorFlow with constants as variables.

    Public ways write a file, or convert to one format. Where the private name
    is missing the function comes back as it is; converters then may lose its
    weights, which the proof of an export sees.
    """
    try:
        from tensorflow.python.framework import convert_to_constants

        freeze = convert_to_constants.convert_variables_to_constants_v2
    except (ImportError, AttributeError):
        return function
    return freeze(function)


def hub_json(preset: str, name: str) -> dict[str, Any]:
    """Returns what a JSON file of a preset of keras-hub says, or downloads it.

    keras-hub (0.32) has no public way to it but to build the network. What it
    raises depends on where the preset is: an error of downloads, or of names.
    """
    from keras_hub.src.utils import preset_utils

    return preset_utils.load_json(preset, name)
