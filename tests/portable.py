"""What must come to the same on each backend, and on several devices.

As a script it runs one of its functions in a process of its own, whose
environment sets the backend, and prints the answer as JSON:
    python portable.py FUNCTION DEVICES ARGUMENTS_AS_JSON
"""

import contextlib
import csv
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np

# Three full batches an epoch, because JAX compiles a step for each size.
# Nothing is drawn at random but which images are mirrored.
SETTINGS = {
    "backbone": "SmallResNet",
    "image_size": 16,
    "resize": "pad",
    "batch_size": 14,
    "images_per_class": 14,
    "dropout": 0.0,
    "class_weights": "balanced",
}
PHASES = (
    {"name": "head", "unfreeze": "none", "epochs": 3, "learning_rate": 1e-1},
    {"name": "top", "unfreeze": "stages:1", "epochs": 2, "learning_rate": 1e-3},
)
# Of 21 images in batches of 8 the last has 5, which two devices cannot share
# evenly; of 17 it has one.
SPREAD = {
    "head": (21, {"unfreeze": "none"}),
    "solved": (21, {"unfreeze": "none", "solver": "logistic"}),
    "part": (21, {"unfreeze": "from:conv2"}),
    "learned": (21, {"unfreeze": "all", "batch_norm": "training"}),
    "one left": (17, {"unfreeze": "all"}),
}


