"""The command line: parses, calls one function, prints; decides nothing."""

import contextlib
import dataclasses
import importlib.metadata
import io
import os
import pathlib
import shlex
import signal
import sys
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

from absl import flags

from tlkeras import errors
from tlkeras import files
from tlkeras import flags as command_flags
from tlkeras import places
from tlkeras import records
from tlkeras.data import sources
from tlkeras.export import formats
from tlkeras.machine import keras_private
from tlkeras.machine import native_messages
from tlkeras.machine import processes
from tlkeras.settings import commands
from tlkeras.settings import completion
from tlkeras.settings import config as configs
from tlkeras.settings import setting as setting_rules

if TYPE_CHECKING:
    from tlkeras import plan as plans
    from tlkeras import progress as progresses

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
        return (*self.settings, *commands.COMMON)

    def flags(self) -> flags.FlagValues:
        """Returns the flags, all at their defaults."""
        return command_flags.make(self.all_settings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that `arguments` name and returns the exit status.

    0: done. 2: the user's mistake, told in one line on stderr. 130: Ctrl-C or
    SIGTERM.
    141: whoever read the output is gone.
    """
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
        return _fail(str(error), 2)
    except PermissionError as error:
        # Whatever was asked of a file: below a closed folder not even whether
        # it is there can be told.
        return _fail(f"no permission for {error.filename}.", 2)
    except KeyboardInterrupt as error:
        return _fail(_interrupted(arguments, *error.args), 130)
    except BrokenPipeError:
        # Python would write again, and fail, when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "jax":
            return _fail(
                f"{origin} is jax, which is not installed: pip install jax.",
                2,
            )
        if not keras_private.is_out_of_memory(error):
            raise
        return _fail(
            "the memory is full. Give a smaller --batch_size or --image_size.",
            2,
        )


def configuration(values: flags.FlagValues) -> configs.Config:
    """Returns the settings: defaults, overruled by a file, then by flags."""
    return configs.resolve(values.config, _given(values))


def _interrupted(arguments: Sequence[str], directory: str = "") -> str:
    """Returns what to say after Ctrl-C; `directory` holds what goes on."""
    if not directory:
        return "interrupted"
    words = ["tlkeras", *arguments]
    if not any(word.startswith("--workdir") for word in words):
        words.append(f"--workdir={directory}")
    return f"interrupted. To go on: {shlex.join(words)}"


@contextlib.contextmanager
def _going_on(directory: pathlib.Path) -> Iterator[None]:
    """Tells an interrupt of the block in which directory the work goes on."""
    try:
        yield
    except KeyboardInterrupt:
        there = directory.exists()
        raise KeyboardInterrupt(*[str(directory)] * there) from None


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


def _given(values: flags.FlagValues) -> dict[str, Any]:
    return {
        name: values[name].value
        for name in configs.settings()
        if name in values and values[name].present
    }


def _train(values: flags.FlagValues, positional: list[str]) -> int:
    from tlkeras import plan as plans

    config = configuration(values)
    progress = _progress(values, config.strategy_phases().planned)
    with _loading(progress):
        plan = plans.make(config, values.workdir, progress=progress)
        from tlkeras import cross_validation
        from tlkeras.experiment import running
    for sentence in configs.unused(config, _given(values)):
        progress.say(sentence)
    train = cross_validation.run if config.folds else running.run
    if values.dry_run:
        return _dry_run(plan, values)
    if values.verbose:
        from tlkeras.machine import devices

        for line in configs.to_toml(plan.config).splitlines():
            progress.say(line)
        for name, version in devices.versions().items():
            progress.say(f"{name} {version}")
    with _going_on(plan.directory):
        run = train(plan, progress=progress)
    if values.quiet and run.report:
        progress.console.quiet = False
        running.say_result(run.report, run.directory, progress)
    return 0


def _compare(values: flags.FlagValues, positional: list[str]) -> int:
    from tlkeras import plan as plans
    from tlkeras.comparison import candidates

    # A run has a budget, too; here the flag is that of each candidate.
    own = {setting.name for setting in commands.COMPARISON}
    given = {k: v for k, v in _given(values).items() if k not in own}
    config, unused = candidates.resolve(values.config, given)
    asked = candidates.settings(
        config,
        values.strategies,
        seeds=values.seeds,
        budget=values.budget,
        drop=values.drop,
        margin=values.margin,
    )
    progress = _progress(values, brief=True)
    with _loading(progress):
        plan = plans.make(
            config, values.workdir, comparison=True, progress=progress
        )
        from tlkeras.comparison import comparing
        from tlkeras.report import terminal
    for sentence in unused:
        progress.say(sentence)
    if values.dry_run:
        images = plans.split_sizes(plan)["train"]
        members = comparing.planned(plan, asked, images=images)
        return _dry_run(plan, values, members, asked.seeds)
    with _going_on(plan.directory):
        found = comparing.run(plan, asked, progress=progress)
    terminal.comparison(found.report)
    return 0


def _dry_run(
    plan: "plans.Plan",
    values: flags.FlagValues,
    members: Sequence["plans.Plan"] = (),
    seeds: int = 1,
) -> int:
    from tlkeras import progress as progresses
    from tlkeras.comparison import dry_run

    dry_run.show(
        [dry_run.Member(each, seeds) for each in members or [plan]],
        # It is the result, which --quiet leaves.
        progress=progresses.Progress(),
        full=values.verbose,
    )
    return 0


def _predict(values: flags.FlagValues, positional: list[str]) -> int:

    model = places.check_model(values.model)
    paths = places.find_images(positional)
    table = _output_file(values, "csv")
    folders = (
        *places.image_folders(positional, paths),
        *places.data_of_model(model),
    )
    places.check_outputs([model, *paths], folders=folders, csv=table)
    sorted_into = None
    if values.sort_into:
        sorted_into = places.new_directory(values.sort_into, "sort_into")
        places.check_outside(sorted_into, folders, "sort_into")
    progress = _progress(values)
    with _loading(progress):
        from tlkeras.report import terminal
        from tlkeras.scoring import predicting
        from tlkeras.scoring import sorting
    prediction = predicting.predict(
        values.model,
        paths,
        coverage=values.coverage,
        tta=values.tta,
        progress=progress,
    )
    if table:
        predicting.write(
            table,
            {"path": prediction.paths},
            prediction.probabilities,
            prediction.labels,
            after=prediction.columns,
            task=prediction.task,
            all_classes=values.probabilities == "all",
            top=values.top,
        )
    if sorted_into:
        sorting.copy(prediction, sorted_into)
    terminal.predictions(prediction, values.csv, top=values.top)
    return _left_out(prediction.failed, paths)


def _explain(values: flags.FlagValues, positional: list[str]) -> int:

    model = places.check_model(values.model)
    paths = places.find_images(positional)
    directory = places.new_directory(values.output, "output")
    read = (
        *places.image_folders(positional, paths),
        *places.data_of_model(model),
    )
    places.check_outside(directory, read, "output")
    progress = _progress(values)
    with _loading(progress):
        from tlkeras.models import saving
        from tlkeras.report import explained
        from tlkeras.scoring import explaining
    failed: list[tuple[str, str]] = []
    with progress.busy("loading the model"):
        loaded = saving.load(model)
    explanations = explaining.explain_files(
        loaded,
        paths,
        label=values.label,
        failed=failed,
        progress=progress,
    )
    images = explained.write(directory, explanations, paths, model=values.model)
    errors.say(f"{errors.count(images, 'image')}: {directory / explained.PAGE}")
    return _left_out(failed, paths)


def _evaluate(values: flags.FlagValues, positional: list[str]) -> int:

    model = places.check_model(values.model)
    table = _output_file(values, "csv")
    metrics = _output_file(values, "json")
    cache_dir = files.cache_directory(values.cache_dir)
    progress = _progress(values)
    with _loading(progress):
        source = sources.open(
            sources.absolute(values.data),
            data_dir=values.data_dir,
            progress=progress,
        )
        data = (*places.data_folders(source), *places.data_of_model(model))
        places.check_cache(values.cache_dir, data)
        places.check_outputs(
            [model, *places.inputs(source)],
            folders=(*data, values.data_dir, cache_dir),
            csv=table,
            json=metrics,
        )
        from tlkeras.report import terminal
        from tlkeras.scoring import evaluate as evaluation
        from tlkeras.scoring import predicting
    result = evaluation.evaluate(
        values.model,
        source,
        split=values.split,
        coverage=values.coverage,
        slices=values.slices,
        top_k=values.top_k,
        tta=values.tta,
        cache_dir=cache_dir,
        progress=progress,
    )
    if table:
        predicting.write(
            table,
            {
                "path": result.prediction.paths,
                "true_label": result.true_labels,
            },
            result.prediction.probabilities,
            result.prediction.labels,
            after=result.prediction.columns,
            task=result.prediction.task,
            all_classes=values.probabilities == "all",
        )
    if metrics:
        evaluation.write_metrics(result, metrics)
    terminal.scores(result)
    return 0


def _export(values: flags.FlagValues, positional: list[str]) -> int:

    formats.parse(values.format)
    model = places.check_model(values.model)
    given = [
        sources.file_place(sources.absolute(each))
        for each in (values.data, values.calibration)
        if each
    ]
    read = [*places.data_of_model(model), *filter(os.path.isdir, given)]
    places.check_cache(values.cache_dir, read)
    cache_dir = files.cache_directory(values.cache_dir)
    directory = places.new_directory(values.output, "output")
    places.check_outside(directory, read, "output")
    progress = _progress(values)
    with _loading(progress):
        from tlkeras.export import samples  # noqa: F401
        from tlkeras.report import terminal
    found = formats.export(
        values.model,
        directory,
        values.format,
        data=values.data,
        data_dir=values.data_dir,
        calibration=values.calibration,
        max_images=values.max_images,
        max_changed=values.max_changed,
        tta=values.tta,
        cache_dir=cache_dir,
        progress=progress,
    )
    if found.proofs:
        terminal.exports(found.proofs)
        for name, place in found.directories.items():
            errors.say(f"{name}: {place}")
    for name, why in found.refused.items():
        _fail(f"{name}: {why}", 2)
    return 2 if found.refused else 0


def _serve(values: flags.FlagValues, positional: list[str]) -> int:

    places.check_model(values.model)
    with _loading(_progress(values)):
        from tlkeras.models import saving
        from tlkeras.serving import answers
        from tlkeras.serving import server as servers
    answerer = answers.Answerer(saving.load(values.model))
    answerer.warm_up()
    with servers.Server(
        answerer,
        host=values.host,
        port=values.port,
        most_bytes=1_000_000 * values.max_mb,
        seconds=values.timeout,
    ) as server:
        errors.say(f"{server.address} (Ctrl-C ends it)")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def _backbones(values: flags.FlagValues, positional: list[str]) -> int:
    from tlkeras.backbones import catalog
    from tlkeras.report import terminal

    rows = catalog.BACKBONES
    purpose = str(values["for"].value)
    asked = [name for name in values.measure.split(",") if name.strip()]
    if asked and asked != ["all"]:
        rows = tuple(catalog.find(name.strip()) for name in asked)
    speeds: dict[str, float] = {}
    if asked:
        with native_messages.silenced():
            from tlkeras.backbones import speed
        progress = _progress(values, brief=True)
        for row in rows:
            progress.say(f"{row.name} at {row.default_size} pixels ...")
            speeds[row.name] = speed.measure(row, row.default_size)
    terminal.backbones(rows, purpose=purpose, speeds=speeds)
    return 0


def _check(values: flags.FlagValues, positional: list[str]) -> int:
    from tlkeras import plan as plans

    outputs = places.check_places(
        values.data, html=values.html, json=values.json, fix=values.fix
    )
    if values.labels:
        # Beside the page of the check, by its name.
        stem = outputs["html"].with_suffix("")
        for suffix in ("html", "csv"):
            outputs[f"labels_{suffix}"] = files.check_file(
                f"{stem}-labels.{suffix}", "html"
            )
    if values.marked and "fix" not in outputs:
        raise errors.UserError(
            "`marked` says what `fix` leaves out. Give --fix=FILE, too."
        )
    _, size = plans.image_size(values.backbone, values.image_size)
    cache_dir = files.cache_directory(values.cache_dir)
    progress = _progress(values)
    with _loading(progress):
        if values.labels:
            from tlkeras.advisor import subject as subjects

            config = configs.build(_given(values))
            subject = subjects.make(config, progress=progress)
        source = sources.open(
            sources.absolute(values.data),
            data_dir=values.data_dir,
            nested=True,
            progress=progress,
        )
        data = places.data_folders(source)
        places.check_cache(values.cache_dir, data)
        places.check_outputs(
            [*places.inputs(source), values.marked],
            folders=(*data, values.data_dir, cache_dir),
            **outputs,
        )
        from tlkeras.advisor import suspects
        from tlkeras.check import audit
        from tlkeras.check import fix as fixes
        from tlkeras.report import checkup as page
        from tlkeras.report import suspects as suspects_page
        from tlkeras.report import terminal
    marked = frozenset[str]()
    if values.marked:
        marked = suspects.marked(files.expand(values.marked))
    found = audit.check(
        source,
        image_size=size,
        max_pixels=values.max_pixels,
        cache_dir=cache_dir,
        progress=progress,
    )
    terminal.checkup(found)
    files.write_text(outputs["html"], page.render(found))
    errors.say(f"all of it, with pictures: {outputs['html']}")
    if "json" in outputs:
        files.write_json(outputs["json"], audit.to_json(found))
    if values.labels:
        with contextlib.closing(
            suspects.prepare(subject, progress=progress)
        ) as images_of:
            ranked = suspects.find(subject, images_of, progress=progress)
            suspects.write(outputs["labels_csv"], images_of, ranked)
            files.write_text(
                outputs["labels_html"],
                suspects_page.render(
                    images_of, ranked, table=outputs["labels_csv"]
                ),
            )
        errors.say(
            f"{len(ranked):,} labels are contradicted: "
            f"{outputs['labels_html']}; mark them in {outputs['labels_csv']}"
        )
    if "fix" in outputs:
        remedy = fixes.without(
            found.source.examples, found.facts, found.remedy, marked
        )
        images = fixes.write(found.source.examples, remedy, outputs["fix"])
        errors.say(
            f"{images:,} of {len(found.facts):,} images: "
            f"--data=csv:{outputs['fix']}"
        )
    elif found.remedy.left_out and not found.remedy.classes:
        errors.say(
            "what is doubtful can be left out: tlkeras check "
            f"{shlex.quote(values.data)} --fix=clean.csv"
        )
    return 1 if found.decisions else 0


def _advise(values: flags.FlagValues, positional: list[str]) -> int:

    config = configs.build(_given(values))
    written = _output_file(values, "json")
    progress = _progress(values)
    with _loading(progress):
        from tlkeras.advisor import subject as subjects
        from tlkeras.backbones import locate

        subject = subjects.make(config, progress=progress)
        places.check_outputs(
            [locate.weights(config.weights), *places.inputs(subject.source)],
            folders=(
                *places.data_folders(subject.source),
                values.data_dir,
                subject.cache_dir,
            ),
            json=written,
        )
        from tlkeras.advisor import advice as advices
        from tlkeras.report import terminal
    advice = advices.give(
        subject, max_images=values.max_images, progress=progress
    )
    if not values.evidence_only:
        terminal.decision(advice.decision)
        print()
    terminal.evidence(advice)
    if not values.evidence_only:
        terminal.textbook(advice)
        print()
        terminal.situations(advice)
    if written:
        files.write_json(
            written,
            advices.to_json(advice, evidence_only=values.evidence_only),
        )
    return 0


def _cache(values: flags.FlagValues, positional: list[str]) -> int:
    from tlkeras.data import facts
    from tlkeras.machine import compiled
    from tlkeras.report import terminal
    from tlkeras.training import row_store

    directory = files.cache_directory(values.cache_dir)
    places.check_cache(values.cache_dir, [])
    if values.clear:
        facts.clear(directory)
        row_store.trim(directory / row_store.FOLDER, 0)
        compiled.clear(directory)
    terminal.kept(
        directory,
        {
            "scanned images": facts.kept(directory),
            "files of activations": row_store.kept(
                directory / row_store.FOLDER
            ),
            "compiled programs": compiled.kept(directory),
        },
    )
    return 0


def _runs(values: flags.FlagValues, positional: list[str]) -> int:
    from tlkeras.comparison import past_runs
    from tlkeras.comparison import past_runs_text as tables

    if len(positional) > 2:
        raise errors.UserError(
            "two runs can be compared, or a directory of runs listed. "
            f"Received: {len(positional)} paths."
        )
    if len(positional) == 2:
        one, other = map(past_runs.load, positional)
        tables.pair(one, other, past_runs.compare(one, other))
    else:
        folder = positional[0] if positional else "runs"
        tables.listed(past_runs.find(folder, values.sort))
    return 0


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


def _demo(values: flags.FlagValues, positional: list[str]) -> int:

    directory = files.check_directory(values.workdir, "workdir")
    places.check_outside_runs(directory, "workdir")
    progress = _progress(values)
    with _loading(progress):
        from tlkeras import demo
    demo.run(directory, progress=progress)
    return 0


def _output_file(values: flags.FlagValues, name: str) -> pathlib.Path | None:
    path = values[name].value
    return files.check_file(path, name) if path else None


def _progress(
    values: flags.FlagValues,
    planned: tuple[records.Phase, ...] = (),
    *,
    brief: bool = False,
) -> "progresses.Progress":
    # rich takes a tenth of a second to import.
    from tlkeras import progress as progresses

    return progresses.Progress(
        planned,
        quiet=values.quiet,
        brief=brief and not values.verbose,
        full=values.verbose,
    )


@contextlib.contextmanager
def _loading(progress: "progresses.Progress") -> Iterator[None]:
    """Says what is waited for while TensorFlow is imported, which is noisy."""
    with progress.busy("loading TensorFlow"), native_messages.silenced():
        yield


def _left_out(failed: Sequence[tuple[str, str]], paths: Sequence[str]) -> int:
    """Says how many files are no images; the status is 2 if none is one."""
    if not failed:
        return 0
    path, reason = failed[0]
    return _fail(
        f"{len(failed)} of {len(paths)} files are no images that can be read "
        f"and are left out, first {path}: {reason}",
        2 if len(failed) == len(paths) else 0,
    )


def _fail(message: str, status: int) -> int:
    errors.say(f"tlkeras: {message}", sys.stderr)
    return status


_COMMANDS = {
    "train": _Command(
        "DATA [--config=FILE] [--SETTING=VALUE ...]",
        "Trains a classifier and writes the run's directory.",
        (*commands.TRAIN, commands.DRY_RUN),
        _train,
    ),
    "compare": _Command(
        "DATA [--strategies=...] [--seeds=3] [--budget=...]",
        "Compares several strategies on one data set, with one budget.",
        (*commands.COMPARE, commands.DRY_RUN),
        _compare,
    ),
    "evaluate": _Command(
        "--model=RUN DATA",
        "Scores a model on labelled images.",
        commands.EVALUATE,
        _evaluate,
        computes=True,
    ),
    "predict": _Command(
        "--model=RUN [--csv=FILE] [--sort_into=DIR] PATHS...",
        "Labels image files, folders or globs.",
        commands.PREDICT,
        _predict,
        takes="words",
        computes=True,
    ),
    "explain": _Command(
        "--model=RUN --output=DIRECTORY PATHS...",
        "Draws on photographs where a model sees the evidence.",
        commands.EXPLAIN,
        _explain,
        takes="words",
        computes=True,
    ),
    "check": _Command(
        "DATA [--json=FILE] [--fix=FILE]",
        "Looks for what is wrong with labelled images; status 1 if there is.",
        commands.CHECK,
        _check,
    ),
    "advise": _Command(
        "DATA [--backbone=...] [--evidence_only] [--json=FILE]",
        "Measures what speaks for which strategy, without training.",
        commands.ADVISE,
        _advise,
        computes=True,
    ),
    "export": _Command(
        "--model=RUN --output=DIRECTORY [--format=...]",
        "Writes a model for serving, and proves each file in its runtime.",
        commands.EXPORT,
        _export,
        computes=True,
    ),
    "serve": _Command(
        "--model=RUN [--port=8000]",
        "Answers pictures by HTTP, with a page to drop them on.",
        commands.SERVE,
        _serve,
    ),
    "cache": _Command(
        "[--clear]",
        "Lists what is kept between runs, or removes it.",
        commands.CACHE,
        _cache,
    ),
    "backbones": _Command(
        "[--for=cpu|gpu|phone] [--measure=NAME,...]",
        "Lists the networks, with what is known of them.",
        commands.BACKBONES,
        _backbones,
    ),
    "runs": _Command(
        "[DIRECTORY | RUN RUN] [--sort=when]",
        "Lists runs, or compares two: settings that differ, a paired test.",
        commands.RUNS,
        _runs,
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
        commands.DEMO,
        _demo,
        computes=True,
    ),
}
