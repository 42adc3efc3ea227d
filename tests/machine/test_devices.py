"""The number format for a device, and what the report says of it."""

import json
import subprocess
import sys

import keras
import pytest
from conftest import environment

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


def test_another_tools_keras_json_changes_nothing(tmp_path):
    settings = {
        "image_data_format": "channels_first",
        "floatx": "float16",
        "epsilon": 0.1,
    }
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    program = (
        "import numpy, tlkeras\n"
        "model = tlkeras.initialize_model(2, False, False, "
        "backbone='SmallResNet', image_size=32)\n"
        "model.compile('adam', 'mean_squared_error', metrics=['mae'])\n"
        "model.fit(numpy.zeros([2, 32, 32, 3]), numpy.zeros([2, 2]), "
        "verbose=0)\n"
        "import keras\n"
        "print(model.get_layer('base').count_params(), keras.config.floatx(), "
        "keras.config.image_data_format(), keras.config.epsilon(), "
        "sorted({each.dtype for each in model.trainable_variables}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(KERAS_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == (
        "304240 float32 channels_last 1e-07 ['float32']"
    )


@pytest.fixture
def beside_a_gpu(monkeypatch, tmp_path):
    """As if the driver knew a GPU, and the CPU computed."""
    (tmp_path / "0000:00:01.0").mkdir()
    monkeypatch.setattr(devices, "_NVIDIA", f"{tmp_path}/*")
    monkeypatch.setattr(devices, "kind", lambda: "cpu")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)


def test_a_gpu_that_is_not_used_is_told_with_the_reason(
    beside_a_gpu, monkeypatch
):
    said = "There is an NVIDIA GPU, and the CPU computes: "
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(devices.processes, "take_devices", lambda: False)
    monkeypatch.setattr(devices, "_PLUGINS", ("no_such_plugin",))
    assert devices.unused_gpu() == (
        f"{said}JAX has no plug-in for CUDA: pip install 'jax[cuda12]'."
    )
    monkeypatch.setattr(devices, "_PLUGINS", ("json",))
    assert "'import jax; jax.devices(\"cuda\")' says why" in (
        devices.unused_gpu()
    )
    monkeypatch.setattr(devices.processes, "take_devices", lambda: True)
    assert "TensorFlow was imported first" in devices.unused_gpu()


def test_a_gpu_that_somebody_hid_is_not_spoken_of(beside_a_gpu, monkeypatch):
    assert devices.unused_gpu()
    for name, value in (
        ("CUDA_VISIBLE_DEVICES", ""),
        ("CUDA_VISIBLE_DEVICES", "-1"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert devices.unused_gpu() == ""
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert devices.unused_gpu() == ""
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    assert devices.unused_gpu()


def test_without_a_gpu_nothing_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "_NVIDIA", f"{tmp_path}/*")
    assert devices.unused_gpu() == ""


@pytest.mark.parametrize(
    "backend, kind, steps, expected",
    [
        ("tensorflow", "gpu", 0, False),
        ("tensorflow", "gpu", 4_999, False),
        ("tensorflow", "gpu", 5_000, "auto"),
        ("tensorflow", "cpu", 10, "auto"),
        ("tensorflow", "tpu", 10, "auto"),
        ("jax", "gpu", 10, "auto"),
    ],
)
def test_xla_compiles_where_it_pays(
    monkeypatch, backend, kind, steps, expected
):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    monkeypatch.setattr(devices, "kind", lambda: kind)
    assert devices.jit_compile(steps) == expected
