"""Networks by name, and where their weights come from."""

import importlib
import pathlib

import h5py
import keras
import numpy as np

from tlkeras import catalog
from tlkeras import errors
from tlkeras.backbones import base
from tlkeras.backbones import locate

# A layer's name and its arrays, in Keras' order.
_Layer = tuple[str, list[np.ndarray]]

_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def network(
    row: catalog.Backbone, image_size: int, weights: str
) -> keras.Model:
    """Returns the functional network of `row` with `weights` in it.

    image_size: side of the input in pixels.
    weights: `none`, `imagenet`, a file (.h5, .weights.h5, .keras) or the
      directory of an earlier run.

    Raises `UserError` where the size is too small, weights cannot be had, or
    do not fit; the message then names the layer and both shapes.
    """
    if weights == "imagenet":
        return _imagenet(row, image_size)
    made = _construct(row, image_size, None)
    if weights == "none":
        return made
    path = locate.weights(weights)
    if path.name.endswith(".weights.h5"):
        _load_keras_weights(made, path)
    elif path.suffix == ".keras":
        _assign(made, _saved_layers(path, row), path)
    else:
        _assign(made, _legacy_layers(path), path)
    if _lacks_imagenet_scale(made):
        _scale_as_imagenet(made)
    return made


def open_model(path: pathlib.Path) -> keras.Model:
    """Returns the Keras model in `path`; raises `UserError` if it is none."""
    try:
        model = keras.saving.load_model(path, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise errors.UserError(
            f"{path} cannot be opened as a Keras model: {_line(error)}"
        ) from None
    for layer in model.layers:
        if isinstance(layer, base.Base):
            layer.owned_by(model)
    return model


def _construct(
    row: catalog.Backbone, image_size: int, weights: str | None
) -> keras.Model:
    if image_size < row.smallest_size:
        raise errors.UserError(
            f"`image_size` must be at least {row.smallest_size} pixels for "
            f"{row.name}. Received: {image_size}."
        )
    module, name = row.constructor.rsplit(".", 1)
    constructor = getattr(importlib.import_module(module), name)
    return constructor(
        include_top=False,
        weights=weights,
        input_shape=(image_size, image_size, 3),
        pooling="avg",
        **dict(row.arguments),
    )


def _imagenet(row: catalog.Backbone, image_size: int) -> keras.Model:
    if "imagenet" not in row.weights:
        raise errors.UserError(
            f"there are no ImageNet weights for {row.name}. Give "
            "--weights=none with --strategy=scratch, a file or a run."
        )
    try:
        loaded = _construct(row, image_size, "imagenet")
    except errors.UserError:
        raise
    except Exception as error:  # Keras raises a bare Exception for a download.
        if "URL fetch failure" not in str(error):
            raise
        raise errors.UserError(
            f"the ImageNet weights of {row.name} could not be downloaded "
            f"({_line(error)}). With a network they are kept for later; "
            "without one give --weights=FILE, an earlier run, or "
            "--data=builtin:digits with --backbone=SmallResNet."
        ) from None
    made = _construct(row, image_size, None)
    _assign(made, _layers(loaded), pathlib.Path("imagenet"))
    if len(loaded.layers) > len(made.layers):
        _scale_as_imagenet(made)
    return made


def _scale_as_imagenet(made: keras.Model) -> None:
    """Gives EfficientNet's first layer the scale its ImageNet weights need.

    With weights="imagenet", and only then, Keras' EfficientNet divides once
    more, by the root of the deviation, in a layer behind the Normalization.
    The same weights from a file lack that layer, without a word. A variance
    multiplied by the deviation does the same in any graph.
    """
    for layer in made.layers:
        if isinstance(layer, keras.layers.Normalization):
            mean, variance, *count = layer.get_weights()
            deviation = np.asarray(_IMAGENET_DEVIATION, variance.dtype)
            scaled = variance * deviation.reshape(variance.shape)
            _set(layer, [mean, scaled, *count])


def _lacks_imagenet_scale(made: keras.Model) -> bool:
    """Tells whether the network's Normalization is as Keras' file has it."""
    for layer in made.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            variance = layer.get_weights()[1].reshape(-1)
            return np.allclose(variance, _IMAGENET_DEVIATION, rtol=1e-3)
    return False


def _set(layer: keras.layers.Layer, arrays: list[np.ndarray]) -> None:
    layer.set_weights(arrays)
    if isinstance(layer, keras.layers.Normalization):
        # It computes with copies that are otherwise made only when loading.
        layer.finalize_state()


def _saved_layers(path: pathlib.Path, row: catalog.Backbone) -> list[_Layer]:
    model = open_model(path)
    for layer in model.layers:
        if isinstance(layer, base.Base):
            if layer.backbone != row.name:
                raise errors.UserError(
                    f"`weights` {path.parent} are those of {layer.backbone}. "
                    f"Received: backbone = {row.name}. Give "
                    f"--backbone={layer.backbone}."
                )
            return _layers(layer.network)
    return _layers(model)


def _layers(model: keras.Model) -> list[_Layer]:
    return [
        (layer.name, layer.get_weights())
        for layer in model.layers
        if layer.weights
    ]


def _legacy_layers(path: pathlib.Path) -> list[_Layer]:
    try:
        with h5py.File(path, "r") as file:
            group = file["model_weights"] if "model_weights" in file else file
            return [
                (_text(name), arrays)
                for name in group.attrs["layer_names"]
                if (arrays := _legacy_arrays(group[_text(name)]))
            ]
    except (OSError, KeyError) as error:
        raise errors.UserError(
            f"`weights` {path} is no file of Keras weights: {_line(error)}"
        ) from None


def _legacy_arrays(group: h5py.Group) -> list[np.ndarray]:
    return [
        np.asarray(group[_text(name)])
        for name in group.attrs.get("weight_names", ())
    ]


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _load_keras_weights(made: keras.Model, path: pathlib.Path) -> None:
    try:
        made.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise errors.UserError(
            f"`weights` {path} do not fit {made.name}: {_line(error)}"
        ) from None


def _assign(
    made: keras.Model, found: list[_Layer], path: pathlib.Path
) -> None:
    """Puts `found` into the layers of `made`, in order.

    A classifier on top of the file's network, that is trailing layers of
    matrices and vectors, is left aside: a base is a network without it.
    """
    layers = [layer for layer in made.layers if layer.weights]
    for number, layer in enumerate(layers):
        name, arrays = found[number] if number < len(found) else ("none", [])
        wanted = [tuple(weight.shape) for weight in layer.weights]
        shapes = [array.shape for array in arrays]
        if shapes != wanted:
            raise errors.UserError(
                f"`weights` {path} do not fit {made.name}: layer {layer.name} "
                f"needs {wanted}, the file's layer {name} has {shapes}."
            )
    for name, arrays in found[len(layers) :]:
        if any(array.ndim > 2 for array in arrays):
            raise errors.UserError(
                f"`weights` {path} do not fit {made.name}: the file has the "
                f"further layer {name} with "
                f"{[array.shape for array in arrays]}."
            )
    for layer, (_, arrays) in zip(layers, found, strict=False):
        _set(layer, arrays)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."