def start(
    function: str,
    arguments: dict[str, Any],
    *,
    backend: str,
    devices: int = 1,
    environment: dict[str, str],
) -> subprocess.Popen:
    """Starts a process that runs `function` and prints its answer."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [
            *(sys.executable, __file__),
            *(function, str(devices), json.dumps(arguments)),
        ],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            # LLVM's optimisations take most of the time of such short runs.
            "XLA_FLAGS": f"{flags} --xla_backend_optimization_level=0",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen) -> Any:
    """Returns the answer of a process, which must end well."""
    out, error = process.communicate(timeout=400)
    assert process.returncode == 0, out + error
    return json.loads(out.splitlines()[-1])


def numbers(directory: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns what the run in `directory` came to."""
    with open(directory / "history.csv", newline="") as stream:
        history = list(csv.DictReader(stream))
    with open(directory / "predictions.csv", newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    names = ("loss", "validation_cross_entropy")
    return {
        **{
            name: np.array([float(row[name]) for row in history])
            for name in names
        },
        "probabilities": np.array([row[5:] for row in rows], np.float64),
    }


def runs(settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Trains a run for each directory in `settings`; returns the reports."""
    import tlkeras

    return {
        workdir: tlkeras.train(
            workdir=workdir,
            quiet=True,
            **{**SETTINGS, "phases": PHASES, **each},
        ).report
        for workdir, each in settings.items()
    }


def smoke(settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """As `runs`, and a phase on noise that computes in bfloat16."""
    import keras

    from tlkeras.training import placement as placements

    found = runs(settings)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = phase(21, {"unfreeze": "all"}, placements.SINGLE)
    finally:
        keras.config.set_dtype_policy("float32")
    return {"runs": found, "mixed": mixed}


def placement(phases: list[str], **places: Any) -> dict[str, Any]:
    """Runs phases on one device, and as the settings `places` say."""
    from tlkeras.machine import processes
    from tlkeras.settings import config as configs
    from tlkeras.training import placement as placements

    given = configs.build(places)
    group = processes.join(
        given.distribute,
        coordinator=given.coordinator,
        num_processes=given.num_processes,
        process_id=given.process_id,
    )
    several = placements.start(given.distribute, group)
    answers = {
        name: [
            phase(images, changes, each)
            for each in (placements.SINGLE, several)
        ]
        for name, (images, changes) in SPREAD.items()
        if name in phases
    }
    told = group.broadcast(b"process 0" if group.is_main else b"")
    group.disconnect()
    return {
        "phases": answers,
        "devices": several.devices,
        "kind": several.kind,
        "first": group.is_main,
        "told": told.decode(),
    }


def layer_rates(decay: float) -> dict[str, Any]:
    """Compares rates by depth with an optimizer for each variable.

    `optimizers`: the largest difference after steps along drawn gradients.
    `moves`: by layer, how far one step of a real phase goes, in how far it
    goes at one rate for all.
    """
    import keras
    import tiny

    from tlkeras import records
    from tlkeras.training import layer_rates as rates
    from tlkeras.training import phase as one_phase
    from tlkeras.training import setup as setups

    generator = np.random.default_rng(0)
    scales = (decay**2, decay, 1.0)
    together, alone = (
        [
            keras.Variable(np.ones((2, size)), name=f"v{size}")
            for size in (3, 4, 5)
        ]
        for _ in range(2)
    )
    schedule = keras.optimizers.schedules.CosineDecay
    one = rates.LayerwiseAdam(schedule(1e-2, 9), scales=scales)
    one.build(together)
    several = [
        keras.optimizers.Adam(schedule(1e-2 * scale, 9)) for scale in scales
    ]
    for _ in range(7):
        gradients = [generator.normal(size=each.shape) for each in together]
        gradients = [keras.ops.cast(each, "float32") for each in gradients]
        one.apply(gradients, together)
        for optimizer, gradient, variable in zip(
            several, gradients, alone, strict=True
        ):
            optimizer.apply([gradient], [variable])
    difference = max(
        float(np.abs(np.asarray(a) - np.asarray(b)).max())
        for a, b in zip(together, alone, strict=True)
    )

    def moved(layer_decay: float) -> dict[str, np.ndarray]:
        model = tiny.classifier(dropout=0.0)
        # The gradients of a base behind a head of zeros are zero.
        head = model.get_layer("head").trainable_variables[0]
        head.assign(np.random.default_rng(1).normal(size=head.shape))
        before = {each.path: np.array(each) for each in model.variables}
        phase = records.Phase("test", "all", 1, 1e-2, layer_decay=layer_decay)
        feed = tiny.feed(8)
        one_phase.fit(model, phase, feed, setups.Setup(tiny.QUIET))
        return {
            each.path: np.array(each) - before[each.path]
            for each in model.variables
        }

    plain, scaled = moved(1.0), moved(decay)
    return {
        "optimizers": difference,
        "moves": {
            path: float(np.abs(scaled[path]).sum() / np.abs(move).sum())
            for path, move in plain.items()
            if path.endswith(("kernel", "beta")) and np.abs(move).sum()
        },
    }


def phase(images: int, changes: dict[str, Any], where: Any) -> dict[str, Any]:
    """Returns what a phase of two epochs on `images` images comes to."""
    import keras
    import tiny

    from tlkeras import records
    from tlkeras.training import phase as one_phase
    from tlkeras.training import row_store
    from tlkeras.training import setup as setups

    with where.scope():
        model = tiny.classifier(dropout=0.0)
    generator = np.random.default_rng(0)
    for variable in model.variables:
        # Each backend draws its own.
        if variable.path.endswith("kernel") and "conv" in variable.path:
            variable.assign(generator.normal(0, 0.2, variable.shape))
    targets = np.arange(images + 9) % tiny.CLASSES
    pixels = generator.integers(0, 60, (images + 9, tiny.SIZE, tiny.SIZE, 3))
    pixels += 60 * targets[:, None, None, None]
    result = one_phase.fit(
        model,
        records.Phase("test", epochs=2, learning_rate=1e-2, **changes),
        tiny.of(
            pixels.astype(np.uint8),
            targets,
            train=slice(images),
            validation=slice(images, None),
            class_weights=np.array([0.5, 1.0, 2.0]),
            sharding=where.sharding,
        ),
        setups.Setup(
            tiny.QUIET,
            where,
            row_store.Storage("memory", memory_bytes=1e9),
        ),
    )
    return {
        "cross_entropy": [
            row.validation_cross_entropy for row in result.history
        ],
        "accuracy": [row.validation_accuracy for row in result.history],
        "loss": [row.loss for row in result.history],
        "views": result.views_cached,
        "weights": {
            variable.path: np.array(
                keras.ops.convert_to_numpy(variable), np.float64
            ).tolist()
            for variable in model.variables
            if "seed" not in variable.path
        },
    }


def main(function: str, devices: str, arguments: str) -> None:
    """Runs a function of this module with so many devices."""
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        import tensorflow as tf

        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * int(devices),
        )
    values = json.loads(arguments)
    with contextlib.redirect_stdout(sys.stderr):
        found = {
            "runs": runs,
            "smoke": smoke,
            "placement": placement,
            "layer_rates": layer_rates,
        }[function](**values)
    print(json.dumps(found))


if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    main(*sys.argv[1:])
