"""Fine-tuning on JAX against the same networks in PyTorch, and what bounds it.

  KERAS_BACKEND=jax python benchmarks/throughput.py

For a machine with JAX, PyTorch, torchvision and timm; TensorFlow is not
needed. Both sides train the whole classifier in bfloat16 with Adam, BatchNorm
held at its statistics, dropout before the head: ours by `model.fit`, compiled
as a phase compiles it; PyTorch's under autocast, channels_last, compiled,
with a fused Adam. Before, the weights of ours go through both in float32, and
the logits must agree: the networks are the same. Weights and images are
random, which changes no time.

Each repeat takes both in turn, from three places: a batch that is already on
the device, and host arrays of float32, as tlkeras feeds them, and of uint8.
`bare step` is our compiled step without `fit` around it. The limits come from
the same device in the same run: a product of two matrices, a copy.
"""

import functools
import gc
import os
import time
from collections.abc import Callable
from collections.abc import Iterator

import jax
import keras
import measuring
import numpy as np
import torch
import torch_networks
from absl import app
from absl import flags
from torch.utils import flop_counter

from tlkeras import records
from tlkeras.backbones import base as bases
from tlkeras.models import classifier as classifiers
from tlkeras.training import phase as one_phase

_NETWORKS = flags.DEFINE_list(
    "networks", ["ResNet50", "EfficientNetV2B0"], "which to train"
)
_SIZE = flags.DEFINE_integer("image_size", 224, "pixels")
_BATCH = flags.DEFINE_integer("batch_size", 128, "images a step")
_STEPS = flags.DEFINE_integer("steps", 50, "of each measurement")
_REPEATS = flags.DEFINE_integer("repeats", 5, "how often each is measured")
_MODE = flags.DEFINE_string("compile_mode", "default", "of torch.compile")
_MATRIX = flags.DEFINE_integer("matrix", 8192, "rows of the product's matrices")

_CLASSES = 10
_RATE = 1e-5
# Different batches on the host, so that none stays in a processor's cache.
_HOST_BATCHES = 4
# Logits of both in float32, relative to their norm. Measured 2e-6 on a CPU;
# a GPU's convolutions may sum in another order, a wrong layer gives 0.1.
_TOLERANCE = 1e-3
_INPUTS = ("device", "float32", "uint8")


def main(arguments: list[str]) -> None:
    """Measures each network on both sides and prints the tables."""
    del arguments
    if keras.backend.backend() != "jax":
        raise app.UsageError(
            f"KERAS_BACKEND must be jax. Received: {keras.backend.backend()}."
        )
    # JAX would take three quarters of a GPU's memory at its first computation.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")
    product, copy = _product(), _copy()
    speeds, bounds = [], []
    for name in _NETWORKS.value:
        difference = _check_same(name)
        found, work = _measure(name)
        _forget()
        speeds += _speeds(name, found)
        bounds.append(_bounds(name, found, work, product, copy, difference))
    measuring.show(
        f"Fine-tuning at {_SIZE.value} pixels in bfloat16: batches of "
        f"{_BATCH.value}, {_STEPS.value} steps, {_REPEATS.value} repeats, "
        f"torch.compile mode {_MODE.value}",
        ("images/s", "from", "tlkeras", "PyTorch", "tlkeras/PyTorch"),
        speeds,
    )
    print()
    measuring.tables.show(
        (
            "network",
            "bare step, ms",
            "fit adds, ms",
            "GFLOP/image",
            "by XLA",
            "TFLOP/s",
            "of the product's",
            "GB/step",
            "of the copy's rate",
            "logits differ by",
        ),
        bounds,
    )
    print()
    for note in _notes(product, copy):
        print(note)


def _check_same(name: str) -> float:
    """Returns by how much the logits of both differ, relative to their norm.

    Raises ValueError if that is more than rounding.
    """
    ours = _build(name, "float32")
    theirs = torch_networks.build(name, _CLASSES)
    theirs.drops = False
    _copy_weights(ours, theirs)
    images = _images(2).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        wanted = np.asarray(ours(images, training=False))
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    with torch.no_grad():
        found = theirs.to(_device())(_planes(images).to(_device()))
    torch.backends.cudnn.allow_tf32 = before
    difference = float(
        np.linalg.norm(found.cpu().numpy() - wanted) / np.linalg.norm(wanted)
    )
    if not difference < _TOLERANCE:
        raise ValueError(
            f"{name}: the logits of the two differ by {difference:.2g} of "
            "their norm, so they are not the same network."
        )
    measuring.say(f"{name}: logits differ by {difference:.1e} of their norm")
    return difference


def _measure(
    name: str,
) -> tuple[dict[str, list[measuring.Parts]], dict[str, float]]:
    """Returns seconds a step of both, and the work of a step.

    The work: `torch_flops` of products and convolutions by PyTorch's count,
    `flops` of all operations and `bytes` by XLA's.
    """
    ours = _build(name, "bfloat16")
    theirs = torch_networks.build(name, _CLASSES)
    _copy_weights(ours, theirs)
    theirs.to(_device(), memory_format=torch.channels_last)
    bare, work = _compile(ours)
    work["torch_flops"] = _torch_flops(theirs)
    step = _torch_step(theirs)
    found = measuring.main_first(
        {
            "tlkeras": functools.partial(_ours, ours, bare),
            "PyTorch": functools.partial(_theirs, step),
        },
        _REPEATS.value,
    )
    return found, work


def _forget() -> None:
    """Gives the memory of one network back before the next."""
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _ours(
    model: keras.Model, bare: jax.stages.Compiled, repeat: int
) -> measuring.Parts:
    del repeat
    parts = {}
    for place in _INPUTS:
        clock = measuring.Clock()
        # The first epoch compiles, in the first repeat, and warms up.
        model.fit(
            _Batches(place),
            epochs=2,
            callbacks=[clock],
            shuffle=False,
            verbose=0,
        )
        parts[place] = clock.parts()["epoch"] / _STEPS.value
    parts["bare"] = _bare(model, bare)
    return parts


class _Batches(keras.utils.PyDataset):
    """As many batches as there are steps, on the device or on the host."""

    def __init__(self, place: str):
        super().__init__()
        self.batches = _host_batches(place)
        if place == "device":
            self.batches = [jax.device_put(self.batches[0])]

    def __len__(self):
        return _STEPS.value

    def __getitem__(self, index):
        return self.batches[index % len(self.batches)]


def _bare(model: keras.Model, step: jax.stages.Compiled) -> float:
    """Returns the seconds of the compiled step alone, without `fit`."""
    # Copies, because the step consumes them.
    state = jax.tree.map(lambda each: each.copy(), _state(model))
    batch = jax.device_put(_host_batches("device")[0])
    for _ in range(3):
        logs, state = step(state, batch)
    jax.block_until_ready(state)
    began = time.perf_counter()
    for _ in range(_STEPS.value):
        logs, state = step(state, batch)
    jax.block_until_ready((logs, state))
    return (time.perf_counter() - began) / _STEPS.value


def _state(model: keras.Model) -> tuple[list[jax.Array], ...]:
    """Returns what a step of Keras on JAX takes and gives."""
    return tuple(
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )


def _compile(
    model: keras.Model,
) -> tuple[jax.stages.Compiled, dict[str, float]]:
    """Returns the step, compiled, its FLOPs as written, its bytes as compiled.

    `fit` compiles the same for itself.
    """
    # It also makes the variables of the metrics.
    model.fit(_Batches("device"), steps_per_epoch=1, verbose=0)
    batch = jax.device_put(_host_batches("device")[0])
    step = jax.jit(model.train_step, donate_argnums=0)
    lowered = step.lower(_state(model), batch)
    compiled = lowered.compile()
    # Of what is compiled a GPU's library calls are left out of the FLOPs.
    return compiled, {
        "flops": (lowered.cost_analysis() or {}).get("flops", 0.0),
        "bytes": (compiled.cost_analysis() or {}).get("bytes accessed", 0.0),
    }


