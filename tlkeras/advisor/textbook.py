"""What the textbook would do: four scenarios, by size and similarity.

They are those of the course notes of CS231n (Stanford, Transfer Learning).
The notes give no number for `small` and none for `similar`. Where the lines
are drawn here is our choice, and says where it comes from. What the notes say
of the fourth scenario, learning anew, they take back in the next sentence: in
practice one still begins with the pretrained weights.
"""

import dataclasses

# Up to so many training images are few. Kornblith et al., Do Better ImageNet
# Models Transfer Better? (arXiv:1805.08974, section 4.7, read second-hand):
# with 47 to 800 examples in all, a logistic regression on fixed features is
# comparable with fine-tuning or better.
SMALL = 800
# Up to so many standard deviations a channel's activations are similar to the
# source's, on average: our choice. With MobileNetV2 1.0 and 0.35 and MobileNet
# 0.25 at 160 pixels, weights of ImageNet, two sets of photographs are within
# 0.17 to 0.22; brain scans, surfaces of steel and digits 0.36 to 0.63. At 224
# (MobileNetV2 1.0) it is 0.16 to 0.20 and 0.34 to 0.61. Small images differ by
# being small: at 96 photographs have 0.30 and 0.36, the others 0.47 to 0.63.
SIMILAR = 0.3


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One of the four, and what the textbook would do in it.

    number: as in the notes, 1 to 4. strategy: the one of ours that does so.
    """

    number: int
    small: bool
    similar: bool
    strategy: str
    advice: str


# In the order of the notes.
SCENARIOS = (
    Scenario(
        1,
        True,
        True,
        "feature_extraction",
        "a linear classifier on the last features; to fine-tune would overfit",
    ),
    Scenario(
        2,
        False,
        True,
        "fine_tuning",
        "fine-tuning, since there is enough data not to overfit",
    ),
    Scenario(
        3,
        True,
        False,
        "feature_extraction",
        "a linear classifier only, better on features of an earlier layer",
    ),
    Scenario(
        4,
        False,
        False,
        "pretrained_init",
        "training from scratch is affordable, but all of it from the "
        "pretrained weights is mostly better",
    ),
)


def scenario(images: int, distance: float) -> Scenario:
    """Returns the scenario of a data set of `images` training images.

    distance: of its activations from the source's, as `evidence.distance`
    gives it, in standard deviations.
    """
    small, similar = images <= SMALL, distance <= SIMILAR
    return next(
        scenario
        for scenario in SCENARIOS
        if (scenario.small, scenario.similar) == (small, similar)
    )


def explain() -> str:
    """Returns in one line where the lines are drawn, and by whom."""
    return (
        f"small: up to {SMALL} training images (Kornblith et al. 2019: up to "
        "there a linear classifier is comparable with fine-tuning or better); "
        f"similar: a mean distance of up to {SIMILAR:g} (our choice; images "
        "far smaller than the source's count as different); CS231n gives no "
        "numbers"
    )
