"""What a person reads while it works."""

import dataclasses
import io
import re

import pytest
import rich.console

from tlkeras import progress
from tlkeras import records
from tlkeras.machine import pace

HEAD = records.Phase("head", "none", 4, 1e-3)
WHOLE = records.Phase("whole", "all", 2, 1e-4, schedule="cosine")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    monkeypatch.setattr(pace, "FINISHING", 1.0)
    return made


def shown(*planned: records.Phase, terminal: bool = False, full: bool = False):
    """Returns a Progress, and a function to what it has written."""
    stream = io.StringIO()
    console = rich.console.Console(
        file=stream, force_terminal=terminal, width=200, highlight=False
    )
    bar = progress.Progress(planned, console=console, full=full)
    return bar, stream.getvalue


def row(phase: records.Phase, epoch: int) -> records.Epoch:
    return records.Epoch(
        phase=phase.name,
        epoch=epoch,
        learning_rate=1e-3,
        loss=0.5,
        accuracy=0.75,
        validation_accuracy=0.912,
        validation_cross_entropy=0.25,
        seconds=1.0,
        images_per_second=1234.5,
    )


def result(stopped: str = "budget", **changes) -> records.PhaseResult:
    values = {
        "phase": HEAD,
        "score": records.Score(0.9, 0.3, 100),
        "epochs": 4,
        "best_epoch": 3,
        "steps": 40,
        "seconds": 12.34,
        "stopped": stopped,
        "trainable_parameters": 9,
        "learning": 2,
        "unmoved": 0,
        "momentum": 0.0,
        "history": (),
        **changes,
    }
    return records.PhaseResult(**values)


def begin(bar: progress.Progress, phase: records.Phase, **options) -> None:
    bar.phase_begins(phase, trainable_parameters=1234567, steps=10, **options)


def epoch(bar, clock: Clock, phase: records.Phase, number: int) -> None:
    """Lets an epoch of ten seconds pass."""
    for _ in range(10):
        clock.now += 1
        bar.step_ends(32)
    bar.epoch_ends(row(phase, number))


def left(text: str) -> list[str]:
    """Returns the times left in all lines of `text`."""
    return re.findall(r"(?:at most|about) +([0-9:]+) left", text)


class TestLines:
    def test_no_bar_where_there_is_no_terminal(self, clock):
        bar, text = shown(HEAD)
        begin(bar, HEAD)
        for number in (1, 2, 3, 4):
            epoch(bar, clock, HEAD, number)
        bar.phase_ends(result(), None)
        assert text().splitlines() == [
            "phase head: 1,234,567 parameters learn (base: frozen) at rate "
            "0.001 (constant), at most 4 epochs of 10 steps",
            *(
                f"  head {number}/4  training  75.0 % loss 0.5000"
                "  validation  91.2 % loss 0.2500   1,234 images/s"
                f"  at most  0:{rest} left"
                # One second for what follows, as long as the first step was.
                for number, rest in ((1, 31), (2, 21), (3, 11), (4, "01"))
            ),
            "phase head: at its limit after 4 epochs, 12 s; best epoch 3 "
            "with validation 90.0 % loss 0.3000",
        ]
        assert max(map(len, text().splitlines())) < 120

    def test_a_bar_on_a_terminal(self, clock):
        bar, text = shown(HEAD, terminal=True)
        begin(bar, HEAD)
        epoch(bar, clock, HEAD, 1)
        bar.end()
        assert "head 1/4" in text()
        assert "10/10" in text()
        # The terminal gets its cursor back.
        assert text().rindex("\x1b[?25h") > text().rindex("\x1b[?25l")

    @pytest.mark.parametrize("epochs, full", [(4, False), (41, True)])
    def test_a_line_an_epoch_is_as_wide_as_a_terminal(
        self, clock, epochs, full
    ):
        phase = dataclasses.replace(HEAD, name="finetune", epochs=epochs)
        bar, text = shown(phase, terminal=True, full=full)
        begin(bar, phase)
        for number in range(1, epochs + 1):
            epoch(bar, clock, phase, number)
        lines = re.findall(r" *finetune +\d+/\d+  training .*", text())
        assert len(lines) == epochs
        assert max(map(len, lines)) <= 80

    def test_a_long_phase_has_few_lines_on_a_terminal(self, clock):
        phase = dataclasses.replace(HEAD, epochs=125)
        bar, text = shown(phase, terminal=True)
        begin(bar, phase)
        for number in range(1, 126):
            epoch(bar, clock, phase, number)
        told = re.findall(r"head +(\d+)/125  training", text())
        assert told[:2] == ["1", "7"] and told[-1] == "125"
        assert len(told) < 25

    def test_nothing_when_quiet(self, capsys):
        bar = progress.Progress(quiet=True)
        bar.say("something")
        bar.begin("work", 3)
        bar.advance()
        bar.end()
        assert capsys.readouterr() == ("", "")

    def test_brackets_are_no_markup(self):
        bar, text = shown()
        bar.say("builtin:digits[0-4] [bold]")
        assert text() == "builtin:digits[0-4] [bold]\n"

    def test_end_is_no_error_without_a_bar(self):
        bar, _ = shown()
        bar.end()
        bar.end()


class TestTimeLeft:
    def test_counts_the_phases_to_come(self, clock):
        bar, text = shown(HEAD, WHOLE)
        begin(bar, HEAD)
        epoch(bar, clock, HEAD, 1)
        # 3 epochs of 10 s, and 2 that also train the base at 3 times that; two
        # seconds for a graph and the end.
        assert left(text()) == ["1:32"]

    def test_of_the_last_phase_counts_only_itself(self, clock):
        bar, text = shown(HEAD, WHOLE)
        begin(bar, HEAD)
        begin(bar, WHOLE)
        epoch(bar, clock, WHOLE, 1)
        epoch(bar, clock, WHOLE, 2)
        assert left(text()) == ["0:11", "0:01"]

    def test_of_a_resumed_phase_counts_what_is_left(self, clock):
        bar, text = shown(WHOLE)
        begin(bar, dataclasses.replace(WHOLE, epochs=9), done=6)
        epoch(bar, clock, WHOLE, 7)
        assert left(text()) == ["0:21"]
        assert "resuming after epoch 6" in text()

    def test_of_a_resumed_run_leaves_out_what_was_done(self, clock):
        bar, text = shown(HEAD, HEAD, WHOLE, HEAD)
        begin(bar, WHOLE)
        epoch(bar, clock, WHOLE, 1)
        # 10 s, and 4 epochs of the head at a third of that; one for the end.
        assert left(text()) == ["0:24"]

    def test_is_told_within_the_first_epoch(self, clock):
        bar, text = shown(HEAD, terminal=True)
        begin(bar, HEAD)
        bar.bar.refresh()
        assert "building the graph" in text()
        clock.now += 60
        bar.step_ends(32)
        bar.bar.refresh()
        assert not left(text())
        clock.now += 5
        bar.step_ends(32)
        bar.bar.refresh()
        # 38 steps more of 5 s.
        assert left(text())[-1] == "3:10"

    def test_trusts_later_epochs_more(self, clock):
        bar, text = shown(HEAD)
        begin(bar, HEAD)
        # The first one traces the graph, and what follows takes as long.
        clock.now += 3600
        epoch(bar, clock, HEAD, 1)
        epoch(bar, clock, HEAD, 2)
        assert left(text()) == ["1:00:31", "1:00:20"]

    def test_of_live_phases_behind_a_cached_one(self, clock):
        bar, text = shown(HEAD, WHOLE)
        begin(bar, HEAD, views_cached=2, live_seconds=100.0)
        epoch(bar, clock, HEAD, 1)
        # 3 epochs of 10 s, 2 of 3 times 100 s, and two seconds as above.
        assert left(text()) == ["10:32"]
        assert "computed once an image, in each of 2 views" in text()


class TestEnds:
    BEFORE = records.Score(0.8, 0.5, 100)

    @pytest.mark.parametrize(
        "changes, before, wanted",
        [
            (
                {},
                None,
                "at its limit after 4 epochs, 12 s; best epoch 3 ",
            ),
            ({"epochs": 1}, None, "after 1 epoch, 12 s"),
            ({"stopped": "patience"}, None, "converged (no better for 5)"),
            ({"stopped": "callback"}, None, "stopped by a callback"),
            (
                {"improved": True},
                BEFORE,
                "validation 90.0 % loss 0.3000, better than 80.0 % loss 0.5000",
            ),
            (
                {},
                BEFORE,
                "within the error of 80.0 % loss 0.5000: kept",
            ),
            (
                {"rolled_back": True},
                BEFORE,
                "no better than 80.0 % loss 0.5000: rolled back",
            ),
            (
                {"stopped": "diverged", "epochs": 0, "best_epoch": 0},
                BEFORE,
                "loss no longer finite after 0 epochs, 12 s; no epoch to "
                "keep: the weights of its start stay",
            ),
            (
                {"stopped": "interrupted", "epochs": 2, "best_epoch": 1},
                None,
                "interrupted after 2 epochs, 12 s; best epoch 1 with ",
            ),
        ],
    )
    def test_line(self, changes, before, wanted):
        bar, text = shown()
        bar.phase_ends(result(**changes), before)
        assert wanted in text()
        assert text().count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (9.96, "10 s"),
        (59.7, "1 min 0 s"),
        (61, "1 min 1 s"),
        (3599.6, "1 h 0 min"),
        (90061, "25 h 1 min"),
    ],
)
def test_duration(seconds, text):
    assert progress.duration(seconds) == text
