"""Networks of keras-hub: families, and what a preset says of itself.

A preset is a directory of a configuration, weights and how pixels are scaled,
in the layout of Keras, of Hugging Face or of timm. Nothing here imports Keras,
unless a preset must be downloaded.
"""

import dataclasses
import importlib.util
import json
import os
import pathlib
import textwrap
from collections.abc import Mapping
from typing import Any

from tlkeras import errors
from tlkeras import files
from tlkeras.machine import keras_private

PREFIX = "hub:"
NEEDED = "needs keras-hub, which is not installed: pip install 'tlkeras[hub]'"
_CONFIG = "config.json"
# keras-hub 0.32 has other networks' weights under these names.
_WRONG = ("efficientnet_el_", "efficientnet_em_", "efficientnet_es_")


@dataclasses.dataclass(frozen=True)
class Family:
    """What the networks of a kind have in common.

    name: short, for tables. backbone: keras-hub's class. model_types and
    architectures: what Hugging Face and timm call it; timm's begin so.
    pooling: what becomes of the last layer's tokens: `token` (the first of
      them), `mean` (of those of the picture), `token_mean` (both), `map` (the
      mean of a map), `none` (the network pools itself).
    sizes: `own` (that of the preset alone), `patch` (multiples of the patch),
      `any`.
    default_size: side in pixels; 0 is that of the preset.
    parts: what an encoder that is one layer consists of, attribute by
      attribute, by its class.
    blocks: the classes that a block of the network is one layer of.
    fixed: settings of the backbone that are others here.
    size_key: what the backbone calls the shape of its input.
    own_tokens: number of tokens before those of the picture, registers apart.
    """

    name: str
    backbone: str
    model_types: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    pooling: str = "map"
    sizes: str = "any"
    default_size: int = 0
    parts: Mapping[str, tuple[str, ...]] = dataclasses.field(
        default_factory=dict
    )
    blocks: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    size_key: str = "image_shape"
    own_tokens: int = 1


# `mask_token` stands for patches that are hidden in pre-training: nothing else
# reads it, so that it has no gradient. The drop path of DINO's blocks ends in
# an error on TensorFlow, and multiplies by a number where it should drop.
_NO_MASK = {"use_mask_token": False, "drop_path_rate": 0.0}

FAMILIES = (
    Family(
        "ViT",
        "ViTBackbone",
        model_types=("vit",),
        pooling="token",
        sizes="own",
        parts={"ViTEncoder": ("dropout", "encoder_layers", "layer_norm")},
        blocks=("ViTEncoderBlock",),
    ),
    Family(
        "DeiT",
        "DeiTBackbone",
        model_types=("deit",),
        pooling="token",
        sizes="own",
        parts={"DeiTEncoder": ("encoder_layers", "layer_norm")},
        blocks=("DeiTBlock",),
        own_tokens=2,
    ),
    Family(
        "DINOv2",
        "DINOV2Backbone",
        model_types=("dinov2", "dinov2_with_registers"),
        # As its authors' linear classifiers, which read both.
        pooling="token_mean",
        sizes="patch",
        default_size=224,
        parts={"DINOV2Encoder": ("layers",)},
        blocks=("DINOV2Layer",),
        fixed=_NO_MASK,
    ),
    Family(
        "DINOv3",
        "DINOV3Backbone",
        model_types=("dinov3_vit",),
        pooling="token",
        sizes="patch",
        default_size=224,
        parts={"DINOV3Encoder": ("layers",)},
        blocks=("DINOV3Layer",),
        fixed=_NO_MASK,
    ),
    Family(
        "Swin",
        "SwinTransformerBackbone",
        model_types=("swin",),
        pooling="mean",
        sizes="own",
        blocks=("SwinTransformerBlock", "PatchMerging"),
    ),
    Family(
        "SigLIP",
        "SigLIPBackbone",
        pooling="none",
        sizes="own",
        blocks=("SigLIPEncoderLayer", "SigLIPMultiHeadAttentionPooling"),
    ),
    Family("ResNet", "ResNetBackbone", architectures=("resnet",)),
    Family(
        "EfficientNet",
        "EfficientNetBackbone",
        architectures=("efficientnet",),
        blocks=("MBConvBlock", "FusedMBConvBlock", "CBABlock"),
        size_key="input_shape",
    ),
    Family(
        "MobileNetV3",
        "MobileNetBackbone",
        architectures=("mobilenetv3",),
        blocks=(
            "DepthwiseConvBlock",
            "InvertedResidualBlock",
            "ConvBnActBlock",
        ),
    ),
    Family(
        "HGNetV2",
        "HGNetV2Backbone",
        architectures=("hgnetv2",),
        parts={"HGNetV2Encoder": ("stages_list",)},
        blocks=("HGNetV2Embeddings", "HGNetV2Stage"),
    ),
    Family("DenseNet", "DenseNetBackbone", architectures=("densenet",)),
    Family("CSPNet", "CSPNetBackbone", architectures=("csp", "dark")),
    Family("VGG", "VGGBackbone", architectures=("vgg",)),
)
# Classes of keras-hub behind which a block ends.
BLOCKS = frozenset(name for family in FAMILIES for name in family.blocks)
_NAMES = ", ".join(family.name for family in FAMILIES)


@dataclasses.dataclass(frozen=True)
class Preset:
    """What is known of a preset without its weights.

    place: what keras-hub finds it by; a directory is absolute. family: its
    row. size: side in pixels of the images that it was made for. patch: side
    in pixels of a patch, 1 where it has none.
    """

    place: str
    family: Family
    size: int
    patch: int

    @property
    def default_size(self) -> int:
        """Side in pixels of the images that it takes, if nothing is said."""
        return self.family.default_size or self.size


def title(name: str) -> str:
    """Returns the name of a network without where on this machine it is."""
    if name.startswith((f"{PREFIX}/", f"{PREFIX}~", f"{PREFIX}.")):
        return PREFIX + name.rstrip("/").rpartition("/")[2]
    return name


def find(name: str) -> Preset:
    """Returns what is known of the network `name`, `hub:PRESET`.

    Raises `UserError` where there is no such preset, it is none of a network
    for pictures that is known here, or keras-hub is not installed.
    """
    place = name.removeprefix(PREFIX)
    if not place:
        raise errors.UserError(
            "`backbone` hub: must name a preset of keras-hub, hf://USER/MODEL "
            f"or a directory. Received: {name!r}."
        )
    if importlib.util.find_spec("keras_hub") is None:
        raise errors.UserError(f"`backbone` {name} {NEEDED}.")
    if place.startswith(_WRONG):
        raise errors.UserError(
            f"`backbone` {name} would be EfficientNetB1: keras-hub has its "
            "weights under that name. Give --backbone=hub:efficientnet_b1_"
            "ft_imagenet if you mean these."
        )
    path = files.expand(place)
    if path.is_dir():
        place = str(path.absolute())
        config = _local_config(path)
    elif "://" not in place and ("/" in place or place.startswith((".", "~"))):
        raise errors.UserError(
            "`backbone` hub: must name a preset of keras-hub, hf://USER/MODEL "
            f"or a directory. Received: {place}, which does not exist."
        )
    else:
        config = _remote_config(place)
    family, values = _family(place, config)
    size, patch = _size(values), _first(values.get("patch_size"))
    return Preset(place, family, size, patch if family.sizes != "any" else 1)


def _local_config(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / _CONFIG
    if not path.is_file():
        raise errors.UserError(
            f"`backbone` {folder} is no preset: it holds no {_CONFIG}."
        )
    try:
        content = files.read(path, most=files.LARGEST_SETTINGS)
        config = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise errors.UserError(
            f"`backbone` {path} cannot be read: {error}."
        ) from None
    if not isinstance(config, dict):
        raise errors.UserError(f"`backbone` {path} describes no network.")
    return config


def _remote_config(place: str) -> dict[str, Any]:
    # The catalogue is read without NumPy, which this imports.
    from tlkeras.machine import processes

    # keras-hub imports TensorFlow, and JAX must have its devices before.
    processes.take_devices()
    # It would say beforehand what the one line says.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    try:
        return keras_private.hub_json(place, _CONFIG)
    # What a server, two libraries of downloads and Keras raise has no class.
    except Exception as error:
        raise errors.UserError(
            f"`backbone` {PREFIX}{place}: keras-hub cannot get that preset: "
            f"{textwrap.shorten(str(error), 300)} A directory with its files "
            "can be given in its place."
        ) from None


def _family(
    place: str, config: Mapping[str, Any]
) -> tuple[Family, Mapping[str, Any]]:
    """Returns the row of a configuration, and where its sizes stand."""
    kind = str(
        config.get("registered_name")
        or config.get("model_type")
        or config.get("architecture")
    )
    for family in FAMILIES:
        if kind.rpartition(">")[2] == family.backbone:
            values = config.get("config", {})
            tower = values.get("vision_encoder") or {}
            return family, tower.get("config", values)
        if "model_type" in config and kind in family.model_types:
            return family, config
        if "architecture" in config and kind.startswith(family.architectures):
            return family, config.get("pretrained_cfg", {})
    raise errors.UserError(
        f"`backbone` {PREFIX}{place} is a {kind}. Of keras-hub's networks "
        f"these can be a base: {_NAMES}."
    )


def _size(values: Mapping[str, Any]) -> int:
    """Returns the side in pixels, 224 where a preset leaves it open."""
    for name in ("image_shape", "input_shape", "image_size"):
        if found := _first(values.get(name)):
            return found
    # timm's: channels, height, width.
    shape = values.get("input_size")
    return _first(shape[1:]) if isinstance(shape, list) else 224


def _first(value: Any) -> int:
    """Returns a number, or the first of several; 0 where there is none."""
    if isinstance(value, list | tuple):
        value = value[0] if value else 0
    return int(value) if isinstance(value, int | float) else 0
