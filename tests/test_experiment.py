import contextlib
import csv
import errno
import html
import json
import os
import shutil
import tomllib
import warnings

import numpy as np
import pytest
import tensorflow as tf
from conftest import LABELS
from conftest import run
from conftest import small
from conftest import tree
from conftest import write_digits

from tlkeras import cli
from tlkeras import errors
from tlkeras import files
from tlkeras import places
from tlkeras import plan
from tlkeras import progress
from tlkeras import records
from tlkeras import run_directory
from tlkeras.data import batches
from tlkeras.experiment import preparing
from tlkeras.experiment import running
from tlkeras.machine import devices
from tlkeras.models import forward
from tlkeras.models import saving
from tlkeras.scoring import predicting
from tlkeras.settings import config as configs
from tlkeras.training import checkpoint
from tlkeras.training import phase as one_phase

# Written when all that is trained has been scored.
LAST = {
    "accuracy.png",
    "confusion.png",
    "loss.png",
    "reliability.png",
    "model_card.md",
    "README.md",
    "report.html",
    "report.json",
    "saved_model",
}
FILES = LAST | {
    "config.toml",
    "environment.json",
    "history.csv",
    "labels.txt",
    "model.keras",
    "predictions.csv",
    "images.csv",
    "thumbnails.npy",
    "skipped.csv",
}
TWO_PHASES = {
    "strategy": "fine_tuning",
    "head_epochs": 2,
    "head_learning_rate": 1e-2,
    "finetune_epochs": 2,
    "finetune_learning_rate": 2e-3,
}


def rows(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_run_leaves_what_the_contract_names(trained, photos):
    directory = trained.directory
    assert set(os.listdir(directory)) == FILES
    assert os.listdir(directory / "saved_model") == ["1"]
    labels = (directory / "labels.txt").read_text(encoding="utf-8")
    assert labels == "".join(f"{label}\n" for label in LABELS)
    assert rows(directory / "skipped.csv") == [
        {
            "path": str(photos / LABELS[0] / "broken.png"),
            "reason": "truncated PNG",
        }
    ]
    assert trained.report["data"]["skipped_reasons"] == {"truncated PNG": 1}
    environment = json.loads((directory / "environment.json").read_text())
    assert {"python", "keras", "tensorflow", "devices"} <= set(environment)


def test_predictions_csv_has_every_test_and_validation_image(trained):
    report = trained.report
    found = rows(trained.directory / "predictions.csv")
    columns = [f"p_{label}" for label in LABELS]
    assert list(found[0]) == [
        "path",
        "split",
        "true_label",
        "label",
        "score",
        *columns,
    ]
    for split in ("test", "validation"):
        mine = [row for row in found if row["split"] == split]
        right = sum(row["label"] == row["true_label"] for row in mine)
        accuracy = report[split]["accuracy"]
        assert len(mine) == accuracy["n"]
        assert right / len(mine) == accuracy["value"]
    for row in found:
        shares = [float(row[column]) for column in columns]
        assert sum(shares) == pytest.approx(1, abs=1e-6)
        assert float(row["score"]) == max(shares)
        assert row["label"] == LABELS[int(np.argmax(shares))]


def test_the_report_has_the_keys_of_the_contract(trained):
    report = json.loads((trained.directory / "report.json").read_text())
    assert report == trained.report
    assert report["schema"] == 1
    for split in ("test", "validation"):
        assert set(report[split]) >= {
            "accuracy",
            "balanced_accuracy",
            "macro_f1",
            "majority",
        }
        assert set(report[split]["accuracy"]) >= {"value", "low", "high", "n"}
    assert set(report) >= {
        "data",
        "strategy",
        "selection_metric",
        "advice",
        "next_steps",
        "seconds",
    }
    # A few dozen digits are too few to choose by, and all can be folded.
    assert "few_to_choose" in [step["rule"] for step in report["next_steps"]]
    page = (trained.directory / "report.html").read_text(encoding="utf-8")
    for step in report["next_steps"]:
        assert html.escape(step["command"]) in page
    assert [phase["name"] for phase in report["phases"]] == ["head", "whole"]
    for phase in report["phases"]:
        assert set(phase) >= {
            "seconds",
            "epochs",
            "best_epoch",
            "trainable_parameters",
            "validation_accuracy",
            "rolled_back",
            "unmoved",
            "views_cached",
        }
    history = rows(trained.directory / "history.csv")
    assert [(row["phase"], row["epoch"]) for row in history] == [
        ("head", "1"),
        *(("whole", str(epoch)) for epoch in range(1, 7)),
    ]


class Killed(BaseException):
    pass


def kill_after(number: int, monkeypatch) -> None:
    """Ends a run as `kill -9` would, when `number` phases have ended."""
    save = checkpoint.save

    def save_and_die(directory, model, results, digests):
        save(directory, model, results, digests)
        if len(results) == number:
            raise Killed

    monkeypatch.setattr(checkpoint, "save", save_and_die)


def test_a_killed_run_goes_on_as_if_it_had_not_been(
    trained, tmp_path, monkeypatch, no_page
):
    # What a run leaves as its config.toml makes the same run again.
    settings = configs.resolve(trained.directory / "config.toml")
    with monkeypatch.context() as patch:
        kill_after(1, patch)
        with pytest.raises(Killed):
            run(settings, tmp_path / "run")
    left = set(os.listdir(tmp_path / "run"))
    assert left == {"config.toml", checkpoint._NAME}
    (tmp_path / "run" / ".tlkeras-unfinished-123-predictions.csv").touch()
    phases = []
    fit = one_phase.fit

    def watched(model, phase, *arguments, **options):
        phases.append(phase.name)
        return fit(model, phase, *arguments, **options)

    monkeypatch.setattr(one_phase, "fit", watched)
    resumed = run(settings, tmp_path / "run")
    assert phases == ["whole"]
    assert set(os.listdir(tmp_path / "run")) == FILES
    # Dropout, order and augmentation were those of the unbroken run.
    for name in ("predictions.csv", "labels.txt", "config.toml"):
        first = (trained.directory / name).read_bytes()
        assert (resumed.directory / name).read_bytes() == first
    with warnings.catch_warnings():
        # Keras warns where an optimizer has been saved without its state.
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)
        one, other = (
            saving.load(each.directory).model.get_weights()
            for each in (trained, resumed)
        )
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)
    for report in (trained.report, resumed.report):
        names = [phase["name"] for phase in report["phases"]]
        assert names == ["head", "whole"]


