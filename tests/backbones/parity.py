"""Weights drawn from a seed, for torchvision's networks and for ours.

Run as a program where PyTorch is, it writes what torchvision computes with
them, which `test_parity.py` holds against ours everywhere:

  python tests/backbones/parity.py
"""

import functools
import importlib.util
import json
import math
import pathlib

import keras
import numpy as np

from tlkeras.backbones import catalog
from tlkeras.backbones import torch_weights as mapping
from tlkeras.backbones import weights

GOLDEN = pathlib.Path(__file__).with_name("torchvision_logits.json")
SEED = 5
# Name, and torchvision's name of it.
NETWORKS = {
    "AlexNet": "alexnet",
    "SqueezeNet1_0": "squeezenet1_0",
    "SqueezeNet1_1": "squeezenet1_1",
    "GoogLeNet": "googlenet",
    "ResNet18": "resnet18",
    "ResNet34": "resnet34",
    "ResNet50-torchvision": "resnet50",
}
# Networks of Keras, and of ours beside torchvision, that libraries have, too.
TWINS = {
    ("torchvision", "VGG16"): "vgg16",
    ("timm", "VGG16"): "vgg16",
    ("torchvision", "DenseNet121"): "densenet121",
    ("timm", "DenseNet121"): "densenet121",
    ("torchvision", "ConvNeXtTiny"): "convnext_tiny",
    ("timm", "ConvNeXtTiny"): "convnext_tiny",
    ("Meta", "ConvNeXtTiny"): "convnext_tiny",
    ("timm", "EfficientNetV2B0"): "tf_efficientnetv2_b0",
    ("timm", "EfficientNetV2S"): "tf_efficientnetv2_s",
    ("timm", "EfficientNetLite0"): "tf_efficientnet_lite0",
    ("timm", "EfficientNetLite2"): "tf_efficientnet_lite2",
    ("timm", "ResNet50-torchvision"): "resnet50",
}
TWIN_GOLDEN = pathlib.Path(__file__).with_name("twin_features.json")
# Sides in pixels. At 177 the ceil mode of each network that has one matters,
# and AlexNet averages 4 x 4 pixels to 6 x 6.
SIZES = (224, 177)
# Every so many of the 1,000 logits are kept.
STEP = 40


def whole(name: str, size: int) -> keras.Model:
    """Returns our network with its classifier of 1,000."""
    row = catalog.find(name)
    module, constructor = row.constructor.rsplit(".", 1)
    build = getattr(importlib.import_module(module), constructor)
    return build(include_top=True, input_shape=(size, size, 3))


def draw(
    made: keras.Model, name: str, library: str = ""
) -> dict[str, np.ndarray]:
    """Returns random weights in a library's layout, by its names.

    Without a library, of the first that has the network.
    """
    generator = np.random.default_rng(SEED)
    shapes = {
        place: variable.shape
        for place, variable in mapping.places(made).items()
    }
    drawn = {}
    known = {scheme.library: rows for scheme, rows in mapping.tables(name)}
    # What no scheme has of its own is called as in torchvision.
    rows = known.get(library, mapping.tables(name)[0][1])
    for entry in rows:
        if entry.keras not in shapes:
            continue
        shape = mapping.torch_shape(entry, tuple(shapes[entry.keras]))
        if entry.torch.endswith("layer_scale"):
            # torchvision's has two axes more.
            shape = (*shape, 1, 1)
        noise = generator.random(shape, np.float32)
        kind = entry.keras.rpartition("/")[2]
        if kind in ("gamma", "moving_variance", "variable"):
            drawn[entry.torch] = noise + np.float32(0.5)
            if entry.keras.endswith("project_bn/gamma") and "V2" in name:
                drawn[entry.torch] *= np.float32(0.3)
            continue
        # He's variance keeps the signal through all layers.
        fan = math.prod(shape[1:]) if kind == "kernel" else 600
        drawn[entry.torch] = (2 * noise - 1) * np.float32(math.sqrt(6 / fan))
        # Gates that are open or shut would make a step of every rounding.
        if "_se_" in entry.keras:
            drawn[entry.torch] *= np.float32(0.01)
    return drawn


def base(name: str, size: int) -> keras.Model:
    """Returns our network without its classifier."""
    return weights.network(catalog.find(name), size, "none")


