"""Which image is for training, validation and test: a hash of its pixels.

The answer depends on the image and the seed alone: adding images moves none,
and equal pictures never stand on both sides.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

from tlkeras import errors

TEST_SHARE = 0.15
VALIDATION_SHARE = 0.15
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Split:
    """The split of each image, and what had to be done for it.

    notes: sentences for the report.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...]


def assign(
    hashes: Sequence[str],
    labels: Sequence[str],
    *,
    given: Sequence[str],
    groups: Sequence[str],
    seed: int,
) -> Split:
    """Returns the split of each image, as given or by the hash of its pixels.

    hashes: of the decoded pixels. given: the source's own split, or ''.
    groups: images of one non-empty group stay together.

    Without given splits 15 % of the images are for test and 15 % for
    validation. A split that the source lacks is taken from its training part.
    A class that misses a split gets the images with its lowest hashes moved
    there. Raises `UserError` where a class is too small for that.
    """
    notes = []
    keys = _together(hashes, groups)
    if not any(given):
        places = [_place(key, seed) for key in keys]
        names = [
            _name(place, validation=VALIDATION_SHARE, test=TEST_SHARE)
            for place in places
        ]
        wanted = SPLITS
        movable = [True] * len(names)
    else:
        lacking = [name for name in SPLITS if name not in set(given)]
        if "train" in lacking:
            raise errors.UserError(
                "the data has given splits, but none for training. Received: "
                f"{', '.join(sorted(set(given)))}."
            )
        shares = {
            "validation": VALIDATION_SHARE if "validation" in lacking else 0,
            "test": TEST_SHARE if "test" in lacking else 0,
        }
        places = [_place(key, seed) for key in keys]
        names = [
            _name(place, **shares) if name == "train" else name
            for name, place in zip(given, places, strict=True)
        ]
        movable = [name == "train" for name in given]
        wanted = ("train", *lacking)
        if lacking:
            notes.append(
                f"The data came without a split for {' and '.join(lacking)}; "
                "15 % of its training images were taken for each."
            )
    names, moved = _fill(names, labels, keys, places, wanted, movable)
    return Split(tuple(names), tuple(notes + moved))


def few(
    names: Sequence[str],
    labels: Sequence[str],
    hashes: Sequence[str],
    *,
    images_per_class: int,
    seed: int,
) -> tuple[str, ...]:
    """Returns the splits with the training part cut down, the rest `unused`.

    Each class keeps the images with its lowest hashes, so that a smaller
    number is a part of a larger one.
    """
    result = list(names)
    for label in set(labels):
        mine = [
            index
            for index, name in enumerate(names)
            if name == "train" and labels[index] == label
        ]
        mine.sort(key=lambda index: (_place(hashes[index], seed + 1), index))
        for index in mine[images_per_class:]:
            result[index] = "unused"
    return tuple(result)


def _place(key: str, seed: int) -> float:
    """Returns a number in [0, 1) that depends on the key and the seed."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _name(place: float, *, validation: float, test: float) -> str:
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"


def _together(hashes: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Returns a key for each image, equal for all that must stay together.

    Images stay together that have equal pixels or one group, and so do groups
    that share equal pixels. The key is the smallest of the names in it.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for pixels, group in zip(hashes, groups, strict=True):
        first = root(f"pixels:{pixels}")
        if group:
            second = root(f"group:{group}")
            parent[max(first, second)] = min(first, second)
    return [root(f"pixels:{pixels}") for pixels in hashes]


def _fill(
    names: list[str],
    labels: Sequence[str],
    keys: list[str],
    places: list[float],
    wanted: Sequence[str],
    movable: list[bool],
) -> tuple[list[str], list[str]]:
    """Gives each class an image in each split; returns splits and notes."""
    notes = []
    names = list(names)
    for label in sorted(set(labels)):
        mine = [
            index for index, each in enumerate(labels) if each == label
        ]
        units = {keys[index] for index in mine if movable[index]}
        if len(units) < len(wanted):
            raise errors.UserError(
                f"class {label!r} must have at least {len(wanted)} different "
                f"images to stand in {', '.join(wanted)}. Received: "
                f"{len(units)}. Add images or leave the class out."
            )
        for split in wanted:
            while not any(names[index] == split for index in mine):
                key = _lowest(names, mine, keys, places, movable)
                for index, each in enumerate(keys):
                    if each == key and movable[index]:
                        names[index] = split
                notes.append(
                    f"Class {label!r} had no image in {split}; one was moved "
                    "there."
                )
    return names, notes


def _lowest(
    names: list[str],
    mine: list[int],
    keys: list[str],
    places: list[float],
    movable: list[bool],
) -> str:
    """Returns the lowest key of a class from its fullest split."""
    sizes: dict[str, set[str]] = {}
    for index in mine:
        if movable[index]:
            sizes.setdefault(names[index], set()).add(keys[index])
    fullest = max(sizes, key=lambda name: (len(sizes[name]), name))
    candidates = [
        index for index in mine if movable[index] and names[index] == fullest
    ]
    return keys[min(candidates, key=lambda index: places[index])]
