"""From labelled images and a network to what `auto` would do, and why."""

import dataclasses
from typing import Any

import keras
import numpy as np

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.advisor import decision as decisions
from tlkeras.advisor import evidence as evidences
from tlkeras.advisor import subject as subjects
from tlkeras.advisor import textbook
from tlkeras.backbones import base as bases
from tlkeras.backbones import weights as weight_sources
from tlkeras.data import batches
from tlkeras.data import dataset as datasets
from tlkeras.data import images as image_stores
from tlkeras.models import classifier as classifiers


@dataclasses.dataclass(frozen=True)
class Advice:
    """What was measured, what `auto` makes of it, and what the textbook would.

    scenario: None where the base knows nothing of its source, so that nobody
    can say how similar the images are. notes: on the data.
    """

    data: str
    backbone: str
    weights: str
    evidence: evidences.Evidence
    decision: decisions.Decision
    scenario: textbook.Scenario | None
    notes: tuple[str, ...]


def give(
    subject: subjects.Subject,
    *,
    max_images: int = 1000,
    progress: progresses.Progress,
) -> Advice:
    """Returns the advice on `subject`; nothing is written.

    Of the data the training and the validation split are looked at, as `train`
    would divide it, and of them at most `max_images` images.

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
    notes = data.notes
    if data.skipped:
        path, reason = data.skipped[0]
        notes += (
            f"{errors.count(len(data.skipped), 'image')} left out because "
            f"unreadable, first {path}: {reason}",
        )
    with batches.user_errors():
        found = examine(
            base,
            data,
            weights=subject.weights,
            max_images=max_images,
            seed=subject.seed,
            progress=progress,
        )
    train, validation = (
        len(data.positions(split)) for split in ("train", "validation")
    )
    decision = decisions.decide(
        found,
        train=train,
        validation=validation,
        steps_per_epoch=-(-train // min(subject.batch, train)),
        budget=subject.budget,
    )
    far = evidences.distance(found)
    return Advice(
        data.name,
        subject.backbone,
        subject.weights,
        found,
        decision,
        None if far is None else textbook.scenario(train, far),
        notes,
    )


def examine(
    base: bases.Base,
    data: datasets.Dataset,
    *,
    weights: str = "none",
    max_images: int = 1000,
    seed: int,
    at_random: bool = True,
    progress: progresses.Progress,
) -> evidences.Evidence:
    """Returns the evidence on the images of a run that are not for testing.

    weights: what the base's came from, whose classifier is asked, too.
    at_random: whether the base with random weights is measured beside it.
    """
    known = np.concatenate(
        [data.positions("train"), data.positions("validation")]
    )
    return evidences.gather(
        base,
        lambda chosen: data.images.rows(data.rows[known[chosen]]),
        data.targets[known],
        groups=[data.groups[index] for index in known],
        sizes=data.sizes[known],
        classifier=weight_sources.classifier(base, weights),
        max_images=max_images,
        seed=seed,
        at_random=at_random,
        progress=progress,
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
        found["decision"] = decisions.to_json(advice.decision)
        scenario = advice.scenario
        found["textbook"] = scenario and dataclasses.asdict(scenario)
    return found
