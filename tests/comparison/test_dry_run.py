"""What would be done is said, and nothing is done."""

import re

import pytest
from conftest import flags
from conftest import tree

from tlkeras import cli

SMALL = flags(strategy="fine_tuning", finetune_epochs=4, epochs=3)


def dry(capsys, *words: str) -> str:
    assert cli.main([*words, "--dry_run"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    return told.out


def test_a_run_is_told_and_nothing_is_left(
    trained, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    weights = f"--weights={trained.directory}"
    # Too little for one image.
    store = "--image_store_gb=1e-9"
    out = dry(capsys, "train", str(photos), *SMALL, weights, store, "--quiet")
    assert f'data = "folder:{photos}"' in out
    assert "finetune_epochs = 4" in out
    # A default is not said.
    assert "patience" not in out
    assert "reads: 151 images in 3 classes" in out
    assert "about 105 train, 23 validation, 23 test" in out
    phases = re.findall(r"phase (\w+): ([\d,]+) parameters", out)
    assert [name for name, _ in phases] == ["head", "finetune"]
    assert "solved for" in out and "4 epochs of 7 steps" in out
    assert f"writes: {tmp_path}/runs/" in out
    assert "also 0 KB of decoded images" in out
    assert re.search(r"takes: about [\d.]+ (s|min)", out)
    assert not tree(tmp_path)


def test_a_comparison_is_told_with_all_of_its_strategies(
    trained, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    shared = ["--backbone=SmallResNet", "--image_size=16", "--budget=14"]
    names = "--strategies=scratch,last_stage"
    weights = f"--weights={trained.directory}"
    out = dry(
        capsys, "compare", str(photos), *shared, weights, names, "--seeds=2"
    )
    assert "strategy scratch, 2 times:" in out
    assert "strategy last_stage, 2 times:" in out
    assert not tree(tmp_path)


def test_what_is_decided_later_takes_from_to(
    trained, photos, tmp_path, monkeypatch, capsys
):
    """The head alone, or all that the budget lets the base learn."""
    monkeypatch.chdir(tmp_path)
    words = ["train", str(photos), "--backbone=SmallResNet", "--image_size=16"]
    words.append(f"--weights={trained.directory}")
    spans = []
    for budget in ("1e", "9999e"):
        out = dry(capsys, *words, f"--budget={budget}")
        spans.append(
            re.search(
                r"takes: about (.*) where the head.* up to (.*?) where", out
            )
        )
    few, many = spans
    assert many[2].partition(" ")[2].startswith(("min", "h"))
    assert few[1].endswith(" s") and "min" not in few[2]
    assert "min" not in many[1]


@pytest.mark.parametrize("command", ["train", "compare"])
def test_weights_of_another_width_are_found_at_once(
    command, trained, photos, tmp_path, monkeypatch, capsys
):
    """Whichever candidate comes first, and before an image is read."""
    from tlkeras.experiment import preparing

    def read(*arguments, **options):
        raise AssertionError("images are read")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preparing, "read", read)
    words = [command, str(photos), "--backbone=MobileNetV2-0.35"]
    words += ["--image_size=32", f"--weights={trained.directory}"]
    if command == "compare":
        words.append("--strategies=scratch,feature_extraction")
    assert cli.main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not tree(tmp_path)
