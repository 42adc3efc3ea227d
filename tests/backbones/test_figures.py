"""What is known of networks, and which of them suit what machine."""

import pytest

from tlkeras import cli
from tlkeras.backbones import catalog
from tlkeras.backbones import figures
from tlkeras.backbones import speed
from tlkeras.settings import commands


def test_every_network_with_weights_has_an_accuracy_with_its_source():
    for row in catalog.BACKBONES:
        known = figures.of(row.name)
        expected = row.weights and row.name != "SqueezeNet1_1-keras"
        assert bool(known.top1) == bool(expected), row.name
        assert (known.source in figures.SOURCES) == bool(expected)
        # The largest take minutes to build.
        assert known.multiplications or row.parameters > 60e6, row.name
    assert set(figures._BY_NAME) <= set(catalog.names())
    assert set(figures._COSTS) <= set(catalog.names())


def test_costs_are_in_mobilenets():
    assert figures.of("MobileNetV2").processor == pytest.approx(1, abs=0.1)
    # Five times ResNet50's, for as many multiplications: 7 x 7 depthwise.
    tiny = figures.of("ConvNeXtTiny").processor
    assert tiny > 3 * figures.of("ResNet50").processor


@pytest.mark.parametrize("purpose", ["cpu", "gpu", "phone"])
def test_no_other_is_cheaper_and_as_accurate(purpose):
    best = figures.front(catalog.BACKBONES, purpose)
    assert len(best) > 3
    cost = (
        (lambda known: known.processor)
        if purpose == "cpu"
        else (lambda known: known.multiplications)
    )
    rows = [
        row
        for row in catalog.BACKBONES
        if purpose != "phone" or row.parameters <= 10_000_000
    ]
    for row in best:
        mine = figures.of(row.name)
        for other in rows:
            theirs = figures.of(other.name)
            if other is not row and theirs.top1 and cost(theirs):
                assert theirs.top1 < mine.top1 or cost(theirs) >= cost(mine), (
                    row.name,
                    other.name,
                )
    costs = [cost(figures.of(row.name)) for row in best]
    assert costs == sorted(costs, reverse=purpose == "gpu")


def test_the_command_has_these_purposes():
    setting = next(each for each in commands.BACKBONES if each.name == "for")
    for purpose in setting.rule.choices[1:]:
        figures.front(catalog.BACKBONES, purpose)
    assert setting.rule.choices == ("any", "cpu", "gpu", "phone")


@pytest.mark.parametrize("purpose", ["any", "cpu", "gpu", "phone"])
def test_the_list_has_all_networks_once(capsys, purpose):
    assert cli.main(["backbones", f"--for={purpose}"]) == 0
    out = capsys.readouterr().out
    for row in catalog.BACKBONES:
        lines = [
            line for line in out.splitlines() if line.split()[:1] == [row.name]
        ]
        cells = [line for line in lines if row.family in line.split()[1:2]]
        assert len(cells) == 1, row.name
        assert row.note in out
    for source in figures.SOURCES.values():
        assert source in out
    row = next(
        line for line in out.splitlines() if line.startswith("MobileNetV2 ")
    )
    assert "71.3  keras.io" in row and row.endswith("Keras'")
    assert "pip install 'tlkeras[weights]'" in out
    assert "images/s" not in out


def test_measured_are_those_asked_for(capsys, monkeypatch):
    monkeypatch.setattr(speed, "measure", lambda row, size: float(size))
    words = ["backbones", "--measure=mobilenet_v2, EfficientNetB1"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "ResNet50" not in out
    assert "images/s" in out and "240.0" in out and "224.0" in out
    assert cli.main(["backbones", "--measure=MobilNetV2"]) == 2
    assert "Did you mean MobileNetV2?" in capsys.readouterr().err
    assert cli.main(["backbones", "--for=toaster"]) == 2
    assert "cpu, gpu, phone" in capsys.readouterr().err


def test_speed_is_measured():
    assert speed.measure(catalog.find("SmallResNet"), 16) > 1
