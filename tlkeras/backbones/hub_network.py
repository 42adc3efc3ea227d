"""Builds the networks of keras-hub's presets, divided into their blocks.

In keras-hub an encoder of tokens is one layer, which can only learn as a whole.
Here its blocks are the layers of the network, called as the encoder calls
them: the numbers are the same to the bit.
"""

import textwrap
import warnings
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tlkeras import errors
from tlkeras.backbones import hub
from tlkeras.machine import keras_private


@keras.saving.register_keras_serializable("tlkeras")
class HubNetwork(keras.Model):
    """A backbone of keras-hub by its blocks, images -> features [n, c].

    It is saved as the backbone's settings, and built anew when it is opened:
    some layers of keras-hub (0.32) cannot be made from their own settings.

    family: its name in the table of families. settings: the backbone, as Keras
    serializes it. scale, offset: what pixels are multiplied by, and what is
    added then. backbone: made of these settings; without it a new one is made.
    """

    def __init__(
        self,
        *,
        family: str,
        settings: Mapping[str, Any],
        scale: Any,
        offset: Any,
        backbone: keras.Model | None = None,
        name: str | None = None,
    ):
        row = next(each for each in hub.FAMILIES if each.name == family)
        backbone = backbone or _deserialize(settings)
        images = keras.Input(backbone.inputs[0].shape[1:], name="images")
        features = _features(row, backbone, _scaled(images, scale, offset))
        super().__init__(images, features, name=name or row.name.lower())
        self._settings = {
            "family": family,
            "settings": dict(settings),
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


class DeiTBlock(keras.layers.Layer):
    """A block of keras-hub's DeiT, without the scores that it also gives."""

    def __init__(self, block: keras.layers.Layer, **kwargs):
        super().__init__(dtype=block.dtype_policy, **kwargs)
        self.block = block
        self.built = True

    def call(self, tokens):
        return self.block(tokens)[0]


def build(name: str, image_size: int, *, pretrained: bool) -> keras.Model:
    """Returns the network of the preset `name`, images -> features [n, c].

    image_size: side in pixels. pretrained: with the preset's weights; else its
    weights are random.

    Raises `UserError` where keras-hub cannot load the preset.
    """
    import keras_hub

    preset = hub.find(name)
    family = preset.family
    size = {}
    if family.sizes != "own":
        size = {family.size_key: (image_size, image_size, 3)}
    try:
        backbone = keras_hub.models.Backbone.from_preset(
            preset.place,
            load_weights=pretrained,
            dtype=keras.config.dtype_policy().name,
            **size,
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
    # A tower for pictures beside one for texts.
    backbone = getattr(backbone, "vision_encoder", backbone)
    settings = keras.saving.serialize_keras_object(backbone)
    config = settings["config"]
    if family.name == "EfficientNet":
        # keras-hub (0.32) does not write it.
        width = config["stackwise_width_coefficients"][-1]
        filters = backbone.get_layer("top_conv").filters
        config["num_features"] = round(filters / width)
    if family.fixed:
        config.update(family.fixed)
        if "position_embedding_shape" in config:
            # What learns is then what is saved.
            config["position_embedding_shape"] = (image_size,) * 2
        changed = _deserialize(settings)
        _copy(backbone, changed)
        backbone = changed
    made = HubNetwork(
        family=family.name,
        settings=settings,
        scale=scale,
        offset=offset,
        backbone=backbone,
    )
    if all(map(_is_of_keras, made.layers)):
        # It then opens without keras-hub.
        return keras.Model(made.input, made.output, name=made.name)
    return made


def _is_of_keras(layer: keras.layers.Layer) -> bool:
    return type(layer).__module__.startswith("keras.")


def _deserialize(settings: Mapping[str, Any]) -> keras.Model:
    try:
        import keras_hub  # noqa: F401
    except ImportError:
        raise errors.UserError(f"its base {hub.NEEDED}.") from None
    return keras.saving.deserialize_keras_object(dict(settings))


def _pixels(place: str) -> tuple[Any, Any]:
    """Returns the scale and the offset of a preset's pixels."""
    import keras_hub

    try:
        converter = keras_hub.layers.ImageConverter.from_preset(place)
        if converter is None:
            return _pixels_of_hugging_face(place)
    except (OSError, KeyError, ValueError):
        raise errors.UserError(
            f"`backbone` {hub.PREFIX}{place} does not say how it wants its "
            "pixels scaled: it has no image_converter.json (Keras), "
            "preprocessor_config.json (Hugging Face) or pretrained_cfg (timm). "
            "Save it again with its image converter."
        ) from None
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    return scale, offset


def _pixels_of_hugging_face(place: str) -> tuple[Any, Any]:
    """Returns the same of a preset whose converter keras-hub cannot make.

    Of ViT, DeiT and DINO in that layout keras-hub (0.32) reads the weights, and
    not how their pixels are scaled.
    """
    values = keras_private.hub_json(place, "preprocessor_config.json")
    scale = np.ones(3)
    if values.get("do_rescale", True):
        scale *= values.get("rescale_factor", 1 / 255)
    if not values.get("do_normalize", True):
        return scale.tolist(), 0.0
    deviation = np.array(values["image_std"])
    offset = -np.array(values["image_mean"]) / deviation
    return (scale / deviation).tolist(), offset.tolist()


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
    if family.pooling == "map" and not family.parts:
        x = backbone.call(x)
    else:
        for layer, settings in _parts(family, backbone):
            x = layer(x, **settings)
    if family.pooling == "none":
        return x
    policy = backbone.dtype_policy
    if family.pooling == "map":
        pool = keras.layers.GlobalAveragePooling2D(dtype=policy, name="pool")
    else:
        prefix = _prefix_tokens(family, backbone)
        kind = family.pooling if prefix else "mean"
        pool = TokenPooling(kind, prefix, dtype=policy, name="pool")
    return pool(x)


def _parts(
    family: hub.Family, backbone: keras.Model
) -> Iterator[tuple[keras.layers.Layer, dict[str, Any]]]:
    """Yields the layers of a chain, and what each is called with."""
    turns: dict[str, Any] = {}
    for layer in backbone.layers[1:]:
        kind = type(layer).__name__
        if kind == "DINOV3RopePositionEmbedding":
            turns = _turns(layer, backbone)
            continue
        if kind == "SwinTransformerStage":
            yield from _swin_parts(layer)
            continue
        if kind == "SigLIPVisionEmbedding":
            # It says one token more than it gives (keras-hub 0.32).
            _say_shape(layer, (layer.num_positions, layer.hidden_dim))
        if kind not in family.parts:
            yield layer, {}
            continue
        for name in family.parts[kind]:
            found = getattr(layer, name)
            for each in found if isinstance(found, list) else [found]:
                if type(each).__name__ == "DeiTEncoderBlock":
                    each = DeiTBlock(each, name=each.name)
                yield each, turns


def _swin_parts(
    stage: keras.layers.Layer,
) -> Iterator[tuple[keras.layers.Layer, dict[str, Any]]]:
    """Yields the same of a stage of Swin."""
    # What a block hands to its attention as `mask` is none of Keras' masks.
    warnings.filterwarnings(
        "ignore", r"Layer 'attn' \(of type WindowAttention\)"
    )
    height, width = stage.input_resolution
    for block in stage.blocks:
        # Each stage counts its blocks from 0 on.
        block.name = f"{stage.name}_{block.name}"
        yield block, {}
    if stage.downsample is not None:
        merging = stage.downsample
        # It does not say how many tokens it leaves (keras-hub 0.32).
        tokens = ((height + 1) // 2) * ((width + 1) // 2)
        _say_shape(merging, (tokens, 2 * stage.dim))
        merging.name = f"{stage.name}_{merging.name}"
        yield merging, {"H": height, "W": width}


def _say_shape(layer: keras.layers.Layer, shape: tuple[int, ...]) -> None:
    """Lets `layer` say that it gives tensors [n, *shape]."""
    vars(layer)["compute_output_shape"] = lambda input_shape: (
        input_shape[0],
        *shape,
    )


def _turns(layer: keras.layers.Layer, backbone: keras.Model) -> dict[str, Any]:
    """Returns what the blocks of DINOv3 turn their tokens by.

    It depends on the size alone: as constants, no second tensor leads from
    block to block.
    """
    images = np.zeros((1, *backbone.inputs[0].shape[1:]), np.float32)
    return {
        "position_embeddings": tuple(
            map(keras.ops.convert_to_numpy, layer(images))
        ),
        "num_prefix_tokens": 1 + backbone.num_register_tokens,
    }


def _prefix_tokens(family: hub.Family, backbone: keras.Model) -> int:
    """Returns how many tokens stand before those of the picture."""
    own = getattr(backbone, "use_class_token", family.pooling != "mean")
    tokens = family.own_tokens if own else 0
    return tokens + getattr(backbone, "num_register_tokens", 0)


def _copy(source: keras.Model, target: keras.Model) -> None:
    """Puts the weights of a backbone into one of other settings."""
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
