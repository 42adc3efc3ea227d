"""The checks of an audit: a row each of `CHECKS`, and what finds its images.

To add a check, write a function from `Scanned` to a `Match` and give it a row.
"""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tlkeras import errors
from tlkeras.check import fix as fixes
from tlkeras.data import duplicates
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

# The formats that suffixes promise.
_KINDS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    ".png": "PNG",
    ".webp": "WebP",
    ".gif": "GIF",
}


@dataclasses.dataclass(frozen=True)
class Scanned:
    """A data set whose images were read.

    equal: groups of indices of images with equal pixels. alike: groups of
    images that look alike, where of equal ones the first stands for all.
    image_size: side of the network's input [pixels].
    """

    source: sources.Source
    facts: tuple[Facts, ...]
    equal: tuple[tuple[int, ...], ...]
    alike: tuple[duplicates.Alike, ...]
    image_size: int

    @functools.cached_property
    def readable(self) -> list[int]:
        """The indices of the images that can be used."""
        return [i for i, facts in enumerate(self.facts) if not facts.reason]

    @functools.cached_property
    def class_sizes(self) -> dict[str, int]:
        """The number of usable images of each class."""
        count = collections.Counter(
            self.source.examples[i].label for i in self.readable
        )
        return {label: count[label] for label in self.source.labels}

    @functools.cached_property
    def remedy(self) -> fixes.Remedy:
        """What the data set would be without what is doubtful."""
        return fixes.find(
            self.source.examples,
            self.facts,
            self.equal,
            [group.images for group in self.alike],
        )


