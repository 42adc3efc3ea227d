"""A data set without what is doubtful: what is left out, what is grouped."""

import dataclasses
import itertools
import os
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Sequence

from tlkeras import errors
from tlkeras import files
from tlkeras.data import sources
from tlkeras.data import splits
from tlkeras.data.facts import Facts

# Of several equal images the one in the first of these splits is kept: a test
# that has seen its images in training says nothing.
_KEPT_FIRST = ("test", "validation", "train", "")


@dataclasses.dataclass(frozen=True)
class Remedy:
    """What a data set would be without what is doubtful.

    left_out: indices of images to leave out. groups: for each image the group
    that must stay in one split, '' for none. classes: those of which all is
    left out, because what is left of them cannot be split.
    """

    left_out: frozenset[int]
    groups: tuple[str, ...]
    classes: tuple[str, ...] = ()


def find(
    examples: Sequence[sources.Example],
    facts: Sequence[Facts],
    equal: Sequence[tuple[int, ...]],
    alike: Sequence[tuple[int, ...]],
) -> Remedy:
    """Returns what to do about images with these facts.

    equal, alike: groups of indices of images that are so.
    """
    left_out = {
        index
        for index, image in enumerate(facts)
        if image.reason or image.is_constant
    }
    kept_for = list(range(len(examples)))
    for group in equal:
        kept = min(group, key=lambda i: _KEPT_FIRST.index(examples[i].split))
        left_out |= set(group) - {kept}
        if differ(examples, group, "label"):
            left_out.add(kept)
        for index in group:
            kept_for[index] = kept
    same_group = []
    for group in alike:
        kept_images = {kept_for[index] for index in group} - left_out
        if differ(examples, kept_images, "label"):
            left_out |= kept_images
        elif differ(examples, kept_images, "split"):
            best = min(
                (examples[index].split for index in kept_images),
                key=_KEPT_FIRST.index,
            )
            left_out |= {i for i in kept_images if examples[i].split != best}
        elif kept_images:
            same_group.append(kept_images)
    groups = _groups(examples, same_group)
    classes = _unsplittable(examples, facts, left_out, groups)
    left_out |= {i for i, one in enumerate(examples) if one.label in classes}
    return Remedy(frozenset(left_out), groups, classes)


def without(
    examples: Sequence[sources.Example],
    facts: Sequence[Facts],
    remedy: Remedy,
    paths: Collection[str],
) -> Remedy:
    """Returns `remedy` with the images at `paths` left out, too.

    Raises `UserError` for a path that is none of the images.
    """
    known = {example.path: index for index, example in enumerate(examples)}
    for path in paths:
        if path not in known:
            raise errors.UserError(
                f"`marked` names {path}, which is none of the images of "
                "`data`. Give the table that was made of them."
            )
    left_out = set(remedy.left_out) | {known[path] for path in paths}
    classes = _unsplittable(examples, facts, left_out, remedy.groups)
    left_out |= {i for i, one in enumerate(examples) if one.label in classes}
    return Remedy(frozenset(left_out), remedy.groups, classes)


def write(
    examples: Sequence[sources.Example],
    remedy: Remedy,
    path: str | os.PathLike,
) -> int:
    """Writes the data set without what is doubtful as CSV for `csv:`.

    Returns the number of images in it. Raises `UserError` where a name cannot
    be written in UTF-8, and where fewer than two classes are left.
    """
    columns = {
        "path": [example.path for example in examples],
        "label": [example.label for example in examples],
        "split": [example.split for example in examples],
        "group": remedy.groups,
    }
    for optional in ("split", "group"):
        if not any(columns[optional]):
            del columns[optional]
    rows = [
        row
        for index, row in enumerate(zip(*columns.values(), strict=True))
        if index not in remedy.left_out
    ]
    if not rows:
        raise errors.UserError(
            f"`fix` would be empty: none of {len(examples)} images is beyond "
            "doubt. Nothing was written to it."
        )
    labels = {label for _, label, *_ in rows}
    if len(labels) < 2:
        raise errors.UserError(
            f"`fix` would have one class, {labels.pop()!r}, and no classifier "
            "could be trained on it: all of the others is doubtful or cannot "
            "be split. Nothing was written to it."
        )
    for row in rows:
        try:
            "".join(row).encode()
        except UnicodeEncodeError:
            raise errors.UserError(
                f"{row[0]!r} has a name that is not UTF-8, which a CSV file "
                "cannot hold. Rename it."
            ) from None
    files.write_csv(path, list(columns), rows)
    return len(rows)


def differ(
    examples: Sequence[sources.Example], group: Collection[int], field: str
) -> bool:
    """Tells whether images of `group` differ in a field of their examples."""
    return len({getattr(examples[index], field) for index in group}) > 1


def _unsplittable(
    examples: Sequence[sources.Example],
    facts: Sequence[Facts],
    left_out: Collection[int],
    groups: Sequence[str],
) -> tuple[str, ...]:
    """Returns the classes that keep what is not left out from being split."""
    classes: list[str] = []
    while True:
        kept = [
            index
            for index, example in enumerate(examples)
            if index not in left_out and example.label not in classes
        ]
        try:
            splits.assign(
                [facts[index].pixels for index in kept],
                [examples[index].label for index in kept],
                given=[examples[index].split for index in kept],
                groups=[groups[index] for index in kept],
                seed=0,
            )
        except splits.CannotSplit as error:
            classes += error.labels
        except errors.UserError:
            # Nothing is left for training, whatever class is left out.
            return tuple(sorted({example.label for example in examples}))
        else:
            return tuple(sorted(classes))


def _groups(
    examples: Sequence[sources.Example], same_group: Iterable[set[int]]
) -> tuple[str, ...]:
    """Returns a group for each image: its own, widened by those alike."""
    groups = [example.group for example in examples]
    members: dict[str, set[int]] = {}
    for index, group in enumerate(groups):
        if group:
            members.setdefault(group, set()).add(index)
    for images in same_group:
        joined = {groups[index] for index in images} - {""}
        name = min(joined) if joined else _new_name(members)
        whole = images.union(*(members.pop(group) for group in joined))
        for index in whole:
            groups[index] = name
        members[name] = whole
    return tuple(groups)


def _new_name(taken: Collection[str]) -> str:
    names = map("alike-{}".format, itertools.count(1))
    return next(name for name in names if name not in taken)
