"""Networks by name, and where their weights come from."""

import collections
import hashlib
import importlib
import pathlib
import re
import socket
from collections.abc import Callable

import h5py
import keras
import numpy as np

from tlkeras import errors
from tlkeras.backbones import base
from tlkeras.backbones import catalog
from tlkeras.backbones import locate
from tlkeras.backbones import torchvision
from tlkeras.machine import keras_private

# The name of a layer in a file and one of its arrays, in Keras' order.
_Array = tuple[str, np.ndarray]

_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
# Seconds without an answer after which a download counts as failed; Keras
# itself waits for ever.
_TIMEOUT = 30.0


def network(
    row: catalog.Backbone, image_size: int, weights: str
) -> keras.Model:
    """Returns the functional network of `row` with `weights` in it.

    image_size: side of the input in pixels.
    weights: `none`, `imagenet`, a file (.h5, .weights.h5, .keras, torchvision's
      .pth) or the directory of an earlier run.

    Raises `UserError` where the size is too small, weights cannot be had, or
    do not fit; the message then names the layer and both shapes.
    """
    if weights == "imagenet":
        return _imagenet(row, image_size)
    made = _construct(row, image_size, None)
    path = locate.weights(weights)
    if path is not None:
        _load(made, row, path)
        _scale_as_imagenet(made)
    return made