def pixels(name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image as our network takes it, and as theirs does."""
    if catalog.find(name).scaling != "none":
        return images(size), images(size)
    shape = (1, size, size, 3)
    raw = 255 * np.random.default_rng(size).random(shape, np.float32)
    if name.startswith("EfficientNetLite"):
        return raw, (raw - 127) / 128
    if name == "EfficientNetV2S":
        return raw, raw / 127.5 - 1
    mean = np.array((0.485, 0.456, 0.406), np.float32)
    deviation = np.array((0.229, 0.224, 0.225), np.float32)
    return raw, (raw / 255 - mean) / deviation


def their_features(
    library: str, name: str, drawn: dict[str, np.ndarray], size: int
) -> np.ndarray:
    """Returns what a library's network makes of an image, [c]."""
    _declare_operators()
    import timm
    import torch
    import torchvision

    create = timm.create_model
    if library == "torchvision":
        create = torchvision.models.get_model
    # Nothing is drawn for what is replaced, nor for VGG's classifier.
    with torch.device("meta"):
        network = create(TWINS[library, name]).eval()
    state = {key: torch.from_numpy(array) for key, array in drawn.items()}
    if library == "Meta":
        # Its names come with a classifier.
        state |= {"head.weight": torch.zeros(1000, 768)}
        state |= {"head.bias": torch.zeros(1000)}
        state = timm.models.convnext.checkpoint_filter_fn(state, network)
    missing, unexpected = network.load_state_dict(
        state, strict=False, assign=True
    )
    assert not unexpected
    assert all(
        key.endswith("num_batches_tracked")
        or key.startswith(("classifier.", "pre_logits.", "head.fc", "fc."))
        for key in missing
    )
    image = torch.from_numpy(pixels(name, size)[1].transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        if name.startswith("VGG"):
            features = network.features(image).mean((2, 3))
        elif library in ("timm", "Meta"):
            features = network.forward_features(image)
            features = network.forward_head(features, pre_logits=True)
        elif name.startswith("DenseNet"):
            features = network.features(image).relu().mean((2, 3))
        else:
            features = network.avgpool(network.features(image))
            features = network.classifier[0](features)
        return features.flatten().numpy()


def images(size: int) -> np.ndarray:
    """Returns one scaled image, [1, size, size, 3]."""
    noise = np.random.default_rng(size).random((1, size, size, 3), np.float32)
    return 4 * noise - 2


def theirs(name: str, **arguments) -> object:
    """Returns torchvision's network, in inference mode, without weights."""
    _declare_operators()
    import torchvision

    if name == "GoogLeNet":
        arguments = {"aux_logits": False, "init_weights": False, **arguments}
    return torchvision.models.get_model(NETWORKS[name], **arguments).eval()


def their_logits(network: object, scaled: np.ndarray) -> np.ndarray:
    """Returns what torchvision's network makes of images [n, h, w, 3]."""
    import torch

    with torch.no_grad():
        channels_first = torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy())
        return network(channels_first).numpy()


def filled(name: str, drawn: dict[str, np.ndarray], **arguments) -> object:
    """Returns torchvision's network with these weights, all of them used."""
    import torch

    network = theirs(name, **arguments)
    state = {key: torch.from_numpy(array) for key, array in drawn.items()}
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)
    return network


@functools.cache
def _declare_operators() -> object:
    """Lets torchvision import where its compiled part does not load.

    Not every build of torch fits it. Its models need none of it, but importing
    them asks for two operators.
    """
    import torch

    home = importlib.util.find_spec("torchvision").submodule_search_locations
    try:
        for path in pathlib.Path(home[0]).glob("_C*.so"):
            torch.ops.load_library(path)
        torch.ops.torchvision.nms  # noqa: B018
    except (OSError, AttributeError):
        declared = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            declared.define(
                f"{operator}(Tensor dets, Tensor scores, float iou_threshold) "
                "-> Tensor"
            )
        return declared
    return None


def write() -> None:
    """Writes the golden file."""
    found = {}
    for name in NETWORKS:
        network = filled(name, draw(whole(name, SIZES[0]), name))
        found[name] = {
            str(size): [
                float(f"{value:.7g}")
                for value in their_logits(network, images(size))[0, ::STEP]
            ]
            for size in SIZES
        }
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")


def write_twins() -> None:
    """Writes the golden file of the twins' features."""
    found = {}
    for library, name in TWINS:
        drawn = draw(base(name, 32), name, library)
        found[f"{library} {name}"] = {
            str(size): [
                float(f"{value:.7g}")
                for value in their_features(library, name, drawn, size)[::STEP]
            ]
            for size in SIZES
        }
        print(library, name, flush=True)
        TWIN_GOLDEN.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    write()
    write_twins()
