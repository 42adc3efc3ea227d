"""The command line: parses, calls one function, prints; decides nothing."""

import contextlib
import dataclasses
import gc
import importlib.metadata
import io
import os
import shlex
import signal
import sys
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

from absl import flags

from tlkeras import errors
from tlkeras import flags as command_flags
from tlkeras.commands import common
from tlkeras.commands import inspecting
from tlkeras.commands import training
from tlkeras.commands import using
from tlkeras.machine import keras_private
from tlkeras.machine import native_messages
from tlkeras.machine import processes
from tlkeras.settings import commands as flags_of
from tlkeras.settings import completion
from tlkeras.settings import setting as setting_rules

_HELP = """\
tlkeras: a folder of labelled images and a pretrained network become a
classifier that can be served.

{commands}

{rest}"""
_FIRST = ("check", "train", "predict", "compare", "runs")
_MORE_COMMANDS = """\
A folder PHOTOS with one folder for each class is enough to begin with:
  tlkeras train PHOTOS

`tlkeras --help` lists all commands."""
_MORE_FLAGS = """\
`tlkeras COMMAND --help` lists the everyday flags of a command, --helpfull all.
To begin with:
  tlkeras demo
  tlkeras train PHOTOS"""
_HELPS = ("--help", "-help", "-h", "--helpfull", "-helpfull")

# With these absl reads flags from a file, and ignores unknown ones.
_ABSL_FLAGS = ("flagfile", "undefok")


@dataclasses.dataclass(frozen=True)
class _Command:
    """One command: how it is called, its flags, and what it runs.

    takes: what stands without a flag: the data, or any words.
    computes: whether Keras computes in it, in one process; where there may be
      several, they take the devices when they have found each other.
    """

    usage: str
    summary: str
    settings: tuple[setting_rules.Setting, ...]
    run: Callable[[flags.FlagValues, list[str]], int]
    takes: str = "data"
    computes: bool = False

    @property
    def all_settings(self) -> tuple[setting_rules.Setting, ...]:
        """Its settings, and those of all commands."""
        return (*self.settings, *flags_of.COMMON)

    def flags(self) -> flags.FlagValues:
        """Returns the flags, all at their defaults."""
        return command_flags.make(self.all_settings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that `arguments` name and returns the exit status.

    0: done. 2: the user's mistake, told in one line on stderr. 130: Ctrl-C or
    SIGTERM.
    141: whoever read the output is gone.
    """
    ends = arguments is None
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Another thread of a program that calls this cannot handle signals.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, _interrupt)
    if "--verbose" not in arguments:
        native_messages.ask_for_errors_only()
    # File names and labels may hold what the terminal cannot show.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        origin = _check_surroundings()
        status = _dispatch(arguments)
        sys.stdout.flush()
        return status
    except errors.UserError as error:
        return common.fail(str(error), 2)
    except PermissionError as error:
        # Whatever was asked of a file: below a closed folder not even whether
        # it is there can be told.
        return common.fail(f"no permission for {error.filename}.", 2)
    except KeyboardInterrupt as error:
        return common.fail(_interrupted(arguments, *error.args), 130)
    except BrokenPipeError:
        # Python would write again, and fail, when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "jax":
            return common.fail(
                f"{origin} is jax, which is not installed: pip install jax.",
                2,
            )
        if not keras_private.is_out_of_memory(error):
            raise
        return common.fail(
            "the memory is full. Give a smaller --batch_size or --image_size.",
            2,
        )
    finally:
        if ends:
            # Else Python takes every graph apart before it ends, for 2 s.
            gc.freeze()


def _interrupted(arguments: Sequence[str], directory: str = "") -> str:
    """Returns what to say after Ctrl-C; `directory` holds what goes on."""
    if not directory:
        return "interrupted"
    words = ["tlkeras", *arguments]
    if not any(word.startswith("--workdir") for word in words):
        words.append(f"--workdir={directory}")
    return f"interrupted. To go on: {shlex.join(words)}"


def _interrupt(number: int, frame: object) -> None:
    """Ends the work as Ctrl-C does, which keeps what there is."""
    raise KeyboardInterrupt


def _check_surroundings() -> str:
    """Returns what chose Keras' backend; raises `UserError` if none can be."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise errors.UserError(
            "the working directory is not there any more. Change to another."
        ) from None
    return processes.check_backend()


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    if not arguments:
        print(_overview(_FIRST, _MORE_COMMANDS))
        return 0
    if arguments[0] in _HELPS:
        print(_overview(_COMMANDS, _MORE_FLAGS))
        return 0
    if arguments[0] == "--version":
        print(f"tlkeras {importlib.metadata.version('tlkeras')}")
        return 0
    name, *rest = arguments
    if name not in _COMMANDS:
        raise errors.UserError(
            f"unknown command {name!r}.{errors.nearest(name, _COMMANDS)} The "
            f"commands are {', '.join(_COMMANDS)}."
        )
    command = _COMMANDS[name]
    asked = [word for word in rest if word in _HELPS]
    if asked:
        full = asked[0].endswith("full")
        described = command_flags.describe(command.flags(), full=full)
        print(f"tlkeras {name} {command.usage}\n\n{command.summary}\n")
        print(described)
        if described != command_flags.describe(command.flags()):
            print(f"\n`tlkeras {name} --helpfull` lists all flags.")
        return 0
    values, positional = _parse(name, rest)
    if command.takes == "data":
        _take_data(values, positional)
    if command.settings:
        for line in processes.overruled():
            errors.say(f"tlkeras: {line}", sys.stderr)
    if command.computes:
        processes.take_devices()
    if values.verbose:
        return command.run(values, positional)
    with native_messages.filtered():
        return command.run(values, positional)


