"""What training costs, in forward passes: a ratio for each family.

Measured on two cores, batches of 32 at the size below, held statistics, Adam:
the median of a few steps against that of forward passes in between. `last
stage` is a step of the last stage on stored activations of what is below. The
share of the multiplications above the cut would not do in its place: in
MobileNetV2 it is 0.26, by which the last stage would cost 0.9 passes.
"""

import dataclasses
import statistics

from tlkeras import catalog

# Family: (training of the whole base, of its last stage), in forward passes.
_MEASURED = {
    "SmallResNet": (3.2, 0.92),
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
