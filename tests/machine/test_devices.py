"""The number format for a device, and what the report says of it."""

import json

import keras
import pytest

from tlkeras.machine import devices


@pytest.mark.parametrize(
    "device, capability, wanted",
    [
        ("tpu:0", 0, "bfloat16"),
        ("gpu:0", 9, "bfloat16"),
        ("gpu:0", 8, "bfloat16"),
        ("gpu:0", 7, "float16"),
        ("gpu:0", 6, "float32"),
        ("cpu:0", 0, "float32"),
    ],
)
def test_auto(monkeypatch, device, capability, wanted):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: [device])
    monkeypatch.setattr(devices, "_gpu_capability", lambda: capability)
    assert devices.precision("auto") == wanted


@pytest.mark.parametrize("setting", ["float32", "bfloat16", "float16"])
def test_a_choice_stands(setting):
    assert devices.precision(setting) == setting


def test_this_machine():
    found = devices.precision("auto")
    assert devices.has_accelerator() == (devices.kind() != "cpu")
    if not devices.has_accelerator():
        assert found == "float32"


def test_environment():
    found = devices.environment()
    assert found["keras"] == keras.version()
    assert found["backend"] == keras.backend.backend()
    assert found["devices"]
    assert all(isinstance(each, str) and each for each in found.values())
    assert json.loads(json.dumps(found)) == found
