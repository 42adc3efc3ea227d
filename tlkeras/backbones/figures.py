"""How accurate networks are and what they cost; which suit what machine.

Accuracies are those of others, with their source. Costs do not depend on
weights: multiplications are counted, and processor time was measured beside
MobileNetV2's on the same machine at the same time.
"""

import dataclasses
from collections.abc import Iterable

from tlkeras.backbones import catalog

KERAS = "keras.io"
_TORCHVISION = "torchvision"
SOURCES = {
    KERAS: "keras.io/api/applications",
    "V1 paper": "arXiv:1704.04861, table 6",
    "TF-Slim": "tensorflow/models, slim/nets/mobilenet/README.md",
    "Keras' source": "keras/src/applications/mobilenet_v3.py",
    "Google": "tensorflow/tpu, efficientnet/lite/README.md",
    _TORCHVISION: "pytorch.org/vision/stable/models.html, weights DEFAULT",
}

# Top-1 accuracy on ImageNet's validation images in %, at the network's own
# size, of the weights that `--weights=imagenet` takes.
_TOP1: dict[str, dict[str, float]] = {
    KERAS: {
        "VGG16": 71.3,
        "VGG19": 71.3,
        "ResNet50": 74.9,
        "ResNet101": 76.4,
        "ResNet152": 76.6,
        "ResNet50V2": 76.0,
        "ResNet101V2": 77.2,
        "ResNet152V2": 78.0,
        "InceptionV3": 77.9,
        "InceptionResNetV2": 80.3,
        "Xception": 79.0,
        "DenseNet121": 75.0,
        "DenseNet169": 76.2,
        "DenseNet201": 77.3,
        "MobileNet": 70.4,
        "MobileNetV2": 71.3,
        "NASNetMobile": 74.4,
        "NASNetLarge": 82.5,
        "EfficientNetB0": 77.1,
        "EfficientNetB1": 79.1,
        "EfficientNetB2": 80.1,
        "EfficientNetB3": 81.6,
        "EfficientNetB4": 82.9,
        "EfficientNetB5": 83.6,
        "EfficientNetB6": 84.0,
        "EfficientNetB7": 84.3,
        "EfficientNetV2B0": 78.7,
        "EfficientNetV2B1": 79.8,
        "EfficientNetV2B2": 80.5,
        "EfficientNetV2B3": 82.0,
        "EfficientNetV2S": 83.9,
        "EfficientNetV2M": 85.3,
        "EfficientNetV2L": 85.7,
        "ConvNeXtTiny": 81.3,
        "ConvNeXtSmall": 82.3,
        "ConvNeXtBase": 85.3,
        "ConvNeXtLarge": 86.3,
        "ConvNeXtXLarge": 86.7,
    },
    "V1 paper": {
        "MobileNet-0.25": 50.6,
        "MobileNet-0.5": 63.7,
        "MobileNet-0.75": 68.4,
    },
    "TF-Slim": {
        "MobileNetV2-0.35": 60.3,
        "MobileNetV2-0.5": 65.4,
        "MobileNetV2-0.75": 69.8,
        "MobileNetV2-1.3": 74.4,
        "MobileNetV2-1.4": 75.0,
    },
    "Keras' source": {"MobileNetV3Small": 68.1, "MobileNetV3Large": 75.6},
    "Google": {
        "EfficientNetLite0": 75.1,
        "EfficientNetLite1": 76.7,
        "EfficientNetLite2": 77.6,
    },
    _TORCHVISION: {
        "AlexNet": 56.5,
        "SqueezeNet1_0": 58.1,
        "SqueezeNet1_1": 58.2,
        "GoogLeNet": 69.8,
        "ResNet18": 69.8,
        "ResNet34": 73.3,
        "ResNet50-torchvision": 80.9,
        "ResNet101-torchvision": 81.9,
        "ResNet152-torchvision": 82.3,
    },
}
_BY_NAME = {
    name: (share, source)
    for source, known in _TOP1.items()
    for name, share in known.items()
}

