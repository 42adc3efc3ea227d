"""Whose the ImageNet weights are, for a model that is passed on.

As Keras' documentation of its applications and the projects themselves say it;
tlkeras gives no licence for them.
"""

import dataclasses

from tlkeras.backbones import catalog
from tlkeras.backbones import hub


@dataclasses.dataclass(frozen=True)
class Origin:
    """Who trained weights, and under which licence they are given."""

    source: str
    licence: str


_GOOGLE = "Google, by way of Keras"
_TORCHVISION = Origin(
    "torchvision",
    "BSD 3-clause (the library's; torchvision states none for weights alone)",
)

# Family: whose its ImageNet weights are.
ORIGINS = {
    "VGG": Origin(
        "Visual Geometry Group, Oxford, by way of Keras",
        "Creative Commons Attribution",
    ),
    "ResNet": Origin("Kaiming He, by way of Keras", "MIT"),
    "ResNetV2": Origin("Keras", "that of Keras, Apache 2.0"),
    "InceptionV3": Origin(_GOOGLE, "Apache 2.0"),
    "InceptionResNetV2": Origin(_GOOGLE, "Apache 2.0"),
    "Xception": Origin("Keras", "MIT"),
    "DenseNet": Origin("Zhuang Liu, by way of Keras", "BSD 3-clause"),
    "MobileNet": Origin(_GOOGLE, "Apache 2.0"),
    "MobileNetV2": Origin(_GOOGLE, "Apache 2.0"),
    "MobileNetV3": Origin(_GOOGLE, "Apache 2.0"),
    "NASNet": Origin(_GOOGLE, "Apache 2.0"),
    "EfficientNet": Origin(_GOOGLE, "Apache 2.0"),
    "EfficientNetV2": Origin(_GOOGLE, "Apache 2.0"),
    "EfficientNetLite": Origin("Google", "Apache 2.0"),
    "ConvNeXt": Origin("Meta, by way of Keras", "MIT"),
    "AlexNet": _TORCHVISION,
    "SqueezeNet": _TORCHVISION,
    "SqueezeNetKeras": Origin(
        "DeepScale, by way of keras-squeezenet", "BSD 2-clause and MIT"
    ),
    "GoogLeNet": _TORCHVISION,
    "BasicResNet": _TORCHVISION,
    "BottleneckResNet": _TORCHVISION,
}


def describe(backbone: str, weights: str) -> str:
    """Returns in a sentence where the weights of a base come from.

    weights: the setting; of a file only the name is told.
    """
    if weights == "none":
        return "None: every weight began at random."
    if backbone.startswith(hub.PREFIX) and weights == "imagenet":
        preset = hub.title(backbone).removeprefix(hub.PREFIX)
        return (
            f"Those of the preset `{preset}`, by way of keras-hub; their "
            "licence is their publisher's."
        )
    family = catalog.find(backbone).family
    if weights != "imagenet" or family not in ORIGINS:
        name = weights.rstrip("/").rpartition("/")[2]
        return (
            f"`{name}`, as it was given to this run. Its licence is not known "
            "here: ask whoever it came from."
        )
    origin = ORIGINS[family]
    return (
        f"ImageNet weights of {backbone}, from {origin.source}; licence: "
        f"{origin.licence}. ImageNet's own terms allow its images for research "
        "only."
    )
