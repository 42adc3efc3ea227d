"""Networks of PyTorch that compute what those of Keras compute.

ResNet50 is torchvision's, with the stride back in the first convolution of a
block, where He et al. and Keras have it, with biases in the convolutions and
the epsilon of Keras. EfficientNetV2B0 is timm's `tf_efficientnetv2_b0`, which
pads as TensorFlow does. `same_weights` carries the weights over, so that
equal logits can be asked for.
"""

import re
from collections.abc import Callable

import keras
import numpy as np
import torch

# What carries the names of timm's parts to those of Keras, by the block.
_EFFICIENTNET_PARTS = {
    "ConvBnAct": {"conv": "project_conv", "bn1": "project_bn"},
    "EdgeResidual": {
        "conv_exp": "expand_conv",
        "bn1": "expand_bn",
        "conv_pwl": "project_conv",
        "bn2": "project_bn",
    },
    "InvertedResidual": {
        "conv_pw": "expand_conv",
        "bn1": "expand_bn",
        "conv_dw": "dwconv2",
        "bn2": "bn",
        "se.conv_reduce": "se_reduce",
        "se.conv_expand": "se_expand",
        "conv_pwl": "project_conv",
        "bn3": "project_bn",
    },
}
_EFFICIENTNET_ENDS = {
    "conv_stem": "stem_conv",
    "bn1": "stem_bn",
    "conv_head": "top_conv",
    "bn2": "top_bn",
}


class Classifier(torch.nn.Module):
    """Images [n, 3, h, w], RGB in 0..255, to logits [n, classes].

    BatchNorm and dropout of the trunk are in inference mode while it learns;
    the head drops 20 % of the features if `drops`, as ours does in training.
    """

    def __init__(
        self,
        trunk: torch.nn.Module,
        names: dict[str, str],
        scale: Callable[[torch.Tensor], torch.Tensor],
        classes: int,
        width: int,
    ):
        super().__init__()
        self.trunk = trunk
        self.names = names
        self.scale = scale
        self.head = torch.nn.Linear(width, classes)
        self.drops = True
        self.eval()

    def forward(self, images):
        with torch.autocast(images.device.type, enabled=False):
            scaled = self.scale(images.float())
        features = self.trunk(scaled)
        if self.drops:
            features = torch.nn.functional.dropout(features, 0.2)
        with torch.autocast(images.device.type, enabled=False):
            return self.head(features.float())


def build(name: str, classes: int) -> Classifier:
    """Returns the classifier on the network that Keras calls `name`.

    Raises ImportError where the library that defines it is not there.
    """
    _import_torchvision()
    return {"ResNet50": _resnet50, "EfficientNetV2B0": _efficientnet}[name](
        classes
    )


def same_weights(classifier: Classifier, network: keras.Model, head) -> None:
    """Puts the weights of Keras' `network` and `head` into `classifier`.

    Raises ValueError unless each array is used once, and none is left.
    """
    modules = dict(classifier.trunk.named_modules())
    weighted = {layer.name for layer in network.layers if layer.weights}
    if set(classifier.names.values()) != weighted:
        raise ValueError(
            "the networks do not have the same layers: "
            f"{set(classifier.names.values()) ^ weighted}."
        )
    for ours, theirs in classifier.names.items():
        _fill(modules[ours], network.get_layer(theirs))
    _fill(classifier.head, head.get_layer("logits"))


def _resnet50(classes: int) -> Classifier:
    import torchvision

    trunk = torchvision.models.resnet50(weights=None)
    width = trunk.fc.in_features
    trunk.fc = torch.nn.Identity()
    names = {}
    for path, module in trunk.named_modules():
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            first, second = module.conv1, module.conv2
            first.stride, second.stride = second.stride, first.stride
        if isinstance(module, torch.nn.Conv2d):
            module.bias = torch.nn.Parameter(torch.zeros(module.out_channels))
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1.001e-5
        if list(module.parameters(recurse=False)):
            names[path] = _resnet_name(path)
    mean = torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)

    def scale(images: torch.Tensor) -> torch.Tensor:
        return images.flip(1) - mean.to(images.device)

    return Classifier(trunk, names, scale, classes, width)


def _resnet_name(path: str) -> str:
    """Returns Keras' name of the layer that torchvision has at `path`."""
    stem = re.fullmatch("(conv|bn)1", path)
    if stem:
        return f"conv1_{stem[1]}"
    stage, block, part = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", path).groups()
    part = {"downsample.0": "conv0", "downsample.1": "bn0"}.get(part, part)
    return f"conv{int(stage) + 1}_block{int(block) + 1}_{part[-1]}_{part[:-1]}"


def _efficientnet(classes: int) -> Classifier:
    import timm

    trunk = timm.create_model("tf_efficientnetv2_b0", num_classes=0)
    names = dict(_EFFICIENTNET_ENDS)
    for stage, blocks in enumerate(trunk.blocks):
        for number, block in enumerate(blocks):
            for part, theirs in _EFFICIENTNET_PARTS[
                type(block).__name__
            ].items():
                path = f"blocks.{stage}.{number}.{part}"
                names[path] = f"block{stage + 1}{chr(97 + number)}_{theirs}"
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    def scale(images: torch.Tensor) -> torch.Tensor:
        device = images.device
        return (images / 255 - mean.to(device)) / deviation.to(device)

    return Classifier(trunk, names, scale, classes, trunk.num_features)


def _fill(module: torch.nn.Module, layer: keras.layers.Layer) -> None:
    """Puts the arrays of a layer of Keras into a module of PyTorch."""
    arrays = [np.asarray(array) for array in layer.get_weights()]
    if isinstance(layer, keras.layers.BatchNormalization):
        targets = [
            module.weight,
            module.bias,
            module.running_mean,
            module.running_var,
        ]
    else:
        targets = [module.weight]
        if module.bias is not None:
            targets.append(module.bias)
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            arrays[0] = arrays[0].transpose(2, 3, 0, 1)
        elif arrays[0].ndim == 4:
            arrays[0] = arrays[0].transpose(3, 2, 0, 1)
        else:
            arrays[0] = arrays[0].T
    with torch.no_grad():
        for target, array in zip(targets, arrays, strict=True):
            if tuple(target.shape) != array.shape:
                raise ValueError(
                    f"{layer.name} has {array.shape}, PyTorch's module "
                    f"{tuple(target.shape)}."
                )
            target.copy_(torch.tensor(array))


def _import_torchvision() -> None:
    """Imports torchvision, also where its compiled part does not load.

    A CPU build of torch of another make leaves its operators undeclared, and
    the import then fails on them; no network needs one.
    """
    for _ in range(100):
        try:
            import torchvision  # noqa: F401

            return
        except RuntimeError as error:
            missing = re.search("operator (torchvision::\\w+) does", str(error))
            if not missing:
                raise ImportError(str(error)) from None
            torch.library.define(missing[1], "(Tensor x) -> Tensor")
