"""The one layer of ours: a network called in the mode that a phase chose.

In every released Keras 3 up to 3.15.1 `network(x, training=False)` inside a
functional model is overridden by `fit`: BatchNorm's moving statistics move
and dropout is active after unfreezing, dropout even in a frozen network
(keras PR 23364). The call below passes `training` explicitly, which holds in
all of them.
"""

import weakref
from collections.abc import Callable

import keras

from tlkeras import errors


@keras.saving.register_keras_serializable("tlkeras")
class Base(keras.layers.Layer):
    """Images [n, h, w, 3], RGB in 0..255, to features [n, c].

    It also calls a part of a network, below or above a cut, in its mode.

    network: functional model with pooled features, without classifier.
    backbone: its name in the catalogue.
    scaling: how Keras prepares its input: `caffe`, `tf`, `torch`, or `none`
      where the network does so itself.
    batch_norm: `frozen` calls the network in inference mode even while it
      learns; `training` calls what learns in training mode when the model
      trains. What is frozen is always in inference mode.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        backbone: str,
        scaling: str,
        batch_norm: str = "frozen",
        **kwargs,
    ):
        # Pixels are scaled in float32 in every number format: bfloat16 would
        # move the means of the caffe kind by up to 0.2 of a grey level.
        super().__init__(autocast=False, **kwargs)
        self.network = network
        self.backbone = backbone
        self.scaling = scaling
        self.batch_norm = batch_norm
        # Returns the frozen part and the learning part above it, where there
        # are both. A function, because Keras would save models held here.
        self.parts: Callable[[], tuple[keras.Model, keras.Model]] | None = None
        self._owners: list[weakref.ref] = []

    def call(self, images, training=None):
        images = keras.tree.map_structure(
            lambda tensor: keras.ops.cast(tensor, "float32"), images
        )
        if self.scaling != "none":
            images = keras.applications.imagenet_utils.preprocess_input(
                images, data_format="channels_last", mode=self.scaling
            )
        if not training or self.batch_norm == "frozen" or not self.trainable:
            return self.network(images, training=False)
        if self.parts is None:
            return self.network(images, training=True)
        # As one, the frozen part would be in training mode, too, and drop.
        frozen, learning = self.parts()
        return learning(frozen(images, training=False), training=True)

    def compute_output_shape(self, input_shape):
        return self.network.compute_output_shape(input_shape)

    @property
    def trainable(self) -> bool:
        return super().trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.layers.Layer.trainable.fset(self, value)
        self.require_compile()

    def owned_by(self, model: keras.Model) -> None:
        """Notes that `model` must compile when what learns here changes."""
        self._owners.append(weakref.ref(model))

    def require_compile(self) -> None:
        """Makes the models above refuse `fit` until they compile afresh.

        Keras itself goes on with the old selection, without a word.
        """
        for owner in getattr(self, "_owners", ()):
            model = owner()
            if model is not None:
                model.compiled = False

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "backbone": self.backbone,
            "scaling": self.scaling,
            "batch_norm": self.batch_norm,
            "opens_after": "import tlkeras.models.classifier, or tlkeras.load",
        }

    @classmethod
    def from_config(cls, config: dict) -> "Base":
        config = dict(config)
        config.pop("opens_after", None)
        config["network"] = keras.saving.deserialize_keras_object(
            config["network"]
        )
        return cls(**config)


def is_in(model: keras.Model) -> bool:
    """Tells whether a model has a base, and so is a classifier of ours."""
    return any(isinstance(layer, Base) for layer in model.layers)


def of(model: keras.Model) -> Base:
    """Returns the base of a classifier; raises `UserError` if it has none."""
    layers = model.layers if isinstance(model, keras.Model) else ()
    for layer in layers:
        if isinstance(layer, Base):
            return layer
    raise errors.UserError(
        "`model` must be a classifier of tlkeras.build_classifier or "
        f"tlkeras.load(...).model. Received: {errors.shown(model)}."
    )
