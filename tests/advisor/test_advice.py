"""Advice from images to words: on the command line, and from Python."""

import json
import pathlib

import pytest

import tlkeras

SHARED = pathlib.Path(__file__).parents[2] / ".." / "shared"
STEM = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels"


def test_the_command_line(tlkeras_process, tmp_path):
    words = (
        "advise",
        "--data=builtin:digits",
        "--backbone=SmallResNet",
        "--weights=none",
        "--image_size=16",
        "--max_images=60",
    )
    done = tlkeras_process(*words, "--json=found.json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "60 of 1,271" in done.stdout
    assert "stage2_block1_out" in done.stdout
    assert "The textbook has no word here" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["textbook"] is None
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
    assert last.affinity.low > 0.2 or not photographs
    assert found.evidence.source is None
    # Ten seconds beside the passes, of a machine that others share: twenty.
    assert found.evidence.cost.probes < 20