# Millions of multiplications of one image at the network's own size, and its
# processor time in that of MobileNetV2; 0 where that was not measured.
_COSTS: dict[str, tuple[int, float]] = {
    "VGG16": (15_347, 14.0),
    "VGG19": (19_508, 0),
    "ResNet50": (3_856, 4.9),
    "ResNet101": (7_568, 0),
    "ResNet152": (11_280, 0),
    "ResNet50V2": (3_480, 0),
    "ResNet101V2": (7_192, 0),
    "ResNet152V2": (10_905, 0),
    "InceptionV3": (5_711, 0),
    "InceptionResNetV2": (13_154, 0),
    "Xception": (8_355, 9.8),
    "DenseNet121": (2_833, 4.4),
    "DenseNet169": (3_358, 0),
    "DenseNet201": (4_289, 0),
    "MobileNet-0.25": (41, 0.3),
    "MobileNet-0.5": (149, 0.5),
    "MobileNet-0.75": (325, 0.7),
    "MobileNet": (568, 1.1),
    "MobileNetV2-0.35": (58, 0.4),
    "MobileNetV2-0.5": (96, 0.6),
    "MobileNetV2-0.75": (208, 0.9),
    "MobileNetV2": (299, 1.0),
    "MobileNetV2-1.3": (508, 1.5),
    "MobileNetV2-1.4": (580, 1.7),
    "MobileNetV3Small": (55, 0.4),
    "MobileNetV3Large": (214, 0.9),
    "NASNetMobile": (563, 2.0),
    "EfficientNetB0": (385, 1.5),
    "EfficientNetB1": (686, 0),
    "EfficientNetB2": (992, 0),
    "EfficientNetB3": (1_826, 0),
    "EfficientNetB4": (4_392, 0),
    "EfficientNetB5": (10_264, 0),
    "EfficientNetB6": (19_065, 0),
    "EfficientNetV2B0": (717, 1.6),
    "EfficientNetV2B1": (1_196, 0),
    "EfficientNetV2B2": (1_696, 3.0),
    "EfficientNetV2B3": (3_010, 0),
    "EfficientNetV2S": (8_364, 0),
    "EfficientNetV2M": (24_581, 0),
    "EfficientNetLite0": (384, 1.0),
    "EfficientNetLite1": (599, 1.6),
    "EfficientNetLite2": (858, 2.0),
    "ConvNeXtTiny": (4_455, 27.4),
    "ConvNeXtSmall": (8_683, 0),
    "ConvNeXtBase": (15_354, 0),
    "ConvNeXtLarge": (34_360, 0),
    "ConvNeXtXLarge": (60_919, 0),
    "SmallResNet": (44, 0.1),
    "AlexNet": (710, 0),
    "SqueezeNet1_0": (732, 1.0),
    "SqueezeNet1_1": (263, 0.4),
    "SqueezeNet1_1-keras": (266, 0.5),
    "GoogLeNet": (1_497, 2.1),
    "ResNet18": (1_814, 0),
    "ResNet34": (3_663, 0),
    "ResNet50-torchvision": (4_087, 4.7),
    "ResNet101-torchvision": (7_799, 0),
    "ResNet152-torchvision": (11_512, 0),
}

# What a phone is asked to download at most.
_PHONE_PARAMETERS = 10_000_000


@dataclasses.dataclass(frozen=True)
class Figures:
    """What is known of a network beside what it is.

    top1: share of ImageNet's validation images that are right [%], None where
      nobody says. source: who says so; see `SOURCES`.
    multiplications: of one image, in millions.
    processor: time of an image on a CPU, in that of MobileNetV2; None where it
      was not measured.
    """

    top1: float | None
    source: str
    multiplications: int
    processor: float | None


def of(name: str) -> Figures:
    """Returns the figures of a network of the catalogue."""
    top1, source = _BY_NAME.get(name, (None, ""))
    multiplications, processor = _COSTS.get(name, (0, 0.0))
    return Figures(top1, source, multiplications, processor or None)


def front(
    rows: Iterable[catalog.Backbone], purpose: str
) -> list[catalog.Backbone]:
    """Returns the networks to choose from for a purpose, in order.

    Those than which no other is both cheaper and as accurate. For `cpu` and
    `phone` the cheapest comes first, in processor time and in multiplications;
    a phone has room for 10 million parameters. For `gpu` the most accurate
    comes first: there, time differs less.
    """
    found: list[catalog.Backbone] = []
    costs = {row.name: _cost(row, purpose) for row in rows}
    known = [row for row in rows if costs[row.name] is not None]
    best = 0.0
    for row in sorted(known, key=lambda row: (costs[row.name], row.name)):
        top1 = of(row.name).top1
        if top1 is not None and top1 > best:
            best = top1
            found.append(row)
    return found[::-1] if purpose == "gpu" else found


def _cost(row: catalog.Backbone, purpose: str) -> float | None:
    figures = of(row.name)
    if purpose == "cpu":
        return figures.processor
    if purpose == "phone" and row.parameters > _PHONE_PARAMETERS:
        return None
    return figures.multiplications or None
