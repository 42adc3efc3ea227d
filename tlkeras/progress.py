"""What a person sees while it works: which phase, how far, how long still."""

import contextlib
import math
import sys
import time
from collections.abc import Iterator

import rich.console
import rich.progress
import rich.status

from tlkeras import errors
from tlkeras import records
from tlkeras.machine import pace as paces

# Epochs of a phase that have a line each on a terminal.
_EPOCH_LINES = 40


class Progress:
    """Shows phases, epochs, time left and images a second on a terminal.

    Where the output is no terminal it prints one line an epoch and no bar.

    planned: the phases to come, as far as they are known. brief: whether this
    is one run of many: epochs then move the bar only, and leave no line, and
    neither does what is the same for all. full: whether each epoch of a long
    phase leaves a line on a terminal, too.
    """

    def __init__(
        self,
        planned: tuple[records.Phase, ...] = (),
        *,
        console: rich.console.Console | None = None,
        quiet: bool = False,
        brief: bool = False,
        full: bool = False,
    ):
        self.console = console or rich.console.Console(
            file=sys.stdout, quiet=quiet, highlight=False, soft_wrap=True
        )
        self.pace = paces.Pace(planned)
        # A member of many is not exported.
        self.pace.exports = not brief
        self.brief = brief
        self.full = full
        self.bar: rich.progress.Progress | None = None
        self.task = rich.progress.TaskID(0)
        self.status: rich.status.Status | None = None

    def silence(self) -> None:
        """Shows nothing from here on."""
        self.console.quiet = True

    def say(self, text: str) -> None:
        """Prints one line."""
        text = errors.printable(text)
        if self.console.is_terminal:
            text = errors.wrapped(text, self.console.width)
        self.console.print(text, markup=False)

    def detail(self, text: str) -> None:
        """Prints one line, but where there are many runs."""
        if not self.brief:
            self.say(text)

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Shows on a terminal that `what` is being done, for as long as it is.

        What prints or shows a bar meanwhile takes its place.
        """
        self.end()
        if self.console.is_terminal and not self.console.quiet:
            self.status = self.console.status(what)
            self.status.start()
        try:
            yield
        finally:
            self.end()

    def begin(self, what: str, total: int, note: str = "") -> None:
        """Shows a bar for `what`, of `total` pieces of work."""
        self.end()
        self.bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.bar.start()
        self.task = self.bar.add_task(
            errors.printable(what), total=total, note=note
        )
        self.began = time.perf_counter()
        self.count = 0
        self.total = total

    def advance(self, count: int = 1, note: str = "") -> None:
        """Moves the bar by `count` pieces of work; without `note`, says how
        long the rest will take."""
        self.count += count
        if self.bar is not None:
            note = note or self._rest_text()
            self.bar.update(self.task, advance=count, note=note)

    def end(self) -> None:
        """Takes away what is shown of work that is under way."""
        if self.status is not None:
            self.status.stop()
            self.status = None
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def phase_begins(
        self,
        phase: records.Phase,
        *,
        trainable_parameters: int,
        steps: int,
        views_cached: int = 0,
        cached_at: str = "",
        live_seconds: float = 0.0,
        share: float = 1.0,
        done: int = 0,
    ) -> None:
        """Says what a phase of `steps` steps an epoch is going to do.

        views_cached: stored ways an image can look, 0 where the base runs
        live. cached_at: the layer that was stored. live_seconds: what an epoch
        of a live base would then cost, forward. share: of the layers that the
        steps compute. done: epochs that an earlier call took.
        """
        self.pace.begin(
            phase, done=done, share=share, live_seconds=live_seconds
        )
        self.phase = phase
        self.steps = steps
        self.say(
            f"phase {phase.name}: {trainable_parameters:,} parameters learn "
            f"(base: {_learns(phase)}) at rate {_phase_rate(phase)} "
            f"({phase.schedule}), at most {_epochs(phase.epochs)} of {steps} "
            f"steps{_cached_text(views_cached, f'the base up to {cached_at}')}"
        )
        if done:
            self.say(f"  resuming after epoch {done}")
        self._begin_epoch(done + 1)

    def solve_begins(
        self, phase: records.Phase, parameters: int, views: int
    ) -> None:
        """Says that the head is solved for, on stored features."""
        self.pace.forget(phase)
        self.say(
            f"phase {phase.name}: {parameters:,} parameters are solved for "
            f"(base: {_learns(phase)}){_cached_text(views, 'the base')}"
        )

    def step_ends(self, images: int) -> None:
        """Counts one step of about `images` images."""
        seconds = time.perf_counter() - self.began
        done = self.count + 1
        if done == 1 and not self.pace.spent:
            self.pace.first_step = seconds
        rate = done * images / seconds if seconds else 0.0
        self.advance(1, f"{_rate(rate)}{self._left_text(done, seconds)}")

    def epoch_ends(self, row: records.Epoch) -> None:
        """Prints what an epoch came to."""
        score = row.validation_accuracy, -row.validation_cross_entropy
        self.pace.ends_epoch(time.perf_counter() - self.began, score)
        self.end()
        if not self.brief:
            self._say_epoch(row)
        if row.epoch < self.phase.epochs:
            self._begin_epoch(row.epoch + 1)

    def _say_epoch(self, row: records.Epoch) -> None:
        last = self.phase.epochs
        terminal = self.console.is_terminal
        every = 1
        if terminal and not self.full and last > _EPOCH_LINES:
            every = -(-last // (_EPOCH_LINES // 2))
        if row.epoch % every and row.epoch not in (1, last):
            return
        validation = ""
        if not math.isnan(row.validation_accuracy):
            validation = (
                f"  validation {100 * row.validation_accuracy:5.1f} %"
                f" loss {row.validation_cross_entropy:.4f}"
            )
        # On a terminal the bar of the next epoch says it.
        more = f"{_rate(row.images_per_second)}{self._left_text()}"
        more = "" if terminal else more
        self.say(
            f"  {row.phase} {row.epoch:>{len(str(last))}}/{last}"
            f"  training {100 * row.accuracy:5.1f} % loss {row.loss:.4f}"
            f"{validation}{more}"
        )

    def phase_ends(
        self, result: records.PhaseResult, before: records.Score | None
    ) -> None:
        """Says what a phase came to, against the score `before` it."""
        self.end()
        why = {
            "patience": f"converged (no better for {result.phase.patience})",
            "budget": "at its limit",
            "solved": f"solved with an L2 penalty of {result.l2:.2g}",
            "diverged": "loss no longer finite",
            "hopeless": "clearly worse than before, stopped",
            "callback": "stopped by a callback",
            "interrupted": "interrupted",
        }[result.stopped]
        found = "no epoch to keep: the weights of its start stay"
        if result.best_epoch:
            found = (
                f"best epoch {result.best_epoch} with validation "
                f"{_score(result.score)}"
            )
            if before is not None:
                found += f", {_against(result)} {_score(before)}"
                found += ": rolled back" if result.rolled_back else ": kept"
        if result.stopped == "solved":
            found = f"validation {_score(result.score)}"
        else:
            why += f" after {_epochs(result.epochs)}"
        self.say(
            f"phase {result.phase.name}: {why}, {duration(result.seconds)}; "
            f"{found}"
        )

    def fit_ends(self, result: records.PhaseResult) -> None:
        """Says what a phase of the final fit came to."""
        self.end()
        how = _epochs(result.epochs)
        if result.stopped == "solved":
            how = f"solved with the L2 penalty of before, {result.l2:.2g}"
        self.say(
            f"phase {result.phase.name}: {how}, {duration(result.seconds)}; "
            f"loss {result.history[-1].loss:.4f}"
        )

    def _begin_epoch(self, epoch: int) -> None:
        what = f"{self.phase.name} {epoch}/{self.phase.epochs}"
        note = "building the graph"
        if self.pace.spent:
            # The first epoch builds that of validation, too.
            note = self._left_text() if len(self.pace.spent) > 1 else ""
        self.begin(what, self.steps, note.strip())

    def _rest_text(self) -> str:
        """Returns the time left for what the bar shows, at the pace so far."""
        seconds = time.perf_counter() - self.began
        rest = (self.total - self.count) * seconds / self.count
        return f"  {_clock(rest):>5} left" if seconds > 1 else ""

    def _left_text(self, done: int = 0, seconds: float = 0.0) -> str:
        """Returns the time left of the run when `done` steps are taken.

        seconds: that they have taken in this epoch.
        """
        left = self.pace.left(done, self.steps, seconds)
        how = "at most" if self.pace.at_most() else "about"
        return f"  {how} {_clock(left):>5} left" if left > 0 else ""


def duration(seconds: float) -> str:
    """Returns `seconds` as a person says them."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def _phase_rate(phase: records.Phase) -> str:
    if phase.layer_decay == 1:
        return f"{phase.learning_rate:g}"
    return f"{phase.learning_rate:g}, times {phase.layer_decay:g} a block down"


def _cached_text(views: int, part: str) -> str:
    if not views:
        return ""
    ways = f", in each of {views} views" if views > 1 else ""
    return f"; {part} is computed once an image{ways}"


def _learns(phase: records.Phase) -> str:
    if phase.unfreeze == "none":
        return "frozen"
    if phase.adapt == "lora":
        return f"{phase.unfreeze}, by LoRA of rank {phase.lora_rank}"
    return phase.unfreeze


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"


def _score(score: records.Score) -> str:
    return f"{100 * score.accuracy:.1f} % loss {score.cross_entropy:.4f}"


def _against(result: records.PhaseResult) -> str:
    if result.rolled_back:
        return "no better than"
    return "better than" if result.improved else "within the error of"


def _rate(images_per_second: float) -> str:
    return f"  {images_per_second:>6,.0f} images/s"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}"
