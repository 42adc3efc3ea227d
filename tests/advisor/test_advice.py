"""Advice from images to words: on the command line, and from Python."""

import json
import pathlib

import pytest

import tlkeras
from tlkeras import cli

SHARED = pathlib.Path(__file__).parents[2] / ".." / "shared"
STEM = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels"


def test_the_command_line(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    words = (
        "advise",
        "--data=builtin:digits",
        "--backbone=SmallResNet",
        "--weights=none",
        "--image_size=16",
        "--max_images=60",
    )
    assert cli.main([*words, "--json=found.json"]) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    assert "60 of 1,519" in printed.out
    assert "stage2_block1_out" in printed.out
    assert "The textbook gives no advice here" in printed.out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["textbook"] is None
    # What would be done comes first, and why.
    lines = printed.out.splitlines()
    assert lines[0].startswith("auto would train the head")
    assert lines[1].startswith("why: A linear classifier on the base's")
    assert found["decision"]["reasons"] in lines[1]
    assert found["evidence"]["sampled"] == 60
    assert len(found["evidence"]["depths"]) == 3
    assert found["evidence"]["source"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_settings_of_training_are_refused(photos):
    with pytest.raises(tlkeras.UserError, match="Did you mean backbone"):
        tlkeras.advise(f"folder:{photos}", backbon="VGG16")
    with pytest.raises(tlkeras.UserError, match="unknown setting `epochs`"):
        tlkeras.advise(f"folder:{photos}", epochs=3)
    with pytest.raises(tlkeras.UserError, match="or --weights=none"):
        tlkeras.advise(f"folder:{photos}", backbone="SmallResNet")


def advise(data, **settings):
    return tlkeras.advise(
        data,
        **{
            "backbone": "SmallResNet",
            "weights": "none",
            "image_size": 16,
            "quiet": True,
            **settings,
        },
    )


def test_images_that_cannot_be_read_are_told(photos):
    found = advise(f"folder:{photos}")
    assert "1 image left out because unreadable" in found.notes[-1]
    assert "broken.png" in found.notes[-1]


@pytest.mark.parametrize("most", [1, -5, "100", 2.5])
def test_the_number_of_images_is_checked(photos, most):
    with pytest.raises(tlkeras.UserError, match="`max_images` must be"):
        advise(f"folder:{photos}", max_images=most)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not here")
@pytest.mark.parametrize(
    ("data", "scenario"),
    [
        ("hymenoptera", 1),
        ("flowers", 2),
        ("steel_defects", 3),
        ("brain_mri", 3),
        ("mnist", 4),
    ],
)
def test_real_images(data, scenario):
    found = tlkeras.advise(
        f"folder:{SHARED}/data/{data}",
        backbone="MobileNetV2-0.35",
        weights=SHARED / "weights" / f"{STEM}_0.35_224_no_top.h5",
        image_size=160,
        quiet=True,
    )
    assert found.scenario.number == scenario
    last = found.evidence.depths[-1]
    photographs = data in ("hymenoptera", "flowers")
    assert last.pretraining_gain.low > 0.2 or not photographs
    assert found.evidence.source is None
    # Ten seconds beside the passes, of a machine that others share: twenty.
    assert found.evidence.cost.probes < 20