def test_a_killed_run_whose_data_changed_cannot_go_on(
    tmp_path, monkeypatch, no_training
):
    write_digits(tmp_path / "data", {0: "a", 1: "b"}, 10)
    settings = small(data=f"folder:{tmp_path}/data", batch_size=8)
    with monkeypatch.context() as patch:
        kill_after(1, patch)
        with pytest.raises(Killed):
            run(settings, tmp_path / "run")
    write_digits(tmp_path / "data", {2: "c"}, 10)
    before = tree(tmp_path)
    with pytest.raises(errors.UserError, match="images have changed since"):
        run(settings, tmp_path / "run")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("split", "replaced", "stored"),
    [
        ("train", False, False),
        ("test", False, False),
        ("test", True, False),
        ("test", False, True),
    ],
)
def test_images_that_go_while_a_run_trains(
    tmp_path, monkeypatch, no_page, split, replaced, stored
):
    """What is needed is missed at once, and what has been trained is kept."""
    root, workdir = tmp_path / "data", tmp_path / "run"
    write_digits(root, {0: "a", 1: "b"}, 12)
    settings = small(
        data=f"folder:{root}",
        batch_size=8,
        image_store_gb=float(stored),
        feature_cache="off",
        **TWO_PHASES,
    )
    before = {path: path.read_bytes() for path in root.glob("*/*.png")}
    fit, phases = one_phase.fit, []

    def go(model, phase, *arguments, **options):
        phases.append(phase.name)
        try:
            return fit(model, phase, *arguments, **options)
        finally:
            chosen = {path for path in before if split_of[str(path)] == split}
            for path in chosen if phase.name == "head" else ():
                path.unlink()
                if replaced:
                    path.write_bytes(b"something else")

    read = preparing.read

    def watched(plan, **options):
        data = read(plan, **options)
        split_of.update(zip(data.paths, data.splits, strict=True))
        return data

    split_of: dict[str, str] = {}
    monkeypatch.setattr(preparing, "read", watched)
    with monkeypatch.context() as patch:
        patch.setattr(one_phase, "fit", go)
        if stored:
            # Its scan has decoded all images, and none is needed any more.
            run(settings, workdir)
            return
        with pytest.raises(errors.UserError) as caught:
            run(settings, workdir)
    line = str(caught.value)
    assert "\n" not in line
    assert ("changed since" if replaced else "is gone since") in line
    assert "give the same command again" in line
    assert split_of[line.split(" ")[0]] == split
    # A split that is only scored is missed before the next phase.
    assert phases == ["head", "finetune"][: 1 + (split == "train")]
    if replaced:
        return
    for path, content in before.items():
        path.write_bytes(content)
    phases.clear()
    monkeypatch.setattr(one_phase, "fit", go)
    run(settings, workdir)
    assert phases == ["finetune"]


