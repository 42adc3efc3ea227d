"""A data set without what is doubtful: what is left out, what goes together."""

import dataclasses
import itertools
import os
from collections.abc import Iterable
from collections.abc import Sequence

from tlkeras import errors
from tlkeras import files
from tlkeras.data import sources
from tlkeras.data.facts import Facts

# Of several equal pictures the one that is kept: a test that has seen its
# pictures in training says nothing.
_KEPT_FIRST = ("test", "validation", "train", "")


@dataclasses.dataclass(frozen=True)
class Remedy:
    """What a data set would be without what is doubtful.

    left_out: indices of images to leave out. groups: for each image the group
    that must stay in one split, '' for none.
    """

    left_out: frozenset[int]
    groups: tuple[str, ...]


def find(
    examples: Sequence[sources.Example],
    facts: Sequence[Facts],
    equal: Sequence[tuple[int, ...]],
    alike: Sequence[tuple[int, ...]],
) -> Remedy:
    """Returns what to do about images with these facts.

    equal, alike: groups of indices of pictures that are so.
    """
    left_out = {
        index
        for index, each in enumerate(facts)
        if each.reason or each.is_constant
    }
    stands_for = {index: index for index in range(len(examples))}
    for group in equal:
        keep = min(group, key=lambda i: _KEPT_FIRST.index(examples[i].split))
        if differ(examples, group, "label"):
            left_out |= set(group)
        else:
            left_out |= set(group) - {keep}
        stands_for |= dict.fromkeys(group, keep)
    together = []
    for group in alike:
        kept = {stands_for[index] for index in group} - left_out
        if differ(examples, kept, "label"):
            left_out |= kept
        elif differ(examples, kept, "split"):
            found = {examples[index].split for index in kept}
            best = min(found, key=_KEPT_FIRST.index)
            left_out |= {i for i in kept if examples[i].split != best}
        elif kept:
            together.append(kept)
    return Remedy(frozenset(left_out), _groups(examples, together))


def write(
    examples: Sequence[sources.Example],
    remedy: Remedy,
    path: str | os.PathLike,
) -> int:
    """Writes the data set without what is doubtful as CSV for `csv:`.

    Returns the number of images in it. Raises `UserError` where a name cannot
    be written in UTF-8.
    """
    kept = [
        index for index in range(len(examples)) if index not in remedy.left_out
    ]
    if not kept:
        raise errors.UserError(
            f"`fix` would be empty: none of {len(examples)} images is beyond "
            "doubt. Nothing was written to it."
        )
    header = ["path", "label"]
    given = any(example.split for example in examples)
    grouped = any(remedy.groups)
    header += ["split"] * given + ["group"] * grouped
    rows = []
    for index in kept:
        example = examples[index]
        row = [example.path, example.label]
        row += [example.split] * given
        row += [remedy.groups[index]] * grouped
        try:
            "".join(row).encode()
        except UnicodeEncodeError:
            raise errors.UserError(
                f"{example.path!r} has a name that is not UTF-8, which a CSV "
                "file cannot hold. Rename it."
            ) from None
        rows.append(row)
    files.write_csv(path, header, rows)
    return len(rows)


def differ(
    examples: Sequence[sources.Example], group: Iterable[int], field: str
) -> bool:
    """Tells whether images of `group` differ in a field of their examples."""
    return len({getattr(examples[index], field) for index in group}) > 1


def _groups(
    examples: Sequence[sources.Example], together: Iterable[set[int]]
) -> tuple[str, ...]:
    """Returns a group for each image: its own, widened by those alike."""
    groups = [example.group for example in examples]
    members: dict[str, set[int]] = {}
    for index, group in enumerate(groups):
        if group:
            members.setdefault(group, set()).add(index)
    numbers = itertools.count(1)
    for some in together:
        joined = {groups[index] for index in some} - {""}
        names = (f"alike-{number}" for number in numbers)
        name = (
            min(joined)
            if joined
            else next(each for each in names if each not in members)
        )
        whole = some.union(*(members.pop(each) for each in joined))
        for index in whole:
            groups[index] = name
        members[name] = whole
    return tuple(groups)
