"""What a path may lead to that is no file to read, or a file without end."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import environment
from conftest import tree
from conftest import write_digits

from tlkeras import cli
from tlkeras import files
from tlkeras.settings import setting as setting_rules

# To open the first waits for ever, to read the others fills any memory.
KINDS = ("pipe", "device", "holes")
# Flags whose text is a path that is read, and paths to give; {bad} is none that
# can be read.
READ = {
    "calibration": ("csv:{bad}.csv",),
    "config": ("{bad}.toml",),
    "data": ("csv:{bad}.csv",),
    "marked": ("{bad}.csv",),
    "model": ("{bad}.keras", "{run}"),
    "weights": ("{bad}.h5", "{bad}.weights.h5", "{bad}.keras", "{run}"),
}
# Flags whose text is no path, or one where something is written.
NOT_READ = {
    "backbone",
    "budget",
    "cache_dir",
    "coordinator",
    "csv",
    "data_dir",
    "fix",
    "format",
    "host",
    "html",
    "json",
    "label",
    "measure",
    "output",
    "positive",
    "slices",
    "sort_into",
    "strategies",
    "unfreeze",
    "workdir",
}
# Runs each list of words, in a process that has its paths.
BATCH = """
import json, sys
from tlkeras import cli
for words in json.loads(sys.argv[1]):
    print("next", file=sys.stderr, flush=True)
    print("status", cli.main(words), flush=True)
"""


def make_bad(path: pathlib.Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as stream:
            stream.truncate(30 << 30)


def run_all(
    words: list[list[str]], cwd: pathlib.Path
) -> tuple[list[str], list[str]]:
    """Returns the status and the lines on stderr of each list of words."""
    done = subprocess.run(
        [sys.executable, "-c", BATCH, json.dumps(words)],
        cwd=cwd,
        env=environment(XDG_CACHE_HOME=str(cwd / "cache")),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    statuses = [
        line.split()[1]
        for line in done.stdout.splitlines()
        if line.startswith("status ")
    ]
    return statuses, done.stderr.split("next\n")[1:]


def texts(command: str) -> list[str]:
    """Returns the flags of a command that take any text."""
    return [
        setting.name
        for setting in cli._COMMANDS[command].settings
        if setting.kinds[0] is str
        and not setting_rules.allowed(setting.rule)
        or setting.name in READ
    ]


def test_every_flag_is_known_to_be_read_or_not():
    found = {name for command in cli._COMMANDS for name in texts(command)}
    assert found - NOT_READ == set(READ)


@pytest.mark.parametrize("kind", KINDS)
def test_no_flag_reads_what_is_no_file(photos, tmp_path, kind):
    for name in (".toml", ".csv", ".h5", ".weights.h5", ".keras"):
        make_bad(tmp_path / f"bad{name}", kind)
    (tmp_path / "run").mkdir()
    make_bad(tmp_path / "run" / "model.keras", kind)
    before = tree(tmp_path)
    words = []
    for command in cli._COMMANDS:
        for name in sorted(READ.keys() & texts(command)):
            for path in READ[name]:
                given = {
                    "data": "builtin:digits",
                    "backbone": "SmallResNet",
                    "output": "new",
                    name: path.format(bad="bad", run="run"),
                }
                if name == "marked":
                    given |= {"data": f"folder:{photos}", "fix": "new.csv"}
                elif command == "check" and name == "weights":
                    given["labels"] = "true"
                flags = given.keys() & cli._COMMANDS[command].flags()
                words.append(
                    [command, *(f"--{each}={given[each]}" for each in flags)]
                )
    # What has a suffix and a size may be weights, until it is opened.
    if kind == "holes":
        words = [each for each in words if "weights" not in " ".join(each)]
    statuses, lines = run_all(words, tmp_path)
    assert statuses == ["2"] * len(words)
    for each, line in zip(words, lines, strict=True):
        assert line.startswith("tlkeras: ") and line.count("\n") == 1, each
        named = "bad." in line or "run" in line
        assert named, (each, line)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "kind",
    [
        "pipe",
        *(pytest.param(each, marks=pytest.mark.slow) for each in KINDS[1:]),
    ],
)
def test_no_file_of_a_run_or_of_data_is_read_that_is_none(
    trained, tmp_path, kind
):
    """Images are left out and told, what is kept is not used, a run refused."""
    write_digits(tmp_path / "photos", {0: "null", 1: "zwölf"}, 4)
    make_bad(tmp_path / "photos" / "null" / "bad.png", kind)
    (tmp_path / "cache" / "tlkeras").mkdir(parents=True)
    if kind != "holes":
        make_bad(tmp_path / "cache" / "tlkeras" / "scans.sqlite", kind)
    for name in ("images.csv", "config.toml"):
        shutil.copytree(trained.directory, tmp_path / f"run-{name}")
        (tmp_path / f"run-{name}" / name).unlink()
        make_bad(tmp_path / f"run-{name}" / name, kind)
    data = "--data=folder:photos"
    small = ["--backbone=SmallResNet", "--image_size=16", "--weights=none"]
    small.append("--strategy=scratch")
    model = f"--model={trained.directory}"
    statuses, lines = run_all(
        [
            ["check", data, "--html=a.html"],
            ["train", data, *small, "--on_bad_image=fail"],
            ["predict", model, "photos"],
            ["predict", model, "photos/null/bad.png"],
            ["evaluate", model, data],
            ["evaluate", "--model=run-images.csv", data],
            ["evaluate", "--model=run-config.toml", data],
            ["train", data, *small, "--workdir=run-config.toml"],
        ],
        tmp_path,
    )
    assert statuses == ["1", "2", "0", "2", "0", "2", "0", "2"]
    why = "not a regular file"
    if kind == "holes":
        why = f"larger than {files.LARGEST:,} bytes"
    for index in (1, 2, 3):
        assert f"bad.png: cannot be read: {why}" in lines[index]
    assert "run-images.csv/images.csv is damaged" in lines[5]
    assert all(line.count("\n") <= 1 for line in lines)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_of_keras_that_are_no_file_are_one_line(tmp_path, kind):
    make_bad(tmp_path / "keras.json", kind)
    done = subprocess.run(
        [sys.executable, "-m", "tlkeras", "train", "--data=builtin:digits"],
        env=environment(KERAS_HOME=str(tmp_path), KERAS_BACKEND="tensorflow"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"tlkeras: {tmp_path}/keras.json, the sett")
    assert done.stderr.count("\n") == 1


def test_text_in_a_model_that_fills_the_memory_is_refused(trained, tmp_path):
    for name in ("tlkeras.json", "config.json"):
        with (
            zipfile.ZipFile(trained.directory / "model.keras") as old,
            zipfile.ZipFile(tmp_path / "a.keras", "w", 8) as new,
        ):
            for each in old.namelist():
                content = old.read(each)
                if each == name:
                    content += b" " * files.LARGEST_SETTINGS
                new.writestr(each, content)
        _, (line,) = run_all(
            [["predict", "--model=a.keras", "a.keras"]], tmp_path
        )
        assert "a.keras" in line and line.count("\n") == 1