def test_a_run_that_failed_in_its_first_phase_leaves_nothing(
    photos, tmp_path, monkeypatch
):
    quiet = progress.Progress(quiet=True)

    def fail(*arguments, **options):
        quiet.begin("head 1/2", 7)
        raise errors.UserError("no")

    monkeypatch.setattr(one_phase, "fit", fail)
    (tmp_path / "there").mkdir()
    for workdir in ("there", "new/deep/run"):
        settings = small(data=f"folder:{photos}")
        made = plan.make(settings, tmp_path / workdir, progress=quiet)
        with pytest.raises(errors.UserError):
            running.run(made, progress=quiet)
        assert quiet.bar is None
    assert list(tree(tmp_path)) == [str(tmp_path / "there")]


@pytest.mark.parametrize(
    "error", [errors.UserError("no"), KeyboardInterrupt(), RuntimeError()]
)
def test_what_a_person_put_beside_a_run_meanwhile_stays(
    trained, tmp_path, error
):
    """All that stands there before a phase ends goes, and nothing else."""
    directory = tmp_path / "new" / "run"
    theirs = (
        "notes.txt",
        "photos/a/1.png",
        ".hidden",
        "labels.txt~",
        "tensorboard/notes.txt",
        "saved_model/1/mine.pb",
        "empty",
    )
    quiet = progress.Progress(quiet=True)
    with pytest.raises(type(error)):
        with run_directory.undo_on_error(directory, quiet):
            for name in FILES - LAST:
                shutil.copy(trained.directory / name, directory)
            for name in ("budget.json", places.COMPARISON):
                (directory / name).touch()
            events = directory / "tensorboard" / "head" / "train"
            events.mkdir(parents=True)
            (events / "events.out.tfevents.1.host").touch()
            (directory / f"{files.temporary_prefix()}trial").mkdir()
            for name in theirs:
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                (directory / name).touch()
            raise error
    left = [
        path.relative_to(directory)
        for path in directory.rglob("*")
        if path.is_file()
    ]
    assert sorted(map(str, left)) == sorted(theirs)
    assert not (directory / "tensorboard" / "head").exists()


def test_a_config_left_by_a_kill_in_the_first_phase_confuses_nobody(
    photos, tmp_path, capsys, no_training
):
    settings = small(data=f"folder:{photos}")
    made = plan.make(settings, tmp_path, progress=progress.Progress())
    (tmp_path / "config.toml").write_text(configs.to_toml(made.config))
    run(settings, tmp_path)
    assert "going on" not in capsys.readouterr().out
    assert set(os.listdir(tmp_path)) == FILES
    assert len(no_training) == 1


def test_a_full_disk_keeps_the_phases_and_leaves_no_half_file(
    photos, tmp_path, monkeypatch, no_training
):
    settings = small(data=f"folder:{photos}")

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(predicting, "_rounded", full)
        with pytest.raises(errors.UserError, match="No space left on device"):
            run(settings, tmp_path)
    left = set(os.listdir(tmp_path))
    assert not left & {"predictions.csv", "report.json", "report.html"}
    assert left <= {*FILES, checkpoint._NAME}
    # There is room again: only what was missing is done.
    run(settings, tmp_path)
    assert set(os.listdir(tmp_path)) == FILES
    assert len(no_training) == 1


