"""What is wrong with a data set, or worth knowing, before it is trained on."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from tlkeras import progress as progresses
from tlkeras.check import checks
from tlkeras.check import fix as fixes
from tlkeras.data import duplicates
from tlkeras.data import scan as scans
from tlkeras.data import sources
from tlkeras.data.facts import Facts


@dataclasses.dataclass(frozen=True)
class Checkup:
    """A data set and what was found in it, decisions first."""

    source: sources.Source
    facts: tuple[Facts, ...]
    findings: tuple[checks.Finding, ...]
    remedy: fixes.Remedy

    @property
    def decisions(self) -> int:
        """How many of the findings need a decision."""
        return sum(finding.decision for finding in self.findings)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """The number of usable images by given split ('': none) and class."""
        counts: dict[str, dict[str, int]] = {}
        for example, facts in zip(
            self.source.examples, self.facts, strict=True
        ):
            of_split = counts.setdefault(
                example.split, dict.fromkeys(self.source.labels, 0)
            )
            of_split[example.label] += not facts.reason
        return counts


def check(
    source: sources.Source,
    *,
    image_size: int,
    max_pixels: int,
    cache_dir: str | os.PathLike,
    progress: progresses.Progress,
) -> Checkup:
    """Returns what there is to say about `source` before it is trained on.

    image_size: side of the network's input [pixels]. cache_dir: the directory
    in which the scan's results are kept between runs.
    """
    facts = scans.scan(
        source,
        sources.stamps(source),
        max_pixels=max_pixels,
        cache_dir=cache_dir,
        progress=progress,
    )
    equal = tuple(
        map(tuple, duplicates.equal([image.pixels for image in facts]))
    )
    alike = _alike(facts, equal, progress)
    scanned = checks.Scanned(source, tuple(facts), equal, alike, image_size)
    return Checkup(source, scanned.facts, checks.run(scanned), scanned.remedy)


def to_json(checkup: Checkup) -> dict[str, Any]:
    """Returns the checkup for programs: names and paths, no pictures."""
    paths = [example.path for example in checkup.source.examples]
    left_out = checkup.remedy.left_out
    return {
        "schema": 1,
        "data": checkup.source.name,
        "images": len(paths),
        "readable": sum(not facts.reason for facts in checkup.facts),
        "classes": checkup.counts,
        "decisions": checkup.decisions,
        "left_out": [paths[index] for index in sorted(left_out)],
        "left_out_classes": list(checkup.remedy.classes),
        "findings": [
            {
                "name": finding.name,
                "decision": finding.decision,
                "title": finding.title,
                "text": finding.text,
                "groups": [
                    {
                        "paths": [paths[index] for index in group],
                        "note": note,
                    }
                    for group, note in zip(
                        finding.groups,
                        finding.notes or [""] * len(finding.groups),
                        strict=True,
                    )
                ],
            }
            for finding in checkup.findings
        ],
    }


def _alike(
    facts: Sequence[Facts],
    equal: Sequence[tuple[int, ...]],
    progress: progresses.Progress,
) -> tuple[duplicates.Alike, ...]:
    """Returns groups of images that are alike but not equal.

    Of equal ones the first stands for all.
    """
    copies = {index for group in equal for index in group[1:]}
    chosen = [
        index
        for index, image in enumerate(facts)
        if image.thumbnail and index not in copies
    ]
    thumbnails = scans.thumbnails([facts[index] for index in chosen])
    return tuple(
        dataclasses.replace(
            group, images=tuple(chosen[index] for index in group.images)
        )
        for group in duplicates.alike(thumbnails, progress=progress)
    )
