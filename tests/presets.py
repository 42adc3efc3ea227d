"""Presets of keras-hub, so small that each is made and loaded in a second."""

import pathlib

import keras
import keras_hub
import numpy as np

SIZE = 32
_TOKENS = {"num_layers": 5, "num_heads": 2, "hidden_dim": 8}
_DINO = {**_TOKENS, "patch_size": 8, "intermediate_dim": 16}

# Family: class of keras-hub's backbone, its settings.
BACKBONES = {
    "ViT": (
        "ViTBackbone",
        {**_TOKENS, "patch_size": 8, "mlp_dim": 16},
    ),
    "DINOv2": (
        "DINOV2Backbone",
        {
            **_DINO,
            "num_register_tokens": 2,
            # Made for larger images, as the real ones.
            "position_embedding_shape": (48, 48, 3),
        },
    ),
}


def backbone(family: str, **settings: object) -> keras.Model:
    """Returns keras-hub's own network, with random weights, none of them 0."""
    kind, values = BACKBONES[family]
    keras.utils.set_random_seed(0)
    made = getattr(keras_hub.models, kind)(
        **{"image_shape": (SIZE, SIZE, 3), **values, **settings}
    )
    generator = np.random.default_rng(0)
    for variable in made.trainable_variables:
        noise = generator.normal(0, 0.1, variable.shape)
        variable.assign_add(noise.astype(np.float32))
    return made


def converter(family: str) -> keras.layers.Layer:
    """Returns a converter that wants another scale of each channel."""
    kind = BACKBONES[family][0].replace("Backbone", "ImageConverter")
    return getattr(keras_hub.layers, kind)(
        image_size=(SIZE, SIZE),
        scale=(0.017, 0.018, 0.019),
        offset=(-2.1, -2.0, -1.8),
    )


def write(family: str, folder: pathlib.Path, **settings: object) -> str:
    """Writes a preset, and returns the name of the network that it is."""
    place = folder / family.lower()
    if not place.exists():
        backbone(family, **settings).save_to_preset(str(place))
        converter(family).save_to_preset(str(place))
    return f"hub:{place}"
