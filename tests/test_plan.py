import os
import pathlib
import re

import PIL.Image
import pytest
from conftest import LABELS
from conftest import small
from conftest import tree
from conftest import write_digits

from tlkeras import errors
from tlkeras import files
from tlkeras import places
from tlkeras import plan
from tlkeras import progress
from tlkeras.settings import config as configs

QUIET = progress.Progress(quiet=True)


def make(workdir="", **settings) -> plan.Plan:
    return plan.make(small(**settings), workdir, progress=QUIET)


def test_paths_are_made_absolute_and_names_exact(
    photos, trained, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(photos)
    (tmp_path / "run").symlink_to(trained.directory)
    made = make(
        "out",
        data="folder:photos",
        backbone="small_resnet",
        weights="run",
        strategy="fine_tuning",
    )
    assert made.config.data == f"folder:{tmp_path}/photos"
    assert made.config.weights == f"{tmp_path}/run"
    assert made.config.backbone == "SmallResNet"
    assert made.directory == tmp_path / "out"
    assert made.image_size == 16
    assert made.source.labels == LABELS


def test_scratch_takes_no_weights(photos):
    made = make(data=f"folder:{photos}", weights="imagenet")
    assert made.config.weights == "none"


def test_auto_is_the_networks_own_size(photos):
    assert make(data=f"folder:{photos}", image_size="auto").image_size == 32


@pytest.mark.parametrize(
    ("data", "middle"),
    [
        ("builtin:digits[0-4]", "digits-0-4"),
        ("folder:photos/", "photos"),
    ],
)
def test_the_default_directory_says_what_it_is(
    photos, tmp_path, monkeypatch, data, middle
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(photos)
    first = make(data=data).directory
    assert first.parent == tmp_path / "runs"
    assert re.fullmatch(
        rf"\d{{8}}-\d{{6}}-{middle}-SmallResNet-scratch", first.name
    )
    assert list(tree(tmp_path)) == [str(tmp_path / "photos")]


def test_two_runs_never_get_one_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        places.datetime,
        "datetime",
        type("Clock", (), {"now": lambda: places.datetime.date(2026, 1, 1)}),
    )
    names = set()
    for _ in range(3):
        directory = make(data="builtin:digits").directory
        directory.mkdir(parents=True)
        names.add(directory.name)
    assert len(names) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": ""}, "`data` must be folder:PATH.*Received: nothing"),
        ({"data": "folder:/nowhere"}, "/nowhere, which does not exist"),
        ({"data": "builtin:digits[3]"}, "at least 2 classes. Received: 1"),
        ({"backbone": "MobilNetV2"}, "Did you mean MobileNetV2"),
        ({"image_size": 7}, "at least 8 pixels for SmallResNet. Received: 7"),
        (
            {"strategy": "fine_tuning", "weights": "imagenet"},
            "no ImageNet weights for SmallResNet.*--strategy=scratch",
        ),
        (
            {"strategy": "fine_tuning", "weights": "/nowhere"},
            "`weights`.*/nowhere, which does not exist",
        ),
    ],
)
def test_mistakes_known_beforehand(tmp_path, settings, message):
    with pytest.raises(errors.UserError, match=message):
        make(tmp_path / "run", **settings)
    assert not tree(tmp_path)


def test_a_class_too_small_is_seen_by_its_files(tmp_path):
    write_digits(tmp_path, {0: "zero", 1: "one"}, 4)
    write_digits(tmp_path, {2: "two"}, 2)
    with pytest.raises(errors.UserError, match="class 'two' must have"):
        make(data=f"folder:{tmp_path}", batch_size=10)


def test_a_batch_of_more_images_than_there_are(photos):
    make(data=f"folder:{photos}", batch_size=151)
    with pytest.raises(errors.UserError) as caught:
        make(data=f"folder:{photos}", batch_size=152)
    line = str(caught.value)
    assert "151 images in all. Received: 152." in line
    assert "\n" not in line


def leave(directory, *names: str, **settings) -> None:
    """Writes what a run with these settings leaves behind at first."""
    made = make(directory, data="builtin:digits", **settings)
    files.write_text(directory / "config.toml", configs.to_toml(made.config))
    for name in names:
        (directory / name).mkdir()


def test_a_workdir_is_free_or_holds_the_same_run_unfinished(tmp_path):
    data = {"data": "builtin:digits"}
    assert make(tmp_path, **data).directory == tmp_path
    (tmp_path / ".tlkeras-unfinished-123-config.toml").touch()
    assert make(tmp_path, **data).directory == tmp_path
    leave(tmp_path, "checkpoint")
    assert make(tmp_path, **data).directory == tmp_path
    with pytest.raises(errors.UserError, match=r"other settings \(epochs\)"):
        make(tmp_path, epochs=7, **data)
    # What is stored where decides nothing, and another disk must do.
    assert make(
        tmp_path,
        cache_dir=str(tmp_path.with_name("cache")),
        feature_cache_gb=1.0,
        feature_memory_gb=1.0,
        image_store_gb=1.0,
        **data,
    )
    (tmp_path / "report.json").touch()
    with pytest.raises(errors.UserError, match="a finished run"):
        make(tmp_path, **data)


