"""The facts that the layers hand to each other: small frozen dataclasses."""

import dataclasses
import math

# A cross-entropy that is lower by this share says more than one image does.
_CLEARLY = 0.1

# The target of an image that only fills up a batch, and is not scored.
FILLING = -1


@dataclasses.dataclass(frozen=True)
class Phase:
    """One compile and fit: which part learns, how long, and at what rate.

    unfreeze: what of the base learns beside the head: `none`, `all`,
      `stages:N` (the N topmost stages) or `from:LAYER`.
    epochs: passes over the training images, at most.
    learning_rate: Adam's rate, at its highest.
    batch_norm: `frozen` calls the base in inference mode (BatchNorm keeps its
      moving statistics, dropout is off); `training` calls what of it learns in
      training mode.
    schedule: `constant`, or `cosine` with a linear warm-up to zero at the end.
    warmup: share of the phase's steps, in [0, 1), that cosine warms up.
    patience: epochs without better validation after which the phase ends.
    solver: `adam` trains; `logistic` solves a linear head on a frozen base,
      and reads none of the four above.
    fresh_head: whether the head begins anew, whatever it has learned before.
    layer_decay: what the rate is multiplied by from each block of the base to
      the one below, in (0, 1]; 1 is one rate for all.
    adapt: `none` lets what learns of the base learn itself; `lora` in its place
      adapters of its dense layers, which are then added to them.
    lora_rank: width of these adapters.
    """

    name: str
    unfreeze: str
    epochs: int
    learning_rate: float
    batch_norm: str = "frozen"
    schedule: str = "constant"
    warmup: float = 0.1
    patience: int = 5
    solver: str = "adam"
    fresh_head: bool = False
    layer_decay: float = 1.0
    adapt: str = "none"
    lora_rank: int = 8


@dataclasses.dataclass(frozen=True)
class Score:
    """How good a model is on the validation split of `images` images.

    accuracy: share of right answers, in [0, 1].
    cross_entropy: mean over the images in nats, without class weights and
      without the penalty on the head's weights.
    balanced_accuracy: mean over the classes of their shares of right answers,
      where classes are to count the same; it then stands for the accuracy.
    """

    accuracy: float
    cross_entropy: float
    images: int
    balanced_accuracy: float | None = None

    @property
    def deciding(self) -> float:
        """The accuracy by which models are compared."""
        if self.balanced_accuracy is None:
            return self.accuracy
        return self.balanced_accuracy


# Of a model that was looked at with no images.
UNSCORED = Score(math.nan, math.nan, 0)


def better(score: Score, than: Score) -> bool:
    """Tells whether `score` beats `than`: the one rule for every choice.

    Higher accuracy wins; on a tie lower cross-entropy; on a tie in both the
    earlier one stays. One image more or less is chance: it decides only where
    the cross-entropies are within a tenth of each other. Epochs, rollback and
    strategies are all chosen by it.
    """
    if not math.isfinite(score.cross_entropy):
        return False
    if not math.isfinite(than.cross_entropy):
        return True
    lower, higher = sorted((score.cross_entropy, than.cross_entropy))
    # Accuracies are shares of whole images, but for rounding.
    images = abs(score.accuracy - than.accuracy) * score.images
    by_chance = images < 1.5 and lower < (1 - _CLEARLY) * higher
    if score.deciding != than.deciding and not by_chance:
        return score.deciding > than.deciding
    return score.cross_entropy < than.cross_entropy


def improved(score: Score, than: Score) -> bool:
    """Tells whether `score` beats `than` by over one standard error.

    The standard error is the binomial one of `than`'s accuracy, with one
    image added to either side so that 100 % right has an error too.
    """
    share = (than.deciding * than.images + 1) / (than.images + 2)
    error = math.sqrt(share * (1 - share) / than.images)
    return score.deciding - than.deciding > error


def clearly_worse(score: Score, than: Score) -> bool:
    """Tells whether `score` is behind `than` by over two standard errors.

    The standard error is that of two shares of as many images. A step that
    evidence speaks for is judged by it: kept only where it is `better`, on 25
    and 75 validation images, it was 0.5 points worse on average
    (benchmarks/decision.md).
    """
    if not math.isfinite(score.cross_entropy):
        return True
    both = score.deciding + than.deciding
    share = (both * than.images + 2) / (2 * than.images + 4)
    error = math.sqrt(share * (1 - share) / than.images)
    return than.deciding - score.deciding > 2 * error


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    learning_rate: at its end. seconds: without the validation, whose figures
    are NaN where there was none.
    """

    phase: str
    epoch: int
    learning_rate: float
    loss: float
    accuracy: float
    validation_accuracy: float
    validation_cross_entropy: float
    seconds: float
    images_per_second: float
    validation_balanced_accuracy: float | None = None


@dataclasses.dataclass(frozen=True)
class PhaseResult:
    """What one phase came to.

    score: the validation score of its best epoch, which is what it leaves,
      unless it was rolled back. Where `best_epoch` is 0, that of its start.
    stopped: why it ended: `patience` (no better validation for that many
      epochs: converged), `budget` (all its epochs), `diverged` (the loss was
      no longer finite), `hopeless` (clearly worse than before at half of its
      epochs), `callback` (one of the caller's), `interrupted`, or `solved`.
    improved: whether it beat the phase before by over one standard error.
    rolled_back: whether it ended no better than the phase before, so that
      the weights are those of before.
    learning: how many variables were to learn; `unmoved`, how many of them
      are bit-equal to their start.
    momentum: BatchNorm's momentum in this phase; 0 where it is frozen.
    views_cached: stored views of an image; 0 where the base ran live.
    cached_at: the layer whose activations were stored.
    shared_seconds: of `seconds`, those for what others find computed: stored
      activations, and the solution on them.
    l2: strength of the penalty that a solved head was found with.
    """

    phase: Phase
    score: Score
    epochs: int
    best_epoch: int
    steps: int
    seconds: float
    stopped: str
    trainable_parameters: int
    learning: int
    unmoved: int
    momentum: float
    history: tuple[Epoch, ...]
    improved: bool = False
    rolled_back: bool = False
    views_cached: int = 0
    cached_at: str = ""
    shared_seconds: float = 0.0
    l2: float = 0.0


@dataclasses.dataclass(frozen=True)
class FinalFit:
    """What the chosen recipe came to when it was trained again on more images.

    splits: that it learned from. images: how many these are. results: of its
      phases, whose scores are of no images.
    kept: '' where the model that it made is the one to deliver; else why it is
      the one that was chosen before: `diverged` (a loss that is not finite),
      `impossible`, or `worse` on images that it has learned
      from. why: the same as a sentence.
    """

    splits: tuple[str, ...]
    images: int
    results: tuple[PhaseResult, ...]
    kept: str = ""
    why: str = ""
