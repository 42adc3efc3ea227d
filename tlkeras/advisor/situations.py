"""What paid in which situation: a row each, from this project's trainings.

`tests/advisor/test_situations.py` computes the rows anew from
benchmarks/recipes.csv: 13 data sets, MobileNet-0.25 and MobileNetV2-0.35 at 96
pixels, 150 steps on one core.
"""

import dataclasses
import math

# Of photographs the distance to ImageNet is below this, of all else above, but
# for one of the 13 data sets (at 96 pixels, and at 160).
_LIKE_PHOTOGRAPHS = 0.35


@dataclasses.dataclass(frozen=True)
class Situation:
    """How many images there are, of what, and what paid then.

    images: of training and validation, about. photographs: whether they are
    photographs of things, as the base's source was, or else drawings, scans,
    microscope or other pictures. strategy: the best on average, of those
    within half a point the cheapest. gain: over the head alone [points of test
    accuracy], mean over data sets; error: its standard error, None of one set.
    sets: how many data sets. seconds: of processor time, median.
    """

    images: int
    photographs: bool
    strategy: str
    gain: float
    error: float | None
    sets: int
    seconds: int

    @property
    def text(self) -> str:
        """The images in words."""
        what = "photographs" if self.photographs else "other images"
        return f"about {self.images:,} {what}"

    @property
    def gain_text(self) -> str:
        """The gain in words."""
        if self.error is None:
            return f"{self.gain:+.1f}"
        return f"{self.gain:+.1f} ± {self.error:.1f}"


SITUATIONS = (
    Situation(100, True, "fine_tuning_high", 2.2, 1.2, 6, 8),
    Situation(300, True, "fine_tuning_high", 3.7, 1.0, 6, 13),
    Situation(1000, True, "pretrained_init", 8.7, None, 1, 11),
    Situation(100, False, "fine_tuning_high", 8.9, 2.0, 7, 9),
    Situation(300, False, "fine_tuning_high", 6.3, 1.8, 6, 12),
    Situation(1000, False, "pretrained_init", 6.8, 0.6, 2, 11),
)


def find(images: int, distance: float | None) -> Situation | None:
    """Returns the situation that is nearest; None where nothing tells.

    images: of training and validation. distance: as `evidence.distance` gives
    it, in standard deviations.
    """
    if distance is None:
        return None
    photographs = distance <= _LIKE_PHOTOGRAPHS
    return min(
        (row for row in SITUATIONS if row.photographs == photographs),
        key=lambda row: abs(math.log(row.images / images)),
    )
