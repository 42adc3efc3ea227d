"""What is wrong with a data set, or worth knowing, before it is trained on."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.check import fix as fixes
from tlkeras.data import duplicates
from tlkeras.data import scan as scans
from tlkeras.data import sources
from tlkeras.data import splits
from tlkeras.data.facts import Facts

# An image is far smaller than the input if it is enlarged by more.
_ENLARGED = 2.0
# The classes are uneven if the largest has so many times the smallest.
_UNEVEN = 3.0
# Of a class with fewer images at most 3 are for validation and 3 for test.
_FEW = 20
# Length against width; sides of 4 to 3, 3 to 2 and 16 to 9 pass.
_LONG = 1.8

_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WebP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was found.

    name: what it is, in one word. decision: whether somebody must decide;
    else it is good to know. text: what it does to a classifier, and what can
    be done. groups: the images in question, by index; those of one group
    belong together. notes: one for each group, or none at all.
    """

    name: str
    decision: bool
    title: str
    text: str
    groups: tuple[tuple[int, ...], ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Checkup:
    """A data set and what was found in it, decisions first."""

    source: sources.Source
    facts: tuple[Facts, ...]
    findings: tuple[Finding, ...]
    remedy: fixes.Remedy

    @property
    def decisions(self) -> int:
        """How many of the findings need a decision."""
        return sum(finding.decision for finding in self.findings)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """The number of usable images by given split ('': none) and class."""
        found: dict[str, dict[str, int]] = {}
        for example, each in zip(self.source.examples, self.facts, strict=True):
            row = found.setdefault(
                example.split, dict.fromkeys(self.source.labels, 0)
            )
            row[example.label] += not each.reason
        return found


def check(
    source: sources.Source,
    *,
    image_size: int,
    max_pixels: int,
    keep: str | os.PathLike,
    progress: progresses.Progress,
) -> Checkup:
    """Returns what there is to say about `source` before it is trained on.

    image_size: side of the network's input [pixels]. keep: the directory in
    which the scan's results are kept between runs.
    """
    facts = scans.scan(
        source,
        sources.stamps(source),
        max_pixels=max_pixels,
        keep=keep,
        progress=progress,
    )
    examples = source.examples
    equal = [
        tuple(group)
        for group in duplicates.equal([each.pixels for each in facts])
    ]
    alike = _alike(facts, equal, progress)
    findings = [
        *_unreadable(facts),
        *_equal(examples, equal),
        *_similar(examples, alike),
        *_constant(facts),
        *_classes(source, facts),
        *_small(facts, image_size),
        *_proportions(facts),
        *_orientation(facts),
        *_misnamed(examples, facts),
    ]
    findings.sort(key=lambda finding: not finding.decision)
    remedy = fixes.find(examples, facts, equal, [group for group, _ in alike])
    return Checkup(source, facts, tuple(findings), remedy)


def to_json(checkup: Checkup) -> dict[str, Any]:
    """Returns the checkup for programs: names and paths, no pictures."""
    paths = [example.path for example in checkup.source.examples]
    left_out = checkup.remedy.left_out
    return {
        "schema": 1,
        "data": checkup.source.name,
        "images": len(paths),
        "readable": sum(not each.reason for each in checkup.facts),
        "classes": checkup.counts,
        "decisions": checkup.decisions,
        "left_out": [paths[index] for index in sorted(left_out)],
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
) -> list[tuple[tuple[int, ...], str]]:
    """Returns groups of pictures that are alike but not equal, and how much.

    Of equal ones the first stands for all.
    """
    copies = {index for group in equal for index in group[1:]}
    chosen = [
        index
        for index, each in enumerate(facts)
        if each.thumbnail and index not in copies
    ]
    thumbnails = np.frombuffer(
        b"".join(facts[index].thumbnail for index in chosen), np.uint8
    ).reshape(-1, scans.THUMBNAIL, scans.THUMBNAIL)
    return [
        (
            tuple(chosen[index] for index in group.images),
            f"likeness {_likeness(min(group.likeness))}"
            + (", mirrored" if group.mirrored else ""),
        )
        for group in duplicates.alike(thumbnails, progress=progress)
    ]


def _likeness(value: float) -> str:
    # What is not equal is not 1.
    return f"{min(value, 0.999):.3f} or more"


def _unreadable(facts: Sequence[Facts]) -> list[Finding]:
    bad = [index for index, each in enumerate(facts) if each.reason]
    if not bad:
        return []
    return [
        Finding(
            "unreadable",
            True,
            f"{_files(len(bad))} cannot be used",
            "Training leaves them out and lists them in skipped.csv, or stops "
            "with --on_bad_image=fail. Mend, convert or remove them.",
            tuple((index,) for index in bad),
            tuple(facts[index].reason for index in bad),
        )
    ]


def _equal(
    examples: Sequence[sources.Example], equal: Sequence[tuple[int, ...]]
) -> list[Finding]:
    """Returns findings on pictures with equal pixels, each under one head."""
    labels, given, within = [], [], []
    for group in equal:
        if fixes.differ(examples, group, "label"):
            labels.append(group)
        elif fixes.differ(examples, group, "split"):
            given.append(group)
        else:
            within.append(group)
    return [
        *_finding(
            "equal_under_two_labels",
            True,
            "{} under two labels",
            "Their pixels are equal, so at most one label can be right. "
            "Remove them, or decide which label is.",
            labels,
        ),
        *_finding(
            "equal_across_splits",
            True,
            "{} in more than one of the given splits",
            "Their pixels are equal: what was learned by heart in training is "
            "asked again in the test, so its result is too good. Remove those "
            "of the training split.",
            given,
        ),
        *_finding(
            "equal",
            False,
            "{} more than once in one class",
            "Their pixels are equal. Splits made by tlkeras keep equal "
            "pictures on one side; they count more often than others.",
            within,
        ),
    ]


def _similar(
    examples: Sequence[sources.Example],
    alike: Sequence[tuple[tuple[int, ...], str]],
) -> list[Finding]:
    """Returns findings on pictures that are nearly equal."""
    method = (
        "Found by the correlation of the details in thumbnails of 16 x 16 "
        f"grey pixels, {duplicates.ALIKE} or more. This finds copies that were "
        "saved anew, enlarged, reduced, mirrored or made lighter. It misses "
        "most that were cropped by 2 % a side or turned by 3 degrees, and "
        "takes simple drawings, such as two equal digits, for each other."
    )
    labels, given, apart, side = [], [], [], []
    for group in alike:
        if fixes.differ(examples, group[0], "label"):
            labels.append(group)
        elif fixes.differ(examples, group[0], "split"):
            given.append(group)
        elif examples[group[0][0]].split:
            side.append(group)
        elif not examples[group[0][0]].group or fixes.differ(
            examples, group[0], "group"
        ):
            apart.append(group)
    rows = (
        (
            "alike_under_two_labels",
            True,
            "{} almost equal under two labels",
            "One of the labels is wrong, or they tell something that can "
            "hardly be seen.",
            labels,
        ),
        (
            "alike_across_splits",
            True,
            "{} almost equal in more than one of the given splits",
            "The test asks what training has shown, so its result is too good.",
            given,
        ),
        (
            "alike",
            True,
            "{} almost equal to others of the class",
            "They may come to stand in training and test both, so that the "
            "test's result is too good. --fix=FILE gives them a common group, "
            "which is never divided.",
            apart,
        ),
        (
            "alike_in_one_split",
            False,
            "{} almost equal to others of the class and split",
            "They count more often than others.",
            side,
        ),
    )
    return [
        finding
        for name, decision, title, text, groups in rows
        for finding in _finding(
            name,
            decision,
            title,
            f"{text} {method}",
            [group for group, _ in groups],
            [note for _, note in groups],
        )
    ]


def _finding(
    name: str,
    decision: bool,
    title: str,
    text: str,
    groups: Sequence[tuple[int, ...]],
    notes: Sequence[str] = (),
) -> list[Finding]:
    """Returns a finding on pictures, or none where there are none.

    title: with {} in the place of their number.
    """
    if not groups:
        return []
    images = sum(len(group) for group in groups)
    return [
        Finding(
            name,
            decision,
            title.format(f"{images:,} pictures"),
            text,
            tuple(groups),
            tuple(notes),
        )
    ]


def _constant(facts: Sequence[Facts]) -> list[Finding]:
    flat = [index for index, each in enumerate(facts) if each.is_constant]
    if not flat:
        return []
    return [
        Finding(
            "constant",
            True,
            f"{_files(len(flat))} of one colour, or nearly so",
            "There is nothing to see in them. Scans of 12 bits in files of 16 "
            "look so, too: nothing is stretched, so save them brighter.",
            tuple((index,) for index in flat),
            tuple(
                f"contrast {facts[index].contrast:.1f} of 127.5 grey levels"
                for index in flat
            ),
        )
    ]


def _classes(source: sources.Source, facts: Sequence[Facts]) -> list[Finding]:
    """Returns findings on how many images the classes have."""
    found = []
    good = [index for index, each in enumerate(facts) if not each.reason]
    examples = [source.examples[index] for index in good]
    number = collections.Counter(example.label for example in examples)
    sizes = {label: number[label] for label in source.labels}
    try:
        sources.check_classes(source)
        for label in source.labels:
            if not sizes[label]:
                raise errors.UserError(
                    f"class {label!r} has no image that can be read."
                )
        splits.assign(
            [facts[index].pixels for index in good],
            [example.label for example in examples],
            given=[example.split for example in examples],
            groups=[example.group for example in examples],
            seed=0,
        )
    except errors.UserError as error:
        sentence = str(error)
        found.append(
            Finding(
                "too_few",
                True,
                "The data cannot be split",
                f"{sentence[:1].upper()}{sentence[1:]}",
            )
        )
    few = [label for label in source.labels if sizes[label] < _FEW]
    if few:
        found.append(
            Finding(
                "few",
                False,
                f"{_classes_text(len(few))} fewer than {_FEW} images",
                f"{_names(few)}. At most three of each are for validation and "
                "three for test, so their results are mostly chance.",
            )
        )
    most, least = max(sizes.values()), max(min(sizes.values()), 1)
    if most >= _UNEVEN * least:
        large = max(sizes, key=sizes.get)
        small = min(sizes, key=sizes.get)
        found.append(
            Finding(
                "uneven",
                False,
                f"The largest class has {most / least:.0f} times the images "
                "of the smallest",
                f"{large}: {most:,}, {small}: {sizes[small]:,}. Judge by the "
                "balanced accuracy; --class_weights=balanced makes the "
                "classes count the same.",
            )
        )
    return found


def _small(facts: Sequence[Facts], image_size: int) -> list[Finding]:
    small = [
        index
        for index, each in enumerate(facts)
        if not each.reason
        and min(each.width, each.height) * _ENLARGED < image_size
    ]
    if not small:
        return []
    sides = [min(facts[index].width, facts[index].height) for index in small]
    return [
        Finding(
            "small",
            False,
            f"{_files(len(small))} far smaller than the input",
            f"Their shorter side is {min(sides)} to {max(sides)} pixels, the "
            f"input {image_size}: they are enlarged more than twice, which "
            "costs time and shows nothing new. A smaller --image_size may do.",
            tuple((index,) for index in small),
        )
    ]


def _proportions(facts: Sequence[Facts]) -> list[Finding]:
    long = [
        index
        for index, each in enumerate(facts)
        if not each.reason
        and max(each.width, each.height) > _LONG * min(each.width, each.height)
    ]
    if not long:
        return []
    good = sum(not each.reason for each in facts)
    return [
        Finding(
            "proportions",
            False,
            f"{len(long):,} of {good:,} images far from square",
            f"Of an image more than {_LONG} times as long as wide, "
            "--resize=crop sees little more than half. pad keeps all of it, "
            "stretch changes the shapes.",
            tuple((index,) for index in long),
            tuple(
                f"{facts[index].width} x {facts[index].height}"
                for index in long
            ),
        )
    ]


def _orientation(facts: Sequence[Facts]) -> list[Finding]:
    turned = [
        index for index, each in enumerate(facts) if each.orientation != 1
    ]
    if not turned:
        return []
    return [
        Finding(
            "orientation",
            False,
            f"{_files(len(turned))} stored lying or mirrored",
            "Their EXIF orientation says how the camera was held. tlkeras "
            "turns them upright, here and when it predicts; a tool that "
            "ignores it sees them as they are stored.",
            tuple((index,) for index in turned),
            tuple(
                f"orientation {facts[index].orientation}" for index in turned
            ),
        )
    ]


def _misnamed(
    examples: Sequence[sources.Example], facts: Sequence[Facts]
) -> list[Finding]:
    wrong = []
    for index, (example, each) in enumerate(zip(examples, facts, strict=True)):
        suffix = pathlib.PurePath(example.path).suffix.lower()
        known = any(suffix in some for some in _SUFFIXES.values())
        if not each.reason and known and suffix not in _SUFFIXES[each.kind]:
            wrong.append(index)
    if not wrong:
        return []
    return [
        Finding(
            "misnamed",
            False,
            f"{_files(len(wrong))} something else than the name says",
            "What counts is the content, so they are read all the same.",
            tuple((index,) for index in wrong),
            tuple(f"is {facts[index].kind}" for index in wrong),
        )
    ]


def _files(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _classes_text(count: int) -> str:
    return "1 class has" if count == 1 else f"{count:,} classes have"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown
