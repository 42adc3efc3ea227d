"""What a run delivers: answers, their metrics, how far to trust them."""

import dataclasses
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras import records
from tlkeras import run_directory
from tlkeras.advisor import decision as decisions
from tlkeras.data import augment
from tlkeras.data import batches
from tlkeras.data import dataset as datasets
from tlkeras.data.sources import csv_file
from tlkeras.experiment import learning
from tlkeras.experiment import preparing
from tlkeras.models import classifier as classifiers
from tlkeras.models import reference as references
from tlkeras.models import saving
from tlkeras.scoring import calibration as calibrations
from tlkeras.scoring import label_sets
from tlkeras.scoring import metrics
from tlkeras.scoring import predicting
from tlkeras.scoring import two_classes
from tlkeras.scoring import unknown
from tlkeras.scoring import used_images
from tlkeras.settings import wish as wishes
from tlkeras.training import feature_cache


def deliver(
    plan: plans.Plan,
    untrained: preparing.Untrained,
    data: datasets.Dataset,
    trained: learning.Trained,
    *,
    decision: decisions.Decision | None,
    earlier_seconds: float,
    progress: progresses.Progress,
) -> run_directory.Outcome:
    """Scores what was trained, completes it by what was measured, saves it.

    decision: of the advisor, where it was asked. earlier_seconds: what earlier,
    killed calls spent on phases.
    """
    progress.detail("scoring and saving")
    placement = untrained.placement
    batch_size = preparing.images_a_step(plan.config, data, placement.devices)
    classifier = undistributed(plan, untrained, data)
    classifier = remembering(
        plan,
        classifier,
        data,
        trained.views if base_stayed(trained.results) else None,
        batch_size,
        progress,
    )
    probabilities, similarities, speed = _scored(
        classifier, data, trained, batch_size, progress
    )
    temperature = _temperature(plan, data, trained, probabilities["validation"])
    probabilities = {
        split: calibrations.tempered(given, temperature.value)
        for split, given in probabilities.items()
    }
    classifier, threshold = _with_threshold(
        plan, classifier, data, probabilities
    )
    classifier = complete(
        plan,
        classifier,
        temperature.value,
        true_scores(data, probabilities),
        similarities["validation"],
    )
    known = trust(
        plan,
        data,
        classifier,
        temperature,
        probabilities["test"],
        similarities["test"],
    )
    return run_directory.Outcome(
        classifier,
        trained.results,
        probabilities,
        {
            split: quality(plan, classifier, probabilities[split], data, split)
            for split in ("validation", "test")
        },
        _notes(untrained, classifier, batch_size),
        speed,
        earlier_seconds,
        trained.final,
        decision=decision,
        trust={**known, "threshold": threshold},
        similarities=similarities,
    )


def remembering(
    plan: plans.Plan,
    classifier: saving.TrainedModel,
    data: datasets.Dataset,
    views: batches.Views | None,
    batch_size: int,
    progress: progresses.Progress,
) -> saving.TrainedModel:
    """Returns a classifier that tells how like its training images one is.

    views: of the training images, if the base is as it was before training: a
    phase of the head has had the same features.
    """
    features = np.zeros([0, 0], np.float16)
    if plan.config.unknown_rate:
        positions = data.positions("train")
        chosen = unknown.sample(data.targets[positions])
        if views is not None and augment.PLAIN in views.names:
            found = feature_cache.of_training_images(
                classifier.model,
                views,
                chosen,
                storage=learning.storage(plan),
                progress=progress,
            )
        else:
            rows = data.rows[positions[chosen]]
            found = unknown.features(
                classifier,
                batches.evaluation(data.images, rows, batch_size=batch_size),
                progress=progress,
            )
        features = unknown.of_length_one(found)
    return dataclasses.replace(
        classifier,
        reference=references.Reference(np.zeros(0, np.float32), features),
    )


