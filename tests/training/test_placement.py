"""Several devices come to what one comes to with the same global batch."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import portable
import pytest
import tensorflow as tf

from tlkeras import errors
from tlkeras.data import batches
from tlkeras.machine import devices
from tlkeras.machine import processes
from tlkeras.settings import config as configs
from tlkeras.training import placement as placements


def check(found: dict, devices: int, kind: str) -> None:
    assert (found["devices"], found["kind"]) == (devices, kind)
    assert found["phases"]
    for name, (one, several) in found["phases"].items():
        keys = ["cross_entropy", "accuracy"]
        if kind != "mirrored":
            # There the step is right, but what is logged of a batch with
            # uneven shares weighs those of the smaller one less.
            keys.append("loss")
        for key in keys:
            np.testing.assert_allclose(
                several[key], one[key], rtol=1e-4, err_msg=f"{name}: {key}"
            )
        assert several["views"] == one["views"]
        for path, weight in one["weights"].items():
            np.testing.assert_allclose(
                several["weights"][path],
                weight,
                rtol=1e-3,
                atol=1e-4,
                err_msg=f"{name}: {path}",
            )


def placement(
    backend: str, phases: list[str], places: dict, **options
) -> subprocess.Popen:
    arguments = {"phases": phases, **places}
    return portable.start("placement", arguments, backend=backend, **options)


# Of 21 images in batches of 8 the last has 5, which two devices cannot share
# evenly. JAX compiles each step anew, which takes time; where processes are
# compared, all phases run.
FEW = ["part", "learned"]
ALL = list(portable.SPREAD)


@pytest.fixture
def environment(cache) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(cache.parent)}


def test_two_devices_on_tensorflow(environment):
    places = {"distribute": "mirrored"}
    process = placement(
        "tensorflow", ALL, places, devices=2, environment=environment
    )
    check(portable.answer(process), 2, "mirrored")


@pytest.mark.slow
def test_two_devices_on_jax(environment):
    pytest.importorskip("jax", reason="JAX is not installed")
    places = {"distribute": "data_parallel"}
    process = placement("jax", FEW, places, devices=2, environment=environment)
    check(portable.answer(process), 2, "data_parallel")


def address() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.slow
class TestTwoProcesses:
    @pytest.fixture(autouse=True)
    def needs_jax(self):
        pytest.importorskip("jax", reason="JAX is not installed")

    def test_come_to_what_one_comes_to(self, environment):
        coordinator = address()
        found = [
            placement(
                "jax",
                ALL,
                {
                    "coordinator": coordinator,
                    "num_processes": 2,
                    "process_id": number,
                },
                environment=environment,
            )
            for number in (0, 1)
        ]
        for number, process in enumerate(found):
            answer = portable.answer(process)
            assert answer["first"] == (number == 0)
            assert answer["told"] == "process 0"
            check(answer, 2, "data_parallel")

    def test_only_the_first_writes(self, photos, trained, tmp_path):
        ran = self.run(photos, trained, tmp_path, address(), [{}, {}])
        assert [status for status, _, _ in ran] == [0, 0]
        first, other = [
            {str(path.relative_to(tmp_path / name)) for path in found}
            for name, (_, found, _) in zip("01", ran, strict=True)
        ]
        assert "run/report.json" in first
        assert "run/saved_model/1/saved_model.pb" in first
        assert not [name for name in other if (tmp_path / "1" / name).is_file()]
        told = ran[0][2] + ran[1][2]
        assert told.count("phase top: ") == 2
        report = json.loads((tmp_path / "0/run/report.json").read_text())
        assert "2 devices of 2 processes" in " ".join(report["notes"])
        numbers = portable.numbers(tmp_path / "0" / "run")
        portable.runs({str(tmp_path / "one"): self.settings(photos, trained)})
        for name, values in portable.numbers(tmp_path / "one").items():
            np.testing.assert_allclose(numbers[name], values, atol=1e-3)

    def test_a_mistake_of_one_ends_both(self, photos, trained, tmp_path):
        absent = {"data": "folder:/nowhere"}
        ran = self.run(photos, trained, tmp_path, address(), [{}, absent])
        assert [status for status, _, _ in ran] == [2, 2]
        assert "tlkeras: process 1: " in ran[0][2]
        assert "/nowhere" in ran[0][2]
        assert "/nowhere" in ran[1][2]
        assert not (tmp_path / "0" / "run").exists()

    def test_other_settings_are_told(self, photos, trained, tmp_path):
        ran = self.run(photos, trained, tmp_path, address(), [{}, {"seed": 3}])
        assert [status for status, _, _ in ran] == [2, 2]
        assert "process 1 has other settings than process 0" in ran[0][2]

    def test_an_interrupted_run_goes_on(self, photos, trained, tmp_path):
        given = (photos, trained, tmp_path, address(), [{}, {}])
        running = self.start(*given)
        for line in running[0].stdout:
            if line.startswith("phase top: "):
                break
        for each in running:
            each.send_signal(signal.SIGINT)
        told = [each.communicate(timeout=300)[0] for each in running]
        # Who is first hit ends the other, which may not have looked yet.
        assert 130 in [each.returncode for each in running], told
        assert "Traceback" not in told[0] + told[1]
        assert not (tmp_path / "0/run/report.json").exists()
        ran = self.run(*given)
        assert [status for status, _, _ in ran] == [0, 0], ran
        assert "resuming after phase head" in ran[0][2]
        one = tmp_path / "one"
        portable.runs({str(one): self.settings(photos, trained)})
        found = portable.numbers(tmp_path / "0" / "run")
        for name, values in portable.numbers(one).items():
            np.testing.assert_allclose(found[name], values, atol=1e-3)

    def settings(self, photos: pathlib.Path, trained) -> dict:
        return {"data": f"folder:{photos}", "weights": str(trained.directory)}

    def run(self, photos, trained, place, coordinator, changes) -> list[tuple]:
        """Returns status, files and words of each of two command lines."""
        running = self.start(photos, trained, place, coordinator, changes)
        told = [each.communicate(timeout=500)[0] for each in running]
        return [
            (process.returncode, list((place / name).rglob("*")), words)
            for name, process, words in zip("01", running, told, strict=True)
        ]

    def start(
        self, photos, trained, place, coordinator, changes
    ) -> list[subprocess.Popen]:
        """Starts two command lines that differ by `changes`."""
        file = place / "recipe.toml"
        file.write_text(
            configs.to_toml(
                configs.build(
                    {
                        **portable.SETTINGS,
                        **self.settings(photos, trained),
                        "phases": portable.PHASES,
                    }
                )
            )
        )
        running = []
        for number, each in enumerate(changes):
            own = place / str(number)
            own.mkdir(exist_ok=True)
            words = {
                "config": file,
                "workdir": own / "run",
                "coordinator": coordinator,
                "num_processes": 2,
                "process_id": number,
                **each,
            }
            running.append(
                subprocess.Popen(
                    [
                        *(sys.executable, "-m", "tlkeras", "train"),
                        *(f"--{name}={words[name]}" for name in words),
                    ],
                    env={
                        **os.environ,
                        "KERAS_BACKEND": "jax",
                        "XLA_FLAGS": "--xla_backend_optimization_level=0",
                        "XDG_CACHE_HOME": str(own / "cache"),
                        "TMPDIR": str(own),
                    },
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        return running


class TestStart:
    @pytest.fixture
    def machine(self, monkeypatch):
        """Returns a function that pretends there are other devices."""

        def pretend(backend: str, names: list[str]) -> None:
            monkeypatch.setattr(
                keras.distribution, "list_devices", lambda: names
            )
            monkeypatch.setattr(keras.backend, "backend", lambda: backend)
            for module, name in (
                (tf.distribute, "MirroredStrategy"),
                (keras.distribution, "DataParallel"),
            ):
                monkeypatch.setattr(
                    module, name, lambda each=None, devices=None: each
                )

        return pretend

    @pytest.mark.parametrize(
        ("backend", "names", "distribute", "kind", "count", "why"),
        [
            ("tensorflow", ["cpu:0"], "auto", "none", 1, "the only device"),
            ("jax", ["tpu:0"], "auto", "none", 1, "the only device"),
            (
                "tensorflow",
                ["gpu:0", "gpu:1"],
                "auto",
                "mirrored",
                2,
                "there are several",
            ),
            ("jax", ["gpu:0", "gpu:1"], "auto", "data_parallel", 2, "several"),
            ("jax", ["tpu:0", "tpu:1"], "auto", "data_parallel", 2, "several"),
            ("jax", ["cpu:0", "cpu:1"], "auto", "none", 1, "no gain"),
            ("torch", ["gpu:0", "gpu:1"], "auto", "none", 1, "torch"),
            ("jax", ["gpu:0", "gpu:1"], "none", "none", 1, ""),
            ("tensorflow", ["cpu:0"], "mirrored", "mirrored", 1, ""),
        ],
    )
    def test_says_which_and_why(
        self, machine, backend, names, distribute, kind, count, why
    ):
        machine(backend, names)
        found = placements.start(distribute, processes.SINGLE)
        assert (found.kind, found.devices) == (kind, count)
        assert why in found.text(8)
        if kind == "none":
            assert names[0] in found.text(8)
            assert found.sharding == batches.Sharding()
        else:
            assert f"{count} device" in found.text(8)
            assert "8 images are those of all together" in found.text(8)
            assert "not scaled" in found.text(8)

    def test_several_processes(self, machine):
        machine("jax", ["cpu:0", "cpu:1", "cpu:2", "cpu:3"])
        found = placements.start("auto", processes.ProcessGroup(2, 1))
        assert (found.kind, found.devices) == ("data_parallel", 4)
        assert found.sharding == batches.Sharding(2, (1,), 4)
        assert "of 2 processes" in found.text(8)

    def test_tensorflow_keeps_its_gpu(self, monkeypatch):
        asked = []
        monkeypatch.setattr(tf.config, "set_visible_devices", asked.append)
        devices.leave_to_keras.__wrapped__()
        assert asked == []

    def test_on_jax_tensorflow_sees_no_gpu(self, machine, monkeypatch):
        machine("jax", ["gpu:0"])
        asked = []
        monkeypatch.setattr(
            tf.config, "set_visible_devices", lambda *each: asked.append(each)
        )
        devices.leave_to_keras.__wrapped__()
        assert asked == [([], "GPU")]

        def late(*each):
            raise RuntimeError("cannot be modified after being initialized")

        monkeypatch.setattr(tf.config, "set_visible_devices", late)
        with pytest.raises(ValueError, match="has taken the GPU already"):
            devices.leave_to_keras.__wrapped__()


class TestAhead:
    """On JAX and a GPU a thread brings the next batches to the device."""

    def test_epochs_are_the_same(self):
        data = tf.data.Dataset.range(5).map(lambda each: (each, each + 1))
        whole = placements._Placed(data, lambda index, array: (index, array))
        found = [whole[index] for index in range(7)]
        assert [int(first[1]) for first, _ in found] == [0, 1, 2, 3, 4, 0, 1]
        assert [index for (index, _), _ in found] == list(range(7))
        # From its beginning, as Keras asks when it has looked at one.
        assert int(whole[0][0][1]) == 0
        assert int(whole[1][1][1]) == 2

    def test_an_error_reaches_the_caller(self):
        def batches():
            yield 1
            raise errors.UserError("gone")

        found = placements._ahead(batches())
        assert next(found) == 1
        with pytest.raises(errors.UserError, match="gone"):
            next(found)

    def test_its_thread_ends(self):
        before = threading.active_count()
        found = placements._ahead(iter(range(10**9)))
        assert [next(found), next(found)] == [0, 1]
        assert threading.active_count() == before + 1
        found.close()
        for _ in range(100):
            if threading.active_count() == before:
                break
            time.sleep(0.05)
        assert threading.active_count() == before
