"""What advice is asked about, checked before TensorFlow is imported."""

import dataclasses
import pathlib

from tlkeras import files
from tlkeras import places
from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras.data import sources
from tlkeras.settings import budget as budgets
from tlkeras.settings import config as configs


@dataclasses.dataclass(frozen=True)
class Subject:
    """What advice is asked about; the settings are those of `train`.

    image_size: side in pixels. batch: images a step. cache_dir: what is kept
    between runs.
    """

    source: sources.Source
    backbone: str
    weights: str
    image_size: int
    resize: str
    images_per_class: int | str
    max_pixels: int
    seed: int
    split_seed: int
    batch: int
    budget: budgets.Budget
    cache_dir: pathlib.Path


def make(config: configs.Config, *, progress: progresses.Progress) -> Subject:
    """Returns what advice is asked about; writes nothing.

    Raises `UserError` for whatever is wrong and can be known already.
    """
    config = plans.resolve(config, "--weights=none")
    cache_dir = files.cache_directory(config.cache_dir)
    source = sources.open(
        config.data, data_dir=config.data_dir, progress=progress
    )
    plans.check_sizes(source, config)
    places.check_cache(config.cache_dir, places.data_folders(source))
    return Subject(
        source,
        config.backbone,
        config.weights,
        int(config.image_size),
        config.resize,
        config.images_per_class,
        config.max_pixels,
        config.seed,
        config.split_seed,
        configs.AUTO_BATCH
        if config.batch_size == "auto"
        else int(config.batch_size),
        budgets.parse(config.budget),
        cache_dir,
    )
