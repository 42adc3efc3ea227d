"""Each private name of Keras and TensorFlow does what it is used for.

And each can be taken away: then there is another way, or one clear error.
"""

import ast
import contextlib
import pathlib
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from tensorflow.python import framework
from tensorflow.python.framework import ops

import tlkeras
from tlkeras import errors
from tlkeras.backbones import base as bases
from tlkeras.data import batches
from tlkeras.machine import devices
from tlkeras.machine import keras_private
from tlkeras.models import graph

PACKAGE = pathlib.Path(tlkeras.__file__).parent
# Private to us, or public in spite of their underscore.
OURS = {"self", "cls"}
PUBLIC = {"_fields", "_replace", "_asdict"}


def private_names(path: pathlib.Path) -> list[str]:
    """Returns what a file takes of others' private names, with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in OURS
            name = node.attr
            if name.startswith("_") and not name.startswith("__"):
                if not own and name not in PUBLIC:
                    found.append(f"{path}:{node.lineno} .{name}")
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        found += [
            f"{path}:{node.lineno} {module}"
            for module in modules
            if module.startswith(("tensorflow.python", "keras.src", "jax._src"))
        ]
    return found


def without(monkeypatch, owner: type, name: str) -> None:
    """Hides the attribute `name` of the instances of `owner`."""

    def gone(self):
        raise AttributeError(name)

    hidden = property(gone, lambda self, value: None)
    monkeypatch.setattr(owner, name, hidden, raising=False)


def test_nothing_private_is_used_elsewhere():
    used = [
        each
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "keras_private.py"
        for each in private_names(path)
    ]
    assert used == []


def custom_gradient() -> None:
    @tf.custom_gradient
    def same(x):
        return x, lambda upstream: upstream

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = same(x)
        return tape.gradient(y, x)

    step(tf.constant(1.0))


def test_gradients_of_a_step_are_forgotten():
    before = set(keras_private.gradient_registry())
    assert before
    with devices.forgetting_steps():
        custom_gradient()
        made = set(keras_private.gradient_registry()) - before
        assert any(name.startswith("CustomGradient-") for name in made)
    assert set(keras_private.gradient_registry()) == before


class Renamed:
    """TensorFlow's module `ops` with another name for its registry."""

    def __init__(self, **names: object):
        vars(self).update(names)

    def __getattr__(self, name: str) -> object:
        if name == "gradient_registry":
            raise AttributeError(name)
        return getattr(ops, name)


@pytest.mark.parametrize(
    "renamed", [Renamed(), Renamed(gradient_registry=object())]
)
def test_a_renamed_registry_stops_no_training(monkeypatch, renamed):
    monkeypatch.setattr(framework, "ops", renamed)
    assert keras_private.gradient_registry() == {}
    model = tiny.classifier()
    model.compile("adam", "mean_squared_error")
    images = np.zeros([4, *model.input_shape[1:]], np.float32)
    targets = np.zeros([4, *model.output_shape[1:]], np.float32)
    with devices.forgetting_steps():
        history = model.fit(images, targets, verbose=0).history
    assert len(history["loss"]) == 1


def test_layers_at_any_depth(monkeypatch):
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    outer = keras.Sequential([keras.Input((4,)), inner, keras.layers.ReLU()])
    base = bases.Base(outer, backbone="test", scaling="none")
    wanted = {
        id(layer)
        for layer in (base, outer, inner, *inner.layers, outer.layers[1])
    }
    private = keras_private.flatten_layers(base)
    without(monkeypatch, keras.layers.Layer, "_flatten_layers")
    public = keras_private.flatten_layers(base)
    for layers in (private, public):
        assert {id(layer) for layer in layers} >= wanted
    assert {type(layer) for layer in public} <= {
        type(layer) for layer in private
    }


def test_what_leads_to_a_tensor(monkeypatch):
    images = keras.Input((4,))
    hidden = keras.layers.Dense(3, name="hidden")(images)
    node = keras_private.node(hidden)
    assert node.operation.name == "hidden"
    assert node.input_tensors[0] is images
    assert node.outputs[0] is hidden
    network = keras.Model(images, hidden)
    without(monkeypatch, keras.KerasTensor, "_keras_history")
    with pytest.raises(RuntimeError, match=rf"Keras {keras.version()} keeps"):
        graph.describe(network)