def test_a_workdir_is_looked_at_before_data_are_downloaded(tmp_path):
    (tmp_path / "report.json").touch()
    with pytest.raises(errors.UserError, match="a finished run"):
        make(tmp_path, data="tfds:no_such_data")


@pytest.mark.parametrize("name", ["photo.jpg", "config.toml"])
def test_a_workdir_with_something_else_is_refused(tmp_path, name):
    (tmp_path / name).write_text("title = 'mine'")
    with pytest.raises(errors.UserError, match="something else than a run"):
        make(tmp_path, data="builtin:digits")
    assert (tmp_path / name).read_text() == "title = 'mine'"


def test_find_images_in_files_folders_and_globs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/2.png", "a/b/1.png", "a/.hidden.png", "3[x].png", "4.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("L", (2, 2)).save(tmp_path / name)
    found = places.find_images(
        ["*.jpg", "a", "3[x].png", "a/2.png", "**/*.png"]
    )
    # In the order given, each once; `**` finds what a folder hides not.
    assert found == ["4.jpg", "a/2.png", "a/b/1.png", "3[x].png"]
    for bad in (["*.gif"], ["a", "nowhere.png"], []):
        with pytest.raises(errors.UserError, match="to predict"):
            places.find_images(bad)
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.UserError, match="at empty"):
        places.find_images(["empty"])


def test_new_directory_is_new_or_empty(tmp_path):
    assert places.new_directory(tmp_path / "a", "output") == tmp_path / "a"
    assert places.new_directory(tmp_path, "output") == tmp_path
    (tmp_path / "a").touch()
    with pytest.raises(errors.UserError, match="`output`.*not empty"):
        places.new_directory(tmp_path, "output")
    with pytest.raises(errors.UserError, match="`output` must be given"):
        places.new_directory("", "output")


def test_check_model(trained, tmp_path):
    places.check_model(trained.directory)
    places.check_model(os.fspath(trained.directory / "model.keras"))
    for bad, message in (
        ("", "`model` must be given"),
        (tmp_path, "holds no model.keras"),
        (tmp_path / "nowhere", "does not exist"),
        (trained.directory / "report.json", "is no .keras file"),
    ):
        with pytest.raises(errors.UserError, match=message):
            places.check_model(bad)


@pytest.fixture
def finished(tmp_path) -> pathlib.Path:
    """The directory of a run, as far as a name can tell."""
    directory = tmp_path / "run"
    directory.mkdir()
    for name in ("config.toml", "model.keras", "report.json"):
        (directory / name).write_text(name)
    return directory


@pytest.mark.parametrize("name", ["model.keras", "new.csv", "deep/er/new.csv"])
def test_nothing_is_written_into_a_run(finished, tmp_path, name):
    """By whichever name: its own, that of a link, or of a linked directory."""
    (tmp_path / "linked").symlink_to(finished)
    (tmp_path / "link.csv").symlink_to(finished / name)
    for path in (finished / name, tmp_path / "linked" / name, "link.csv"):
        output = files.check_file(tmp_path / path, "csv")
        with pytest.raises(errors.UserError, match="directory of a run"):
            places.check_outputs([], csv=output)


@pytest.mark.parametrize(
    "kept", ["model.keras", "report.json", "checkpoint.npz", places.COMPARISON]
)
def test_a_run_is_known_by_any_of_its_files(tmp_path, kept):
    output = tmp_path / "a.csv"
    places.check_outputs([], csv=output)
    (tmp_path / kept).write_text("")
    places.check_outputs([], csv=output)
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(errors.UserError, match="directory of a run"):
        places.check_outputs([], csv=output)


def test_what_is_read_is_not_written_by_any_name_of_it(tmp_path):
    model = tmp_path / "some.keras"
    model.write_text("model")
    (tmp_path / "hard.csv").hardlink_to(model)
    (tmp_path / "soft.csv").symlink_to(model)
    (tmp_path / "here").symlink_to(tmp_path)
    for name in ("some.keras", "hard.csv", "soft.csv", "here/some.keras"):
        output = files.check_file(tmp_path / name, "csv")
        for read in (model, tmp_path / "hard.csv", tmp_path / "soft.csv"):
            with pytest.raises(errors.UserError, match="files that are read"):
                places.check_outputs([None, "", read], csv=output, json=None)
    places.check_outputs([model, tmp_path / "gone"], csv=tmp_path / "new.csv")


def test_directories_that_are_read_are_not_written_to(tmp_path):
    (tmp_path / "here").symlink_to(tmp_path)
    output = files.check_file(tmp_path / "cache" / "scans.sqlite", "csv")
    for folder in (tmp_path / "cache", tmp_path / "here" / "cache"):
        with pytest.raises(errors.UserError, match="which is read"):
            places.check_outputs([], folders=("", folder), csv=output)
    places.check_outputs([], folders=[tmp_path / "cache2"], csv=output)
