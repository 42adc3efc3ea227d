"""What training costs, in forward passes: a ratio for each family.

Measured with Keras 3.15.1 on TensorFlow 2.21 and two cores that other work
shared: batches of 32 at 160 pixels (SmallResNet 32), held statistics, Adam,
the median of six steps against that of the forward passes between them. The
last stage learns from stored activations of what is below. Where a network was
measured twice, training differed by up to 20 %, the last stage by up to 50 %.

The share of multiplications above the cut would not do in their place: for
MobileNetV2's last stage it is 0.26, which makes 0.8 passes instead of 0.4.
"""

import dataclasses
import statistics

from tlkeras.backbones import catalog

# Family: (training of the whole base, of its last stage), in forward passes.
_MEASURED = {
    "DenseNet": (3.0, 0.2),
    "EfficientNet": (4.0, 0.8),
    "MobileNet": (2.8, 0.4),
    "MobileNetV2": (3.1, 0.4),
    "MobileNetV3": (3.6, 0.6),
    "ResNetV2": (3.5, 0.9),
    "SmallResNet": (3.2, 0.9),
    "VGG": (3.3, 0.3),
}


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Seconds of a training step in those of a forward pass.

    measured: whether for this family; else it is the median of the others.
    """

    training: float
    last_stage: float
    measured: bool


def ratio(backbone: str) -> Ratio:
    """Returns what training the network of this name costs."""
    families = {row.name: row.family for row in catalog.BACKBONES}
    found = _MEASURED.get(families.get(backbone, ""))
    if found:
        return Ratio(*found, True)
    training, last_stage = zip(*_MEASURED.values(), strict=True)
    return Ratio(
        statistics.median(training), statistics.median(last_stage), False
    )
