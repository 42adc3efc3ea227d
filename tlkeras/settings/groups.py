"""In which order and under which headings a person is shown the settings."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Group:
    """Settings under one heading.

    everyday: those that most people need, in the order in which they are shown.
    others: the rest, shown where all are asked for.
    """

    title: str
    everyday: tuple[str, ...]
    others: tuple[str, ...] = ()


GROUPS = (
    Group(
        "Data",
        ("data", "split", "augment", "class_weights", "folds"),
        (
            "data_dir",
            "images_per_class",
            "calibration",
            "max_images",
            "max_pixels",
            "on_bad_image",
            "split_seed",
        ),
    ),
    Group(
        "Network",
        ("model", "backbone", "weights", "image_size", "resize", "for"),
        ("head", "head_units", "head_initializer", "dropout", "l2", "measure"),
    ),
    Group(
        "What learns",
        ("strategy", "strategies", "unfreeze", "budget", "seeds"),
        ("final_fit", "calibrate", "drop", "margin", "evidence_only"),
    ),
    Group(
        "Training",
        (
            "config",
            "batch_size",
            "finetune_epochs",
            "finetune_learning_rate",
            "epochs",
            "learning_rate",
        ),
        (
            "head_epochs",
            "head_learning_rate",
            "head_solver",
            "force_rate",
            "schedule",
            "warmup",
            "layer_decay",
            "adapt",
            "lora_rank",
            "patience",
            "seed",
        ),
    ),
    Group(
        "Results",
        (
            "workdir",
            "csv",
            "top",
            "sort_into",
            "json",
            "html",
            "fix",
            "output",
            "format",
            "sort",
            "label",
            "labels",
            "marked",
        ),
        (
            "max_changed",
            "probabilities",
            "tta",
            "threshold",
            "positive",
            "slices",
            "top_k",
            "coverage",
            "unknown_rate",
            "tensorboard",
        ),
    ),
    Group(
        "Machine",
        ("dry_run", "quiet", "verbose", "clear", "host", "port"),
        (
            "max_mb",
            "timeout",
            "precision",
            "cache_dir",
            "feature_cache",
            "cached_views",
            "feature_memory_gb",
            "feature_cache_gb",
            "image_store_gb",
            "distribute",
            "coordinator",
            "num_processes",
            "process_id",
        ),
    ),
)

# What other programs call a setting, and people of the field type first.
SYNONYMS = {
    "lr": ("finetune_learning_rate", "head_learning_rate", "learning_rate"),
    "model": ("backbone",),
    "arch": ("backbone",),
    "architecture": ("backbone",),
    "network": ("backbone",),
    "pretrained": ("weights",),
    "checkpoint": ("weights", "model"),
    "bs": ("batch_size",),
    "batch": ("batch_size",),
    "img_size": ("image_size",),
    "input_size": ("image_size",),
    "size": ("image_size",),
    "n_epochs": ("epochs", "finetune_epochs", "head_epochs"),
    "num_epochs": ("epochs", "finetune_epochs", "head_epochs"),
    "epochs": ("finetune_epochs",),
    "dataset": ("data",),
    "data_path": ("data",),
    "train_dir": ("data",),
    "method": ("strategy", "strategies"),
    "freeze": ("unfreeze",),
    "weight_decay": ("l2",),
    "aug": ("augment",),
    "augmentation": ("augment",),
    "early_stopping": ("patience",),
    "amp": ("precision",),
    "dtype": ("precision",),
    "gpus": ("distribute",),
    "out": ("workdir", "output", "csv"),
    "output": ("workdir", "csv"),
    "output_dir": ("workdir", "output"),
    "save_dir": ("workdir", "output"),
    "resume": ("workdir",),
    "k": ("top",),
    "topk": ("top",),
    "top_k": ("top",),
    "random_state": ("seed",),
}
