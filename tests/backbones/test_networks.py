"""Every network of the catalogue, from building it to serving it.

Each is divided, goes through a phase of every kind for a few steps, and is
saved, opened again and exported, with random weights at its smallest size.
One takes half a minute to some minutes, so all of them run with -m slow:

  pytest -n 0 -m slow tests/test_networks.py -k "ResNet50 or NASNet"
"""

import hashlib
import os
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from tlkeras import records
from tlkeras.backbones import base as bases
from tlkeras.backbones import catalog
from tlkeras.data import images as image_stores
from tlkeras.export import saved_model
from tlkeras.models import classifier as classifiers
from tlkeras.models import graph
from tlkeras.models import saving
from tlkeras.training import phase as one_phase
from tlkeras.training import row_store
from tlkeras.training import setup as setups

LABELS = ("a", "b", "c")
IMAGES = 8
STEPS = 4
LOWEST = 32

# At their peak the phases hold weights, gradients, Adam's two moments, copies
# of the start and of the best epoch, and what XLA takes. Measured with the
# 0.9 GB of TensorFlow itself: ConvNeXtTiny 2.7 GB, ConvNeXtBase 5.2.
BYTES_A_PARAMETER = 52
BYTES_BESIDE = 1e9

# A phase of each kind, at low rates: the weights are random.
PHASES = (
    records.Phase("head", "none", 2, 1e-3),
    records.Phase("stage", "stages:1", 2, 1e-4),
    records.Phase("whole", "all", 2, 1e-5),
    records.Phase("training", "all", 2, 1e-5, batch_norm="training"),
)


def memory() -> float:
    """Returns the bytes of memory that a process can have now."""
    known = pathlib.Path("/proc/meminfo")
    if known.exists():
        lines = dict(line.split(":") for line in known.read_text().splitlines())
        return 1024.0 * int(lines["MemAvailable"].split()[0])
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


@pytest.fixture
def directory(tmp_path):
    """Removed at once: pytest keeps what three runs left, and all is 20 GB."""
    yield tmp_path
    shutil.rmtree(tmp_path)
    keras.backend.clear_session()


def contents(network: keras.Model) -> dict[str, str]:
    """Returns a digest of each variable: copies of all would not fit."""
    return {
        each.path: hashlib.sha256(np.ascontiguousarray(each)).hexdigest()
        for each in network.variables
    }


def check_split(network: keras.Model, size: int) -> None:
    """Parts at the last stage agree with the whole, bit for bit."""
    generator = np.random.default_rng(1)
    pixels = generator.uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    wanted = np.asarray(network(pixels, training=False))
    assert np.isfinite(wanted).all()
    assert not np.array_equal(*wanted)
    cut, _ = graph.find_cut(network, "stages:1")
    below, above = graph.split(network, cut)
    found = above(below(pixels, training=False), training=False)
    assert np.array_equal(np.asarray(found), wanted)


def check_phase(model: keras.Model, phase: records.Phase, size: int) -> None:
    """The phase runs to its end, and moves what it says and nothing else."""
    network = bases.of(model).network
    before = contents(network)
    # `fit` itself raises if one bit of what is frozen has moved.
    result = one_phase.fit(
        model,
        phase,
        tiny.feed(IMAGES, size=size, batch_size=IMAGES * 2 // STEPS),
        setups.Setup(
            tiny.QUIET, storage=row_store.Storage("memory", memory_bytes=1e9)
        ),
    )
    assert result.stopped == "budget"
    assert result.steps == STEPS
    assert result.best_epoch > 0
    assert np.isfinite(result.score.cross_entropy)
    assert bool(result.views_cached) == (phase.name in ("head", "stage"))
    assert result.unmoved < result.learning
    after = contents(network)
    moved = {path for path in before if before[path] != after[path]}
    trained = {each.path for each in network.trainable_variables}
    assert not trained, "a phase leaves the base frozen"
    statistics = {path for path in before if "/moving_" in path}
    assert bool(moved - statistics) == (phase.unfreeze != "none")
    learned = phase.batch_norm == "training" and bool(statistics)
    assert bool(moved & statistics) == learned
    cut, _ = graph.find_cut(network, "stages:1")
    if phase.name == "stage":
        below = {
            each.path
            for layer in network.layers
            if layer.name in cut.below
            for each in layer.variables
        }
        assert below and not moved & below


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports by TensorFlow"
)
@pytest.mark.parametrize("row", catalog.BACKBONES, ids=lambda row: row.name)
def test_from_building_to_serving(row, directory):
    needed = BYTES_A_PARAMETER * row.parameters + BYTES_BESIDE
    free = memory()
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    # Some take a single pixel, on which no stage differs from another.
    size = max(row.smallest_size, LOWEST)
    model = classifiers.build_classifier(
        len(LABELS), backbone=row.name, weights="none", image_size=size
    )
    check_split(bases.of(model).network, size)
    for phase in PHASES:
        if needed <= free or phase.unfreeze == "none":
            check_phase(model, phase, size)

    # As unlike as those of training: equal ones are no test of the outputs.
    generator = np.random.default_rng(2)
    noise = generator.integers(0, 60, (4, size, size, 3), np.uint8)
    pixels = noise + np.uint8([0, 63, 126, 189])[:, None, None, None]
    images = pixels.astype(np.float32)
    wanted = model.predict_on_batch(images)
    assert np.isfinite(wanted).all()
    assert not np.array_equal(wanted[0], wanted[1])
    shape = image_stores.Shape(size, "stretch")
    saving.save(
        directory / "model.keras", saving.TrainedModel(model, LABELS, shape)
    )
    opened = saving.load(directory / "model.keras")
    assert opened.labels == LABELS
    assert bases.of(opened.model).backbone == row.name
    for mine, its in zip(model.weights, opened.model.weights, strict=True):
        assert np.array_equal(mine, its), mine.path
    found = opened.model.predict_on_batch(images)
    assert np.array_equal(found, wanted)

    # The writer compares all answers of both signatures with the model's.
    verified = saved_model.write(
        opened,
        directory / "saved_model" / "1",
        samples=[tf.io.encode_png(each).numpy() for each in pixels],
    )
    assert verified.images == len(pixels)
    if needed > free:
        pytest.skip(
            "all passed, but only the head was trained: what trains more "
            f"takes {needed / 1e9:.0f} GB of memory, {free / 1e9:.0f} are free"
        )
