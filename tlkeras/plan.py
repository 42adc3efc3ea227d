"""What is going to be done, checked before TensorFlow is imported.

TensorFlow takes seconds to import, and a mistake in a path or a name should
be told at once and leave nothing behind.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence

from tlkeras import errors
from tlkeras import files
from tlkeras import places
from tlkeras import progress as progresses
from tlkeras.backbones import catalog
from tlkeras.backbones import hub
from tlkeras.backbones import locate
from tlkeras.data import sources
from tlkeras.data import splits
from tlkeras.data.sources import csv_file
from tlkeras.machine import processes
from tlkeras.settings import config as configs
from tlkeras.settings import strategies
from tlkeras.settings import wish as wishes


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run that can begin.

    config: resolved: paths are absolute, the network is spelled as in the
      catalogue, its input has a size, and `weights` is none where the strategy
      starts from random ones.
    directory: where the results go; a killed run of the same settings may have
      left its finished phases there. Of several processes only the main one
      writes there.
    cache_dir: what is kept between runs.
    """

    config: configs.Config
    directory: pathlib.Path
    source: sources.Source
    cache_dir: pathlib.Path
    group: processes.ProcessGroup = processes.SINGLE

    @functools.cached_property
    def strategy(self) -> strategies.Strategy:
        """The strategy that the settings describe."""
        return self.config.strategy_phases()

    @property
    def image_size(self) -> int:
        """Side of the network's input in pixels."""
        return int(self.config.image_size)


def make(
    config: configs.Config,
    workdir: str | os.PathLike = "",
    *,
    comparison: bool = False,
    progress: progresses.Progress,
) -> Plan:
    """Returns the plan for `config`; writes nothing.

    workdir: '' is a new directory below `runs/`, named after the date, the
    data, the network and the strategy. comparison: whether it is the plan that
    all candidates share, and not that of one run.

    Of several processes it returns when all have one. Raises `UserError` for
    whatever is wrong and can be known already.
    """
    group = processes.join(
        config.distribute,
        coordinator=config.coordinator,
        num_processes=config.num_processes,
        process_id=config.process_id,
    )
    if not group.is_main:
        progress.silence()
    return group.main_first(
        lambda: _make(config, workdir, comparison, group, progress)
    )


def _make(
    config: configs.Config,
    workdir: str | os.PathLike,
    comparison: bool,
    group: processes.ProcessGroup,
    progress: progresses.Progress,
) -> Plan:
    config = resolve(config)
    if group.processes > 1 and config.strategy_phases().decides:
        raise errors.UserError(
            f"`strategy` {config.strategy} decides in one process. Received: "
            f"num_processes = {group.processes}. Give another strategy; "
            "`tlkeras advise` says which."
        )
    # Opening a source may take a download, so it comes last.
    directory = pathlib.Path()
    if group.is_main:
        directory = _claim(config, workdir, comparison)
    source = sources.open(
        config.data, data_dir=config.data_dir, progress=progress
    )
    check_sizes(source, config)
    if source.loose:
        progress.say(
            f"{errors.count(len(source.loose), 'image')} beside the folders of "
            f"classes left out: {errors.few(source.loose)}"
        )
    cache_dir = files.cache_directory(config.cache_dir)
    if group.is_main:
        data = places.data_folders(source)
        places.check_outside(directory, data, "workdir")
        places.check_cache(config.cache_dir, data)
    return Plan(config, directory, source, cache_dir, group)


def resolve(
    config: configs.Config, instead: str = "--strategy=scratch"
) -> configs.Config:
    """Returns the settings as a run uses them.

    instead: what a message advises where there are no ImageNet weights.

    Raises `UserError` for an unknown network, images smaller than it takes,
    and weights that are not there.
    """
    backbone, size = image_size(config.backbone, config.image_size)
    pretrained = config.strategy_phases().pretrained
    weights = config.weights if pretrained else "none"
    if weights == "imagenet":
        locate.check_imagenet(backbone, instead)
    elif locate.weights(weights) is not None:
        weights = _absolute(weights)
    return dataclasses.replace(
        config,
        data=sources.absolute(config.data),
        data_dir=_absolute(config.data_dir) if config.data_dir else "",
        cache_dir=_absolute(config.cache_dir) if config.cache_dir else "",
        backbone=backbone.name,
        image_size=size,
        weights=weights,
    )


def image_size(backbone: str, size: int | str) -> tuple[catalog.Backbone, int]:
    """Returns the network of this name, and its input's side in pixels.

    size: `auto` is the network's own. Raises `UserError` for an unknown
    network and for images smaller than it takes.
    """
    network = catalog.find(backbone)
    pixels = network.default_size if size == "auto" else int(size)
    network.check_size(pixels)
    return network, pixels


def _absolute(path: str) -> str:
    return str(files.expand(path).absolute())


