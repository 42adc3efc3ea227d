"""Classifiers: a base, a head on it, and what of the base may learn."""

import functools
import numbers
from collections.abc import Sequence

import keras
import numpy as np

from tlkeras import errors
from tlkeras.backbones import base as bases
from tlkeras.backbones import catalog
from tlkeras.backbones import weights as weight_sources
from tlkeras.machine import devices
from tlkeras.machine import keras_private
from tlkeras.models import graph
from tlkeras.settings import config as configs
from tlkeras.settings import setting as setting_rules

_HEADS = ("linear", "mlp")
_PRECISIONS = ("float32", "bfloat16", "float16")


def build_classifier(
    classes: int,
    *,
    backbone: str = "MobileNetV2",
    weights: str = "imagenet",
    image_size: int | str = "auto",
    head: str = "linear",
    head_units: int = 256,
    head_initializer: str = "zeros",
    dropout: float = 0.2,
    l2: float = 0.0,
    precision: str = "float32",
) -> keras.Model:
    """Returns a functional model, images [n, h, w, 3] -> logits [n, classes].

    The images are float32, RGB, in 0..255; the base prepares them itself. The
    base is frozen, and in inference mode until its `batch_norm` is `training`.
    The arguments are the settings of the same names; `precision` is the
    number format of the computations: float32, bfloat16 or float16.

    Raises `UserError` for a value that is not allowed.

    Example:
        >>> import tlkeras
        >>> model = tlkeras.build_classifier(
        ...     5, backbone="SmallResNet", weights="none", image_size=32
        ... )
        >>> model.input_shape, model.output_shape
        ((None, 32, 32, 3), (None, 5))
        >>> len(model.trainable_variables)  # the head's kernel and bias
        2
    """
    whole: object = classes
    if not isinstance(whole, numbers.Integral) or classes < 2:
        raise errors.UserError(
            "`classes` must be a whole number of at least 2. Received: "
            f"{errors.shown(classes)}."
        )
    known = configs.settings()
    for name, value in (
        ("image_size", image_size),
        ("head", head),
        ("head_units", head_units),
        ("head_initializer", head_initializer),
        ("dropout", dropout),
        ("l2", l2),
    ):
        setting_rules.check(known[name], value, "")
    if precision not in _PRECISIONS:
        raise errors.UserError(
            f"`precision` must be one of {', '.join(_PRECISIONS)}. Received: "
            f"{precision!r}."
        )
    devices.set_conventions()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_policy(precision))
    try:
        base = build_base(backbone, weights=weights, image_size=image_size)
        images = keras.Input(base.network.input_shape[1:], name="images")
        features = base(images)
        top = build_head(
            features.shape[-1],
            classes,
            kind=head,
            units=head_units,
            initializer=head_initializer,
            dropout=dropout,
            l2=l2,
        )
        model = keras.Model(images, top(features), name="classifier")
    finally:
        keras.config.set_dtype_policy(before)
    base.owned_by(model)
    freeze(base)
    return model


def build_base(
    backbone: str, *, weights: str = "imagenet", image_size: int | str = "auto"
) -> bases.Base:
    """Returns the base of this name, images [n, h, w, 3] -> features [n, c].

    Raises `UserError` for an unknown name, a size too small, or weights that
    cannot be had or do not fit.
    """
    entry = catalog.find(backbone)
    size = entry.default_size if image_size == "auto" else int(image_size)
    return bases.Base(
        weight_sources.network(entry, size, weights),
        backbone=entry.name,
        scaling=weight_sources.scaling(entry, weights),
        name="base",
    )


def build_head(
    width: int,
    classes: int,
    *,
    kind: str = "linear",
    units: int = 256,
    initializer: str = "zeros",
    dropout: float = 0.2,
    l2: float = 0.0,
) -> keras.Model:
    """Returns a head, features [n, width] -> float32 logits [n, classes].

    kind: `linear`, one layer; `mlp`, a hidden layer of `units` before it.
      Raises `UserError` for another.
    initializer: of the last kernel; zeros keep the first steps from pushing
      random gradients into the base (Kolesnikov et al., arXiv:1912.11370).
    dropout: share of features dropped in training, in [0, 1).
    l2: penalty on the squares of the kernels.
    """
    if kind not in _HEADS:
        raise errors.UserError(
            f"`head` must be one of {', '.join(_HEADS)}. Received: {kind!r}."
        )
    penalty = keras.regularizers.L2(l2) if l2 else None
    features = keras.Input((width,), name="features")
    x = features
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    if kind == "mlp":
        x = keras.layers.Dense(
            units, "relu", kernel_regularizer=penalty, name="hidden"
        )(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name="hidden_dropout")(x)
    logits = keras.layers.Dense(
        classes,
        kernel_initializer=initializer,
        kernel_regularizer=penalty,
        dtype="float32",
        name="logits",
    )(x)
    return keras.Model(features, logits, name="head")


def freeze(base: bases.Base | keras.Model) -> None:
    """Lets nothing of the base learn; a model over it must compile again.

    Example:
        >>> import tlkeras
        >>> model = tlkeras.load("runs/photos").model
        >>> tlkeras.unfreeze(model)
        'all'
        >>> tlkeras.freeze(model)
        >>> len(model.trainable_variables)
        2
    """
    _select(_base(base), learns=False)


