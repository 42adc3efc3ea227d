"""What reaches a terminal, which obeys what it is sent."""

import io

import numpy as np
import pytest
import rich.console

from tlkeras import cli
from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.report import terminal
from tlkeras.scoring import predicting

# Clears the screen, renames the window, goes up a line and over it, turns the
# direction of writing; the last ones are the same in eight bits.
EVIL = "a\x1b[2Jb\x1b]0;c\x07d\r\be\x7f\u202ef\x9b2Jg"
SHOWN = r"a\x1b[2Jb\x1b]0;c\x07d\r\x08e\x7f\u202ef\x9b2Jg"


def test_letters_of_all_scripts_stay():
    for text in ("zwölf 二 عربي \U0001f98a", "a b", "C:\\x1b", "\udcff"):
        assert errors.printable(text) == text
    assert errors.printable(EVIL) == SHOWN
    assert errors.printable("two\nlines\t") == r"two\nlines\t"


def test_errors_show_names_as_they_are_and_do_not_send_them(capsys):
    assert str(errors.UserError(f"no {EVIL}.")) == f"no {SHOWN}."
    assert cli.main([EVIL]) == 2
    assert cli.main(["predict", f"--model={EVIL}/model.keras", EVIL]) == 2
    assert cli.main(["train", f"--data=folder:{EVIL}", f"--{EVIL}=1"]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 3
    assert not errors._CONTROLS.search((told.out + told.err).replace("\n", ""))


@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_shows_names_and_does_not_send_them(is_terminal):
    stream = io.StringIO()
    progress = progresses.Progress(
        console=rich.console.Console(
            file=stream, force_terminal=is_terminal, width=200
        )
    )
    progress.say(EVIL)
    progress.begin(f"[red]{EVIL}", 2)
    progress.advance()
    progress.end()
    for evil in ("\x1b[2J", "\x1b]0", "\x07", "\x7f", "\u202e", "\x9b"):
        assert evil not in stream.getvalue()
    assert SHOWN in stream.getvalue()
    assert ("[red]a" in stream.getvalue()) == is_terminal


def test_tables_show_names_and_do_not_send_them(capsys):
    prediction = predicting.Prediction(
        (EVIL, "b"), np.arange(1), (f"/{EVIL}.png",), np.array([[0.9, 0.1]]), ()
    )
    terminal.predictions(prediction)
    out = capsys.readouterr().out
    assert out.count(SHOWN) == 2
    assert not errors._CONTROLS.search(out.replace("\n", ""))