def classifier(
    made: base.Base, weights: str
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns the classifier that `weights` bring, features -> logits [n, k].

    None where they bring none, as what Keras downloads for a base, or one that
    is more than a layer on the pooled features. `made`: the base that has them.
    """
    path = locate.weights(weights)
    if path is None:
        return None
    if path.suffix in locate.TORCH:
        rest = torchvision.classifier(made.backbone, torchvision.read(path))
    elif path.suffix == ".keras":
        model = open_model(path)
        if any(isinstance(layer, base.Base) for layer in model.layers):
            head = model.get_layer("head")
            return lambda features: keras.ops.convert_to_numpy(head(features))
        rest = _arrays(model)[len(made.network.weights) :]
    else:
        with h5py.File(path, "r") as file:
            group = file["model_weights"] if "model_weights" in file else file
            if _names(group, "layer_names"):
                rest = _legacy_arrays(group)[len(made.network.weights) :]
            else:
                # Keras 3 calls the first layer of a class by its class alone.
                stored = file.get("layers/dense/vars", {})
                rest = [("dense", stored[key][()]) for key in sorted(stored)]
    if len(rest) != 2:
        return None
    (name, kernel), (_, bias) = rest
    # MobileNet's is a 1 x 1 convolution behind the pooling. That of SqueezeNet
    # stands before it, and so would say something else.
    if kernel.ndim == 4 and "conv_preds" in name:
        kernel = kernel[0, 0]
    if kernel.shape != (made.network.output.shape[-1], len(bias)):
        return None
    return lambda features: features @ kernel + bias


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
    loaded = _download(row, image_size)
    rescalings = [
        layer
        for layer in loaded.layers
        if isinstance(layer, keras.layers.Rescaling)
    ]
    if len(rescalings) < 2:
        return loaded
    made = _construct(row, image_size, None)
    _assign(made, _arrays(loaded), "imagenet")
    _scale_as_imagenet(made)
    return made


def _download(row: catalog.Backbone, image_size: int) -> keras.Model:
    """Returns the network with the ImageNet weights that are downloaded."""
    locate.check_imagenet(row)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        if not row.origin:
            return _construct(row, image_size, "imagenet")
        made = _construct(row, image_size, None)
        _load(made, row, _fetch(row))
        return made
    except errors.UserError:
        raise
    except Exception as error:  # Keras raises a bare Exception for a download.
        if not keras_private.is_failed_download(error):
            raise
        raise errors.UserError(
            f"the ImageNet weights of {row.name} could not be downloaded "
            f"({_line(error)}). With a network they are kept for later; "
            "without one give --weights=FILE, an earlier run, or "
            "--data=builtin:digits with --backbone=SmallResNet."
        ) from None
    finally:
        socket.setdefaulttimeout(before)


def _fetch(row: catalog.Backbone) -> pathlib.Path:
    """Returns the file from `row.origin`, which Keras keeps for later.

    Raises OSError if it is another than was meant.
    """
    name = row.origin.rpartition("/")[2]
    found = keras.utils.get_file(name, row.origin, cache_subdir="models")
    path = pathlib.Path(found)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(row.sha256):
        path.unlink()
        raise OSError(
            f"Incomplete or corrupted file: the hash of {name} is {digest}, "
            f"not {row.sha256}..."
        )
    return path


def _scale_as_imagenet(made: keras.Model) -> None:
    """Gives EfficientNet's first layer the scale its ImageNet weights need.

    With weights="imagenet", and only then, Keras' EfficientNet divides once
    more, by the root of the deviation, in a second Rescaling behind the
    Normalization. The same weights from a file lack that layer, without a
    word. A variance multiplied by the deviation does the same in any graph;
    the file's own variance is the deviation, by which it is known here.
    """
    for layer in made.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            mean, variance, *count = layer.get_weights()
            deviation = np.reshape(_IMAGENET_DEVIATION, variance.shape)
            if np.allclose(variance, deviation, rtol=1e-3):
                layer.set_weights([mean, variance * deviation, *count])
    _finalize(made)


def _load(made: keras.Model, row: catalog.Backbone, path: pathlib.Path) -> None:
    if path.suffix == ".keras":
        _assign(made, _saved_arrays(path, row), str(path))
        return
    if path.suffix in locate.TORCH:
        arrays = torchvision.read(path)
        torchvision.assign(made, row.name, arrays, str(path))
        return
    try:
        with h5py.File(path, "r") as file:
            group = file["model_weights"] if "model_weights" in file else file
            if _names(group, "layer_names"):
                _check_origin(row, path, _names(group, "layer_names"))
                _assign(made, _legacy_arrays(group), str(path))
                return
            misfit = _misfit(made, file)
        if not misfit:
            made.load_weights(path)
            return
    except errors.UserError:
        raise
    except (ValueError, OSError, KeyError) as error:
        misfit = _line(error)
    raise errors.UserError(
        f"`weights` {path} are no Keras weights, or do not fit {made.name}: "
        f"{misfit}"
    )


def _check_origin(
    row: catalog.Backbone, path: pathlib.Path, layers: list[str]
) -> None:
    """Refuses weights that fit, but in a network that scales otherwise.

    Those of keras-squeezenet are known by names that Keras 3 does not allow.
    """
    if row.name == "SqueezeNet1_1" and "fire2/squeeze1x1" in layers:
        raise errors.UserError(
            f"`weights` {path} are those of keras-squeezenet, for images "
            f"scaled as in Caffe. Received: backbone = {row.name}, which "
            "scales as PyTorch does. Give --backbone=SqueezeNet1_1-keras."
        )


def _misfit(made: keras.Model, file: h5py.File) -> str:
    """Returns what in a file of Keras 3 does not fit; '' if nothing shows.

    Keras counts the layers of a class there, and its own message leaves out
    the shapes where a layer has too few weights.
    """
    counts: collections.Counter[str] = collections.Counter()
    for layer in made.layers:
        kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
        name = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        stored = file.get(f"layers/{name}/vars", {})
        has = [stored[number].shape for number in sorted(stored, key=int)]
        needs = [tuple(weight.shape) for weight in layer.weights]
        if has != needs and not isinstance(layer, keras.Model):
            return (
                f"layer {layer.name} needs {needs}, the file's layer {name} "
                f"has {has}."
            )
    return ""


def _saved_arrays(path: pathlib.Path, row: catalog.Backbone) -> list[_Array]:
    model = open_model(path)
    for layer in model.layers:
        if isinstance(layer, base.Base):
            if layer.backbone != row.name:
                raise errors.UserError(
                    f"`weights` {path} are those of {layer.backbone}. "
                    f"Received: backbone = {row.name}. Give "
                    f"--backbone={layer.backbone}."
                )
            return _arrays(layer.network)
    return _arrays(model)


def _arrays(model: keras.Model) -> list[_Array]:
    return [
        (variable.path, keras.ops.convert_to_numpy(variable))
        for variable in model.weights
    ]


def _legacy_arrays(group: h5py.Group) -> list[_Array]:
    """Returns the arrays of a file in the format that Keras 2 wrote."""
    found = []
    for layer in _names(group, "layer_names"):
        names = _names(group[layer], "weight_names")
        # A network inside a network lists what is not trained at its end.
        layers = [name.rpartition("/")[0] for name in names]
        names.sort(key=lambda name: layers.index(name.rpartition("/")[0]))
        found += [(name, np.asarray(group[layer][name])) for name in names]
    return found


def _names(group: h5py.Group, key: str) -> list[str]:
    """Returns a list of names; Keras divides long ones: `key0`, `key1`, ..."""
    parts = [key] if key in group.attrs else []
    while f"{key}{len(parts)}" in group.attrs:
        parts.append(f"{key}{len(parts)}")
    names = [name for part in parts for name in group.attrs[part]]
    return [
        name.decode() if isinstance(name, bytes) else name for name in names
    ]


def _assign(made: keras.Model, found: list[_Array], source: str) -> None:
    """Puts `found` into the weights of `made`, in order.

    A classifier on top of the file's network, that is trailing matrices,
    vectors and 1 x 1 convolutions, is left aside: a base is a network without
    it.
    """
    wanted = made.weights
    problem = f"`weights` {source} do not fit {made.name}: "
    for variable, (name, array) in zip(wanted, found, strict=False):
        if tuple(variable.shape) != array.shape:
            raise errors.UserError(
                f"{problem}layer {variable.path} needs "
                f"{tuple(variable.shape)}, the file's layer {name} has "
                f"{array.shape}."
            )
    if len(found) < len(wanted):
        missing = wanted[len(found)]
        raise errors.UserError(
            f"{problem}layer {missing.path} needs {tuple(missing.shape)}, the "
            "file has no more layers."
        )
    for name, array in found[len(wanted) :]:
        if max(array.shape[:-2], default=1) > 1:
            raise errors.UserError(
                f"{problem}its last layer is {wanted[-1].path} of "
                f"{tuple(wanted[-1].shape)}, the file goes on with layer "
                f"{name} of {array.shape}."
            )
    made.set_weights([array for _, array in found[: len(wanted)]])
    _finalize(made)


def _finalize(made: keras.Model) -> None:
    """Lets Normalization compute with the weights that it has now.

    It uses copies that are otherwise made only when a file is loaded.
    """
    for layer in made.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            layer.finalize_state()


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."