def base_stayed(results: Sequence[records.PhaseResult]) -> bool:
    """Tells whether all that was learned, and not undone, is the head."""
    return all(
        each.rolled_back or each.phase.unfreeze == "none" for each in results
    )


def complete(
    plan: plans.Plan,
    classifier: saving.TrainedModel,
    temperature: float,
    scores: np.ndarray,
    similarities: np.ndarray | None,
) -> saving.TrainedModel:
    """Puts a temperature and a reference into a classifier, and saves it.

    scores: of the true class [m], on validation images. similarities: [m] of
    these, by a classifier that is `remembering`; None by one that is not.
    """
    if temperature != 1:
        classifiers.divide_logits(classifier.model, temperature)
    least = None
    if similarities is not None:
        least = unknown.threshold(similarities, plan.config.unknown_rate)
    known = classifier.reference
    features = known.features if known and least is not None else None
    classifier = dataclasses.replace(
        classifier,
        reference=references.Reference(
            np.sort(scores).astype(np.float32),
            np.zeros([0, 0], np.float16) if features is None else features,
            -1.0 if least is None else least,
        ),
    )
    saving.save(plan.directory / "model.keras", classifier)
    return classifier


def true_scores(
    data: datasets.Dataset, probabilities: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Returns the probabilities of the true class of validation images."""
    targets = data.targets[data.positions("validation")]
    return probabilities["validation"][np.arange(len(targets)), targets]


def trust(
    plan: plans.Plan,
    data: datasets.Dataset,
    classifier: saving.TrainedModel,
    temperature: calibrations.Temperature,
    probabilities: np.ndarray,
    similarities: np.ndarray | None,
) -> dict[str, Any]:
    """Returns how far answers can be trusted, as report.json says it.

    probabilities: [n, k] of the test images. similarities: theirs [n]; None
    where the model learned from them, or knows of none.
    """
    known = classifier.reference
    if known is None:
        return {}
    positions = data.positions("test")
    targets = data.targets[positions]
    groups = [data.groups[position] for position in positions]
    return {
        "calibration": calibrations.report(
            temperature, probabilities, targets, groups
        ),
        "label_sets": label_sets.measure(
            probabilities, targets, groups, known.scores, plan.config.coverage
        ),
        "unknown": unknown.report(
            known, plan.config.unknown_rate, similarities, groups
        ),
    }


def predict(
    classifier: saving.TrainedModel,
    data: datasets.Dataset,
    split: str,
    batch_size: int,
    progress: progresses.Progress,
) -> predicting.Answers:
    """Returns the answers to the images of `split`."""
    rows = data.rows[data.positions(split)]
    return predicting.predict_batches(
        classifier,
        batches.evaluation(data.images, rows, batch_size=batch_size),
        what=f"predicting {split}",
        progress=progress,
    )


def undistributed(
    plan: plans.Plan, untrained: preparing.Untrained, data: datasets.Dataset
) -> saving.TrainedModel:
    """Returns the classifier on one device."""
    classifier = saving.TrainedModel(
        untrained.model, data.labels, preparing.shape(plan), tta=plan.config.tta
    )
    if untrained.placement.kind == "none":
        return classifier
    # Weights on several devices are in the way of all that follows: `predict`
    # and export by one process, or in one graph. And of several processes the
    # others are gone by now, so that nothing can be put into the model itself.
    path = plan.directory / "model.keras"
    saving.save(path, classifier)
    return saving.load(path)


def _scored(
    classifier: saving.TrainedModel,
    data: datasets.Dataset,
    trained: learning.Trained,
    batch_size: int,
    progress: progresses.Progress,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray | None], float]:
    """Returns by split the probabilities and similarities; images a second.

    Splits that a final fit has learned from are scored by the model that was
    chosen before it, on whose features no similarity rests.
    """
    probabilities: dict[str, np.ndarray] = {}
    similarities: dict[str, np.ndarray | None] = {}

    def score(splits: Sequence[str]) -> float:
        speed = 0.0
        for split in splits:
            began = time.perf_counter()
            answers = predict(classifier, data, split, batch_size, progress)
            probabilities[split] = answers.probabilities
            similarities[split] = answers.similarity
            # The last split is one that traces nothing.
            speed = len(probabilities[split]) / (time.perf_counter() - began)
        return speed

    before = _measured_before(trained)
    speed = 0.0
    if before:
        delivered = classifiers.state(classifier.model)
        classifiers.restore(classifier.model, trained.chosen)
        speed = score(before)
        classifiers.restore(classifier.model, delivered)
    rest = [split for split in ("validation", "test") if split not in before]
    speed = score(rest) or speed
    if "validation" in before:
        similarities["validation"] = predict(
            classifier, data, "validation", batch_size, progress
        ).similarity
    if "test" in before:
        similarities["test"] = None
    return probabilities, similarities, speed


def _with_threshold(
    plan: plans.Plan,
    classifier: saving.TrainedModel,
    data: datasets.Dataset,
    probabilities: Mapping[str, np.ndarray],
) -> tuple[saving.TrainedModel, dict[str, Any] | None]:
    """Returns a classifier that answers by the threshold that is wished.

    What the threshold comes to is as report.json has it, None where none is
    wished; one that no threshold fulfils leaves the classifier as it was.
    """
    wish = wishes.parse(plan.config.threshold)
    if wish is None:
        return classifier, None
    parts = []
    for split in ("validation", "test"):
        positions = data.positions(split)
        groups = [data.groups[position] for position in positions]
        parts.append((probabilities[split], data.targets[positions], groups))
    one = plans.positive(data.labels, plan.config.positive)
    found = two_classes.choose(wish, *parts[0][:2], one)
    if found is not None:
        classifier = dataclasses.replace(
            classifier, threshold=found, task=found.task
        )
    return classifier, two_classes.report(
        wish, found, data.labels[one], parts[0], parts[1]
    )


def _temperature(
    plan: plans.Plan,
    data: datasets.Dataset,
    trained: learning.Trained,
    probabilities: np.ndarray,
) -> calibrations.Temperature:
    """Returns the temperature for a model with these validation answers."""
    positions = data.positions("validation")
    return calibrations.fit(
        probabilities,
        data.targets[positions],
        [data.groups[position] for position in positions],
        trained.results,
        wished=plan.config.calibrate == "auto",
    )


def _measured_before(trained: learning.Trained) -> tuple[str, ...]:
    """Returns the splits whose figures are of the model before the final fit.

    They would else be those of images that the model has learned from.
    """
    learned = used_images.learned_splits(trained.final)
    return tuple(split for split in ("validation", "test") if split in learned)


def quality(
    plan: plans.Plan,
    classifier: saving.TrainedModel,
    probabilities: np.ndarray,
    data: datasets.Dataset,
    split: str,
) -> dict[str, Any]:
    """Returns the metrics of a split of `data`, whose answers are given."""
    positions = data.positions(split)
    targets = data.targets[positions]
    groups = [data.groups[position] for position in positions]
    found = metrics.compute(
        probabilities,
        targets,
        data.labels,
        groups=groups,
        task=classifier.task,
        positive=plans.positive(data.labels, plan.config.positive),
    )
    column = plan.config.slices
    if column:
        values = csv_file.column(plan.source.name, column)
        answers, _ = classifier.task.answers(probabilities)
        found["slices"] = metrics.slices(
            column,
            [values[data.paths[position]] for position in positions],
            classifier.task.right(answers, targets),
            groups,
        )
    return found


def _notes(
    untrained: preparing.Untrained,
    classifier: saving.TrainedModel,
    batch_size: int,
) -> tuple[str, ...]:
    """Returns what to know of a run's phases and answers."""
    notes = untrained.notes
    if classifier.tta != "none":
        notes += (
            "Answers are averaged over each image and its mirror image "
            "(--tta=flip); the figures of epochs are of the image alone.",
        )
    if untrained.placement.kind != "none":
        notes += (untrained.placement.text(batch_size),)
    return notes
