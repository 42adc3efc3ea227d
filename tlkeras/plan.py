"""What a run is going to do, checked before TensorFlow is imported.

TensorFlow takes seconds to import, and a mistake in a path or a name should
be told at once and leave nothing behind.
"""

import dataclasses
import datetime
import os
import pathlib
import re
import tomllib

from tlkeras import catalog
from tlkeras import config as configs
from tlkeras import errors
from tlkeras import files
from tlkeras import progress as progresses
from tlkeras import strategies
from tlkeras.backbones import locate
from tlkeras.data import sources


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run that can begin.

    config: with absolute paths. directory: where its results go.
    resumes: whether a killed run of the same settings left phases there.
    """

    config: configs.Config
    directory: pathlib.Path
    resumes: bool
    row: catalog.Backbone
    image_size: int
    weights: str
    strategy: strategies.Strategy
    source: sources.Source


def make(
    config: configs.Config,
    workdir: str | os.PathLike = "",
    *,
    progress: progresses.Progress,
) -> Plan:
    """Returns the plan for `config`; writes nothing.

    workdir: '' is a new directory below `runs/`.

    Raises `UserError` for whatever is wrong and can be known already.
    """
    row = catalog.find(config.backbone)
    size = row.default_size
    if config.image_size != "auto":
        size = int(config.image_size)
    if size < row.smallest_size:
        raise errors.UserError(
            f"`image_size` must be at least {row.smallest_size} pixels for "
            f"{row.name}. Received: {size}."
        )
    strategy = config.strategy_phases()
    weights = config.weights if strategy.pretrained else "none"
    file = locate.weights(weights)
    if weights == "imagenet" and "imagenet" not in row.weights:
        raise errors.UserError(
            f"there are no ImageNet weights for {row.name}. Give --weights a "
            "file or an earlier run, or --strategy=scratch."
        )
    config = dataclasses.replace(
        config,
        data=sources.absolute(config.data),
        backbone=row.name,
        weights=config.weights if file is None else _absolute(config.weights),
        data_dir=_absolute(config.data_dir) if config.data_dir else "",
    )
    directory, resumes = _claim(config, workdir)
    source = sources.open(
        config.data, data_dir=config.data_dir, progress=progress
    )
    sources.check_classes(source)
    return Plan(
        config, directory, resumes, row, size, weights, strategy, source
    )


def _absolute(path: str) -> str:
    return str(pathlib.Path(path).expanduser().absolute())


def _claim(
    config: configs.Config, workdir: str | os.PathLike
) -> tuple[pathlib.Path, bool]:
    """Returns the directory for the run, and whether one goes on there."""
    if not workdir:
        files.check_directory("runs", "workdir")
        return _new_directory(config), False
    directory = files.check_directory(workdir, "workdir")
    if not directory.exists() or not any(directory.iterdir()):
        return directory, False
    if (directory / "report.json").exists():
        raise errors.UserError(
            f"`workdir` {directory} holds a finished run, which is not "
            "overwritten. Choose another, or remove it."
        )
    try:
        text = (directory / "config.toml").read_text(encoding="utf-8")
        earlier = configs.build(tomllib.loads(text))
    except (OSError, ValueError):
        raise errors.UserError(
            f"`workdir` {directory} holds something else than a run. Choose "
            "another."
        ) from None
    if earlier != config:
        changed = [
            name
            for name in (*configs.settings(), "phases")
            if getattr(earlier, name) != getattr(config, name)
        ]
        raise errors.UserError(
            f"`workdir` {directory} holds an unfinished run with other "
            f"settings ({', '.join(changed)}). Choose another, or remove it."
        )
    return directory, True


def _new_directory(config: configs.Config) -> pathlib.Path:
    data = re.sub(r"[^A-Za-z0-9]+", "-", config.data.rpartition("/")[2])
    data = data.partition("-")[2] if data.startswith("builtin") else data
    way = "phases" if config.phases else config.strategy
    day = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = "-".join([day, data.strip("-"), config.backbone, way])
    directory = pathlib.Path("runs", name).absolute()
    number = 2
    while directory.exists():
        directory = directory.with_name(f"{name}-{number}")
        number += 1
    return directory
