"""`folder:PATH`: one folder a class, or splits above such folders."""

import dataclasses
import os
import pathlib

from tlkeras import errors
from tlkeras import files
from tlkeras import progress as progresses
from tlkeras.data.sources import listing
from tlkeras.data.sources.source import SPLIT_NAMES
from tlkeras.data.sources.source import Example
from tlkeras.data.sources.source import Source
from tlkeras.data.sources.source import normal_form
from tlkeras.data.sources.source import say_ways


def open(
    place: str, *, data_dir: str = "", progress: progresses.Progress
) -> Source:
    """Returns the source of the images below the folder `place`."""
    root = listing.path(place)
    if not os.path.isdir(root):
        what = "is no folder"
        try:
            os.stat(root)
        except PermissionError:
            raise
        except (OSError, ValueError):
            what = "does not exist"
        raise errors.UserError(
            f"`data` folder:PATH must be a folder. Received: {root}, which "
            f"{what}.{files.nearest(root)}"
        )
    left_out: set[str] = set()
    folders = listing.folders(root, left_out)
    if not folders:
        raise errors.UserError(
            "`data` folder:PATH must hold one folder of images for each "
            f"class. Received: {root}, which holds no folder."
        )
    classes = [("", folder) for folder in folders]
    above = [root]
    if _are_splits(folders):
        above += folders
        classes = _split_folders(root, folders, left_out)
    images = {folder: _images(folder, left_out) for _, folder in classes}
    examples = [
        Example(str(path), normal_form(folder.name), split)
        for split, folder in classes
        for path in images[folder]
    ]
    if not examples:
        raise errors.UserError(
            f"class folder {folders[0]} holds no image, nor does another. "
            "Fill them."
        )
    say_ways((folder.name for _, folder in classes), progress)
    if left_out:
        progress.say(
            "folders that systems make are left out: "
            f"{', '.join(sorted(left_out))}"
        )
    return dataclasses.replace(
        listing.source(f"folder:{root}", examples),
        empty=tuple(str(folder) for folder in images if not images[folder]),
        nested=tuple(
            str(folder)
            for folder, paths in images.items()
            if paths and all(path.parent != folder for path in paths)
        ),
        loose=tuple(path for each in above for path in listing.pictures(each)),
    )


def _images(folder: pathlib.Path, left_out: set[str]) -> list[pathlib.Path]:
    """Returns the images of a class."""
    if not normal_form(folder.name):
        raise errors.UserError(
            f"class folder {str(folder)!r} has a name of white space alone. "
            "Rename it."
        )
    return listing.files(folder, left_out)


def check_nested(source: Source) -> None:
    """Raises `UserError` where a class has its images in folders alone.

    One level too high, folders of years would pass for classes.
    """
    for folder in source.nested[:1]:
        below = [path.name for path in listing.folders(pathlib.Path(folder))]
        dots = ", ..." if len(below) > 3 else ""
        raise errors.UserError(
            f"class folder {folder} holds no image itself, but folders "
            f"({', '.join(below[:3])}{dots}). Name the folder right above the "
            "classes; if this is one, move its images up or list them by "
            "csv:PATH."
        )


def _are_splits(folders: list[pathlib.Path]) -> bool:
    """Returns whether these are splits: a class may be named train, too."""
    splits = [SPLIT_NAMES.get(folder.name.lower()) for folder in folders]
    if None not in splits:
        return True
    for split, folder in zip(splits, folders, strict=True):
        within = listing.entries(folder) if split == "train" else []
        if within and all(os.path.isdir(path) for path in within):
            return True
    return False


def _split_folders(
    root: pathlib.Path, folders: list[pathlib.Path], left_out: set[str]
) -> list[tuple[str, pathlib.Path]]:
    """Returns (split, class folder) where splits stand above the classes."""
    classes = []
    for folder in folders:
        split = SPLIT_NAMES.get(folder.name.lower())
        if split is None:
            raise errors.UserError(
                f"`data` {root} has a folder for the split train, so the "
                "others must be train, validation or test. Received: "
                f"{folder.name}."
            )
        within = listing.folders(folder, left_out)
        if not within:
            raise errors.UserError(
                f"split folder {folder} holds no class folder."
            )
        classes += [(split, path) for path in within]
    return classes