@dataclasses.dataclass(frozen=True)
class Match:
    """What a check found.

    groups: the images in question, by index; those of one group belong
    together. notes: one for each group, or none at all. values: what else the
    title and the text of the check tell.
    """

    groups: tuple[tuple[int, ...], ...] = ()
    notes: tuple[str, ...] = ()
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Check:
    """A question that is asked of a data set.

    name: what it is about, in one word. decision: whether somebody must decide
    about what it finds; else it is good to know. title, text: what is said,
    with {count}, {images} and {images} for the number found, and the values
    of the match. find: returns the match, None where there is nothing to say.
    """

    name: str
    decision: bool
    title: str
    text: str
    find: Callable[[Scanned], Match | None]


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check found, in words.

    text: what it does to a classifier, and what can be done. The others are
    those of the check and of its match.
    """

    name: str
    decision: bool
    title: str
    text: str
    groups: tuple[tuple[int, ...], ...] = ()
    notes: tuple[str, ...] = ()


def run(scanned: Scanned) -> tuple[Finding, ...]:
    """Returns what the checks find, decisions first."""
    findings = []
    for check in sorted(CHECKS, key=lambda check: not check.decision):
        match = check.find(scanned)
        if match is None:
            continue
        count = sum(map(len, match.groups))
        values = {
            "count": f"{count:,}",
            "readable": len(scanned.readable),
            "images": errors.count(count, "image"),
            **match.values,
        }
        findings.append(
            Finding(
                check.name,
                check.decision,
                check.title.format(**values),
                check.text.format(**values),
                match.groups,
                match.notes,
            )
        )
    return tuple(findings)


def _images(
    question: Callable[[sources.Example, Facts], str],
) -> Callable[[Scanned], Match | None]:
    """Returns the check that asks for each image alone.

    question: returns the note on an image, '' where nothing is to be said.
    """

    def find(scanned: Scanned) -> Match | None:
        images = zip(scanned.source.examples, scanned.facts, strict=True)
        notes = [question(example, facts) for example, facts in images]
        groups = tuple((i,) for i, note in enumerate(notes) if note)
        return Match(groups, tuple(filter(None, notes))) if groups else None

    return find


def _relation(examples: Sequence[sources.Example], group: Sequence[int]) -> str:
    """Returns how images of the same content are labelled and divided."""
    if fixes.differ(examples, group, "label"):
        return "labels differ"
    if fixes.differ(examples, group, "split"):
        return "splits differ"
    if examples[group[0]].split:
        return "in one split"
    if not examples[group[0]].group or fixes.differ(examples, group, "group"):
        return "free"
    return "in one group"


def _equal(scanned: Scanned, *relations: str) -> Match | None:
    groups = tuple(
        group
        for group in scanned.equal
        if _relation(scanned.source.examples, group) in relations
    )
    return Match(groups) if groups else None


def _alike(scanned: Scanned, relation: str) -> Match | None:
    groups = [
        group
        for group in scanned.alike
        if _relation(scanned.source.examples, group.images) == relation
    ]
    if not groups:
        return None
    return Match(
        tuple(group.images for group in groups),
        tuple(
            # What is not equal is not 1.
            f"likeness {min(*group.likeness, 0.999):.3f} or more"
            + (", mirrored" if group.mirrored else "")
            for group in groups
        ),
    )


def _too_few(scanned: Scanned) -> Match | None:
    examples = [scanned.source.examples[i] for i in scanned.readable]
    try:
        # Of empty folders there is a check of its own.
        sources.check_classes(dataclasses.replace(scanned.source, empty=()))
        for label, images in scanned.class_sizes.items():
            if not images:
                raise errors.UserError(
                    f"class {label!r} has no image that can be read."
                )
        splits.assign(
            [scanned.facts[i].pixels for i in scanned.readable],
            [example.label for example in examples],
            given=[example.split for example in examples],
            groups=[example.group for example in examples],
            seed=0,
        )
    except errors.UserError as error:
        sentence = str(error)
        return Match(values={"error": sentence[:1].upper() + sentence[1:]})
    return None


def _listed(paths: Sequence[str], one: str, many: str) -> Match | None:
    """Returns the match of files or folders that are no images of a class."""
    if not paths:
        return None
    what = one if len(paths) == 1 else f"{len(paths):,} {many}"
    return Match(values={"what": what, "names": errors.few(paths)})


def _lost(scanned: Scanned) -> Match | None:
    examples, left_out = scanned.source.examples, scanned.remedy.left_out
    kept = {each.label for i, each in enumerate(examples) if i not in left_out}
    classes = [label for label in scanned.source.labels if label not in kept]
    if not classes:
        return None
    names = [f"{each} (of {scanned.class_sizes[each]:,})" for each in classes]
    what = "1 class" if len(classes) == 1 else f"{len(classes):,} classes"
    return Match(values={"what": what, "names": errors.few(names)})


def _few(scanned: Scanned) -> Match | None:
    sizes = scanned.class_sizes
    labels = [label for label in sizes if sizes[label] < _FEW]
    if not labels:
        return None
    names = ", ".join(labels[:10])
    if len(labels) > 10:
        names += f" and {len(labels) - 10} more"
    classes = f"{len(labels):,} classes have"
    if len(labels) == 1:
        classes = "1 class has"
    return Match(values={"classes": classes, "names": names})


def _uneven(scanned: Scanned) -> Match | None:
    sizes = scanned.class_sizes
    large = max(sizes, key=lambda label: sizes[label])
    small = min(sizes, key=lambda label: sizes[label])
    times = sizes[large] / max(sizes[small], 1)
    if times < _UNEVEN:
        return None
    return Match(
        values={
            "times": f"{times:.0f}",
            "sizes": f"{large}: {sizes[large]:,}, {small}: {sizes[small]:,}",
        }
    )


def _small(scanned: Scanned) -> Match | None:
    sides = {
        i: min(scanned.facts[i].width, scanned.facts[i].height)
        for i in scanned.readable
        if min(scanned.facts[i].width, scanned.facts[i].height) * _ENLARGED
        < scanned.image_size
    }
    if not sides:
        return None
    low, high = min(sides.values()), max(sides.values())
    return Match(
        tuple((i,) for i in sides),
        values={"low": low, "high": high, "input": scanned.image_size},
    )


def _constant(example: sources.Example, facts: Facts) -> str:
    if not facts.is_constant:
        return ""
    return f"contrast {facts.contrast:.1f} of 127.5 grey levels"


def _proportions(example: sources.Example, facts: Facts) -> str:
    width, height = facts.width, facts.height
    if facts.reason or max(width, height) <= _LONG * min(width, height):
        return ""
    return f"{width} x {height}"


def _orientation(example: sources.Example, facts: Facts) -> str:
    return f"orientation {facts.orientation}" if facts.orientation != 1 else ""


def _transparent(example: sources.Example, facts: Facts) -> str:
    return f"least opacity {facts.opacity:.0%}" if facts.opacity < 1 else ""


def _dark(example: sources.Example, facts: Facts) -> str:
    used = f"{facts.used_range:.1%} of the range"
    return used if facts.is_dark else ""


def _misnamed(example: sources.Example, facts: Facts) -> str:
    kind = _KINDS.get(pathlib.PurePath(example.path).suffix.lower(), facts.kind)
    return "" if facts.reason or kind == facts.kind else f"is {facts.kind}"


_METHOD = (
    "Found by the correlation of the details in grey thumbnails, "
    f"{duplicates.ALIKE} or more; or by perceptual hashes, and "
    f"{duplicates.ALIGNED} or more when one is laid over the other. This finds "
    "copies that were saved anew, enlarged, reduced, mirrored, made lighter, "
    "cropped or turned a little. It misses crops and turns where all pictures "
    "have one thing in the middle, and takes simple drawings, such as two "
    f"equal digits, for each other. Of more than {duplicates.ALL_PAIRS:,} "
    "images it may miss a few."
)

CHECKS = (
    Check(
        "unreadable",
        True,
        "{images} cannot be used",
        "Training leaves them out and lists them in skipped.csv, or stops "
        "with --on_bad_image=fail. Repair them, convert them to JPEG or PNG, "
        "or remove them.",
        _images(lambda example, facts: facts.reason),
    ),
    Check(
        "equal_under_two_labels",
        True,
        "{images} under two labels",
        "Their pixels are equal, so at most one label can be right. Remove "
        "them, or correct the label.",
        lambda scanned: _equal(scanned, "labels differ"),
    ),
    Check(
        "equal_across_splits",
        True,
        "{images} in more than one of the given splits",
        "Their pixels are equal: what was learned by heart in training is "
        "asked again in the test, so its result is too good. Remove those of "
        "the training split.",
        lambda scanned: _equal(scanned, "splits differ"),
    ),
    Check(
        "equal",
        False,
        "{images} more than once in one class",
        "Their pixels are equal. Splits made by tlkeras keep equal images "
        "on one side; they count more often than others.",
        lambda scanned: _equal(scanned, "in one split", "in one group", "free"),
    ),
    Check(
        "alike_under_two_labels",
        True,
        "{images} almost equal under two labels",
        "One of the labels is wrong, or they tell something that can hardly "
        f"be seen. {_METHOD}",
        lambda scanned: _alike(scanned, "labels differ"),
    ),
    Check(
        "alike_across_splits",
        True,
        "{images} almost equal in more than one of the given splits",
        "The test asks what training has shown, so its result is too good. "
        f"{_METHOD}",
        lambda scanned: _alike(scanned, "splits differ"),
    ),
    Check(
        "alike",
        True,
        "{images} almost equal to others of the class",
        "They may come to stand in training and test both, so that the test's "
        "result is too good. --fix=FILE gives them a common group, which is "
        f"never divided. {_METHOD}",
        lambda scanned: _alike(scanned, "free"),
    ),
    Check(
        "alike_in_one_split",
        False,
        "{images} almost equal to others of the class and split",
        f"They count more often than others. {_METHOD}",
        lambda scanned: _alike(scanned, "in one split"),
    ),
    Check(
        "constant",
        True,
        "{images} of one colour, or nearly so",
        "There is nothing to see in them. Scans of 12 bits in files of 16 "
        "look so, too: nothing is stretched, so save them brighter.",
        _images(_constant),
    ),
    Check(
        "empty_class",
        True,
        "{what}",
        "{names}: training stops there. Fill or remove them.",
        lambda scanned: _listed(
            scanned.source.empty,
            "1 class folder without an image",
            "class folders without an image",
        ),
    ),
    Check(
        "nested_class",
        True,
        "{what}",
        "{names}: training stops there, since these folders may be the "
        "classes, and what is above them is not. Name the folder right above "
        "the classes, or move the images up.",
        lambda scanned: _listed(
            scanned.source.nested,
            "1 class folder that holds folders alone",
            "class folders that hold folders alone",
        ),
    ),
    Check(
        "loose",
        True,
        "{what} beside the folders of classes",
        "{names}: they belong to no class, and nothing reads them. Move them "
        "into one, or away.",
        lambda scanned: _listed(scanned.source.loose, "1 image", "images"),
    ),
    Check(
        "lost_class",
        True,
        "--fix would leave out {what}",
        "Without what is doubtful it has no images, or too few to be split: "
        "{names}. Add images, or decide about those by hand.",
        _lost,
    ),
    Check("too_few", True, "The data cannot be split", "{error}", _too_few),
    Check(
        "few",
        False,
        f"{{classes}} fewer than {_FEW} images",
        "{names}. At most three of each are for validation and three for "
        "test, so their results are mostly chance.",
        _few,
    ),
    Check(
        "uneven",
        False,
        "The largest class has {times} times the images of the smallest",
        "{sizes}. Judge by the balanced accuracy; --class_weights=balanced "
        "makes the classes count the same.",
        _uneven,
    ),
    Check(
        "small",
        False,
        "{images} far smaller than the input",
        "Their shorter side is {low} to {high} pixels, the input {input}: "
        "they are enlarged more than twice, which costs time and shows "
        "nothing new. A smaller --image_size may do.",
        _small,
    ),
    Check(
        "proportions",
        False,
        "{count} of {readable:,} images far from square",
        f"Of an image more than {_LONG} times as long as wide, --resize=crop "
        "sees little more than half. pad keeps all of it, stretch changes the "
        "shapes.",
        _images(_proportions),
    ),
    Check(
        "orientation",
        False,
        "{images} rotated by EXIF",
        "Their EXIF orientation says how the camera was held. tlkeras turns "
        "them upright, here and when it predicts; a tool that ignores it sees "
        "them as they are stored.",
        _images(_orientation),
    ),
    Check(
        "twelve_bits",
        True,
        "{images} of 16 bits that use less than a sixteenth of their range",
        "They are nearly black or without contrast, because tlkeras stretches "
        "nothing by itself. Of 12 bits in a file of 16, multiply the values "
        "by 16 before training and before predicting.",
        _images(_dark),
    ),
    Check(
        "transparent",
        False,
        "{images} with transparent pixels",
        "They are put onto white, here, in training and when it predicts. A "
        "tool that drops alpha sees black, or what was cut away.",
        _images(_transparent),
    ),
    Check(
        "misnamed",
        False,
        "{images} with the wrong file extension",
        "The content counts, so they are read all the same.",
        _images(_misnamed),
    ),
)