def _torch_step(
    classifier: torch_networks.Classifier,
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Returns a step of PyTorch: (images, targets) -> loss."""
    compiled = torch.compile(classifier, mode=_MODE.value)
    optimizer = torch.optim.Adam(
        classifier.parameters(),
        lr=_RATE,
        # As Keras has it.
        eps=1e-7,
        fused=torch.cuda.is_available(),
    )

    def step(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(_device(), torch.bfloat16):
            logits = compiled(images)
        loss = torch.nn.functional.cross_entropy(logits, targets)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _theirs(step: Callable, repeat: int) -> measuring.Parts:
    del repeat
    parts = {}
    for place in _INPUTS:
        # As with ours: as many steps to compile and warm up.
        for measured in (False, True):
            began = time.perf_counter()
            for images, targets in _torch_batches(place):
                loss = step(images, targets)
            loss.item()
            if measured:
                parts[place] = (time.perf_counter() - began) / _STEPS.value
    return parts


def _torch_batches(
    place: str,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields a batch a step; from the host by pinned memory."""
    batches = [
        (_planes(images), torch.from_numpy(targets).long())
        for images, targets in _host_batches(place)
    ]
    if place == "device":
        batches = [tuple(each.to(_device()) for each in batches[0])]
    for number in range(_STEPS.value):
        images, targets = batches[number % len(batches)]
        if place != "device" and torch.cuda.is_available():
            images = images.pin_memory().to(_device(), non_blocking=True)
            targets = targets.to(_device(), non_blocking=True)
        yield images, targets


def _torch_flops(classifier: torch_networks.Classifier) -> float:
    """Returns the FLOPs of products and convolutions in a step.

    Counted forward, times three: the gradients by the weights and by the
    inputs take as many each. PyTorch's own count of the way back has grouped
    convolutions as if they were not (EfficientNetV2B0: fivefold).
    """
    images, _ = next(_torch_batches("device"))
    with (
        torch.no_grad(),
        flop_counter.FlopCounterMode(display=False) as counter,
    ):
        classifier(images)
    return 3.0 * counter.get_total_flops()


def _build(name: str, precision: str) -> keras.Model:
    """Returns our classifier, ready to fine-tune all of it."""
    keras.utils.set_random_seed(0)
    model = classifiers.build_classifier(
        _CLASSES,
        backbone=name,
        weights="none",
        image_size=_SIZE.value,
        head_initializer="glorot_uniform",
        precision=precision,
    )
    generator = np.random.default_rng(0)
    for variable in bases.of(model).network.weights:
        # A fresh BatchNorm passes what it gets, and would hide a wrong one.
        if len(variable.shape) == 1:
            noise = generator.uniform(-0.2, 0.2, variable.shape)
            variable.assign(variable + noise)
    classifiers.unfreeze(model)
    phase = records.Phase("finetune", "all", 2, _RATE)
    one_phase.compile(model, phase, _STEPS.value)
    return model


def _copy_weights(ours: keras.Model, theirs: torch_networks.Classifier) -> None:
    torch_networks.same_weights(
        theirs, bases.of(ours).network, ours.get_layer("head")
    )


def _host_batches(place: str) -> list[tuple[np.ndarray, np.ndarray]]:
    images = _images(_BATCH.value * _HOST_BATCHES)
    if place != "uint8":
        images = images.astype(np.float32)
    targets = np.arange(len(images), dtype=np.int32) % _CLASSES
    parts = np.split(np.arange(len(images)), _HOST_BATCHES)
    return [(images[part], targets[part]) for part in parts]


def _images(count: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    shape = (count, _SIZE.value, _SIZE.value, 3)
    return generator.integers(0, 256, shape, np.uint8)


def _planes(images: np.ndarray) -> torch.Tensor:
    """Returns [n, h, w, c] as [n, c, h, w]; in memory nothing moves."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _product() -> float:
    """Returns the FLOP/s of a product of square matrices in bfloat16."""
    keys = jax.random.split(jax.random.key(0))
    shape = (_MATRIX.value, _MATRIX.value)
    left, right = (
        jax.random.normal(key, shape, jax.numpy.bfloat16) for key in keys
    )
    seconds = _median(jax.jit(jax.numpy.matmul), left, right)
    return 2 * _MATRIX.value**3 / seconds


def _copy() -> float:
    """Returns the bytes a second that go through the device's memory."""
    numbers = jax.random.normal(jax.random.key(0), (4 * _MATRIX.value**2,))
    seconds = _median(jax.jit(lambda each: each + 1), numbers)
    return 2 * numbers.nbytes / seconds


def _median(function: Callable, *arguments: jax.Array) -> float:
    jax.block_until_ready(function(*arguments))
    seconds = [
        measuring.seconds(lambda: jax.block_until_ready(function(*arguments)))
        for _ in range(20)
    ]
    return float(np.median(seconds))


def _speeds(
    name: str, found: dict[str, list[measuring.Parts]]
) -> list[tuple[str, ...]]:
    ours, theirs = found["tlkeras"], found["PyTorch"]
    rows = []
    for place in _INPUTS:
        rows.append(
            (
                name,
                place,
                _speed(ours, place),
                _speed(theirs, place),
                measuring.ratio(theirs, ours, place),
            )
        )
    return rows


def _speed(measured: list[measuring.Parts], place: str) -> str:
    values = sorted(_BATCH.value / each[place] for each in measured)
    middle = float(np.median(values))
    digits = 0 if middle >= 100 else 2
    low, middle, high = (
        f"{each:,.{digits}f}" for each in (values[0], middle, values[-1])
    )
    return f"{middle} ({low} to {high})"


def _bounds(
    name: str,
    found: dict[str, list[measuring.Parts]],
    work: dict[str, float],
    product: float,
    copy: float,
    difference: float,
) -> tuple[str, ...]:
    bare = measuring.median(found["tlkeras"], "bare")
    fit = measuring.median(found["tlkeras"], "device")
    rate = work["torch_flops"] / bare
    return (
        name,
        f"{1e3 * bare:.2f}",
        f"{1e3 * (fit - bare):.2f}",
        f"{work['torch_flops'] / _BATCH.value / 1e9:.2f}",
        f"{work['flops'] / _BATCH.value / 1e9:.2f}",
        f"{rate / 1e12:.3g}",
        f"{100 * rate / product:.0f} %",
        f"{work['bytes'] / 1e9:.3g}",
        f"{100 * work['bytes'] / bare / copy:.0f} %",
        f"{difference:.1e}",
    )


def _notes(product: float, copy: float) -> tuple[str, ...]:
    return (
        f"On this device a product of {_MATRIX.value} x {_MATRIX.value} "
        f"matrices in bfloat16 does {product / 1e12:.3g} TFLOP/s, a copy "
        f"moves {copy / 1e9:,.0f} GB/s.",
        "GFLOP/image are the products and convolutions of a step, three times "
        "PyTorch's count of the way forward; XLA",
        "leaves out what falls on padding and adds what is no product. TFLOP/s "
        "are the first over our bare step. GB/step",
        "is what XLA's compiler says that the compiled step reads and writes. "
        "A step at the rate of the product is bound",
        "by arithmetic, one at the rate of the copy by memory, and one that is "
        "slower from the host by the way there.",
    )


if __name__ == "__main__":
    app.run(main)