def unfreeze(base: bases.Base | keras.Model, what: str = "all") -> str:
    """Lets `what` of the base learn, and returns it as block cuts have it.

    what: `all`, `none`, `stages:N` (the N topmost stages) or `from:LAYER`. A
      layer inside a block snaps to the block's start; the answer then names
      the first layer above that cut.

    A model over the base refuses `fit` until it compiles again. Raises
    `UserError` for a stage or a layer that the base does not have.

    Example:
        >>> import tlkeras
        >>> model = tlkeras.load("runs/photos").model
        >>> tlkeras.unfreeze(model, "stages:1")
        'stages:1'
        >>> model.compile("adam", "sparse_categorical_crossentropy")
    """
    base = _base(base)
    setting_rules.check(configs.settings()["unfreeze"], what, "")
    if what == "none":
        _select(base, learns=False)
        return what
    cut, snapped = graph.find_cut(base.network, what)
    _select(base, learns=True)
    if cut is not None:
        base.parts = functools.partial(graph.split, base.network, cut)
        for layer in base.network.layers:
            if layer.name in cut.below:
                layer.trainable = False
    return snapped


def below(model: keras.Model, cut: graph.Cut | None) -> keras.Model:
    """Returns what of `model` is below `cut`, images -> the tensors there.

    cut: None is the end of the base. It shares the model's weights.
    """
    base = bases.of(model)
    if cut is None:
        return keras.Model(model.input, base.output)
    lower = bases.Base(
        graph.split(base.network, cut)[0],
        backbone=base.backbone,
        scaling=base.scaling,
        name="below",
    )
    return keras.Model(model.input, lower(model.input))


def above(model: keras.Model, cut: graph.Cut | None) -> keras.Model:
    """Returns what of `model` is above `cut`, with its weights.

    It takes the tensor at the cut, or a list of them, and calls what learns of
    the base as the model would. cut: None is the end of the base.
    """
    head = model.get_layer("head")
    if cut is None:
        return head
    base = bases.of(model)
    upper = bases.Base(
        graph.split(base.network, cut)[1],
        backbone=base.backbone,
        scaling="none",
        batch_norm=base.batch_norm,
        name="above",
    )
    inputs = [keras.Input(shape) for shape in cut.shapes]
    inputs = inputs[0] if len(inputs) == 1 else inputs
    return keras.Model(inputs, head(upper(inputs)))


def divide_logits(model: keras.Model, temperature: float) -> None:
    """Divides all logits of `model` by `temperature`, in its last layer."""
    last = model.get_layer("head").layers[-1]
    for variable in (last.kernel, last.bias):
        variable.assign(to_array(variable) / temperature)


def set_parameter_requires_grad(
    model: keras.Model, feature_extracting: bool
) -> None:
    """Freezes the whole base of `model` if `feature_extracting`.

    Example:
        >>> import tlkeras
        >>> model = tlkeras.load("runs/photos").model
        >>> tlkeras.set_parameter_requires_grad(model, True)
        >>> len(model.trainable_variables)
        2
    """
    if feature_extracting:
        freeze(model)


def initialize_model(
    num_classes: int,
    feature_extract: bool,
    use_pretrained: bool = True,
    *,
    backbone: str = "MobileNetV2",
    weights: str = "imagenet",
    image_size: int | str = "auto",
) -> keras.Model:
    """Returns a classifier whose base is frozen if `feature_extract`.

    use_pretrained: whether the base starts from `weights`, or at random. It
      then learns in training mode: it has no statistics to hold.

    Compile it before `fit`. Raises `UserError` as `build_classifier` does.

    Example:
        >>> import tlkeras
        >>> model = tlkeras.initialize_model(
        ...     2, True, False, backbone="SmallResNet", image_size=32
        ... )
        >>> model.output_shape
        (None, 2)
    """
    model = build_classifier(
        num_classes,
        backbone=backbone,
        weights=weights if use_pretrained else "none",
        image_size=image_size,
    )
    unfreeze(model)
    set_parameter_requires_grad(model, feature_extract)
    if not use_pretrained and not feature_extract:
        bases.of(model).batch_norm = "training"
    return model


def state(model: keras.Model) -> list[np.ndarray]:
    """Returns a copy of all that `model` holds, dropout's seeds included."""
    return [to_array(variable) for variable in model.variables]


def to_array(variable: keras.Variable) -> np.ndarray:
    """Returns a copy of a variable's value."""
    return np.array(keras.ops.convert_to_numpy(variable))


def restore(model: keras.Model, arrays: Sequence[np.ndarray]) -> None:
    """Puts what `state` returned into `model`.

    Raises ValueError if it is the state of another model.
    """
    for variable, array in zip(model.variables, arrays, strict=True):
        variable.assign(array)


def restore_deleted(model: keras.Model, arrays: Sequence[np.ndarray]) -> None:
    """Puts what `state` returned into variables that an interrupt emptied.

    On JAX `fit` takes the values out of the variables while a step runs. If
    Ctrl-C comes in an epoch's first step, which compiles and is the longest,
    they stay away, and Keras then reads initial values, without a word.
    """
    for variable, array in zip(model.variables, arrays, strict=True):
        if keras_private.is_emptied(variable):
            variable.assign(array)


def _select(base: bases.Base, *, learns: bool) -> None:
    """Lets all of the base learn, or nothing.

    Each layer is told by itself: on TensorFlow Keras takes `x.trainable = v`
    for no assignment at all, also to the layers inside, where `v` is what `x`
    has already.
    """
    for layer in keras_private.flatten_layers(base):
        layer.trainable = learns
    base.parts = None
    base.require_compile()


def _base(base: bases.Base | keras.Model) -> bases.Base:
    return base if isinstance(base, bases.Base) else bases.of(base)


def _policy(precision: str) -> str:
    return precision if precision == "float32" else f"mixed_{precision}"
