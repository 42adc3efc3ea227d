import csv
import dataclasses
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
import zipfile

import numpy as np
import PIL.Image
import pytest
from conftest import LABELS
from conftest import environment
from conftest import flags
from conftest import interruptible
from conftest import small
from conftest import tree
from conftest import write_digits

from tlkeras import cli
from tlkeras import files
from tlkeras import places
from tlkeras import plan
from tlkeras import progress
from tlkeras.backbones import catalog
from tlkeras.commands import common
from tlkeras.settings import commands
from tlkeras.settings import completion
from tlkeras.settings import config as configs
from tlkeras.settings import groups
from tlkeras.training import checkpoint
from tlkeras.training import phase as one_phase

COMMANDS = tuple(cli._COMMANDS)

# Runs each list of words in the file named first, one after the other, and
# tells what each printed, its status, and whether TensorFlow was imported. With
# a second argument it goes on behind the first list as that user.
BATCH = """
import contextlib, io, json, os, sys
from tlkeras import cli
outcomes = []
for words in json.load(open(sys.argv[1])):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(words)
    if len(outcomes) == 1 and sys.argv[2:]:
        os.setgroups([])
        os.setuid(int(sys.argv[2]))
    heavy = [name for name in ("tensorflow", "keras") if name in sys.modules]
    outcomes.append([status, out.getvalue(), err.getvalue(), heavy])
print(json.dumps(outcomes))
"""

# What is wrong: the words, and what the line must hold. {photos}, {run} and so
# on are paths of the fixtures; they are told before TensorFlow is imported.
MISTAKES = {
    "command": ("trian", "unknown command 'trian'. Did you mean train?"),
    "flag": ("train --bach_size=3", "Did you mean --batch_size?"),
    "other flag": ("train --model=x", "`--model` is a flag of `tlkeras eval"),
    "flag without value": ("train --data", "Missing value for flag --data"),
    "argument": ("train a b", "unexpected argument 'b'"),
    "data twice": ("train --data=a b", "unexpected argument 'b'"),
    "shell": ("completion csh", "for bash, zsh, fish. Received: 'csh'"),
    "value": ("train --batch_size=x", "`batch_size` must be a whole number"),
    "range": ("train --dropout=2", "`dropout` must be a number, in [0, 0.95]"),
    "choice": ("train --head=mpl", "Did you mean mlp?"),
    "flagfile": ("train --flagfile=x", "unknown flag `--flagfile`"),
    "no data": ("train", "`data` must be folder:PATH"),
    "missing data": (
        "train --data=folder:/nowhere",
        "/nowhere, which does not",
    ),
    "kind of data": ("train foldr:{photos} {small}", "Did you mean folder?"),
    "path alone": ("train /nowhere {small}", "`data` folder:PATH must be"),
    "table alone": ("train /nowhere.csv {small}", "No such file"),
    "one class": ("train --data=folder:{one} {small}", "at least 2 classes"),
    "small class": ("train --data=folder:{few} {small}", "class 'b' must have"),
    "empty class": ("train --data=folder:{empty} {small}", "holds no image"),
    "no class": ("train --data=folder:{photos}/null {small}", "no folder"),
    "csv columns": ("train --data=csv:{csv} {small}", "columns path and label"),
    "csv file": ("train --data=csv:/nowhere {small}", "No such file"),
    "backbone": ("train --backbone=ResNet5", "Did you mean ResNet50?"),
    "image size": ("train --image_size=31", "at least 32 pixels for Mobile"),
    "weights path": ("train --weights=/nowhere", "/nowhere, which does not"),
    "weights kind": ("train --weights={csv}", "file of kind .h5, .weights.h5"),
    "no imagenet": ("train --backbone=SmallResNet", "no ImageNet weights for"),
    "weights for scratch": (
        "train --strategy=scratch --weights={run}",
        "`strategy` scratch starts from random weights",
    ),
    "unfreeze": ("train --unfreeze=stage:1", "`unfreeze` must be none, all"),
    "rate": ("train --finetune_learning_rate=1e-3", "a fifth of"),
    "config": ("train --config=flower", "Did you mean flowers?"),
    "config key": ("train --config={toml}", "Did you mean epochs?"),
    "finished workdir": (
        "train --data=folder:{photos} {small} --workdir={run}",
        "holds a finished run",
    ),
    "workdir of another": (
        "train --data=folder:{photos} {small} --workdir={photos}",
        "holds something else than a run",
    ),
    "unfinished workdir": (
        "train --data=folder:{photos} {small} --workdir={half}",
        "other settings (epochs)",
    ),
    "workdir a file": (
        "train --data=folder:{photos} {small} --workdir={csv}",
        "is no directory",
    ),
    "no model": ("predict photo.jpg", "`model` must be given"),
    "missing model": ("predict --model=/nowhere x", "/nowhere, which does not"),
    "no model there": ("predict --model={photos} x", "holds no model.keras"),
    "no model file": ("evaluate --model={csv}", "no .keras file, or a damaged"),
    "model of another": ("export --model={other}", "not saved by tlkeras"),
    "nothing to predict": ("predict --model={run}", "nothing to predict"),
    "no image there": (
        "predict --model={run} {photos}/null nowhere/*.jpg",
        "no image to predict at nowhere/*.jpg",
    ),
    "sorted into what is read": (
        "predict --model={run} --sort_into={photos}/new {photos}",
        "`sort_into` must not be in {photos}, which is read",
    ),
    "sorted among others": (
        "predict --model={run} --sort_into={photos} {csv}",
        "`sort_into` {photos} is not empty",
    ),
    "csv a directory": (
        "predict --model={run} --csv={photos} {photos}",
        "`csv` must be a file",
    ),
    "json below a file": (
        "evaluate --model={run} --data=builtin:digits --json={csv}/a.json",
        "is no directory",
    ),
    "no data to score": ("evaluate --model={run}", "`data` must be folder:"),
    "split": ("evaluate --split=tset", "Did you mean test?"),
    "data to score": (
        "evaluate --model={run} --data=folder:/nowhere",
        "/nowhere, which does not exist",
    ),
    "no output": ("export --model={run}", "`output` must be given"),
    "full output": ("export --model={run} --output={photos}", "is not empty"),
    "format": ("export --format=tfjs", "`format` must be one of saved_model"),
    "demo": ("demo --workdir={csv}", "is no directory"),
    "advice without data": ("advise", "`data` must be folder:PATH"),
    "advice without a source": (
        "advise --data=folder:{photos} --backbone=SmallResNet",
        "no ImageNet weights for SmallResNet. Give --weights a file",
    ),
    "advice to a file": (
        "advise --data=folder:{photos} --json={photos}",
        "`json` must be a file",
    ),
    "advice with epochs": (
        "advise --epochs=3",
        "`--epochs` is a flag of `tlkeras train`",
    ),
    "check without data": ("check", "`data` must be folder:PATH"),
    "nothing to check": (
        "check --data=folder:{photos}/nowhere",
        "{photos}/nowhere, which does not exist",
    ),
    "flag of training": (
        "check --epochs=3",
        "`--epochs` is a flag of `tlkeras train`",
    ),
    "network to check for": (
        "check --data=folder:{photos} --backbone=ResNet5",
        "Did you mean ResNet50?",
    ),
    "size to check for": (
        "check --data=folder:{photos} --image_size=31",
        "at least 32 pixels for Mobile",
    ),
    "limit to check for": (
        "check --data=folder:{photos} --max_pixels=178956971",
        "`max_pixels` must be a whole number, in [1, 178956970]",
    ),
    "page a directory": (
        "check --data=folder:{photos} --html={photos}",
        "`html` must be a file. Received: {photos}, which is none",
    ),
    "table below a file": (
        "check --data=folder:{photos} --fix={csv}/a.csv",
        "is no directory",
    ),
    "batch": (
        "train --data=folder:{photos} {small} --batch_size=152",
        "`batch_size` must be at most the number of training images; "
        "folder:{photos} has 151 images in all. Received: 152",
    ),
    "two outputs in one file": (
        "evaluate --model={run} --data=folder:{photos} --csv=o --json=o",
        "`json` and `csv` must be two files",
    ),
    "page over an image": (
        "check --data=folder:{photos} --html={photos}/null/broken.png",
        "`html` must not be one of the files that are read",
    ),
    "table over the data": (
        "evaluate --model={run} --data=csv:{labels} --csv={dotted}",
        "`csv` must not be one of the files that are read",
    ),
    "fix over the data": (
        "check --data=csv:{labels} --fix={dotted}",
        "`fix` must not be one of the files that are read",
    ),
    "answers over an image": (
        "predict --model={run} --csv={photos}/null/broken.png {photos}",
        "`csv` must not be one of the files that are read",
    ),
    "answers over the model": (
        "predict --model={run} --csv={run}/model.keras {photos}",
        "`csv` must not be inside the directory of a run",
    ),
    "answers over the list of images": (
        "predict --model={run} --csv={run}/images.csv {photos}",
        "`csv` must not be inside the directory of a run",
    ),
    "metrics over the model": (
        "evaluate --model={run} --data=folder:{photos} "
        "--json={run}/model.keras",
        "`json` must not be inside the directory of a run",
    ),
    "table over the settings": (
        "evaluate --model={run} --data=folder:{photos} --csv={run}/config.toml",
        "`csv` must not be inside the directory of a run",
    ),
    "evidence over the weights": (
        "advise --data=folder:{photos} --weights={run} "
        "--backbone=SmallResNet --image_size=32 --json={run}/model.keras",
        "`json` must not be inside the directory of a run",
    ),
    "page in another's run": (
        "check --data=folder:{photos} --html={run}/saved_model/1/new.html",
        "`html` must not be inside the directory of a run",
    ),
    "model in a run": (
        "export --model={run} --output={run}/served",
        "`output` must not be inside the directory of a run",
    ),
    "run in a run": (
        "train --data=folder:{photos} {small} --workdir={run}/again",
        "`workdir` must not be inside the directory of a run",
    ),
    "comparison in a run": (
        "compare --data=folder:{photos} --weights={run} "
        "--backbone=SmallResNet --image_size=16 --workdir={run}/tensorboard",
        "`workdir` must not be inside the directory of a run",
    ),
    "table in the cache": (
        "evaluate --model={run} --data=folder:{photos} --cache_dir={few} "
        "--csv={few}/scans.sqlite",
        "`csv` must not be in {few}, which is read",
    ),
    "no such user": (
        "predict --model=~nobody-of-this-name/run x",
        "run, which does not exist",
    ),
    "long name": (
        f"export --model={{run}} --output={'a' * 300}",
        "must have at most 255 bytes",
    ),
    "way without its head": (
        "compare --data=folder:{photos} --weights={run} --head=mlp "
        "--backbone=SmallResNet --image_size=16",
        "converged_head of `strategies`: phase head is solved",
    ),
    "train in a comparison": (
        "train --data=folder:{photos} {small} --workdir={compared}",
        "holds an unfinished comparison",
    ),
    "one level too high": (
        "train --data=folder:{nested} {small}",
        "class folder {nested}/2024 holds no image itself, but folders (a, b)",
    ),
}
# These need what TensorFlow reads or Keras builds.
LATE = {
    "what cannot be mended": (
        "check --data=builtin:digits[0-1] --fix=a.csv",
        "`fix` needs images that are files",
    ),
    "other": (
        "evaluate --model={run} --data=builtin:digits[0-1]",
        "None is the same",
    ),
    "stage": (
        "train --data=folder:{photos} {small} --strategy=fine_tuning "
        "--unfreeze=stages:9 --workdir=new/run",
        "`unfreeze` stages:N must have N of at most",
    ),
    "equal pictures": (
        "train --data=folder:{equal} {small} --workdir=new/run",
        "class 'b' must have",
    ),
    "batch": (
        "train --data=folder:{photos} {small} --batch_size=149 "
        "--workdir=new/run",
        "`batch_size` must be at most the number of training images",
    ),
    "unreadable": (
        "train --data=folder:{photos} {small} --on_bad_image=fail",
        "1 image cannot be read, first {photos}/null/broken.png",
    ),
    "backbone of weights": (
        "train --data=folder:{photos} --weights={run}",
        "are those of SmallResNet",
    ),
    "damaged weights": (
        "train --data=folder:{photos} {small} --strategy=fine_tuning "
        "--weights={broken}",
        "{broken}",
    ),
}


