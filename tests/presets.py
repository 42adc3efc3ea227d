"""Presets of keras-hub, so small that each is made and loaded in a second."""

import json
import pathlib

import keras
import keras_hub
import numpy as np
import safetensors.numpy

SIZE = 32
_TOKENS = {
    "image_shape": (SIZE, SIZE, 3),
    "num_layers": 5,
    "num_heads": 2,
    "hidden_dim": 8,
    "patch_size": 8,
}
_DINO = {**_TOKENS, "intermediate_dim": 16, "num_register_tokens": 2}

# Family: class of keras-hub's backbone, its settings.
BACKBONES = {
    "ViT": ("ViTBackbone", {**_TOKENS, "mlp_dim": 16}),
    # Its positions are made for larger images, as the real ones.
    "DINOv2": (
        "DINOV2Backbone",
        {**_DINO, "position_embedding_shape": (48, 48, 3)},
    ),
    "DeiT": ("DeiTBackbone", {**_TOKENS, "intermediate_dim": 16}),
    "DINOv3": ("DINOV3Backbone", _DINO),
    "Swin": (
        "SwinTransformerBackbone",
        {
            "image_shape": (SIZE, SIZE, 3),
            "embed_dim": 8,
            "depths": (2, 2),
            "num_heads": (2, 2),
            "window_size": 4,
        },
    ),
    "SigLIP": ("SigLIPBackbone", {}),
    "ResNet": (
        "ResNetBackbone",
        {
            "input_conv_filters": [64],
            "input_conv_kernel_sizes": [3],
            "stackwise_num_filters": [64, 16],
            "stackwise_num_blocks": [1, 1],
            "stackwise_num_strides": [1, 2],
            "block_type": "basic_block",
        },
    ),
    "EfficientNet": (
        "EfficientNetBackbone",
        {
            "stackwise_width_coefficients": [1.0] * 3,
            "stackwise_depth_coefficients": [1.0] * 3,
            "stackwise_kernel_sizes": [3, 3, 3],
            "stackwise_num_repeats": [1, 2, 2],
            "stackwise_input_filters": [8, 8, 16],
            "stackwise_output_filters": [8, 16, 16],
            "stackwise_expansion_ratios": [1, 2, 2],
            "stackwise_squeeze_and_excite_ratios": [0.25] * 3,
            "stackwise_strides": [1, 2, 2],
            "stackwise_block_types": ["v1", "fused", "unfused"],
        },
    ),
    "MobileNetV3": (
        "MobileNetBackbone",
        {
            "stackwise_expansion": [[16], [24, 24]],
            "stackwise_num_blocks": [1, 2],
            "stackwise_num_filters": [[8], [16, 16]],
            "stackwise_kernel_size": [[3], [5, 5]],
            "stackwise_num_strides": [[2], [2, 1]],
            "stackwise_se_ratio": [[None], [0.25, 0.25]],
            "stackwise_activation": [["relu"], ["hard_swish", "hard_swish"]],
            "stackwise_padding": [[1], [2, 2]],
            "output_num_filters": 32,
            "depthwise_filters": 8,
            "depthwise_stride": 2,
            "depthwise_residual": False,
            "last_layer_filter": 32,
            "squeeze_and_excite": 0.5,
        },
    ),
    "HGNetV2": (
        "HGNetV2Backbone",
        {
            "depths": [1, 1],
            "embedding_size": 8,
            "hidden_sizes": [16, 32],
            "stem_channels": [3, 8, 8],
            "hidden_act": "relu",
            "use_learnable_affine_block": True,
            "stackwise_stage_filters": [
                (8, 8, 16, 1, 2, 3),
                (16, 8, 32, 1, 2, 3),
            ],
            "apply_downsample": [False, True],
            "use_lightweight_conv_block": [False, True],
        },
    ),
    "DenseNet": (
        "DenseNetBackbone",
        {"stackwise_num_repeats": [2, 2], "growth_rate": 4},
    ),
    "CSPNet": (
        "CSPNetBackbone",
        {
            "stem_filters": 8,
            "stem_kernel_size": 3,
            "stem_strides": 2,
            "stackwise_depth": [1, 1],
            "stackwise_strides": [1, 2],
            "stackwise_num_filters": [16, 32],
            "block_type": "dark_block",
            "stage_type": "dark",
        },
    ),
    "VGG": (
        "VGGBackbone",
        {"stackwise_num_repeats": [1, 1], "stackwise_num_filters": [8, 16]},
    ),
}


