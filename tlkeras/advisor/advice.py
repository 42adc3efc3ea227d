"""From labelled images and a network to what speaks for which strategy."""

import dataclasses
from typing import Any

import keras

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.advisor import evidence as evidences
from tlkeras.advisor import subject as subjects
from tlkeras.advisor import textbook
from tlkeras.backbones import weights as weight_sources
from tlkeras.data import batches
from tlkeras.data import dataset as datasets
from tlkeras.data import images as image_stores
from tlkeras.models import classifier as classifiers


@dataclasses.dataclass(frozen=True)
class Advice:
    """What was measured, and what the textbook would make of it.

    scenario: None where the base knows nothing of its source, so that nobody
    can say how similar the images are. notes: on the data.
    """

    data: str
    backbone: str
    weights: str
    evidence: evidences.Evidence
    scenario: textbook.Scenario | None
    notes: tuple[str, ...]


def give(
    subject: subjects.Subject,
    *,
    max_images: int = 1000,
    progress: progresses.Progress,
) -> Advice:
    """Returns the advice on `subject`; nothing is written.

    Of the data only the training split is looked at, as `train` would divide
    it, and of that at most `max_images` images.

    Raises `UserError` for what only the images or the built network show.
    """
    keras.utils.set_random_seed(subject.seed)
    base = classifiers.build_base(
        subject.backbone, weights=subject.weights, image_size=subject.image_size
    )
    data = datasets.prepare(
        subject.source,
        shape=image_stores.Shape(
            subject.image_size, subject.resize, subject.max_pixels
        ),
        split_seed=subject.split_seed,
        images_per_class=subject.images_per_class,
        # Only a sample is looked at, so squares are made when asked for.
        store_bytes=0,
        directory=subject.cache_dir,
        cache_dir=subject.cache_dir,
        progress=progress,
    )
    train = data.positions("train")
    groups = [data.groups[index] for index in train]
    if len(set(groups)) < 2:
        raise errors.UserError(
            f"all {len(train)} training images of {data.name} are of one "
            "group, or equal, so that none could be asked of a classifier "
            "that has not seen it. Give finer groups, or more images."
        )
    notes = data.notes
    if data.skipped:
        path, reason = data.skipped[0]
        notes += (
            f"{len(data.skipped)} images cannot be read and are left out, "
            f"first {path}: {reason}",
        )
    with batches.user_errors():
        found = evidences.gather(
            base,
            lambda chosen: data.images.rows(data.rows[train[chosen]]),
            data.targets[train],
            groups=groups,
            sizes=data.sizes[train],
            classifier=weight_sources.classifier(base, subject.weights),
            max_images=max_images,
            seed=subject.seed,
            progress=progress,
        )
    far = evidences.distance(found)
    return Advice(
        data.name,
        subject.backbone,
        subject.weights,
        found,
        None if far is None else textbook.scenario(found.size.images, far),
        notes,
    )


def to_json(advice: Advice, *, evidence_only: bool = False) -> dict[str, Any]:
    """Returns the advice for programs; keys may be added, not renamed."""
    found = {
        "schema": 1,
        "data": advice.data,
        "backbone": advice.backbone,
        "weights": advice.weights,
        "evidence": dataclasses.asdict(advice.evidence),
    }
    if not evidence_only:
        scenario = advice.scenario
        found["textbook"] = scenario and dataclasses.asdict(scenario)
    return found
