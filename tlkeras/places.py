"""What a command reads and writes, checked before it begins.

Nothing that is read is written over, and no output gets among images or into a
run, whose files belong together.
"""

import datetime
import glob
import os
import pathlib
import re
from collections.abc import Iterable

from tlkeras import errors
from tlkeras import files
from tlkeras.backbones import locate
from tlkeras.data import sources
from tlkeras.models import metadata
from tlkeras.settings import config as configs

# What a comparison keeps in its directory, and a run does not.
COMPARISON = "compare_settings.json"
# What stands beside config.toml in the directory of a run, whatever became of
# it, and in that of a comparison.
_OF_A_RUN = ("model.keras", "report.json", "checkpoint.npz", COMPARISON)


def check_model(path: str | os.PathLike) -> pathlib.Path:
    """Returns the file of the model `path`, a run directory or a model.keras.

    Raises `UserError` unless it is a model that tlkeras saved.
    """
    if not path:
        raise errors.UserError(
            "`model` must be given: the directory of a run, or a model.keras."
        )
    file = locate.model(path)
    metadata.read(file)
    return file


def find_images(paths: Iterable[str | os.PathLike]) -> list[str]:
    """Returns the files that paths, globs and folders stand for, in order.

    Raises `UserError` where one of them stands for none.
    """
    found: list[str] = []
    for path in paths:
        if not os.fspath(path):
            raise errors.UserError(
                "there is an empty name among the images to predict. Give "
                "files, folders or globs."
            )
        given = files.expand(path)
        if given.is_dir():
            some = [str(each) for each in sources.files(given)]
        elif given.exists():
            some = [str(given)]
        else:
            some = sorted(glob.glob(str(given), recursive=True))
            some = [each for each in some if pathlib.Path(each).is_file()]
        if not some:
            raise errors.UserError(
                f"there is no image to predict at {path}. Give files, folders "
                "or globs."
            )
        found += some
    if not found:
        raise errors.UserError(
            "there is nothing to predict. Give files, folders or globs."
        )
    return list(dict.fromkeys(found))


def image_folders(
    given: Iterable[str | os.PathLike], found: Iterable[str]
) -> list[str]:
    """Returns the folders among the paths `given`, and those linked into them.

    found: the images that `find_images` found there.
    """
    places = [each for each in map(files.expand, given) if each.is_dir()]
    parents = {pathlib.Path(path).parent for path in found}
    linked = [
        parent
        for parent in parents
        if any(parent.is_relative_to(place) for place in places)
    ]
    return [str(each) for each in (*places, *sorted(linked))]


def inputs(source: sources.Source) -> list[str]:
    """Returns the files that a source is read from."""
    place = sources.file_place(source.name)
    if not place:
        return []
    return [place, *(example.path for example in source.examples)]


def data_folders(source: sources.Source) -> list[str]:
    """Returns the folders whose images a source lists, whatever is in them.

    Those that are linked into them are among them. A table of images reads
    nothing but what it lists.
    """
    place = sources.file_place(source.name)
    if not os.path.isdir(place):
        return []
    parents = {os.path.dirname(example.path) for example in source.examples}
    return [place, *sorted(parents)]


def data_of_model(file: pathlib.Path) -> list[str]:
    """Returns the folder that the run of a model was trained on, if known."""
    try:
        config = configs.build(configs.read(file.parent / "config.toml"))
    except errors.UserError:
        return []
    place = sources.file_place(config.data)
    return [place] if os.path.isdir(place) else []


def check_places(data: str, **places: str) -> dict[str, pathlib.Path]:
    """Returns the files to write by setting; an empty `html` gets a name.

    Raises `UserError` where one of them cannot be written, or `fix` asked for
    of images that are no files. It writes nothing.
    """
    if places["fix"] and not sources.file_place(data):
        raise errors.UserError(
            "`fix` needs images that are files, as those of folder: and csv: "
            f"are. Received: data = {data!r}."
        )
    if not places["html"]:
        name = f"{stamp()}-{data_name(sources.absolute(data))}-check.html"
        places["html"] = str(pathlib.Path("runs", name))
    return {
        setting: files.check_file(path, setting)
        for setting, path in places.items()
        if path
    }


