"""The number format for a device, and what the report says of it."""

import json

import keras
import pytest

from tlkeras import devices


@pytest.mark.parametrize(
    "tpus, capability, wanted",
    [
        (["tpu:0"], 0, "bfloat16"),
        ([], 9, "bfloat16"),
        ([], 8, "bfloat16"),
        ([], 7, "float16"),
        ([], 6, "float32"),
        ([], 0, "float32"),
    ],
)
def test_auto(monkeypatch, tpus, capability, wanted):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: tpus)
    monkeypatch.setattr(devices, "_gpu_capability", lambda: capability)
    assert devices.precision("auto") == wanted


@pytest.mark.parametrize("setting", ["float32", "bfloat16", "float16"])
def test_a_choice_stands(setting):
    assert devices.precision(setting) == setting


def test_this_machine():
    found = devices.precision("auto")
    if not keras.distribution.list_devices("gpu"):
        assert found == "float32"


def test_environment():
    found = devices.environment()
    assert found["keras"] == keras.version()
    assert found["backend"] == keras.backend.backend()
    assert found["devices"]
    assert all(isinstance(each, str) and each for each in found.values())
    assert json.loads(json.dumps(found)) == found
