"""report.json: what was done and what came of it, as one dictionary."""

import collections
import dataclasses
import math
import statistics
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkeras import records
from tlkeras.advisor import decision as decisions
from tlkeras.data import dataset as datasets

_UNLESS = "; a step that evidence names is kept unless it is clearly worse"


def build(
    *,
    task: str,
    strategy: str,
    backbone: str,
    weights: str,
    image_size: int,
    dataset: datasets.Dataset,
    results: Sequence[records.PhaseResult],
    quality: Mapping[str, dict[str, Any]],
    seconds: float,
    notes: Sequence[str] = (),
    final: records.FinalFit | None = None,
    folds: Sequence[Mapping[str, Any]] = (),
    decision: decisions.Decision | None = None,
    given_splits: bool = False,
    doubtful_labels: int = 0,
) -> dict[str, Any]:
    """Returns the content of report.json.

    quality: the metrics of the splits test and validation. seconds: of the
    whole run. final: the final fit, None without one. folds: what is said of
    each fold of cross-validation, whose answers together `quality` is of.
    decision: what the advisor decided, where it was asked. given_splits:
    whether the source divides the images itself. doubtful_labels: images to
    whose label the model gives hardly a chance, without having learned from
    them.
    """
    images = datasets.counts(dataset)
    if folds:
        # Each image was in each of them once.
        images |= {split: images["test"] for split in ("train", "validation")}
    last = results[-1]
    return {
        "schema": 1,
        "test": quality["test"],
        "validation": quality["validation"],
        "task": task,
        "strategy": strategy,
        "backbone": backbone,
        "weights": weights,
        "image_size": image_size,
        "selection_metric": (
            "validation accuracy, on a tie lower cross-entropy, then the "
            "earlier epoch" + _UNLESS * (decision is not None)
        ),
        "data": {
            "name": dataset.name,
            "classes": list(dataset.labels),
            "images": images,
            "skipped": len(dataset.skipped),
            "skipped_reasons": dict(
                collections.Counter(
                    reason for _, reason in dataset.skipped
                ).most_common()
            ),
            "duplicates": dataclasses.asdict(dataset.duplicates),
            "given_splits": given_splits,
            "doubtful_labels": doubtful_labels,
            # Of the median picture, the shorter one [pixels].
            "side": float(np.median(dataset.sizes.min(axis=1))),
            "notes": list(dataset.notes),
        },
        "phases": [phase(result) for result in results],
        "final_fit": (
            None if final is None else final_fit(final, of_folds=bool(folds))
        ),
        "folds": _folds(folds, quality["test"]) if folds else None,
        "advice": decision and decisions.to_json(decision),
        "seconds": seconds,
        "images_per_second": (
            max(row.images_per_second for row in last.history)
            if last.history
            else 0.0
        ),
        "notes": list(notes),
    }


def phase(result: records.PhaseResult) -> dict[str, Any]:
    """Returns one entry of the report's phases."""
    return {
        "name": result.phase.name,
        "unfreeze": result.phase.unfreeze,
        "adapt": result.phase.adapt,
        "batch_norm": result.phase.batch_norm,
        "learning_rate": result.phase.learning_rate,
        "schedule": result.phase.schedule,
        "seconds": result.seconds,
        "epochs": result.epochs,
        "steps": result.steps,
        "best_epoch": result.best_epoch,
        "stopped": result.stopped,
        "trainable_parameters": result.trainable_parameters,
        "training_accuracy": _training_accuracy(result),
        "validation_accuracy": _finite(result.score.accuracy),
        "validation_cross_entropy": _finite(result.score.cross_entropy),
        "improved": result.improved,
        "rolled_back": result.rolled_back,
        "learning": result.learning,
        "unmoved": result.unmoved,
        "momentum": result.momentum,
        "views_cached": result.views_cached,
        "cached_at": result.cached_at,
        "shared_seconds": result.shared_seconds,
        "l2": result.l2,
        "settings": dataclasses.asdict(result.phase),
    }


def _training_accuracy(result: records.PhaseResult) -> float | None:
    """Returns that of the best epoch, on images as they were changed for it."""
    for row in result.history:
        if row.epoch == result.best_epoch:
            return _finite(row.accuracy)
    return None


def _folds(
    folds: Sequence[Mapping[str, Any]], test: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns what the report says of the folds of cross-validation."""
    shares = [fold["accuracy"]["value"] for fold in folds]
    accuracy = test["accuracy"]
    return {
        "count": len(folds),
        "images": accuracy["n"],
        "lowest": min(shares),
        "highest": max(shares),
        "deviation": statistics.stdev(shares),
        "text": (
            f"Estimated by {len(folds)}-fold cross-validation: each of "
            f"{accuracy['n']:,} images was predicted by a model that had not "
            "seen it. The accuracy of the folds is "
            f"{100 * min(shares):.1f} to {100 * max(shares):.1f} % (standard "
            f"deviation {100 * statistics.stdev(shares):.1f} points)."
        ),
        "each": list(folds),
    }


def final_fit(
    final: records.FinalFit, *, of_folds: bool = False
) -> dict[str, Any]:
    """Returns what the report says of the final fit.

    of_folds: whether all figures are of cross-validation. measured: by split,
    whether its figures are those of the `delivered` model, of the one that was
    `chosen` before it, or of the `folds`.
    """
    own = bool(final.kept)
    return {
        "splits": list(final.splits),
        "images": final.images,
        "delivered": not final.kept,
        "kept": final.kept,
        "measured": {
            split: "folds"
            if of_folds
            else "delivered"
            if own or split not in final.splits
            else "chosen"
            for split in ("validation", "test")
        },
        "text": _fold_text(final) if of_folds else _final_text(final),
        "phases": [
            {
                **phase(result),
                "losses": [_finite(row.loss) for row in result.history],
            }
            for result in final.results
        ],
        "seconds": sum(result.seconds for result in final.results),
    }


def _fold_text(final: records.FinalFit) -> str:
    if final.kept:
        return (
            f"The final fit on all {final.images:,} images is not delivered, "
            f"because {final.why}: the model is that of the first fold."
        )
    return (
        f"The delivered model has learned from all {final.images:,} images, by "
        "the choice that the first fold made; no figure is its own, and with "
        "more images to learn from it should be no worse."
    )


def _final_text(final: records.FinalFit) -> str:
    if final.kept:
        return (
            f"The final fit on {final.images:,} images is not delivered, "
            f"because {final.why}: the model is the one that was chosen, and "
            "all figures are its own."
        )
    if "test" in final.splits:
        return (
            f"The delivered model has learned from all {final.images:,} "
            "images, and no figure is its own: the test and validation figures "
            "are those of the model chosen before, which learned from the "
            "training images alone."
        )
    return (
        f"The delivered model has learned from {final.images:,} images, those "
        "of training and validation: the test figures are its own; the "
        "validation figures are those of the model chosen before, which "
        "learned from the training images alone."
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