def test_an_interrupted_run_keeps_its_best_and_is_not_finished(
    photos, tmp_path, no_page
):
    class Interrupt(progress.Progress):
        def epoch_ends(self, row: records.Epoch) -> None:
            if (row.phase, row.epoch) == ("head", 2):
                raise KeyboardInterrupt

    quiet = Interrupt(quiet=True)
    values = {
        **TWO_PHASES,
        "head_solver": "adam",
        "head_epochs": 9,
        "tensorboard": True,
    }
    settings = small(data=f"folder:{photos}", **values)
    made = plan.make(settings, tmp_path, progress=quiet)
    with pytest.raises(KeyboardInterrupt):
        running.run(made, progress=quiet)
    assert not LAST & set(os.listdir(tmp_path))
    assert saving.load(tmp_path / "model.keras").labels == LABELS
    events = (tmp_path / "tensorboard" / "head").rglob("*tfevents*")
    tags = {
        value.tag
        for file in events
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    assert "epoch_accuracy" in tags


def test_a_layer_inside_a_block_is_said_and_one_that_is_not_there_refused(
    photos, tmp_path, no_training
):
    values = {"data": f"folder:{photos}", **TWO_PHASES}
    for unfreeze, message in (
        ("stages:9", "`unfreeze` stages:N must have N of at most"),
        ("from:stage2_blok1_out", "Did you mean stage2_block1_out"),
    ):
        with pytest.raises(errors.UserError, match=message):
            run(small(**values, unfreeze=unfreeze), tmp_path / "bad")
    assert not tree(tmp_path) and not no_training
    inside = small(**values, unfreeze="from:stage2_block1_2_bn")
    done = run(inside, tmp_path / "good")
    assert (
        "Phase finetune: from:stage2_block1_2_bn lies inside a block, so the "
        "base learns from the block's start: from:stage2_block1_1_conv."
    ) in done.report["notes"]


def test_a_frozen_base_of_random_weights_is_said(photos, tmp_path, no_training):
    for strategy, said in (("feature_extraction", True), ("scratch", False)):
        made = small(data=f"folder:{photos}", strategy=strategy)
        notes = run(made, tmp_path / strategy).report["notes"]
        assert any("base of random weights" in each for each in notes) == said


def test_settings_reach_the_network(photos, tmp_path, no_training):
    settings = small(
        data=f"folder:{photos}",
        strategy="feature_extraction",
        head="mlp",
        head_units=7,
        head_learning_rate=3e-2,
        image_size=24,
        resize="stretch",
        class_weights="balanced",
        images_per_class=5,
        batch_size=15,
    )
    done = run(settings, tmp_path)
    saved = saving.load(tmp_path)
    assert saved.model.input_shape == (None, 24, 24, 3)
    assert (saved.shape.size, saved.shape.resize) == (24, "stretch")
    shapes = [each.shape for each in saved.model.get_layer("head").weights]
    assert shapes == [(128, 7), (7,), (7, 3), (3,)]
    assert sum(done.report["data"]["images"]["train"].values()) == 15
    assert [phase.learning_rate for phase in no_training] == [3e-2]


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_a_run_gives_back_its_file_of_decoded_images(photos, tmp_path, no_page):
    """In a notebook each would hold up to 8 GB of disk that nobody sees."""
    settings = small(data=f"folder:{photos}", strategy="scratch", epochs=1)
    run(settings, tmp_path / "run")
    still_open = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            still_open.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    assert [name for name in still_open if str(tmp_path) in name] == []


@pytest.mark.parametrize("each, batch_size", [(5, 15), (30, 32)])
def test_images_a_step_are_no_more_than_there_are(
    photos, tmp_path, monkeypatch, no_training, each, batch_size
):
    fit = one_phase.fit
    sizes = []

    def noted(model, phase, feed, setup, **options):
        sizes.append(feed.train_sizes)
        return fit(model, phase, feed, setup, **options)

    monkeypatch.setattr(one_phase, "fit", noted)
    settings = small(
        data=f"folder:{photos}", images_per_class=each, batch_size="auto"
    )
    done = run(settings, tmp_path / "run")
    images = sum(done.report["data"]["images"]["train"].values())
    assert images == 3 * each
    assert sizes == [batches.equal_sizes(images, batch_size)]
    # What was asked for stays what it was.
    written = configs.resolve(tmp_path / "run" / "config.toml")
    assert written.batch_size == "auto"
    above = small(
        data=f"folder:{photos}", images_per_class=each, batch_size=images + 1
    )
    with pytest.raises(
        errors.UserError, match=rf"training images, {images}\. Received"
    ):
        run(above, tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "images, size, gigabytes, count, expected",
    [
        (100_000, 224, 80, 1, 128),
        (6_400, 224, 80, 1, 128),
        (6_399, 224, 80, 1, 64),
        (3_199, 224, 80, 1, 32),
        (20, 224, 80, 1, 20),
        (100_000, 224, 15, 1, 32),
        (100_000, 224, 24, 1, 64),
        (100_000, 224, 24, 2, 128),
        (100_000, 448, 80, 1, 64),
        # Nobody knows how much there is.
        (100_000, 224, 0, 1, 32),
    ],
)
def test_an_accelerator_takes_larger_steps(
    monkeypatch, images, size, gigabytes, count, expected
):
    monkeypatch.setattr(devices, "memory", lambda: gigabytes * 1e9)
    # On a CPU, whatever its memory.
    assert preparing.auto_batch(images, size, count) == min(32, images)
    monkeypatch.setattr(devices, "kind", lambda: "gpu")
    assert preparing.auto_batch(images, size, count) == expected


@pytest.mark.parametrize(
    "batch_size, batch, factor",
    [("auto", 32, 1), ("auto", 20, 1), ("auto", 128, 2), (128, 128, 1)],
)
def test_rates_grow_only_where_the_program_chose_the_batch(
    batch_size, batch, factor
):
    config = configs.Config(batch_size=batch_size)
    assert preparing.rate_factor(config, batch) == factor


def test_a_run_with_larger_steps_learns_faster(
    photos, tmp_path, monkeypatch, no_training
):
    fit = one_phase.fit
    fitted = []

    def noted(model, phase, feed, setup, **options):
        fitted.append((phase.learning_rate, feed.train_sizes))
        return fit(model, phase, feed, setup, **options)

    monkeypatch.setattr(one_phase, "fit", noted)
    settings = small(
        data=f"folder:{photos}",
        strategy="scratch",
        weights="none",
        batch_size="auto",
        learning_rate=1e-3,
    )
    run(settings, tmp_path / "before")
    # As large a batch, as if an eighth of it were the usual one.
    monkeypatch.setattr(configs, "AUTO_BATCH", 8)
    monkeypatch.setattr(preparing, "auto_batch", lambda *arguments: 32)
    done = run(settings, tmp_path / "after")
    (before, sizes), (after, same) = fitted
    assert (before, after) == (1e-3, 2e-3)
    assert sizes == same
    assert done.report["phases"][0]["learning_rate"] == 2e-3


def test_phases_of_ones_own_stand_in_the_place_of_a_strategy(trained):
    text = (trained.directory / "config.toml").read_text(encoding="utf-8")
    stored = tomllib.loads(text)
    assert "strategy" not in stored
    assert [each["name"] for each in stored["phases"]] == ["head", "whole"]
    assert trained.report["strategy"] == "phases"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"),
    ],
)
def test_a_full_memory_is_one_line(
    photos, tmp_path, monkeypatch, capsys, error
):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(one_phase, "fit", fail)
    status = cli.main(
        [
            "train",
            f"--data=folder:{photos}",
            "--backbone=SmallResNet",
            "--strategy=scratch",
            f"--workdir={tmp_path / 'run'}",
        ]
    )
    printed = capsys.readouterr()
    assert status == 2
    assert printed.err.count("\n") == 1
    assert "smaller --batch_size" in printed.err
    assert not tree(tmp_path)


def test_what_is_remembered_of_a_frozen_base_is_what_the_head_had(
    photos, tmp_path, monkeypatch, no_page
):
    computed = []
    over = forward.Forward.over

    def counted(self, batches):
        for found in over(self, batches):
            computed.append(len(found[0]))
            yield found

    monkeypatch.setattr(forward.Forward, "over", counted)
    features = []
    for cache in ("auto", "off"):
        settings = small(
            data=f"folder:{photos}",
            strategy="feature_extraction",
            head_epochs=2,
            feature_cache=cache,
            unknown_rate=0.2,
            cache_dir=str(tmp_path / "cache"),
        )
        found = run(settings, tmp_path / cache)
        known = saving.load(found.directory).reference
        assert len(known.features) > 0
        features.append(known.features)
        counts = found.report["data"]["images"]
        scored = sum(
            sum(counts[split].values()) for split in ("validation", "test")
        )
        # No pass over the training images, whether their features are kept.
        assert sum(computed) == scored
        computed.clear()
    np.testing.assert_array_equal(*features)