def check_outputs(
    inputs: Iterable[str | os.PathLike | None],
    *,
    folders: Iterable[str | os.PathLike] = (),
    **outputs: pathlib.Path | None,
) -> None:
    """Raises `UserError` where what is written is, or is in, what is read.

    inputs: the files that are read; None and '' are none. folders: directories
    of which all may be read, and none written; '' is none. outputs: what is
    written by setting, as `files.check_file` returns it; None is none.

    No output may be in the directory of a run either, all of whose files
    belong together. Another name of the same file counts as the file.
    """
    folders = tuple(folders)
    wanted: dict[pathlib.Path, str] = {}
    for setting, path in outputs.items():
        if path is None:
            continue
        if path in wanted:
            raise errors.UserError(
                f"`{setting}` and `{wanted[path]}` must be two files. "
                f"Received: {path} for both."
            )
        wanted[path] = setting
        check_outside_runs(path, setting)
    # What is not there yet is no input, and the names of many files take time.
    there = {
        _identity(path): setting
        for path, setting in wanted.items()
        if path.exists()
    }
    for given in inputs if there else ():
        if given and _identity(given) in there:
            raise errors.UserError(
                f"`{there[_identity(given)]}` must not be one of the files "
                f"that are read, which are not changed. Received: {given}. "
                "Choose another file."
            )
    for path, setting in wanted.items():
        check_outside(path, folders, setting)


def check_outside(
    path: pathlib.Path, folders: Iterable[str | os.PathLike], setting: str
) -> None:
    """Raises `UserError` where `path` is in one of `folders`, which are read.

    What stands there would be one of the images the next time, or a class.
    """
    path = path.resolve()
    # One that is not there yet is known by its path alone.
    above = [*map(_identity, (path, *path.parents))]
    for folder in [each for each in folders if each]:
        place = files.expand(folder)
        if path.is_relative_to(place.resolve()) or (
            os.path.exists(place) and _identity(place) in above
        ):
            raise errors.UserError(
                f"`{setting}` must not be in {folder}, which is read. "
                f"Received: {path}. Choose another place."
            )


def check_outside_runs(path: pathlib.Path, setting: str) -> None:
    """Raises `UserError` where `path` is, or is in, the directory of a run."""
    path = path.resolve()
    for folder in (path, *path.parents):
        if (folder / "config.toml").is_file() and any(
            (folder / name).exists() for name in _OF_A_RUN
        ):
            raise errors.UserError(
                f"`{setting}` must not be inside the directory of a run, "
                f"whose files belong together. Received: {path}, inside "
                f"{folder}. Choose another place."
            )


def check_cache(cache_dir: str, folders: Iterable[str | os.PathLike]) -> None:
    """Raises `UserError` where a named `cache_dir` is in a run or in data."""
    # The user's own place is hidden, and so in no data.
    if cache_dir:
        place = files.check_directory(cache_dir, "cache_dir")
        check_outputs([], folders=folders, cache_dir=place)


def new_directory(path: str | os.PathLike, setting: str) -> pathlib.Path:
    """Returns `path` as a directory that is new or empty.

    Raises `UserError` that names `setting` otherwise. It makes nothing.
    """
    if not path:
        raise errors.UserError(f"`{setting}` must be given: a new directory.")
    directory = files.check_directory(path, setting)
    files.check_utf8(directory, setting)
    if directory.exists() and files.entries(directory):
        raise errors.UserError(
            f"`{setting}` {directory} is not empty, and nothing is "
            "overwritten. Choose another."
        )
    check_outside_runs(directory, setting)
    return directory


def stamp() -> str:
    """Returns the time of day, as a part of a file name."""
    return datetime.datetime.now().strftime("%Y%m%d-%H%M%S")


def data_name(data: str) -> str:
    """Returns the last part of a source's name, as a part of a file name."""
    place = data.partition(":")[2].rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9]+", "-", place).strip("-")[:40]


def _identity(path: str | os.PathLike) -> tuple[int, int] | None:
    """Returns what all names of a file have in common; None for no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
