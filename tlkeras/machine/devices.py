"""What computes here, and the number format that suits it."""

import contextlib
import functools
import glob
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from collections.abc import Iterator

import keras

from tlkeras import errors
from tlkeras.machine import keras_private
from tlkeras.machine import processes

_NVIDIA = processes.NVIDIA
# Steps from which XLA's compiling pays, on TensorFlow.
_XLA_PAYS = 5_000
_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


def precision(setting: str) -> str:
    """Returns the number format for `setting`, resolving `auto`.

    bfloat16 on a TPU and on GPUs from compute capability 8 on, float16 on
    those from 7 on, which have no fast bfloat16; else float32.
    """
    if setting != "auto":
        return setting
    if kind() == "tpu":
        return "bfloat16"
    capability = _gpu_capability()
    if capability >= 8:
        return "bfloat16"
    return "float16" if capability >= 7 else "float32"


def kind() -> str:
    """Returns what Keras computes on: cpu, gpu or tpu."""
    # Asked for a kind that is not there, JAX raises an error.
    return keras.distribution.list_devices()[0].partition(":")[0]


def set_conventions() -> None:
    """Sets `processes.CONVENTIONS`."""
    for name, value in processes.CONVENTIONS.items():
        getattr(keras.config, f"set_{name}")(value)


def compiles_each_shape() -> bool:
    """Tells whether a network is compiled anew for batches of another size."""
    return keras.backend.backend() == "jax"


def jit_compile(steps: int = 0) -> bool | str:
    """Returns what Keras' `jit_compile` is to be for so many steps.

    On TensorFlow and a GPU Keras has XLA compile whatever it can, which cannot
    be kept: MobileNetV2's first epoch of fine-tuning took 100 s on an H200, 47
    without. 5,000 steps would have to win 10 ms each to pay for that.
    """
    if keras.backend.backend() != "tensorflow" or kind() != "gpu":
        return "auto"
    return "auto" if steps >= _XLA_PAYS else False


def has_accelerator() -> bool:
    """Tells whether there is a GPU or a TPU."""
    return kind() != "cpu"


def memory() -> float:
    """Returns the bytes of the first accelerator's memory, 0 where unknown."""
    if not has_accelerator():
        return 0.0
    if keras.backend.backend() == "jax":
        import jax

        found = jax.local_devices()[0].memory_stats() or {}
        return float(found.get("bytes_limit", 0))
    # TensorFlow tells what it has taken, and not what there is.
    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        told = subprocess.run(
            [
                "nvidia-smi",
                "--query-gpu=memory.total",
                "--format=csv,noheader,nounits",
            ],
            capture_output=True,
            timeout=10,
            check=True,
        )
        return 2.0**20 * float(told.stdout.split()[0])
    return 0.0


def unused_gpu() -> str:
    """Returns why an NVIDIA GPU that nobody hid is not used, '' if none is."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if kind() != "cpu" or hidden or not glob.glob(_NVIDIA):
        return ""
    if keras.backend.backend() == "jax":
        asked = os.environ.get("JAX_PLATFORMS", "")
        if asked and not {"cuda", "gpu"} & set(asked.split(",")):
            return ""
        why = (
            "JAX's plug-in for CUDA does not start; python -c 'import jax; "
            'jax.devices("cuda")\' says why'
        )
        if processes.take_devices():
            why = (
                "TensorFlow was imported first, whose stubs of CUDA JAX then "
                "finds: import it after tlkeras, or call jax.devices() before"
            )
        elif not any(map(importlib.util.find_spec, _PLUGINS)):
            why = "JAX has no plug-in for CUDA: pip install 'jax[cuda12]'"
    else:
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            # There, and not visible: whoever called TensorFlow hid it.
            return ""
        why = (
            "TensorFlow does not find the libraries of CUDA: pip install "
            "'tensorflow[and-cuda]'"
        )
        if not tf.sysconfig.get_build_info().get("is_cuda_build"):
            why = "this TensorFlow was built without CUDA"
    return f"There is an NVIDIA GPU, and the CPU computes: {why}."


@functools.cache
def leave_to_keras() -> None:
    """Lets TensorFlow read images only, where something else computes.

    Where Keras computes on another backend it sees no GPU, whose whole memory
    it would take at its first operation. Raises `UserError` where that has come
    before. There, and beside a GPU, it shares no operation among cores: each
    decodes images of its own. 16 threads for each of them made 1.7 times the
    work of decoding.
    """
    import tensorflow as tf

    reads_only = keras.backend.backend() != "tensorflow"
    if reads_only or tf.config.list_physical_devices("GPU"):
        # Too late, it only takes longer.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(1)
    if not reads_only:
        return
    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:
        raise errors.UserError(
            "TensorFlow has taken the GPU already, which Keras needs for "
            f"{keras.backend.backend()}. Start anew, and before TensorFlow's "
            "first operation call tf.config.set_visible_devices([], 'GPU')."
        ) from None


@contextlib.contextmanager
def forgetting_steps() -> Iterator[None]:
    """Frees the graphs of the training steps that the block traces.

    Keras' step on TensorFlow sums its gradients by a function that brings a
    gradient of its own. TensorFlow (2.21) registers that under a new name each
    time, for as long as the process lives, and with it the whole graph and
    what it holds. Nothing asks for it once the step is traced.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    known = keras_private.gradient_registry()
    before = set(known)
    try:
        yield
    finally:
        for name in set(known) - before:
            if name.startswith("CustomGradient-"):
                del known[name]


def versions() -> dict[str, str]:
    """Returns the versions of what computes: Python's own and of packages."""
    names = ["tlkeras", "keras", "tensorflow", "numpy", "scikit-learn"]
    if keras.backend.backend() not in names:
        names.append(keras.backend.backend())
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def environment() -> dict[str, str]:
    """Returns versions and devices, for the report."""
    return {
        **versions(),
        "backend": keras.backend.backend(),
        "platform": platform.platform(),
        "devices": ", ".join(keras.distribution.list_devices()),
    }


def _gpu_capability() -> int:
    """Returns the first GPU's major compute capability, 0 without a GPU."""
    if kind() != "gpu":
        return 0
    if keras.backend.backend() == "jax":
        import jax

        return int(float(jax.devices("gpu")[0].compute_capability))
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(
        tf.config.list_physical_devices("GPU")[0]
    )
    return details.get("compute_capability", (0, 0))[0]
