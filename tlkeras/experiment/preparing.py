"""What a run starts from: an untrained classifier, and its images."""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Iterator

import keras

from tlkeras import errors
from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras.backbones import base as bases
from tlkeras.backbones import locate
from tlkeras.data import batches
from tlkeras.data import dataset as datasets
from tlkeras.data import images as image_stores
from tlkeras.machine import compiled
from tlkeras.machine import devices
from tlkeras.models import adapters
from tlkeras.models import classifier as classifiers
from tlkeras.models import graph
from tlkeras.settings import config as configs
from tlkeras.training import placement as placements

# Of `--batch_size=auto` on an accelerator: the most images, the least steps of
# an epoch, and the memory asked for each pixel of an image [bytes]. What all
# layers of ResNet50 give takes 3,000 in float32.
_LARGEST_BATCH = 128
_STEPS = 50
_IMAGE_BYTES = 5_000


@dataclasses.dataclass(frozen=True)
class Untrained:
    """A classifier before its phases, and the devices it was built on.

    notes: what `unfreeze` comes to where it is not what was asked for.
    """

    model: keras.Model
    placement: placements.Placement
    notes: tuple[str, ...]


def build(plan: plans.Plan) -> Untrained:
    """Returns the classifier of `plan`, untrained, and seeds what is random.

    Raises `UserError` where its weights do not fit, or a phase names a part
    that the base lacks, which otherwise only the phase itself would see.
    """
    config, group = plan.config, plan.group
    group.agree(settings_digests(plan))
    devices.leave_to_keras()
    compiled.keep(plan.cache_dir)
    keras.utils.set_random_seed(config.seed)
    placement = placements.start(config.distribute, group)
    if group.processes > 1 and config.weights == "imagenet":
        # One after the other, since several on a host download to one file.
        group.main_first(
            lambda: classifiers.build_base(
                config.backbone, image_size=plan.image_size
            )
        )
    with placement.scope():
        model = classifiers.build_classifier(
            len(plan.source.labels),
            backbone=config.backbone,
            weights=config.weights,
            image_size=plan.image_size,
            head=config.head,
            head_units=config.head_units,
            head_initializer=config.head_initializer,
            dropout=config.dropout,
            l2=config.l2,
            precision=devices.precision(config.precision),
        )
    return Untrained(model, placement, unfreeze_notes(plan, model))


def read(
    plan: plans.Plan, *, progress: progresses.Progress
) -> datasets.Dataset:
    """Returns the images of `plan`, scanned, split, and ready to be read.

    Raises `UserError` where they cannot be.
    """
    config, group = plan.config, plan.group
    data = group.run_on_all(
        lambda: datasets.prepare(
            plan.source,
            shape=shape(plan),
            split_seed=config.split_seed,
            images_per_class=config.images_per_class,
            folds=config.folds,
            on_bad_image=config.on_bad_image,
            store_bytes=config.image_store_gb * 1e9,
            directory=plan.directory,
            cache_dir=plan.cache_dir,
            progress=progress,
        )
    )
    group.agree({"images": datasets.digest(data)})
    return data


@contextlib.contextmanager
def reading(
    plan: plans.Plan, *, progress: progresses.Progress
) -> Iterator[datasets.Dataset]:
    """Yields the images of `plan`, as `read` returns them; closes them.

    Where one can no longer be read, the `UserError` says what to do.
    """
    with contextlib.closing(read(plan, progress=progress)) as data:
        try:
            with batches.user_errors():
                yield data
        except errors.UserError:
            data.check("train", "validation", "test")
            raise


def auto_batch(images: int, image_size: int, count: int = 1) -> int:
    """Returns what `--batch_size=auto` comes to for so many training images.

    On an accelerator it is doubled as long as an epoch has many steps and the
    memory is surely large enough: at 224 pixels a GPU computes 128 images in
    hardly more time than 32. An unknown memory stays at 32.

    image_size: side of the network's input [pixels]. count: of the devices.
    """
    batch = configs.AUTO_BATCH
    if devices.has_accelerator():
        room = count * devices.memory() / (_IMAGE_BYTES * image_size**2)
        while (
            2 * batch <= min(_LARGEST_BATCH, room)
            and images >= 2 * batch * _STEPS
        ):
            batch *= 2
    return min(batch, images)


def rate_factor(config: configs.Config, batch: int) -> float:
    """Returns by how much learning rates are multiplied for `batch` images.

    A rate is meant for 32 images. Where the program takes more, Adam's grows
    with the square root of their number (Malladi et al. 2022,
    https://arxiv.org/abs/2205.10287); where the user does, it stays.
    """
    if config.batch_size != "auto":
        return 1.0
    return max(1.0, batch / configs.AUTO_BATCH) ** 0.5


def images_a_step(
    config: configs.Config, data: datasets.Dataset, count: int
) -> int:
    """Returns the images a step, of all devices together.

    count: of the devices.

    Raises `UserError` if there are not as many, because an epoch would be one
    step, and not the one that was asked for; or if they cannot be shared.
    """
    images = len(data.positions("train"))
    if config.batch_size == "auto":
        most = auto_batch(images, data.images.size, count)
        return most - most % count or most
    if int(config.batch_size) > images:
        raise errors.UserError(
            f"`batch_size` must be at most the number of training images, "
            f"{images}. Received: {config.batch_size}."
        )
    if int(config.batch_size) % count:
        raise errors.UserError(
            "`batch_size` must be a multiple of the number of devices, "
            f"{count}, that share it. Received: {config.batch_size}."
        )
    return int(config.batch_size)


def settings_digests(plan: plans.Plan) -> dict[str, str]:
    """Returns what decides a run beside its images, by what it is called.

    Processes that differ in it would fail in JAX, when the model is built, and
    a killed run that goes on with it would be another one.
    """
    # Paths may differ between hosts.
    config = dataclasses.replace(
        configs.decisive(plan.config), data="", data_dir="", weights=""
    )
    file = locate.weights(plan.config.weights)
    weights = _digest(b"")
    if file is not None:
        with file.open("rb") as stream:
            weights = hashlib.file_digest(stream, _blake).hexdigest()
    return {
        "settings": _digest(configs.to_toml(config).encode()),
        "weights": weights,
        "versions": _digest(repr(devices.versions()).encode()),
    }


def unfreeze_notes(plan: plans.Plan, model: keras.Model) -> tuple[str, ...]:
    """Returns what is frozen or learns where it is not what one wants.

    Raises `UserError` where the base lacks the part, or what adapts it.
    """
    notes = []
    network = bases.of(model).network
    if plan.config.weights == "none" and any(
        phase.unfreeze == "none" for phase in plan.strategy.planned
    ):
        notes.append(
            "`weights` is none: a base of random weights is frozen, whose "
            "features say little; --strategy=scratch trains all of it from the "
            "start."
        )
    for phase in plan.strategy.planned:
        if phase.unfreeze == "none":
            continue
        cut, exact = graph.find_cut(network, phase.unfreeze)
        if phase.adapt == "lora":
            adapters.layers(network, cut)
        if exact != phase.unfreeze:
            notes.append(
                f"Phase {phase.name}: {phase.unfreeze} lies inside a block, so "
                f"the base learns from the block's start: {exact}."
            )
    return tuple(notes)


def shape(plan: plans.Plan) -> image_stores.Shape:
    """Returns what images are made to before a network sees them."""
    config = plan.config
    return image_stores.Shape(plan.image_size, config.resize, config.max_pixels)


_blake = functools.partial(hashlib.blake2b, digest_size=16)


def _digest(data: bytes) -> str:
    return _blake(data).hexdigest()
