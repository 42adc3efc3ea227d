"""Which file a setting `weights` or `model` stands for; opens nothing."""

import importlib.util
import os
import pathlib

from tlkeras import errors
from tlkeras import files
from tlkeras.backbones import catalog
from tlkeras.backbones import hub

MODEL = "model.keras"
# Files of PyTorch.
TORCH = (".pth", ".pt")
SAFETENSORS = ".safetensors"
# How the origin of weights begins that a Python package brings.
PACKAGE = "package:"
# Tensors by PyTorch's names.
TENSORS = (*TORCH, SAFETENSORS)


def weights(setting: str) -> pathlib.Path | None:
    """Returns the file that `weights` stands for, None for a word.

    A directory stands for the model of the run in it. Raises `UserError`
    where there is no such file.
    """
    if setting in ("imagenet", "none"):
        return None
    path = files.expand(setting)
    if not path.exists():
        raise errors.UserError(
            "`weights` must be imagenet, none, a weights file or the directory"
            f" of an earlier run. Received: {setting}, which does not exist."
        )
    if path.is_dir():
        if not (path / MODEL).is_file():
            raise errors.UserError(
                "`weights` must be the directory of a finished run. Received: "
                f"{path}, which holds no {MODEL}."
            )
        return path / MODEL
    if not path.is_file():
        raise errors.UserError(
            "`weights` must be a regular file or the directory of an earlier "
            f"run. Received: {path}, which is neither."
        )
    if path.suffix not in (".h5", ".keras", *TENSORS):
        raise errors.UserError(
            "`weights` must be a file of kind .h5, .weights.h5, .keras, .pth "
            f"or .safetensors. Received: {path}."
        )
    if path.suffix == SAFETENSORS and not _is_installed("safetensors"):
        raise errors.UserError(
            f"`weights` {path} needs a library to be read, which is not "
            "installed: pip install safetensors."
        )
    return path


def check_imagenet(
    backbone: catalog.Backbone, instead: str = "--strategy=scratch"
) -> None:
    """Raises `UserError` where ImageNet weights cannot be had for `backbone`.

    instead: what works without weights.
    """
    if "imagenet" not in backbone.weights:
        raise errors.UserError(
            f"there are no ImageNet weights for {backbone.name}. Give "
            f"--weights a file or an earlier run, or {instead}."
        )
    if backbone.origin.startswith(PACKAGE):
        package_file(backbone)


def origin(backbone: catalog.Backbone) -> str:
    """Returns where the ImageNet weights come from; '' if there are none."""
    if not backbone.weights:
        return ""
    if backbone.origin.startswith(PACKAGE):
        return "pip, tlkeras[weights]"
    if backbone.name.startswith(hub.PREFIX):
        return "the preset's"
    if not backbone.origin:
        return "Keras' download"
    return "torchvision's" if backbone.origin.endswith(TORCH) else "GitHub"


def package_file(backbone: catalog.Backbone) -> pathlib.Path:
    """Returns the file of ImageNet weights that a data package brings.

    Nothing of the package is run. Raises `UserError` where it is missing.
    """
    place = backbone.origin.removeprefix(PACKAGE)
    package, _, inside = place.partition("/")
    found = importlib.util.find_spec(package)
    for folder in (found and found.submodule_search_locations) or ():
        path = pathlib.Path(folder, inside)
        if path.is_file():
            return path
    raise errors.UserError(
        f"the ImageNet weights of {backbone.name} come with the package "
        f"{package.replace('_', '-')}, which is not installed: pip install "
        "'tlkeras[weights]'."
    )


def model(setting: str | os.PathLike) -> pathlib.Path:
    """Returns the .keras file that a run directory or a file stands for.

    Raises `UserError` where there is none.
    """
    given = files.expand(setting)
    found = given / MODEL if given.is_dir() else given
    if not found.is_file():
        what = "is no regular file" if given.exists() else "does not exist"
        what = f"holds no {MODEL}" if given.is_dir() else what
        raise errors.UserError(
            "`model` must be the directory of a finished run or a .keras "
            f"file. Received: {given}, which {what}."
            f"{files.nearest(given) or ' `tlkeras runs` lists runs.'}"
        )
    return found


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
