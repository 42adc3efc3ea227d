"""How long the rest of a run will take, from what it has measured so far."""

import statistics
from collections.abc import Sequence

from tlkeras import records

# A step that trains the base, too, takes this many times one that does not:
# the backward pass costs about two forward passes. Only for phases that have
# not begun.
_TRAINED_BASE = 3.0
# Before a step was taken: the graph of one takes so many times as long to build
# as the network in Keras did.
_GRAPH = 6.0
# In times of that graph: scoring, which builds another; with export and report
# 1.0 of MobileNetV2's, 1.6 of a small network's.
SCORING = 0.3
FINISHING = 1.2
# Of a smaller part of the network the graph says nothing of the whole one.
_PART = 0.2


class Pace:
    """What a run has measured of its own speed.

    planned: the phases to come, as far as they are known. again: those that a
    final fit then takes once more, up to their best epochs. scored: images that
    are scored at the end for each of training. exports: whether the run ends
    with an export and a report.
    """

    def __init__(self, planned: Sequence[records.Phase] = ()):
        self.planned = list(planned)
        self.again: list[records.Phase] = []
        self.scored = 0.0
        self.exports = True
        # Seconds that the graph of a step that trains all takes to be built.
        self.graph = 0.0

    def built(self, seconds: float) -> None:
        """Notes how long Keras took to build the network."""
        self.graph = _GRAPH * seconds

    def begin(
        self,
        phase: records.Phase,
        *,
        done: int,
        share: float,
        live_seconds: float,
    ) -> None:
        """Notes that `phase` begins, and takes those before it off the plan.

        done: epochs that an earlier call took. share: of the layers that its
        steps compute. live_seconds: of an epoch of a forward pass through all,
        0 where the steps compute that.
        """
        self.phase = phase
        self.done = done
        self.share = share
        self.live_seconds = live_seconds
        # Seconds of the epochs so far, with their validation.
        self.spent: list[float] = []
        self.first_step = 0.0
        self.best = (0.0, 0.0)
        self.best_epoch = 0
        self.forget(phase)

    def forget(self, phase: records.Phase) -> None:
        """Takes `phase` off the phases to come, and those before it.

        They were finished by an earlier run that was killed.
        """
        names = [each.name for each in self.planned]
        if phase.name in names:
            del self.planned[: names.index(phase.name) + 1]

    def ends_epoch(
        self, seconds: float, score: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        """Notes the seconds of an epoch; the first one builds the graph.

        score: what it came to, of which the largest is the best.
        """
        self.spent.append(seconds)
        if score > self.best or not self.best_epoch:
            self.best, self.best_epoch = score, self.done + len(self.spent)
        building = self.first_step
        if len(self.spent) > 1:
            building = self.spent[0] - statistics.fmean(self.spent[1:])
        if self.share >= _PART and building > 0:
            self.graph = building / self.share

    def left(self, done: int, steps: int, seconds: float) -> float:
        """Returns the seconds left when `done` of `steps` steps are taken.

        seconds: that these steps of the epoch have taken. 0 where nobody knows,
        before the second step.
        """
        if self.spent[1:]:
            epoch = statistics.fmean(self.spent[1:])
        elif self.spent and done > 1:
            epoch = seconds / done * steps
        elif self.spent:
            # The first step built the graph.
            later = self.spent[0] - self.first_step * (steps > 1)
            epoch = later / max(steps - 1, 1) * steps
        elif done > 1:
            epoch = (seconds - self.first_step) / (done - 1) * steps
        else:
            return 0.0
        rest = self.phase.epochs - self.done - len(self.spent) - done / steps
        return max(rest, 0.0) * epoch + self._later(epoch)

    def at_most(self) -> bool:
        """Tells whether one of the phases may end sooner than it is planned."""
        return any(
            each.schedule == "constant" and each.solver == "adam"
            for each in (self.phase, *self.planned)
        )

    def _later(self, epoch: float) -> float:
        """Returns the seconds of all that comes after this phase."""
        live = self.live_seconds or epoch
        forward = live / (1.0 if self.live_seconds else _cost(self.phase))
        seconds = forward * self.scored
        seconds += self.graph * (FINISHING if self.exports else SCORING)
        for phase in self.planned:
            if phase.solver != "adam":
                continue
            seconds += phase.epochs * forward * _cost(phase)
            seconds += self.graph * (phase.unfreeze != "none")
        for phase in self.again:
            if phase.solver != "adam":
                continue
            if phase.name == self.phase.name:
                seconds += self._best_epochs() * epoch
                seconds += self.graph * self.share
            else:
                seconds += phase.epochs / 2 * forward * _cost(phase)
                seconds += self.graph * (phase.unfreeze != "none")
        return seconds

    def _best_epochs(self) -> float:
        """Returns how many epochs of this phase lead to its best, about.

        As long as nothing is known that is half of all.
        """
        share = (self.done + len(self.spent)) / self.phase.epochs
        return share * self.best_epoch + (1 - share) * self.phase.epochs / 2


def _cost(phase: records.Phase) -> float:
    return 1.0 if phase.unfreeze == "none" else _TRAINED_BASE
