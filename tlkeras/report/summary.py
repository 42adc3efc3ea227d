"""report.json: what was done and what came of it, as one dictionary."""

import collections
import dataclasses
import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tlkeras import records
from tlkeras.data import dataset as datasets


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
) -> dict[str, Any]:
    """Returns the content of report.json.

    quality: the metrics of the splits test and validation. seconds: of the
    whole run.
    """
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
            "earlier epoch"
        ),
        "data": {
            "name": dataset.name,
            "classes": list(dataset.labels),
            "images": datasets.counts(dataset),
            "skipped": len(dataset.skipped),
            "skipped_reasons": dict(
                collections.Counter(
                    reason for _, reason in dataset.skipped
                ).most_common()
            ),
            "duplicates": dataclasses.asdict(dataset.duplicates),
            "notes": list(dataset.notes),
        },
        "phases": [phase(result) for result in results],
        "advice": None,
        "interrupted": last.stopped == "interrupted",
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
        "batch_norm": result.phase.batch_norm,
        "learning_rate": result.phase.learning_rate,
        "schedule": result.phase.schedule,
        "seconds": result.seconds,
        "epochs": result.epochs,
        "steps": result.steps,
        "best_epoch": result.best_epoch,
        "stopped": result.stopped,
        "trainable_parameters": result.trainable_parameters,
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


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