@pytest.mark.parametrize("private", [True, False])
def test_the_variables_of_a_fit_are_made_before_it(monkeypatch, private):
    if not private:
        without(monkeypatch, keras.Model, "_symbolic_build")
    model = tiny.classifier()
    model.compile("adam", "mean_squared_error", metrics=["mae"])
    images = np.zeros([1, *model.input_shape[1:]], np.float32)
    targets = np.zeros([1, *model.output_shape[1:]], np.float32)
    keras_private.build_for_fit(model, (images, targets))
    made = {id(each) for each in model.optimizer.variables}
    # The momenta of the head's kernel and bias, the rate and the step.
    assert len(made) == 6
    model.fit(images, targets, verbose=0)
    assert {id(each) for each in model.optimizer.variables} == made


def test_what_an_interrupt_takes_away_is_noticed(monkeypatch):
    variable = keras.Variable(np.ones(3, np.float32))
    deleted = types.SimpleNamespace(is_deleted=lambda: True)
    there = types.SimpleNamespace(is_deleted=lambda: False)
    assert not keras_private.is_emptied(variable)
    for value, emptied in ((None, True), (deleted, True), (there, False)):
        monkeypatch.setattr(variable, "_value", value)
        assert keras_private.is_emptied(variable) == emptied
    assert keras_private.is_emptied(types.SimpleNamespace(value=1.0))


def test_downloads_that_fail(tmp_path):
    (tmp_path / "there").write_text("something else")
    for name, digest in (("missing", None), ("there", "0" * 64)):
        with pytest.raises(Exception) as raised:
            keras.utils.get_file(
                name,
                (tmp_path / name).as_uri(),
                file_hash=digest,
                cache_dir=str(tmp_path / "cache"),
            )
        assert keras_private.is_failed_download(raised.value)
    assert keras_private.is_failed_download(TimeoutError())
    assert not keras_private.is_failed_download(ValueError("another"))


def test_a_full_memory():
    full = tf.errors.ResourceExhaustedError(None, None, "no more")
    for error in (MemoryError(), full, RuntimeError("RESOURCE_EXHAUSTED: no")):
        assert keras_private.is_out_of_memory(error)
    assert not keras_private.is_out_of_memory(ValueError("full"))


def test_an_error_inside_a_data_set():
    def load(index):
        raise errors.UserError("image 1 is gone.")

    data = tf.data.Dataset.range(1).map(
        lambda index: tf.py_function(load, [index], tf.int64)
    )
    with pytest.raises(tf.errors.OpError) as raised:
        list(data)
    assert keras_private.python_error(raised.value, "UserError") == (
        "image 1 is gone."
    )
    assert keras_private.python_error(ValueError("another"), "UserError") == ""
    with pytest.raises(errors.UserError, match=r"^image 1 is gone\.$"):
        with batches.user_errors():
            list(data)


def test_the_place_of_a_variable_in_an_optimizer():
    variables = [keras.Variable(np.zeros(3)) for _ in range(3)]
    optimizer = keras.optimizers.Adam()
    optimizer.build(variables)
    for place, variable in enumerate(variables):
        assert keras_private.variable_index(optimizer, variable) == place
        # As TensorFlow's optimizers get it.
        found = keras_private.variable_index(optimizer, variable.value)
        assert found == place


def test_the_settings_of_a_preset(tmp_path):
    pytest.importorskip("keras_hub", reason="keras-hub is not installed")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    assert keras_private.hub_json(str(tmp_path), "config.json") == {
        "model_type": "vit"
    }


def test_first_values_come_from_numpy_where_jax_computes(monkeypatch):
    """By the seed, as often and as wide as Keras' own, and of its shapes."""

    def kernels(initializer: str, by_numpy: bool) -> list[np.ndarray]:
        keras.utils.set_random_seed(3)
        layer = keras.layers.Dense(200, kernel_initializer=initializer)
        context = keras_private.initialised_by_numpy()
        with context if by_numpy else contextlib.nullcontext():
            layer.build([None, 300])
        return [np.array(each) for each in layer.get_weights()]

    for name in ("glorot_uniform", "random_normal", "truncated_normal"):
        theirs, bias = kernels(name, False)
        with monkeypatch.context() as patch:
            patch.setattr(keras.backend, "backend", lambda: "jax")
            ours, zeros = kernels(name, True)
            np.testing.assert_array_equal(ours, kernels(name, True)[0])
        assert ours.dtype == theirs.dtype and zeros.dtype == bias.dtype
        np.testing.assert_array_equal(zeros, bias)
        assert (ours != theirs).any()
        assert abs(ours.mean()) < 0.02 * theirs.std()
        np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.02)
        np.testing.assert_allclose(ours.max(), theirs.max(), rtol=0.25)
        # As before, afterwards, and on another backend.
        np.testing.assert_array_equal(kernels(name, False)[0], theirs)
        np.testing.assert_array_equal(kernels(name, True)[0], theirs)