@pytest.fixture(scope="module")
def paths(trained, photos, tmp_path_factory) -> dict[str, str]:
    """Paths for the mistakes, by the names that stand for them."""
    root = tmp_path_factory.mktemp("places")
    write_digits(root / "one", {0: "a"}, 4)
    write_digits(root / "few", {0: "a"}, 4)
    write_digits(root / "few", {1: "b"}, 2)
    write_digits(root / "empty", {0: "a"}, 4)
    (root / "empty" / "b").mkdir()
    write_digits(root / "equal", {0: "a"}, 9)
    write_digits(root / "equal", {1: "b"}, 1)
    (picture,) = (root / "equal" / "b").iterdir()
    for number in range(4):
        shutil.copy(picture, picture.with_name(f"copy{number}.png"))
    write_digits(root / "nested" / "2024", {0: "a", 1: "b"}, 3)
    write_digits(root / "nested" / "2025", {0: "a", 1: "b"}, 3)
    (root / "a.csv").write_text("image,class\na.png,b\n")
    (root / "a.toml").write_text("epoch = 3")
    (root / "broken.h5").write_bytes(b"no HDF5")
    quiet = progress.Progress(quiet=True)
    half = plan.make(
        small(data=f"folder:{photos}", batch_size="auto"),
        root / "half",
        progress=quiet,
    )
    files.write_text(
        half.directory / "config.toml", configs.to_toml(half.config)
    )
    shutil.copytree(root / "half", root / "compared")
    (root / "compared" / places.COMPARISON).write_text("{}")
    rows = [f"{path},a" for path in (root / "few" / "a").iterdir()]
    rows += [f"{path},b" for path in (root / "few" / "b").iterdir()]
    (root / "labels.csv").write_text("\n".join(["path,label", *rows]))
    with zipfile.ZipFile(root / "other.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    return {
        "photos": str(photos),
        "run": str(trained.directory),
        "csv": str(root / "a.csv"),
        "toml": str(root / "a.toml"),
        "broken": str(root / "broken.h5"),
        "other": str(root / "other.keras"),
        "small": " ".join(flags(epochs=7, batch_size="auto")),
        **{
            name: str(root / name)
            for name in ("one", "few", "empty", "equal", "nested", "compared")
        },
        "labels": str(root / "labels.csv"),
        "dotted": str(root / "few" / ".." / "labels.csv"),
        "half": str(half.directory),
    }


