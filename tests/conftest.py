"""What several tests share: a folder of images, and one run trained on it."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import matplotlib
import numpy as np
import PIL.Image
import pytest
import sklearn.datasets

from tlkeras import files
from tlkeras import plan
from tlkeras import progress
from tlkeras import records
from tlkeras.settings import config as configs

# Sorted as they are here; neither ASCII nor in the order of the digits.
LABELS = ("null", "zwölf", "二")

# A network and images so small that a run takes seconds.
SMALL = {
    "backbone": "SmallResNet",
    "image_size": 16,
    "resize": "pad",
    "weights": "none",
    "strategy": "scratch",
    "augment": "none",
    "epochs": 6,
    "learning_rate": 3e-3,
    "batch_size": 16,
}


# `pytest -m quick`, a minute on two idle cores: beginnings of node ids that say
# something about each room. What takes longer, or is marked otherwise, is left
# to the whole suite.
QUICK = (
    "advisor/test_costs.py",
    "advisor/test_probe.py",
    "advisor/test_textbook.py",
    "backbones/test_base.py::TestFit",
    "backbones/test_locate.py",
    "backbones/test_pooling.py",
    "backbones/test_small.py",
    "check/test_audit.py::test_every_defect_has_its_name",
    "comparison/test_candidates.py",
    "comparison/test_ranking.py",
    "data/test_decode.py::test_equals_pillow",
    "data/test_facts.py",
    "data/test_header.py",
    "data/test_rows.py",
    "data/test_sources.py",
    "export/test_saved_model.py::test_an_export_is_compared_with",
    "machine/test_keras_private.py",
    "machine/test_processes.py::test_a_keras_json",
    "machine/test_processes.py::test_a_mistake",
    "machine/test_processes.py::test_keras_json",
    "machine/test_processes.py::test_who_this_process_is",
    "models/test_classifier.py::TestCompile",
    "models/test_graph.py::TestSplit",
    "models/test_saving.py::test_a_model_comes_back",
    "models/test_task.py",
    "report/test_page.py::test_every_fact_of_the_report_appears",
    "report/test_page.py::test_the_page_refers_to_nothing_outside",
    "scoring/test_metrics.py",
    "scoring/test_predicting.py::test_files_and_arrays",
    "settings/",
    "test_api.py::test_a_file_and_its_pillow_image",
    "test_api.py::test_files_arrays_and_pictures",
    "test_api.py::test_what_is_no_image_is_refused",
    "test_demo.py::test_its_settings",
    "test_docs.py",
    "test_experiment.py::test_a_run_leaves_what_the_contract_names",
    "test_experiment.py::test_the_report_has_the_keys_of_the_contract",
    "test_files.py",
    "test_flags.py",
    "test_layers.py",
    "test_package.py",
    "test_plan.py",
    "test_progress.py",
    "test_readme.py",
    "test_records.py",
    "training/test_checkpoint.py",
    "training/test_phase.py::TestFrozen::test_movement",
    "training/test_phase.py::TestLearningRate",
    "training/test_phases.py::TestImproved",
    "training/test_solver.py::test_equal_features",
    "training/test_solver.py::test_images_of_a_group",
    "training/test_solver.py::test_views_count_as_images",
)
NOT_QUICK = {"slow", "shared", "torch"}

# The head alone, then all: two phases that tell three digits apart.
PHASES = (
    {"name": "head", "unfreeze": "none", "epochs": 1, "learning_rate": 1e-2},
    {
        "name": "whole",
        "unfreeze": "all",
        "epochs": 6,
        "learning_rate": 3e-3,
        "batch_norm": "training",
        "schedule": "cosine",
    },
)


# Files whose tests take minutes together, the longest first.
LONG = (
    "test_cli.py",
    "test_comparing.py",
    "test_phase.py",
    "test_notebooks.py",
    "test_experiment.py",
    "test_experiment_final_fit.py",
    "test_cross_validation.py",
    "test_evaluate.py",
    "test_jax.py",
    "test_experiment_auto.py",
    "test_placement.py",
    "test_fuzz.py",
    "test_weights.py",
    "test_saved_model.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of `QUICK`; those of `LONG` files come first."""
    # One long file at the end would leave the other worker without work.
    items.sort(
        key=lambda item: (
            LONG.index(item.path.name) if item.path.name in LONG else len(LONG)
        )
    )
    beginnings = tuple(f"tests/{beginning}" for beginning in QUICK)
    for item in items:
        other = NOT_QUICK & {mark.name for mark in item.iter_markers()}
        if item.nodeid.startswith(beginnings) and not other:
            item.add_marker(pytest.mark.quick)


def small(**settings: object) -> configs.Config:
    """Returns `SMALL` with other settings, ready for `plan.make`."""
    return configs.build({**SMALL, **settings})


def flags(**settings: object) -> list[str]:
    """Returns `SMALL` with other settings, as words of a command line."""
    return [f"--{key}={value}" for key, value in {**SMALL, **settings}.items()]


