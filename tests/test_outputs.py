"""Nothing is written into what is read: one table of what commands write."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from conftest import environment
from conftest import flags
from conftest import tree
from conftest import write_digits
from test_bad_inputs import NOT_READ
from test_cli import BATCH

from tlkeras import cli

# Flags that name what is written, with the name that it gets in a folder.
OUTPUTS = {
    "cache_dir": "kept",
    "csv": "new.csv",
    "fix": "new.csv",
    "html": "new.html",
    "json": "new.json",
    "output": "served",
    "sort_into": "sorted",
    "workdir": "new",
}
# What each command reads, beside what it is to write. {data} is a folder.
COMMANDS = {
    "train": ["--data=folder:{data}", *flags(batch_size=4)],
    "compare": [
        *("--data=folder:{data}", "--backbone=SmallResNet"),
        *("--image_size=16", "--weights={run}"),
    ],
    "evaluate": ["--model={run}", "--data=folder:{data}"],
    "predict": ["--model={run}", "{data}"],
    "explain": ["--model={run}", "{data}"],
    "check": ["--data=folder:{data}"],
    "advise": [
        *("--data=folder:{data}", "--backbone=SmallResNet"),
        *("--image_size=16", "--weights={run}"),
    ],
    "export": ["--model={run}"],
    "serve": ["--model={run}"],
    "cache": [],
    "demo": [],
    "backbones": [],
    "runs": [],
    "completion": [],
}
# Of a command that reads no images of its own.
ONLY_A_RUN = ("export", "cache", "demo")


@pytest.fixture(scope="module")
def places(trained, photos, tmp_path_factory) -> dict[str, pathlib.Path]:
    root = tmp_path_factory.mktemp("outputs")
    data = root / "photos"
    write_digits(data, {0: "null", 1: "zwölf"}, 4)
    write_digits(root / "elsewhere", {2: "二"}, 4)
    (data / "二").symlink_to(root / "elsewhere" / "二")
    (root / "link").symlink_to(data)
    shutil.copytree(trained.directory, root / "run")
    return {
        "data": data,
        "root": root,
        "run": root / "run",
        # In what is read, by a name of its own or of a link, or linked into it.
        "itself": data,
        "class": data / "null",
        "new class": data / "deep" / "er",
        "link": root / "link" / "null",
        "linked in": root / "elsewhere" / "二",
        "run's": root / "run" / "saved_model",
        "run's data": photos / "null",
    }


def written(command: str) -> list[str]:
    return sorted(OUTPUTS.keys() & set(cli._COMMANDS[command].flags()))


def test_every_flag_of_something_written_is_here():
    assert set(COMMANDS) == set(cli._COMMANDS)
    words = {"backbone", "budget", "coordinator", "format", "strategies"}
    words |= {"host", "label", "measure", "positive", "slices", "unfreeze"}
    # Where TFDS has its data, read and written by its own names.
    assert set(OUTPUTS) == NOT_READ - words - {"data_dir"}


def lines(places: dict[str, pathlib.Path]) -> dict[tuple, list[str]]:
    """Returns the words for each (command, flag, place) to be refused."""
    found = {}
    for command, reads in COMMANDS.items():
        for flag in written(command):
            inside = ["run's"]
            if command not in ONLY_A_RUN:
                inside += ["itself", "class", "new class", "link", "linked in"]
            if "--model={run}" in reads and flag != "cache_dir":
                inside.append("run's data")
            for place in inside:
                path = places[place] / OUTPUTS[flag]
                found[command, flag, place] = [
                    *(command, f"--{flag}={path}"),
                    *(word.format(**places) for word in reads),
                ]
    return found


def test_no_output_may_be_in_what_is_read(places, tmp_path):
    wanted = lines(places)
    (tmp_path / "words.json").write_text(json.dumps([*wanted.values()]))
    before = tree(places["root"])
    done = subprocess.run(
        [sys.executable, "-c", BATCH, str(tmp_path / "words.json")],
        cwd=places["root"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    for key, (status, out, err, heavy) in zip(
        wanted, json.loads(done.stdout), strict=True
    ):
        command, flag, place = key
        assert (status, out, heavy) == (2, "", []), (key, err)
        what = "inside the directory of a run" if place == "run's" else "in /"
        assert err.startswith(f"tlkeras: `{flag}` must not be {what}"), (
            key,
            err,
        )
        assert err.count("\n") == 1
    assert tree(places["root"]) == before


def test_the_place_that_is_the_default_is_looked_at_too(places, monkeypatch):
    """Where somebody stands in the folder of images, runs/ would be a class."""
    for command in ("train", "compare", "check"):
        words = [word.format(**places) for word in COMMANDS[command]]
        monkeypatch.chdir(places["data"])
        before = tree(places["root"])
        assert cli.main([command, *words]) == 2
        assert tree(places["root"]) == before


def test_beside_what_is_read_is_a_place(places, tmp_path):
    """A table may stand beside its images, and a folder beside a folder."""
    rows = [
        f"{path},{path.parent.name}"
        for path in sorted(places["data"].rglob("*.png"))
    ]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,label", *rows]))
    small = ["--backbone=SmallResNet", "--image_size=16"]
    beside = os.path.join(places["root"], "photos-fixed")
    for data, name in ((f"csv:{table}", tmp_path), (places["data"], beside)):
        data = data if str(data).startswith("csv") else f"folder:{data}"
        outputs = [f"--html={name}/a.html", f"--fix={name}/fixed.csv"]
        words = ["check", f"--data={data}", *small, *outputs]
        assert cli.main(words) in (0, 1)
        assert os.path.exists(f"{name}/fixed.csv")