@pytest.fixture(scope="module")
def outcomes(paths, tmp_path_factory):
    """What came of each of `MISTAKES`, all in one process."""
    cwd = tmp_path_factory.mktemp("cwd")
    temporary = tmp_path_factory.mktemp("tmp")
    words = [line.format(**paths).split() for line, _ in MISTAKES.values()]
    (temporary / "words.json").write_text(json.dumps(words))
    roots = [cwd, temporary, *map(pathlib.Path, (paths["run"],))]
    roots.append(pathlib.Path(paths["csv"]).parent)
    before = tree(*roots)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", BATCH, str(temporary / "words.json")],
        cwd=cwd,
        env=environment(TMPDIR=str(temporary)),
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - began
    assert done.stderr == ""
    assert tree(*roots) == before
    assert seconds < 0.2 * len(words)
    return dict(zip(MISTAKES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_before_tensorflow_is_there(
    outcomes, paths, name
):
    status, out, err, heavy = outcomes[name]
    assert (status, out, heavy) == (2, "", [])
    assert err.startswith("tlkeras: ")
    assert err.endswith("\n") and err.count("\n") == 1
    assert MISTAKES[name][1].format(**paths) in err


@pytest.mark.parametrize("name", LATE)
def test_a_later_mistake_is_one_line_and_leaves_nothing(
    paths, name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    line, expected = LATE[name]
    status = cli.main(line.format(**paths).split())
    printed = capsys.readouterr()
    assert status == 2
    assert printed.err.count("\n") == 1
    assert expected.format(**paths) in printed.err
    assert not tree(tmp_path)


def test_a_mistake_in_a_real_process_takes_no_two_seconds(
    tlkeras_process, tmp_path
):
    began = time.perf_counter()
    done = tlkeras_process("train", "--data=folder:photos", cwd=tmp_path)
    assert time.perf_counter() - began < 2
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "tlkeras: `data` folder:PATH must be a folder. Received: "
        f"{tmp_path}/photos, which does not exist.\n"
    )
    assert not tree(tmp_path) and not done.left


def test_without_permission_nothing_is_written(trained):
    words = [
        # Two import what the others need, which that user may not read.
        ["export", "--model=../model.keras", "--output=../words.json"],
        ["train", "--data=builtin:digits", *flags(), "--workdir=../words.json"],
        ["train", "--data=builtin:digits", *flags(), "--workdir=new/run"],
        ["train", "--data=builtin:digits", *flags(), "--workdir=."],
        ["train", "--data=builtin:digits", *flags()],
        ["export", "--model=../model.keras", "--output=new"],
        ["predict", "--model=../model.keras", "--csv=a.csv", "../model.keras"],
    ]
    # Below a folder that may not be looked into.
    words += [
        ["train", "--data=builtin:digits", "--weights=../shut/of.h5"],
        ["predict", "--model=../shut/run", "a.jpg"],
        ["evaluate", "--model=../shut/run", "--data=builtin:digits"],
        ["check", "--data=folder:../shut/photos"],
    ]
    with tempfile.TemporaryDirectory() as name:
        closed = pathlib.Path(name, "closed")
        shutil.copy(trained.directory / "model.keras", name)
        pathlib.Path(name, "words.json").write_text(json.dumps(words))
        closed.mkdir()
        closed.chmod(0o555)
        pathlib.Path(name, "shut").mkdir(mode=0o000)
        pathlib.Path(name).chmod(0o755)
        done = subprocess.run(
            # The superuser may write anywhere.
            [sys.executable, "-c", BATCH, f"{name}/words.json"]
            + ["65534"] * (os.geteuid() == 0),
            cwd=closed,
            capture_output=True,
            text=True,
            check=True,
        )
        for status, out, err, heavy in json.loads(done.stdout)[2:]:
            assert (status, out, heavy) == (2, "", [])
            assert err.count("\n") == 1
            assert "no permission for " in err
            assert str(closed) in err or "shut/" in err
        assert not tree(closed)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_of_every_command(command, word, capsys):
    assert cli.main([command, word]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"tlkeras {command}")
    for setting in commands.COMMON:
        assert f"  --{setting.name}=" in printed.out
    assert printed.err == ""


def test_everyday_flags_come_first_and_the_rest_when_asked(capsys):
    cli.main(["train", "--help"])
    short = capsys.readouterr().out
    cli.main(["help", "train", "--helpfull"])
    full = capsys.readouterr().out
    titles = re.findall(r"^(\w[\w ]*):$", short, re.M)
    assert titles == [group.title for group in groups.GROUPS]
    assert "--data=" in short and "--num_processes=" not in short
    assert short.endswith("`tlkeras train --helpfull` lists all flags.\n")
    for name in cli._COMMANDS["train"].flags():
        assert f"  --{name}=" in full
    assert len(short.splitlines()) < 100


@pytest.mark.parametrize("words", [["--help"], ["help"], ["-h"]])
def test_help_lists_the_commands(words, capsys):
    assert cli.main(words) == 0
    printed = capsys.readouterr()
    for command in COMMANDS:
        assert f"\n  {command} " in printed.out
    assert printed.err == ""


def test_alone_it_names_the_commands_that_matter(capsys):
    assert cli.main([]) == 0
    named = re.findall(r"^  ([a-z]+)  ", capsys.readouterr().out, re.M)
    assert named == list(cli._FIRST) and len(named) == 5


def test_bash_completes_commands_flags_and_words(capsys, tmp_path):
    assert cli.main(["completion", "bash"]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    ask = (
        'source "$0"; COMP_LINE=$1 COMP_POINT=${#1} COMP_CWORD=$2; '
        'COMP_WORDS=($1); _tlkeras; echo "${COMPREPLY[*]}"'
    )
    for line, word, wanted in (
        ("tlkeras tr", 1, "train"),
        ("tlkeras predict --mod", 2, "--model="),
        ("tlkeras train --head=", 3, "linear mlp"),
        ("tlkeras train --head=m", 4, "mlp"),
        ("tlkeras train --data=", 3, ""),
        ("tlkeras train ph", 2, ""),
    ):
        done = subprocess.run(
            ["bash", "-c", ask, script, line, str(word)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == (f"{wanted}\n", ""), line


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_each_shell_is_told_all_commands_flags_and_words(capsys, shell):
    assert cli.main(["completion", shell]) == 0
    words = set(re.findall(r"[\w-]+", capsys.readouterr().out))
    before = "" if shell == "fish" else "--"
    assert {f"{before}{name}" for name in configs.settings()} <= words
    assert {*COMMANDS, "linear", "mlp", "cosine", "auto"} <= words


@pytest.mark.skipif(not shutil.which("fish"), reason="needs fish")
def test_fish_completes_commands_flags_and_words(capsys, tmp_path):
    assert cli.main(["completion", "fish"]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    for line, wanted in (
        ("tlkeras tr", "train"),
        ("tlkeras predict --mod", "--model"),
        ("tlkeras train --head=m", "--head=mlp"),
    ):
        ask = f"source {script}; complete -C '{line}'"
        done = subprocess.run(
            ["fish", "-c", ask], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [wanted]


@pytest.mark.skipif(not shutil.which("zsh"), reason="needs zsh")
def test_zsh_takes_its_script(capsys, tmp_path):
    assert cli.main(["completion", "zsh"]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    ask = f"source {script} && echo $_comps[tlkeras]"
    done = subprocess.run(
        ["zsh", "-fc", ask], capture_output=True, text=True, check=True
    )
    assert done.stdout == "_tlkeras\n"


def test_version_and_backbones(tlkeras_process, tmp_path):
    done = tlkeras_process("--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tlkeras ")
    done = tlkeras_process("backbones", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "MobileNetV2 " in done.stdout and "SmallResNet " in done.stdout
    for row in catalog.BACKBONES:
        assert row.name in done.stdout and row.note in done.stdout


def test_a_reader_that_leaves_is_no_traceback(tmp_path):
    for words in (["backbones"], ["train", "--help"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "tlkeras", *words],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() != 0


def test_errors_of_ours_keep_their_traceback(monkeypatch):
    def fail(values, positional):
        raise RuntimeError("a mistake of ours")

    command = cli.dataclasses.replace(cli._COMMANDS["backbones"], run=fail)
    monkeypatch.setitem(cli._COMMANDS, "backbones", command)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        cli.main(["backbones"])


def test_a_flag_without_effect_is_said(paths, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(one_phase, "fit", fail)
    words = "train --data=folder:{photos} {small} --head_epochs=3"
    cli.main(words.format(**paths).split())
    printed = capsys.readouterr()
    assert printed.out.startswith(
        "`head_epochs` has no effect with strategy scratch; it is a setting of "
        "feature_extraction, converged_head, last_stage, fine_tuning, "
        "fine_tuning_low, last_stage_high, fine_tuning_high, auto.\n"
    )


def start(words: list[str], cwd: pathlib.Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tlkeras", *words],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    )


def read_until(process: subprocess.Popen, text: str) -> str:
    """Returns what `process` prints up to the line with `text`."""
    printed = ""
    while text not in printed:
        line = process.stdout.readline()
        assert line, printed + process.stderr.read()
        printed += line
    return printed


def test_kill_and_ctrl_c(photos, tmp_path):
    """Interrupts a run in its second phase, goes on there, and kills it."""
    words = [
        "train",
        f"--data=folder:{photos}",
        *flags(
            strategy="fine_tuning",
            head_solver="adam",
            head_epochs=2,
            head_learning_rate=1e-2,
            finetune_epochs=2000,
            finetune_learning_rate=2e-3,
        ),
        "--workdir=run",
    ]
    process = start(words, tmp_path)
    read_until(process, " 2/2000 ")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130
    command = shlex.join(["tlkeras", *words])
    assert err == f"tlkeras: interrupted. To go on: {command}\n"
    assert out.endswith(f"the best so far is {tmp_path}/run/model.keras\n")
    assert "scoring" not in out and "exporting" not in out
    left = {"config.toml", checkpoint._NAME, checkpoint.PHASE, "model.keras"}
    assert set(os.listdir(tmp_path / "run")) == left
    process = start(words, tmp_path)
    printed = read_until(process, "  finetune ")
    process.kill()
    _, err = process.communicate()
    assert err == ""
    assert set(os.listdir(tmp_path / "run")) == left
    assert "resuming after phase head" in printed
    assert "phase head" not in printed.replace("resuming after phase head", "")
    behind = re.search(r"resuming after epoch (\d+)", printed)
    first = re.search(r"  finetune +(\d+)/2000", printed)
    assert int(first[1]) == int(behind[1]) + 1 >= 2


def test_ctrl_c_while_images_are_read_leaves_nothing(
    photos, tmp_path, monkeypatch, capfd
):
    advance = progress.Progress.advance

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        advance(*arguments)

    monkeypatch.setattr(progress.Progress, "advance", interrupted)
    words = [f"--data=folder:{photos}", *flags(), f"--workdir={tmp_path}/n/run"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.main(["train", *words]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "tlkeras: interrupted\n")
    assert not tree(tmp_path)


@pytest.mark.parametrize("importing", [True, False])
def test_ctrl_c_waits_for_the_end_of_an_import(monkeypatch, importing):
    module = types.ModuleType("half")
    module.__spec__ = types.SimpleNamespace(_initializing=importing)
    monkeypatch.setitem(sys.modules, "half", module)
    went_on = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            with common._importing_whole("half"):
                os.kill(os.getpid(), signal.SIGINT)
                went_on.append(True)
        assert went_on == [True] * importing
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


# Ctrl-C while a module of ours is imported.
EARLY = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "tlkeras.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from tlkeras import __main__
sys.exit(__main__.main())
"""


def test_ctrl_c_before_the_command_line_is_one_line():
    done = subprocess.run(
        [sys.executable, "-c", EARLY],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "tlkeras: interrupted\n"


@pytest.mark.slow
@pytest.mark.parametrize("seconds", np.arange(0.8, 4, 0.4))
def test_ctrl_c_while_tensorflow_is_imported_is_one_line(
    photos, tmp_path, seconds
):
    process = start(["train", str(photos), *flags()], tmp_path)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.startswith("tlkeras: interrupted") and err.count("\n") == 1
    assert not out or out.startswith("run ")


# The three commands in a row, in one process, since TensorFlow takes seconds.
USE = """
import sys
from tlkeras import cli
for words in (
    ["predict", "--model=run", "--csv=out/a.csv", "--sort_into=sorted",
     "--top=2", "some", "*.jpg", "text.png"],
    ["predict", "--model=run", "text.png"],
    ["evaluate", "--model=run", "--data=folder:photos", "--csv=b.csv",
     "--json=b.json"],
    ["export", "--model=run", "--output=served"],
):
    print("status", cli.main(words), flush=True)
"""


def test_predict_evaluate_and_export_make_no_noise(trained, photos, tmp_path):
    (tmp_path / "run").symlink_to(trained.directory)
    (tmp_path / "photos").symlink_to(photos)
    some = sorted((photos / LABELS[1]).glob("*.png"))[:3]
    (tmp_path / "some").mkdir()
    for path in some:
        shutil.copy(path, tmp_path / "some")
    pixels = np.full([20, 30, 3], 99, np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    (tmp_path / "text.png").write_text("no picture")
    # Not UTF-8, and so nothing that a terminal can show.
    latin = os.fsdecode(b"some/caf\xe9.png")
    shutil.copy(some[0], tmp_path / latin)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=tmp_path,
        env=environment(TMPDIR=str(temporary)),
        capture_output=True,
        text=True,
    )
    left_out = "files are no images that can be read and are left out, first"
    assert done.stderr == (
        f"tlkeras: 1 of 6 {left_out} text.png: not an image\n"
        f"tlkeras: 1 of 1 {left_out} text.png: not an image\n"
    )
    predicted, none, scored, exported, rest = done.stdout.split("status ")
    # The others were done.
    lines = predicted.splitlines()
    assert lines[0].split() == ["image", "label", "score", "2."]
    names = [f"some/{path.name}" for path in some] + ["photo.jpg"]
    names.insert(3, latin)
    shown = [name.replace("\udce9", r"\udce9") for name in names]
    assert [line.split()[0] for line in lines[1:-1]] == shown
    assert lines[-1].startswith("all answers: ")
    assert (none, scored[:2]) == ("0\n", "2\n")
    with open(
        tmp_path / "out" / "a.csv",
        newline="",
        encoding="utf-8",
        errors="surrogateescape",
    ) as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == names
    assert list(rows[0]) == [
        "path",
        "label",
        "score",
        *("label_2", "score_2"),
        *(f"p_{label}" for label in LABELS),
    ]
    for row in rows:
        assert (tmp_path / "sorted" / row["label"]).is_dir()
    copies = [path.name for path in (tmp_path / "sorted").glob("*/*")]
    assert sorted(copies) == sorted(os.path.basename(name) for name in names)
    accuracy = json.loads((tmp_path / "b.json").read_text())["quality"]
    assert accuracy["accuracy"] == trained.report["test"]["accuracy"]
    assert "its test split is scored" in scored
    assert LABELS[2] in scored
    assert "\nsaved_model " in exported and "tensorflow" in exported
    assert exported.endswith(f"\nsaved_model: {tmp_path / 'served'}\n")
    assert rest == "0\n"
    assert set(os.listdir(tmp_path)) == {
        "run",
        "photos",
        "some",
        "photo.jpg",
        "text.png",
        "tmp",
        "out",
        "b.csv",
        "b.json",
        "served",
        "sorted",
    }
    assert not tree(temporary)


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("numpy", "must be tensorflow or jax. Received: numpy"),
        ("jax", "KERAS_BACKEND is jax, which is not installed"),
    ],
)
def test_a_backend_that_is_not_there_is_one_line(backend, message, tmp_path):
    # An import hook in the place of a machine without it.
    (tmp_path / "jax.py").write_text(
        "raise ModuleNotFoundError('No module named jax', name='jax')"
    )
    done = subprocess.run(
        [sys.executable, "-m", "tlkeras", "train", "--data=builtin:digits"],
        cwd=tmp_path,
        env=environment(KERAS_BACKEND=backend, PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_removed_working_directory_is_one_line(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", f'rmdir "{gone}"; "{sys.executable}" -m tlkeras demo'],
        cwd=gone,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "working directory is not there any more" in done.stderr


def test_a_workdir_that_tensorflow_cannot_write_to_is_refused_at_once(
    tmp_path, capfd
):
    name = os.fsdecode(bytes(tmp_path) + b"/caf\xe9")
    for workdir in (name, "/proc/run", str(tmp_path) + "/x" * 2000):
        words = ["--data=builtin:digits", f"--workdir={workdir}"]
        assert cli.main(["train", *words]) == 2
        message = capfd.readouterr().err
        assert message.count("\n") == 1
        assert "`workdir`" in message
    assert not list(tmp_path.iterdir())


def test_sigterm_ends_as_ctrl_c_does(monkeypatch, capfd):
    def ends(values, positional):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    command = dataclasses.replace(cli._COMMANDS["backbones"], run=ends)
    monkeypatch.setitem(cli._COMMANDS, "backbones", command)
    assert cli.main(["backbones"]) == 130
    assert capfd.readouterr().err == "tlkeras: interrupted\n"
