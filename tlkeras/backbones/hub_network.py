"""Builds the networks of keras-hub's presets, divided into their blocks.

In keras-hub an encoder of tokens is one layer, which can only learn as a whole.
Here its blocks are the layers of the network, called as the encoder calls
them: the numbers are the same to the bit.
"""

import textwrap
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import keras

from tlkeras import errors
from tlkeras.backbones import hub
from tlkeras.machine import keras_private

_INPUT = "images"


@keras.saving.register_keras_serializable("tlkeras")
class HubNetwork(keras.Model):
    """A backbone of keras-hub by its blocks, images -> features [n, c].

    It is saved as the backbone's settings, and built anew when it is opened:
    some layers of keras-hub (0.32) cannot be made from their own settings.

    family: its name in the table of families. backbone: as Keras serializes
    it. scale, offset: what pixels are multiplied by, and what is added then.
    """

    def __init__(
        self,
        *,
        family: str,
        backbone: Mapping[str, Any],
        scale: Any,
        offset: Any,
        name: str | None = None,
    ):
        row = next(each for each in hub.FAMILIES if each.name == family)
        made = _deserialize(backbone)
        shape = tuple(made.inputs[0].shape[1:])
        images = keras.Input(shape, name=_INPUT)
        # Layers that are made here have the backbone's number format.
        features = _features(row, made, _scaled(images, scale, offset))
        super().__init__(images, features, name=name or row.name.lower())
        self._settings = {
            "family": family,
            "backbone": dict(backbone),
            "scale": scale,
            "offset": offset,
        }
        for layer in self.layers:
            _save_plainly(layer)

    def get_config(self) -> dict:
        return {**self._settings, "name": self.name}

    @classmethod
    def from_config(cls, config: dict, custom_objects=None) -> "HubNetwork":
        del custom_objects
        return cls(**config)


class TokenPooling(keras.layers.Layer):
    """Tokens [n, t, c] to features [n, c], or [n, 2 c] of both kinds.

    kind: as of `hub.Family`. prefix: number of tokens before the picture's.
    """

    def __init__(self, kind: str, prefix: int, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind
        self.prefix = prefix

    def call(self, tokens):
        if self.kind == "token":
            return tokens[:, 0]
        mean = keras.ops.mean(tokens[:, self.prefix :], axis=1)
        if self.kind == "mean":
            return mean
        return keras.ops.concatenate([tokens[:, 0], mean], axis=-1)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "kind": self.kind,
            "prefix": self.prefix,
        }


def build(name: str, image_size: int, *, pretrained: bool) -> keras.Model:
    """Returns the network of the preset `name`, images -> features [n, c].

    image_size: side in pixels. pretrained: with the preset's weights; else its
    weights are random.

    Raises `UserError` where keras-hub cannot load the preset.
    """
    import keras_hub

    preset = hub.find(name)
    family = preset.family
    try:
        backbone = keras_hub.models.Backbone.from_preset(
            preset.place,
            load_weights=pretrained,
            dtype=keras.config.dtype_policy().name,
            **{family.size_key: (image_size, image_size, 3)},
        )
        scale, offset = _pixels(preset.place)
    except errors.UserError:
        raise
    # Of a damaged preset JSON, h5py, safetensors and Keras raise what they
    # like.
    except Exception as error:
        if keras_private.is_out_of_memory(error):
            raise
        line = textwrap.shorten(str(error), 300)
        raise errors.UserError(
            f"`backbone` {name} cannot be loaded by keras-hub: {line}"
        ) from error
    settings = keras.saving.serialize_keras_object(backbone)
    settings["config"].update(family.fixed)
    if "position_embedding_shape" in settings["config"]:
        # What learns is then what is saved.
        settings["config"]["position_embedding_shape"] = (image_size,) * 2
    made = HubNetwork(
        family=family.name, backbone=settings, scale=scale, offset=offset
    )
    _copy(backbone, made)
    return made


def _deserialize(backbone: Mapping[str, Any]) -> keras.Model:
    try:
        import keras_hub  # noqa: F401
    except ImportError:
        raise errors.UserError(f"its base {hub.NEEDED}.") from None
    return keras.saving.deserialize_keras_object(dict(backbone))


def _pixels(place: str) -> tuple[Any, Any]:
    """Returns the scale and the offset of a preset's pixels."""
    import keras_hub

    missing = errors.UserError(
        f"`backbone` {hub.PREFIX}{place} does not say how it wants its pixels "
        "scaled: it has no image_converter.json (Keras), "
        "preprocessor_config.json (Hugging Face) or pretrained_cfg (timm). "
        "Save it again with its image converter."
    )
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(place)
    except (FileNotFoundError, KeyError, ValueError):
        raise missing from None
    if converter is None:
        raise missing
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    return scale, offset


def _scaled(images: keras.KerasTensor, scale: Any, offset: Any) -> Any:
    # In float32 in every number format, as `Base` does it.
    return keras.layers.Rescaling(
        scale, offset, dtype="float32", name="pixels"
    )(images)


def _features(
    family: hub.Family, backbone: keras.Model, images: keras.KerasTensor
) -> keras.KerasTensor:
    """Returns what `backbone` makes of `images`, pooled, layer by layer."""
    x = images
    for layer, settings in _parts(family, backbone):
        x = layer(x, **settings)
    prefix = _prefix_tokens(backbone)
    kind = family.pooling if prefix else "mean"
    return TokenPooling(kind, prefix, dtype=backbone.dtype_policy, name="pool")(
        x
    )


def _parts(
    family: hub.Family, backbone: keras.Model
) -> Iterator[tuple[keras.layers.Layer, dict[str, Any]]]:
    """Yields the layers of a chain, and what each is called with."""
    for layer in backbone.layers[1:]:
        names = family.parts.get(type(layer).__name__)
        if names is None:
            yield layer, {}
            continue
        for name in names:
            found = getattr(layer, name)
            for each in found if isinstance(found, list) else [found]:
                yield each, {}


def _prefix_tokens(backbone: keras.Model) -> int:
    """Returns how many tokens stand before those of the picture."""
    own = int(getattr(backbone, "use_class_token", True))
    return own + getattr(backbone, "num_register_tokens", 0)


def _copy(source: keras.Model, target: keras.Model) -> None:
    """Puts the weights of a backbone into the network made of its settings."""
    found = {variable.path: variable for variable in source.variables}
    for variable in target.variables:
        # The positions as they are for this size.
        path = variable.path.replace(
            "/position_embeddings", "/interpolated_position_embeddings"
        )
        value = found.get(path, found[variable.path])
        # On JAX two variables must not share an array.
        variable.assign(keras.ops.convert_to_numpy(value))


def _save_plainly(layer: keras.layers.Layer) -> None:
    """Lets a layer save and load its weights as all layers do.

    DINOv2's embeddings (keras-hub 0.32) save what their positions have learned
    only where the changes add up to less than -1e-7: upward they are lost.
    """
    if type(layer).__name__ == "DINOV2Embedding":
        plain = keras.layers.Layer
        vars(layer).update(
            save_own_variables=lambda store: plain.save_own_variables(
                layer, store
            ),
            load_own_variables=lambda store: plain.load_own_variables(
                layer, store
            ),
        )
