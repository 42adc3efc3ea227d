"""What reaches a terminal, which obeys what it is sent."""

import ast
import io
import pathlib

import numpy as np
import pytest
import rich.console
from conftest import write_digits

from tlkeras import cli
from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.report import terminal
from tlkeras.scoring import predicting

# Clears the screen, renames the window, goes up a line and over it, turns the
# direction of writing; the last ones are the same in eight bits.
EVIL = "a\x1b[2Jb\x1b]0;c\x07d\r\be\x7f\u202ef\x9b2Jg"
# How the calls of `print` begin that send such as is printable, or words of the
# package alone.
PRINTABLE = (
    "print(text, file=stream)",
    "print(line)",
    "print(words.render(",
    "print(_overview(",
    "print(described)",
    "print(f'{_FOR[purpose]}\\n')",
    'print("\\nparameters: without the classifier',
    "print('\\nThe others:\\n')",
    "print(completion.script(",
    "print(f'\\n`tlkeras {name} --helpfull` lists all flags.')",
    "print(f\"tlkeras {importlib.metadata.version('tlkeras')}\")",
    "print(f'tlkeras {name} {command.usage}\\n\\n{command.summary}\\n')",
    'print("\\nNotes; what Keras\' constructors ask for, tlkeras sees to:\\n")',
)
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


def test_an_error_is_one_line_whatever_the_name_has(tmp_path, capsys):
    """A name may hold the end of a line, or look like the line after it."""
    name = "a\ntlkeras: all is well\u2028b  c"
    shown = r"a\ntlkeras: all is well\u2028b  c"
    assert str(errors.UserError(f"no {name}.")) == f"no {shown}."
    (tmp_path / name).mkdir()
    (tmp_path / name / "a").mkdir()
    for words in (
        ["predict", f"--model={tmp_path / name}", name],
        ["train", f"--data=folder:{tmp_path / name}"],
        ["train", f"--config={tmp_path / name}"],
        ["train", f"--{name}=1"],
        ["train", f"--batch_size={name}"],
        ["train", "--data=builtin:digits", f"--weights={tmp_path / name}"],
        [name],
    ):
        assert cli.main(words) == 2
        told = capsys.readouterr()
        assert told.err.count("\n") == 1 and told.err.endswith("\n")
        assert "\u2028" not in told.err and told.out == ""


def test_every_print_of_the_package_sends_what_is_printable():
    """Else a name gets through that somebody gave to a file or a class."""
    for path in sorted(pathlib.Path(cli.__file__).parent.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call):
                words = ast.unparse(call)
                if words.startswith("print(") and words != "print()":
                    assert words.startswith(PRINTABLE), f"{path}: {words}"


def test_check_shows_names_and_does_not_send_them(tmp_path, capsys):
    evil = EVIL.replace("\r", "")
    write_digits(tmp_path / "data", {0: f"{evil}0", 1: f"{evil}1"}, 4)
    write_digits(tmp_path / "data", {2: f"{evil}2"}, 1)
    (tmp_path / "data" / f"{evil}0" / f"{EVIL}.png").write_bytes(b"no\n")
    places = {
        name: str(tmp_path / f"{EVIL}.{name}")
        for name in ("html", "json", "fix")
    }
    status = cli.main(
        [
            "check",
            f"--data=folder:{tmp_path / 'data'}",
            *(f"--{name}={place}" for name, place in places.items()),
        ]
    )
    assert status == 1
    told = capsys.readouterr()
    lines = told.out + told.err
    assert "--fix would leave out 1 class" in lines
    assert SHOWN in lines
    assert not errors._CONTROLS.search(lines.replace("\n", ""))


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


class TestWrapped:
    def test_breaks_between_words_only(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        text = f"  {'word-with-hyphens ' * 6}{'x' * 50} end"
        lines = errors.wrapped(text, 40).splitlines()
        assert [line.split() for line in lines] == [
            *[["word-with-hyphens"] * 2] * 3,
            ["x" * 50],
            ["end"],
        ]
        assert lines[0].startswith("  w") and lines[1].startswith("    w")

    def test_a_command_is_one_line_that_can_be_copied(self):
        command = f"tlkeras predict --model={'x' * 99} 'my photos'"
        told = errors.wrapped(f"use it: {command}", 80)
        assert told == f"use it:\n  {command}"

    def test_paths_are_written_from_the_working_directory(
        self, monkeypatch, tmp_path
    ):
        monkeypatch.chdir(tmp_path)
        told = f"in folder:{tmp_path}/a, /b{tmp_path}/c and {tmp_path}"
        assert errors.wrapped(told, 999) == (
            f"in folder:a, /b{tmp_path}/c and {tmp_path}"
        )

    def test_what_is_no_terminal_gets_it_as_it_is(self, capsys, tmp_path):
        text = f"{tmp_path}/a: tlkeras {'word ' * 40}end"
        errors.say(text)
        assert capsys.readouterr().out == f"{text}\n"
