"""`tlkeras check` as a user runs it: what it prints, writes and ends with."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pictures
import pytest
from conftest import environment
from conftest import tree

# Runs each list of words, one after the other, as TensorFlow takes seconds.
BATCH = """
import json, sys
from tlkeras import cli
for words in json.loads(sys.argv[1]):
    print("status", cli.main(words), flush=True)
    print("next", file=sys.stderr, flush=True)
"""


def png(seed: int) -> bytes:
    return pictures.encode(pictures.photo(seed, 48, 60))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """A directory with folders: one in order, one not, one of no use."""
    root = tmp_path_factory.mktemp("check")
    for name, first in (("clean", 0), ("zwölf & <二>", 1000)):
        contents = {
            f"{name}/{label}/{seed}.png": png(first + 100 * ord(label) + seed)
            for label in "ab"
            for seed in range(20)
        }
        pictures.write(root, contents)
    sick = root / "zwölf & <二>"
    near = pictures.photo(7, 48, 60)
    pictures.write(
        sick,
        {
            "a/text.jpg": b"text",
            "a/flat.png": pictures.encode(np.zeros([50, 50, 3], np.uint8)),
            "b/near.png": pictures.encode(near),
            "b/near.jpg": pictures.encode(near, "JPEG", quality=70),
        },
    )
    pictures.write(root, {"useless/a/1.png": b"", "useless/b/1.png": b"text"})
    return root


@pytest.fixture(scope="module")
def outcome(place, tmp_path_factory):
    """(status, what was printed) of each command, and what they left."""
    cache = tmp_path_factory.mktemp("cache")
    temporary = tmp_path_factory.mktemp("tmp")
    before = tree(place)
    small = ["--backbone=SmallResNet", "--image_size=48"]
    sick = "--data=folder:zwölf & <二>"
    words = [
        ["check", "--data=folder:clean", *small],
        ["check", sick, *small, "--html=new/a.html", "--json=new/a.json"]
        + ["--fix=new/a.csv"],
        ["check", "--data=csv:new/a.csv", *small, "--html=b.html"],
        ["check", "--data=builtin:digits[0-1]", *small, "--json=digits.json"],
        ["check", "--data=folder:useless", *small],
    ]
    done = subprocess.run(
        [sys.executable, "-c", BATCH, json.dumps(words)],
        cwd=place,
        env=environment(
            TMPDIR=str(temporary),
            XDG_CACHE_HOME=str(cache),
            PYTHONIOENCODING="utf-8",
        ),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    # One line for each command that is done, and no other.
    assert done.stderr == "next\n" * len(words)
    parts = done.stdout.split("status ")
    texts = [parts[0]]
    statuses = []
    for part in parts[1:]:
        status, _, text = part.partition("\n")
        statuses.append(int(status))
        texts.append(text)
    assert not tree(temporary)
    assert [path.name for path in cache.iterdir()] == ["tlkeras"]
    left = {
        name: size for name, size in tree(place).items() if name not in before
    }
    assert {name: tree(place)[name] for name in before} == before
    return statuses, texts, left


def test_the_status_says_whether_somebody_must_decide(outcome):
    statuses, _, _ = outcome
    assert statuses[:3] == [0, 1, 0]
    assert statuses[4] == 1


def test_a_clean_folder_leaves_a_page_of_its_own(outcome, place):
    _, texts, left = outcome
    assert "nothing needs a decision" in texts[0]
    assert "DECIDE" not in texts[0]
    pages = [name for name in left if name.endswith("-clean-check.html")]
    assert len(pages) == 1
    assert pathlib.Path(pages[0]).parent == place / "runs"
    assert f"with pictures: {pages[0]}" in texts[0]


def test_what_was_found_is_printed_in_order(outcome):
    _, texts, _ = outcome
    lines = [line.split(None, 1) for line in texts[1].splitlines()]
    kinds = [
        line[0] for line in lines if line and line[0] in ("DECIDE", "note")
    ]
    assert kinds.count("DECIDE") == 3
    assert kinds == sorted(kinds)
    assert "DECIDE  1 image cannot be used" in texts[1]
    assert "DECIDE  1 image of one colour, or nearly so" in texts[1]
    assert "DECIDE  2 images almost equal to others" in texts[1]
    assert "42 of 44 images: --data=csv:" in texts[1]


def test_the_files_that_were_asked_for(outcome, place):
    _, _, left = outcome
    for name in ("new/a.html", "new/a.json", "new/a.csv", "b.html"):
        assert left[str(place / name)] > 0
    values = json.loads((place / "new" / "a.json").read_text())
    assert values["decisions"] == 3
    assert values["data"] == f"folder:{place}/zwölf & <二>"
    digits = json.loads((place / "digits.json").read_text())
    assert (digits["images"], digits["readable"]) == (360, 360)
    assert digits["classes"] == {"": {"0": 178, "1": 182}}


def test_a_table_and_images_that_are_no_files(outcome):
    statuses, texts, _ = outcome
    assert "nothing needs a decision" in texts[2]
    digits = "DECIDE" in texts[3]
    assert statuses[3] == digits


def test_a_folder_that_holds_no_image_is_told_like_any_other(outcome, place):
    _, texts, left = outcome
    assert "DECIDE  2 images cannot be used" in texts[4]
    assert "DECIDE  The data cannot be split" in texts[4]
    assert any(name.endswith("-useless-check.html") for name in left)
