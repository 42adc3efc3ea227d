"""The command line: parses, calls one function, prints; decides nothing."""

import contextlib
import dataclasses
import importlib.metadata
import os
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

from absl import flags

from tlkeras import config as configs
from tlkeras import errors
from tlkeras import options

_HELP = """\
tlkeras: a folder of labelled images and a pretrained network become a
classifier that can be served.

{commands}

`tlkeras COMMAND --help` lists the flags of a command. To begin with:
  tlkeras demo
  tlkeras train --data=folder:PATH"""


@dataclasses.dataclass(frozen=True)
class _Command:
    """One command: how it is called, its flags, and what it runs."""

    usage: str
    summary: str
    flags: Callable[[], flags.FlagValues]
    run: Callable[[flags.FlagValues, list[str]], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that `arguments` name and returns the exit status.

    0: done. 2: the user's mistake, told in one line on stderr. 130: Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # TensorFlow reads this when it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return _dispatch(arguments)
    except errors.UserError as error:
        print(f"tlkeras: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tlkeras: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of the output, `head` say, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def configuration(values: flags.FlagValues) -> configs.Config:
    """Returns the settings: defaults, overruled by a file, then by flags."""
    settings = configs.read(values.config) if values.config else {}
    configs.build(settings, values.config)
    given = {
        name: values[name].value
        for name in configs.settings()
        if values[name].present
    }
    if "strategy" in given:
        settings.pop("phases", None)
    return configs.build({**settings, **given})


def _dispatch(arguments: list[str]) -> int:
    helps = ("--help", "-help", "-h", "help")
    if not arguments or arguments[0] in helps:
        lines = [
            f"  {name:<10} {command.summary}"
            for name, command in _COMMANDS.items()
        ]
        print(_HELP.format(commands="\n".join(lines)))
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
    if any(each in helps[:3] for each in rest):
        print(f"tlkeras {name} {command.usage}\n\n{command.summary}\n")
        print(options.describe(command.flags()))
        return 0
    values, positional = _parse(name, rest)
    return command.run(values, positional)


def _parse(name: str, rest: list[str]) -> tuple[flags.FlagValues, list[str]]:
    values = _COMMANDS[name].flags()
    try:
        return values, values([name, *rest])[1:]
    except flags.UnrecognizedFlagError as error:
        flag = error.flagname
        for other, command in _COMMANDS.items():
            if flag in command.flags():
                raise errors.UserError(
                    f"`--{flag}` is a flag of `tlkeras {other}`, not of "
                    f"`tlkeras {name}`."
                ) from None
        raise errors.UserError(
            f"unknown flag `--{flag}`.{errors.nearest(flag, values)} "
            f"`tlkeras {name} --help` lists all."
        ) from None
    except flags.Error as error:
        raise errors.UserError(str(error)) from None


def _train(values: flags.FlagValues, positional: list[str]) -> int:
    _refuse(positional)
    from tlkeras import plan as plans

    config = configuration(values)
    progress = _progress(config.strategy_phases().planned)
    with _quiet():
        plan = plans.make(config, values.workdir, progress=progress)
        from tlkeras import experiment
    run = experiment.run(plan, progress=progress)
    return 130 if run.report["interrupted"] else 0


def _predict(values: flags.FlagValues, positional: list[str]) -> int:
    if not positional:
        raise errors.UserError(
            "`tlkeras predict` needs images: files, folders or globs."
        )
    _check_model(values)
    with _quiet():
        from tlkeras import tables
        from tlkeras import using
    prediction = using.predict(values.model, positional, progress=_progress())
    if values.csv:
        using.write_predictions(prediction, values.csv)
    tables.predictions(prediction)
    for path, reason in prediction.failed:
        print(f"tlkeras: {path} is no image: {reason}", file=sys.stderr)
    return 2 if prediction.failed else 0


def _evaluate(values: flags.FlagValues, positional: list[str]) -> int:
    _refuse(positional)
    _check_model(values)
    if not values.data:
        raise errors.UserError("`--data` must be given.")
    with _quiet():
        from tlkeras import tables
        from tlkeras import using
    judgement = using.evaluate(
        values.model,
        values.data,
        data_dir=values.data_dir,
        split=values.split,
        progress=_progress(),
    )
    if values.json:
        using.write_judgement(judgement, values.json)
    tables.judgement(judgement)
    return 0


def _export(values: flags.FlagValues, positional: list[str]) -> int:
    _refuse(positional)
    _check_model(values)
    if not values.output:
        raise errors.UserError("`--output` must be given.")
    with _quiet():
        from tlkeras import using
    verified = using.export_model(values.model, values.output)
    print(
        f"{values.output}: a SavedModel that answers as the model on "
        f"{verified.images} photographs (largest difference "
        f"{verified.largest_difference:.1g})"
    )
    return 0


def _backbones(values: flags.FlagValues, positional: list[str]) -> int:
    del values
    _refuse(positional)
    from tlkeras import tables

    tables.backbones()
    return 0


def _demo(values: flags.FlagValues, positional: list[str]) -> int:
    _refuse(positional)
    with _quiet():
        from tlkeras import demo
    demo.run(values.workdir, progress=_progress())
    return 0


def _progress(planned=()):
    from tlkeras import progress as progresses

    return progresses.Progress(planned)


def _refuse(positional: list[str]) -> None:
    if positional:
        raise errors.UserError(
            f"unexpected argument {positional[0]!r}. Settings are given as "
            "--name=value."
        )


def _check_model(values: flags.FlagValues) -> None:
    from tlkeras.backbones import locate

    if not values.model:
        raise errors.UserError("`--model` must be given.")
    locate.model(values.model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what TensorFlow's libraries write while they load from stderr.

    They write to the descriptor, before any setting of theirs is read.
    Python's own messages go on to the terminal.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    python_stderr = sys.stderr
    os.dup2(null, 2)
    sys.stderr = os.fdopen(os.dup(kept), "w", buffering=1)
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = python_stderr
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


_COMMANDS = {
    "train": _Command(
        "--data=... [--config=FILE] [--SETTING=VALUE ...]",
        "Trains a classifier and writes the run's directory.",
        options.train,
        _train,
    ),
    "evaluate": _Command(
        "--model=RUN --data=...",
        "Scores a model on labelled images.",
        options.evaluate,
        _evaluate,
    ),
    "predict": _Command(
        "--model=RUN [--csv=FILE] PATHS...",
        "Labels image files, folders or globs.",
        options.predict,
        _predict,
    ),
    "export": _Command(
        "--model=RUN --output=DIRECTORY",
        "Writes a model for serving.",
        options.export,
        _export,
    ),
    "backbones": _Command(
        "", "Lists the networks.", options.nothing, _backbones
    ),
    "demo": _Command(
        "[--workdir=DIRECTORY]",
        "Shows what transfer is worth, on digits, without a network.",
        options.demo,
        _demo,
    ),
}