def split_sizes(plan: Plan) -> dict[str, int]:
    """Returns the images of each split, about, where a hash divides them."""
    names = ("train", "validation", "test")
    given = [example.split for example in plan.source.examples]
    if any(given):
        return {name: given.count(name) for name in names}
    test = round(splits.TEST_SHARE * len(given))
    validation = round(splits.VALIDATION_SHARE * len(given))
    sizes = (len(given) - test - validation, validation, test)
    return dict(zip(names, sizes, strict=True))


def check_sizes(source: sources.Source, config: configs.Config) -> None:
    """Raises `UserError` where a class is too small for its splits.

    Which images are equal, and so count as one, is known only when they are
    decoded; here each counts.
    """
    images = len(source.examples)
    if config.batch_size != "auto" and int(config.batch_size) > images:
        raise errors.UserError(
            f"`batch_size` must be at most the number of training images; "
            f"{source.name} has {errors.count(images, 'image')} in all. "
            f"Received: {config.batch_size}."
        )
    sources.check_classes(source)
    _check_threshold(source, config)
    if config.slices:
        csv_file.column(source.name, config.slices)
    if config.folds:
        _check_folds(source, config)
        return
    splits.assign(
        [str(index) for index in range(len(source.examples))],
        [each.label for each in source.examples],
        given=[each.split for each in source.examples],
        groups=[each.group for each in source.examples],
        seed=config.split_seed,
    )


def positive(labels: Sequence[str], name: str) -> int:
    """Returns the index of the class of two that is looked for.

    name: of the class; '' is the latter.
    """
    return labels.index(name) if name else 1


def _check_threshold(source: sources.Source, config: configs.Config) -> None:
    """Raises `UserError` where there are no two classes to tell apart."""
    wish = wishes.parse(config.threshold)
    if not wish and not config.positive:
        return
    if len(source.labels) != 2:
        raise errors.UserError(
            f"`{'threshold' if wish else 'positive'}` is for two classes; "
            f"{source.name} has {len(source.labels)}. Leave it out."
        )
    if config.positive and config.positive not in source.labels:
        raise errors.UserError(
            f"`positive` must be one of {', '.join(source.labels)}. Received: "
            f"{config.positive!r}."
            f"{errors.nearest(config.positive, source.labels)}"
        )
    if wish and config.folds:
        raise errors.UserError(
            "`threshold` is chosen on the validation images of one split. "
            f"Received: folds = {config.folds}. Leave one of the two out."
        )


def _check_folds(source: sources.Source, config: configs.Config) -> None:
    given = sorted({each.split for each in source.examples} - {""})
    if given:
        raise errors.UserError(
            f"`folds` divides all images itself, but {source.name} has given "
            f"splits: {', '.join(given)}. Received: folds = {config.folds}. "
            "Leave `folds` out, or give the images without splits."
        )
    splits.folded(
        [str(index) for index in range(len(source.examples))],
        [each.label for each in source.examples],
        groups=[each.group for each in source.examples],
        count=config.folds,
        seed=config.split_seed,
    )


def _claim(
    config: configs.Config, workdir: str | os.PathLike, comparison: bool
) -> pathlib.Path:
    """Returns the directory for the run, if it is free for it."""
    if not workdir:
        files.check_directory("runs", "workdir")
        return _name_directory(config, comparison)
    directory = files.check_directory(workdir, "workdir")
    # It may hold the beginning of this very run.
    places.check_outside_runs(directory.parent, "workdir")
    files.check_utf8(directory, "workdir")
    if not directory.exists() or not files.entries(directory):
        return directory
    for name, what in (
        ("report.json", "a finished run"),
        ("compare.json", "a finished comparison"),
    ):
        if (directory / name).exists():
            raise errors.UserError(
                f"`workdir` {directory} holds {what}, which is not "
                "overwritten. Choose another, or remove it."
            )
    try:
        earlier = configs.build(configs.read(directory / "config.toml"))
    except errors.UserError:
        raise errors.UserError(
            f"`workdir` {directory} holds something else than a run. Choose "
            "another."
        ) from None
    kind = "comparison" if (directory / places.COMPARISON).exists() else "run"
    if kind != ("comparison" if comparison else "run"):
        raise errors.UserError(
            f"`workdir` {directory} holds an unfinished {kind}. Choose "
            "another, or remove it."
        )
    earlier, config = configs.decisive(earlier), configs.decisive(config)
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
    return directory


def _name_directory(config: configs.Config, comparison: bool) -> pathlib.Path:
    """Returns a directory below runs/ that does not exist."""
    what = "compare" if comparison else config.strategy_phases().name
    network = config.backbone
    if network.startswith(hub.PREFIX):
        network = places.data_name(network)
    name = "-".join(
        [places.stamp(), places.data_name(config.data), network, what]
    )
    directory = pathlib.Path("runs", name).absolute()
    number = 2
    while directory.exists():
        directory = directory.with_name(f"{name}-{number}")
        number += 1
    return directory