def backbone(family: str, **settings: object) -> keras.Model:
    """Returns keras-hub's own network, with random weights, none of them 0."""
    kind, values = BACKBONES[family]
    keras.utils.set_random_seed(0)
    if family == "SigLIP":
        values = _towers()
    made = getattr(keras_hub.models, kind)(**{**values, **settings})
    generator = np.random.default_rng(0)
    for variable in made.trainable_variables:
        noise = generator.normal(0, 0.1, variable.shape)
        variable.assign_add(noise.astype(np.float32))
    return made


def _towers() -> dict[str, keras.Model]:
    shape = {"num_layers": 5, "num_heads": 2, "hidden_dim": 8}
    return {
        "vision_encoder": keras_hub.models.SigLIPVisionEncoder(
            patch_size=8,
            intermediate_dim=16,
            image_shape=(SIZE, SIZE, 3),
            **shape,
        ),
        "text_encoder": keras_hub.models.SigLIPTextEncoder(
            vocabulary_size=10,
            embedding_dim=8,
            intermediate_dim=16,
            max_sequence_length=4,
            **shape,
        ),
    }


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


def write_hugging_face(folder: pathlib.Path) -> tuple[str, keras.Model]:
    """Writes a ViT as Hugging Face does; returns its name, and keras-hub's."""
    own = backbone("ViT", num_layers=1)
    embeddings, encoder = own.layers[1:]
    (block,) = encoder.encoder_layers
    layer = "vit.encoder.layer.0"
    attention = f"{layer}.attention.attention"
    tensors = {
        "vit.embeddings.cls_token": embeddings.class_token,
        "vit.embeddings.position_embeddings": keras.ops.expand_dims(
            embeddings.position_embedding.embeddings, 0
        ),
        "vit.embeddings.patch_embeddings.projection.weight": (
            keras.ops.transpose(embeddings.patch_embedding.kernel, (3, 2, 0, 1))
        ),
        "vit.embeddings.patch_embeddings.projection.bias": (
            embeddings.patch_embedding.bias
        ),
    }
    for name in ("query", "key", "value"):
        dense = getattr(block.mha, f"{name}_dense")
        kernel = keras.ops.reshape(dense.kernel, (8, 8))
        tensors[f"{attention}.{name}.weight"] = keras.ops.transpose(kernel)
        tensors[f"{attention}.{name}.bias"] = keras.ops.reshape(dense.bias, 8)
    kernel = keras.ops.reshape(block.mha.output_dense.kernel, (8, 8))
    output = f"{layer}.attention.output.dense"
    tensors[f"{output}.weight"] = keras.ops.transpose(kernel)
    tensors[f"{output}.bias"] = block.mha.output_dense.bias
    for name, norm in (
        (f"{layer}.layernorm_before", block.layer_norm_1),
        (f"{layer}.layernorm_after", block.layer_norm_2),
        ("vit.layernorm", encoder.layer_norm),
    ):
        tensors[f"{name}.weight"] = norm.gamma
        tensors[f"{name}.bias"] = norm.beta
    for name, dense in (
        (f"{layer}.intermediate.dense", block.mlp.dense_1),
        (f"{layer}.output.dense", block.mlp.dense_2),
    ):
        tensors[f"{name}.weight"] = keras.ops.transpose(dense.kernel)
        tensors[f"{name}.bias"] = dense.bias
    config = {
        "model_type": "vit",
        "image_size": SIZE,
        "patch_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_size": 8,
        "intermediate_size": 16,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "qkv_bias": True,
    }
    preprocessor = {
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.25, 0.5],
        "rescale_factor": 1 / 255,
    }
    place = folder / "hugging_face"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(config))
    (place / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    arrays = {
        name: np.ascontiguousarray(keras.ops.convert_to_numpy(tensor))
        for name, tensor in tensors.items()
    }
    safetensors.numpy.save_file(arrays, place / "model.safetensors")
    return f"hub:{place}", own


def write_timm(
    folder: pathlib.Path, architecture: str, arrays: dict[str, np.ndarray]
) -> str:
    """Writes tensors as timm does, for pixels that want ImageNet's scale."""
    place = folder / "timm"
    place.mkdir()
    config = {
        "architecture": architecture,
        "pretrained_cfg": {
            "input_size": [3, 64, 64],
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "interpolation": "bicubic",
        },
    }
    (place / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(arrays, place / "model.safetensors")
    return f"hub:{place}"