def _overview(names: Iterable[str], rest: str) -> str:
    """Returns the commands `names` with a line each, and what is said after."""
    lines = [f"  {name:<10} {_COMMANDS[name].summary}" for name in names]
    return _HELP.format(commands="\n".join(lines), rest=rest)


def _take_data(values: flags.FlagValues, positional: list[str]) -> None:
    """Takes one word without a flag as `--data`."""
    if positional and "data" in values and not values["data"].present:
        values["data"].parse(positional.pop(0))
    if positional:
        raise errors.UserError(
            f"unexpected argument {positional[0]!r}. Settings are given as "
            "--name=value."
        )


def _parse(name: str, rest: list[str]) -> tuple[flags.FlagValues, list[str]]:
    values = _COMMANDS[name].flags()
    rest = command_flags.underscores(rest)
    try:
        for word in rest:
            flag = word.partition("=")[0]
            if flag.startswith("-") and flag.lstrip("-") in _ABSL_FLAGS:
                raise flags.UnrecognizedFlagError(flag.lstrip("-"))
        return values, values([name, *rest])[1:]
    except flags.UnrecognizedFlagError as error:
        flag = error.flagname
        meant = command_flags.synonym(flag, set(values))
        for other, command in _COMMANDS.items():
            if flag in command.flags():
                raise errors.UserError(
                    f"`--{flag}` is a flag of `tlkeras {other}`, not of "
                    f"`tlkeras {name}`.{meant}"
                ) from None
        meant = meant or errors.nearest(f"--{flag}", map("--{}".format, values))
        raise errors.UserError(
            f"unknown flag `--{flag}`.{meant} `tlkeras {name} --helpfull` "
            "lists all."
        ) from None
    except (flags.Error, ValueError) as error:
        # absl wraps what a parser raises.
        if isinstance(error.__context__, errors.UserError):
            raise error.__context__ from None
        raise errors.UserError(f"{' '.join(str(error).split())}.") from None


def _completion(values: flags.FlagValues, positional: list[str]) -> int:
    shell = " ".join(positional)
    if shell not in completion.SHELLS:
        raise errors.UserError(
            f"there is completion for {', '.join(completion.SHELLS)}. "
            f"Received: {shell!r}."
        )
    settings = {name: row.all_settings for name, row in _COMMANDS.items()}
    print(completion.script(shell, settings))
    return 0


_COMMANDS = {
    "train": _Command(
        "DATA [--config=FILE] [--SETTING=VALUE ...]",
        "Trains a classifier and writes the run's directory.",
        (*flags_of.TRAIN, flags_of.DRY_RUN),
        training.train,
    ),
    "compare": _Command(
        "DATA [--strategies=...] [--seeds=3] [--budget=...]",
        "Compares several strategies on one data set, with one budget.",
        (*flags_of.COMPARE, flags_of.DRY_RUN),
        training.compare,
    ),
    "evaluate": _Command(
        "--model=RUN DATA",
        "Scores a model on labelled images.",
        flags_of.EVALUATE,
        using.evaluate,
        computes=True,
    ),
    "predict": _Command(
        "--model=RUN [--csv=FILE] [--sort_into=DIR] PATHS...",
        "Labels image files, folders or globs.",
        flags_of.PREDICT,
        using.predict,
        takes="words",
        computes=True,
    ),
    "explain": _Command(
        "--model=RUN --output=DIRECTORY PATHS...",
        "Draws on photographs where a model sees the evidence.",
        flags_of.EXPLAIN,
        using.explain,
        takes="words",
        computes=True,
    ),
    "check": _Command(
        "DATA [--json=FILE] [--fix=FILE]",
        "Looks for what is wrong with labelled images; status 1 if there is.",
        flags_of.CHECK,
        inspecting.check,
    ),
    "advise": _Command(
        "DATA [--backbone=...] [--evidence_only] [--json=FILE]",
        "Measures what speaks for which strategy, without training.",
        flags_of.ADVISE,
        training.advise,
        computes=True,
    ),
    "export": _Command(
        "--model=RUN --output=DIRECTORY [--format=...]",
        "Writes a model for serving, and proves each file in its runtime.",
        flags_of.EXPORT,
        using.export,
        computes=True,
    ),
    "serve": _Command(
        "--model=RUN [--port=8000]",
        "Answers pictures by HTTP, with a page to drop them on.",
        flags_of.SERVE,
        using.serve,
    ),
    "cache": _Command(
        "[--clear]",
        "Lists what is kept between runs, or removes it.",
        flags_of.CACHE,
        inspecting.cache,
    ),
    "backbones": _Command(
        "[--for=cpu|gpu|phone] [--measure=NAME,...]",
        "Lists the networks, with what is known of them.",
        flags_of.BACKBONES,
        inspecting.backbones,
    ),
    "runs": _Command(
        "[DIRECTORY | RUN RUN] [--sort=when]",
        "Lists runs, or compares two: settings that differ, a paired test.",
        flags_of.RUNS,
        inspecting.runs,
        takes="words",
    ),
    "completion": _Command(
        "bash | zsh | fish",
        'Completes words in a shell: eval "$(tlkeras completion bash)".',
        (),
        _completion,
        takes="words",
    ),
    "demo": _Command(
        "[--workdir=DIRECTORY]",
        "Shows what transfer is worth, on digits; downloads nothing.",
        flags_of.DEMO,
        training.demo,
        computes=True,
    ),
}
