"""Who the processes of a run are, and what is refused before Keras starts."""

import dataclasses
import json
import os
import subprocess
import sys
import types

import pytest
from conftest import environment

from tlkeras import errors
from tlkeras import plan
from tlkeras.machine import processes
from tlkeras.settings import config as configs


def join(backend: str, monkeypatch, **settings):
    monkeypatch.setattr(processes, "backend", lambda: backend)
    defaults = {
        name: configs.settings()[name].default
        for name in ("distribute", "coordinator", "num_processes", "process_id")
    }
    values = {**defaults, **settings}
    return processes.join(values.pop("distribute"), **values)


@pytest.mark.parametrize(
    ("backend", "settings", "parts"),
    [
        (
            "tensorflow",
            {"coordinator": "a:1", "num_processes": 2, "process_id": 0},
            ["MultiWorkerMirroredStrategy", "20585", "KERAS_BACKEND=jax"],
        ),
        (
            "tensorflow",
            {"distribute": "data_parallel"},
            ["JAX only", "KERAS_BACKEND=jax", "--distribute=mirrored"],
        ),
        ("torch", {"distribute": "data_parallel"}, ["torch", "JAX only"]),
        (
            "jax",
            {"distribute": "mirrored"},
            ["--distribute=data_parallel", "KERAS_BACKEND=tensorflow"],
        ),
        ("torch", {"distribute": "mirrored"}, ["MirroredStrategy", "torch"]),
        ("jax", {"num_processes": 2}, ["`num_processes` needs `coordinator`"]),
        ("jax", {"process_id": 0}, ["`process_id` needs `coordinator`"]),
        (
            "jax",
            {"coordinator": "a:1", "distribute": "none"},
            ["auto or data_parallel", "Received: none"],
        ),
        (
            "jax",
            {"coordinator": "a:1"},
            ["`num_processes` and `process_id`", "--coordinator=HOST:PORT"],
        ),
        ("jax", {"coordinator": "a:1", "process_id": 0}, ["`num_processes`"]),
        (
            "jax",
            {"coordinator": "a:1", "num_processes": 2, "process_id": 2},
            ["`process_id` must be below", "Received: 2"],
        ),
        ("jax", {"coordinator": "somewhere"}, ["HOST:PORT", "'somewhere'"]),
        ("jax", {"coordinator": "a:1,b"}, ["HOST:PORT", "'a:1,b'"]),
        ("jax", {"coordinator": ":1"}, ["HOST:PORT"]),
        (
            "jax",
            {"coordinator": "a:1,b:1", "num_processes": 3},
            ["number of addresses", "Received: 3"],
        ),
        (
            "jax",
            {"coordinator": "127.0.0.1:1,127.0.0.1:2"},
            ["`process_id` must be given", "2 of the addresses"],
        ),
        (
            "jax",
            # TEST-NET-2: nobody's address.
            {"coordinator": "198.51.100.1:1,198.51.100.2:1"},
            ["`process_id` must be given", "none of the addresses"],
        ),
    ],
)
def test_a_mistake_is_one_line_with_a_way_on(
    backend, settings, parts, monkeypatch
):
    monkeypatch.setattr(processes, "_connect", None)
    with pytest.raises(errors.UserError) as caught:
        join(backend, monkeypatch, **settings)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "environment", "wanted"),
    [
        (
            {"coordinator": "a:1", "num_processes": 3, "process_id": 2},
            {},
            ("a:1", 3, 2),
        ),
        # The very same words on each host.
        (
            {"coordinator": "198.51.100.1:7,127.0.0.1:7"},
            {},
            ("198.51.100.1:7", 2, 1),
        ),
        (
            {"coordinator": "[::1]:7,b:7", "process_id": 1},
            {},
            ("[::1]:7", 2, 1),
        ),
        ({"coordinator": "auto"}, {}, (None, None, None)),
        (
            {"coordinator": "auto"},
            {"JOB_ADDRESSES": "a:1,b:1", "PROCESS_ID": "1"},
            ("a:1", 2, 1),
        ),
        (
            {"coordinator": "auto", "process_id": 0},
            {"JOB_ADDRESSES": "a:1", "NUM_PROCESSES": "4", "PROCESS_ID": "1"},
            ("a:1", 4, 0),
        ),
    ],
)
def test_who_this_process_is(settings, environment, wanted, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(f"KERAS_DISTRIBUTION_{name}", value)
    monkeypatch.setattr(processes, "_connect", lambda *each: each)
    assert join("jax", monkeypatch, **settings) == wanted


def test_one_process_is_the_first_and_waits_for_none(monkeypatch):
    group = join("tensorflow", monkeypatch)
    assert group == processes.SINGLE
    assert group.is_main
    assert group.main_first(lambda: 7) == group.run_on_all(lambda: 7) == 7
    assert group.broadcast(b"abc") == b"abc"
    group.agree({"images": "x"})
    group.disconnect()


def test_the_backend_is_known_without_keras(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert processes.backend() == "tensorflow"
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "jax"}))
    assert processes.backend() == "jax"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert processes.backend() == "torch"
    keras = types.SimpleNamespace(
        backend=types.SimpleNamespace(backend=lambda: "openvino")
    )
    monkeypatch.setitem(sys.modules, "keras", keras)
    assert processes.backend() == "openvino"


def test_it_is_told_before_keras_is_imported():
    script = (
        "import sys\n"
        "from tlkeras import cli\n"
        "status = cli.main(['train', '--data=builtin:digits', "
        "'--coordinator=a:1', '--num_processes=2', '--process_id=0'])\n"
        "print(status, sorted({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert done.stdout == "2 []\n"
    assert done.stderr.count("\n") == 1
    assert "keras issue 20585" in done.stderr


class TestWhereItIsComputed:
    PLACES = {
        "distribute": "data_parallel",
        "coordinator": "a:1",
        "num_processes": 2,
        "process_id": 1,
    }

    def test_is_not_in_the_config_of_a_run(self):
        built = configs.build({**self.PLACES, "seed": 3})
        text = configs.to_toml(built)
        assert not [name for name in self.PLACES if name in text]
        assert configs.build(configs.tomllib.loads(text)) == configs.build(
            {"seed": 3}
        )

    def test_may_stand_in_a_file_of_ones_own(self, tmp_path):
        (tmp_path / "a.toml").write_text('distribute = "none"')
        assert configs.resolve(tmp_path / "a.toml").distribute == "none"

    def test_does_not_keep_a_run_from_going_on(self, tmp_path, monkeypatch):
        built = configs.build({"data": "builtin:digits", "process_id": 1})
        (tmp_path / "config.toml").write_text(configs.to_toml(built))
        assert plan._claim(built, tmp_path, "") == tmp_path
        other = dataclasses.replace(built, seed=1)
        with pytest.raises(errors.UserError, match=r"other settings \(seed\)"):
            plan._claim(other, tmp_path, "")


@pytest.mark.parametrize("name", ["torch", "openvino", 7])
def test_keras_json_is_named_where_it_chose_the_backend(
    monkeypatch, tmp_path, name
):
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text(json.dumps({"backend": name}))
    message = rf"`backend` in {tmp_path}/keras.json must be .*: {name}\."
    with pytest.raises(errors.UserError, match=message):
        processes.check_backend()
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert "variable KERAS_BACKEND" in processes.check_backend()
    monkeypatch.setenv("KERAS_BACKEND", str(name))
    with pytest.raises(errors.UserError, match="variable KERAS_BACKEND must"):
        processes.check_backend()


def test_what_keras_json_asks_for_in_vain_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    path = tmp_path / "keras.json"
    path.write_text(
        json.dumps({"image_data_format": "channels_first", "epsilon": 1e-7})
    )
    assert processes.overruled() == [
        f"`image_data_format` is channels_last here; {path} says channels_first"
    ]
    for content in ("[1", "[1]", "{}"):
        path.write_text(content)
        assert processes.overruled() == []


@pytest.mark.parametrize("content", ["", "[]", "{}", "{", "7"])
def test_a_keras_json_without_a_backend_chooses_none(
    monkeypatch, tmp_path, content
):
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text(content)
    assert processes.backend() == "tensorflow"
    processes.check_backend()


# Ends at the first import of TensorFlow, and says whether JAX was ready.
WATCHED = """
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            from tlkeras.machine import processes
            print(processes.take_devices.cache_info().currsize, flush=True)
            os._exit(0)

sys.meta_path.insert(0, Finder())
import tlkeras
from tlkeras import cli
"""
SMALL = "backbone='SmallResNet', image_size=16, strategy='scratch'"


@pytest.mark.parametrize(
    "door",
    [
        f"tlkeras.train('builtin:digits', {SMALL}, workdir='run')",
        "tlkeras.Run",
        *(
            pytest.param(door, marks=pytest.mark.slow)
            for door in (
                "cli.main(['predict', '--model=' + RUN, 'photo.png'])",
                "tlkeras.load(RUN)",
                "tlkeras.compare('builtin:digits', backbone='SmallResNet', "
                "image_size=16, weights=RUN)",
                "tlkeras.advise('builtin:digits', backbone='SmallResNet')",
                "cli.main(['advise', '--data=builtin:digits'])",
                "cli.main(['evaluate', '--model=' + RUN, "
                "'--data=builtin:digits'])",
                "cli.main(['export', '--model=' + RUN, '--output=out'])",
                "cli.main(['demo', '--workdir=demo'])",
                "cli.main(['train', '--data=builtin:digits', "
                "'--strategy=scratch', '--backbone=SmallResNet'])",
            )
        ),
    ],
)
def test_jax_takes_its_devices_before_tensorflow_is_imported(
    door, trained, tmp_path
):
    pytest.importorskip("jax", reason="JAX is not installed")
    (tmp_path / "photo.png").touch()
    program = f"RUN = {str(trained.directory)!r}\n{WATCHED}{door}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(KERAS_BACKEND="jax"),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ["1"], done.stderr


def test_jax_that_finds_no_device_is_one_line(monkeypatch):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    monkeypatch.setattr(processes, "backend", lambda: "jax")

    def devices():
        raise RuntimeError("Unable to initialize backend 'cuda': \n no GPU")

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(errors.UserError, match="no device: Unable .*: no GPU"):
        processes.take_devices.__wrapped__()


def test_autotuning_is_bounded_beside_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "NVIDIA", f"{tmp_path}/*")

    def flags(said: str) -> str:
        monkeypatch.setenv("XLA_FLAGS", said)
        processes.bound_autotuning()
        return os.environ["XLA_FLAGS"]

    assert flags("--xla_a=1") == "--xla_a=1"
    (tmp_path / "0000:00:01.0").mkdir()
    assert flags("") == "--xla_gpu_autotune_level=2"
    assert flags("--xla_a=1") == "--xla_a=1 --xla_gpu_autotune_level=2"
    assert flags("--xla_gpu_autotune_level=4") == "--xla_gpu_autotune_level=4"
