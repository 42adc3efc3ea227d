"""Networks of our own in whole runs: every way to train, cached, exported."""

import json
import pathlib

import pytest

import tlkeras
from tlkeras.backbones import catalog

OWN = tuple(
    row
    for row in catalog.BACKBONES
    if row.constructor.startswith("tlkeras.") and row.name != "SmallResNet"
)
SHARED = pathlib.Path(__file__).parents[2] / ".." / "shared"
# Digits 0 and 1 differ so much that a network that learns at all tells them
# apart; half of them are of either kind.
SETTINGS = {
    "head_epochs": 2,
    # As many as there are views, fewer are not worth storing them.
    "finetune_epochs": 2,
    "epochs": 3,
    "learning_rate": 1e-4,
    "finetune_learning_rate": 1e-5,
    "batch_size": 16,
    "augment": "flip",
    "quiet": True,
}


def train(row: catalog.Backbone, directory, **settings) -> dict:
    """Returns the report of a run, which compared its export with the model."""
    run = tlkeras.train(
        "builtin:digits[0-1]",
        workdir=directory,
        backbone=row.name,
        image_size=max(row.smallest_size, 32),
        **{**SETTINGS, **settings},
    )
    assert (run.directory / "saved_model" / "1" / "saved_model.pb").exists()
    return json.loads((run.directory / "report.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("row", OWN, ids=lambda row: row.name)
def test_every_strategy(row, tmp_path):
    first = train(row, tmp_path / "scratch", strategy="scratch")
    assert first["test"]["accuracy"]["value"] > 0.8
    weights = str(tmp_path / "scratch")
    for strategy, unfreeze in (
        ("feature_extraction", None),
        ("fine_tuning", "stages:1"),
        ("fine_tuning", "all"),
        ("pretrained_init", None),
    ):
        settings = {"unfreeze": unfreeze} if unfreeze else {}
        report = train(
            row,
            tmp_path / f"{strategy}-{unfreeze}",
            weights=weights,
            strategy=strategy,
            **settings,
        )
        assert report["test"]["accuracy"]["value"] > 0.8
        cached = [phase["views_cached"] for phase in report["phases"]]
        # Where nothing is frozen, nothing is stored.
        stored = {"feature_extraction": [True], "pretrained_init": [False]}
        wanted = stored.get(strategy, [True, unfreeze == "stages:1"])
        assert [bool(views) for views in cached] == wanted


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not here")
@pytest.mark.parametrize(
    "data, least", [("hymenoptera", 0.83), ("steel_defects", 0.92)]
)
def test_squeezenet_with_its_real_weights(tmp_path, data, least):
    right = images = 0
    for seed in range(3):
        run = tlkeras.train(
            f"folder:{SHARED / 'data' / data}",
            workdir=tmp_path / str(seed),
            backbone="SqueezeNet1_1-keras",
            weights=str(
                SHARED
                / "weights"
                / "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
            ),
            strategy="feature_extraction",
            split_seed=seed,
            quiet=True,
        )
        found = run.report["test"]["accuracy"]
        right += round(found["value"] * found["n"])
        images += found["n"]
    assert right / images >= least