def run(settings: configs.Config, workdir: str | os.PathLike):
    """Returns the run of these settings in `workdir`, made in this process."""
    from tlkeras.experiment import running

    quiet = progress.Progress(quiet=True)
    return running.run(
        plan.make(settings, workdir, progress=quiet), progress=quiet
    )


def write_digits(
    folder: pathlib.Path, names: dict[int, str], each: int, first: int = 0
) -> dict[str, str]:
    """Writes `each` images of each digit in `names`; returns path: label."""
    digits = sklearn.datasets.load_digits()
    labels = {}
    for digit, label in names.items():
        chosen = np.flatnonzero(digits.target == digit)[first : first + each]
        (folder / label).mkdir(parents=True, exist_ok=True)
        for index in chosen:
            pixels = (digits.images[index] * 255 / 16).round().astype("uint8")
            path = folder / label / f"{index}.png"
            PIL.Image.fromarray(pixels).save(path)
            labels[str(path)] = label
    return labels


def interruptible() -> None:
    """Lets a process to come end by Ctrl-C; a subprocess' `preexec_fn`.

    What runs in the background of a shell ignores it, as do its children.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def environment(**more: str) -> dict[str, str]:
    """Returns the environment that a user's process would have.

    JAX, where a test of this process imports it, sets how much TensorFlow
    says, and a process begun then would take that for the user's wish.
    """
    level = "TF_CPP_MIN_LOG_LEVEL"
    ours = {name: each for name, each in os.environ.items() if name != level}
    return {**ours, **more}


def tree(*places: pathlib.Path) -> dict[str, int]:
    """Returns every file and directory below `places`, with its size."""
    return {
        str(path): path.lstat().st_size if not path.is_dir() else -1
        for place in places
        for path in sorted(place.rglob("*"))
    }


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_user(tmp_path_factory) -> None:
    """Keeps the user's cache out of what fixtures for several tests do."""
    with pytest.MonkeyPatch.context() as patch:
        # Matplotlib would look for all fonts again, in each process: 5 s.
        patch.setenv("MPLCONFIGDIR", matplotlib.get_cachedir())
        place = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(place))
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> pathlib.Path:
    """The place for what is kept between runs: empty before each test."""
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    return place / "tlkeras"


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> pathlib.Path:
    """A folder of three classes with 50 images each, and one broken file."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    write_digits(folder, dict(enumerate(LABELS)), 50)
    (folder / LABELS[0] / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    return folder


@pytest.fixture(scope="session")
def trained(photos, tmp_path_factory):
    """One run of `PHASES` on `photos`; read it, but write nothing to it."""
    values = {key: SMALL[key] for key in SMALL if key != "strategy"}
    settings = {**values, "data": f"folder:{photos}", "phases": PHASES}
    workdir = tmp_path_factory.mktemp("trained") / "run"
    return run(configs.build(settings), workdir)


@contextlib.contextmanager
def unexported() -> Iterator[None]:
    """Lets a run write a SavedModel without TensorFlow: 3 s less."""
    from tlkeras.export import saved_model

    def write(classifier, directory, *, samples):
        with files.replacing(directory) as temporary:
            temporary.mkdir()
        return saved_model.Verified(len(samples), 0.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model, "write", write)
        yield


@pytest.fixture
def no_export() -> Iterator[None]:
    """Lets all runs of a test be `unexported`."""
    with unexported():
        yield


@pytest.fixture
def no_page(monkeypatch, no_export) -> None:
    """As `no_export`; nor are pages and pictures drawn, a second less."""
    from tlkeras import run_directory

    def write(plan, data, outcome, report):
        for name in ("accuracy", "confusion", "loss", "reliability"):
            (plan.directory / f"{name}.png").touch()
        (plan.directory / "report.html").touch()

    monkeypatch.setattr(run_directory, "_write_page", write)


@pytest.fixture
def no_training(monkeypatch, no_page) -> list[records.Phase]:
    """Lets phases end untrained; returns the list of those that were."""
    from tlkeras.training import phase as one_phase

    phases = []

    def fit(model, phase, feed, setup, **options):
        phases.append(phase)
        epoch = records.Epoch(
            phase.name, 1, phase.learning_rate, 1.0, 0.5, 0.5, 1.0, 1.0, 9.0
        )
        # Each phase is better than the one before.
        score = records.Score(0.5 + len(phases) / 100, 1.0, 20)
        return records.PhaseResult(
            phase, score, 1, 1, 7, 1.0, "budget", 99, 2, 0, 0.0, (epoch,)
        )

    monkeypatch.setattr(one_phase, "fit", fit)
    return phases


@pytest.fixture(scope="session")
def tlkeras_process(tmp_path_factory):
    """Returns a function that runs the command line in a process of its own.

    Its temporary files go to a directory that the function lists as `left`.
    """

    def start(*words: str, cwd: str | os.PathLike, **options):
        temporary = tmp_path_factory.mktemp("tmp")
        process = subprocess.run(
            [sys.executable, "-m", "tlkeras", *map(str, words)],
            cwd=cwd,
            env=environment(TMPDIR=str(temporary)),
            capture_output=True,
            text=True,
            timeout=400,
            **options,
        )
        process.left = tree(temporary)
        return process

    return start
