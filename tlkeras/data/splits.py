"""Which image is for training, validation and test: a hash of its pixels.

The answer depends on the image and the seed alone: adding images moves none,
and equal pictures never stand on both sides.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from tlkeras import errors

# Of cross-validation, where nothing else is said.
FOLDS = 5
TEST_SHARE = 0.15
VALIDATION_SHARE = 0.15
SPLITS = ("train", "validation", "test")
# Classes that an error names, at most.
_NAMED = 20


class CannotSplit(errors.UserError):
    """Classes, all of them in `labels`, that have too few images to split."""

    def __init__(self, message: str, labels: tuple[str, ...]):
        super().__init__(message)
        self.labels = labels


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
    images_per_class: int | str = "all",
    seed: int,
) -> Split:
    """Returns the split of each image, as given or by the hash of its pixels.

    hashes: of the decoded pixels. given: the source's own split for all
    images, or '' for all. groups: images of one non-empty group stay together.
    images_per_class: of training at most; the rest is `unused`.

    Without given splits 15 % of the images are for test and 15 % for
    validation. A split that the source lacks is taken from its training part.
    A class that misses a split made here gets the images with its lowest
    hashes moved there. Raises `CannotSplit` where that cannot be done.
    """
    known = list(given) if any(given) else ["train"] * len(hashes)
    if "train" not in known:
        raise errors.UserError(
            "the data has given splits, but none for training. Received: "
            f"{', '.join(sorted(set(known)))}."
        )
    lacking = [name for name in SPLITS if name not in known]
    # Only what is for training may go elsewhere: by keys, never one image.
    keys = together(hashes, groups)
    classes: dict[str, list[str]] = {label: [] for label in sorted(set(labels))}
    for key, label, name in zip(keys, labels, known, strict=True):
        if name == "train":
            classes[label].append(key)
    draws = {
        key: _draw(key, seed) for members in classes.values() for key in members
    }
    splits = {key: _name(draw, lacking) for key, draw in draws.items()}
    moved = _fill(splits, classes, draws, ["train", *lacking])
    names = tuple(
        splits[key] if name == "train" else name
        for key, name in zip(keys, known, strict=True)
    )
    if images_per_class != "all":
        names = few(
            names,
            labels,
            hashes,
            images_per_class=int(images_per_class),
            seed=seed,
        )
    notes = _given_notes(known, labels, groups) if any(given) else []
    for split, filled in moved.items():
        notes.append(
            f"Images were moved to {split} because chance had put none there "
            f"of: {_few_names(filled)}."
        )
    return Split(names, tuple(notes))


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
    training: dict[str, list[tuple[float, int]]] = {}
    for index, (name, label) in enumerate(zip(names, labels, strict=True)):
        if name == "train":
            draw = _draw(f"few:{hashes[index]}", seed)
            training.setdefault(label, []).append((draw, index))
    for members in training.values():
        for _, index in sorted(members)[images_per_class:]:
            result[index] = "unused"
    return tuple(result)


def folds(
    targets: np.ndarray,
    groups: Sequence[str],
    *,
    seed: int,
    count: int = FOLDS,
) -> np.ndarray:
    """Returns the fold [n] of each image, of `count`, even in each class.

    Images of one group stay together. Large groups choose first, each the
    fold with the fewest images of its class, then with the fewest images.
    (scikit-learn's StratifiedGroupKFold refuses classes that have all fewer
    images than there are folds.) Raises ValueError where all images are of one
    group.
    """
    names, numbers, sizes = np.unique(
        np.asarray(groups), return_inverse=True, return_counts=True
    )
    if len(names) < 2:
        raise ValueError(
            "`groups` must be two or more, to be on different sides. Received: "
            f"{errors.count(len(names), 'group')} of "
            f"{errors.count(len(targets), 'image')}."
        )
    classes = int(targets.max()) + 1
    of_group = np.zeros([len(names), classes], np.int64)
    np.add.at(of_group, (numbers, targets), 1)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    of_fold = np.zeros([min(count, len(names)), classes], np.int64)
    fold_of = np.empty(len(names), np.int64)
    for group in order:
        commonest = of_group[group].argmax()
        # The last key counts first.
        fold = np.lexsort((of_fold.sum(axis=1), of_fold[:, commonest]))[0]
        of_fold[fold] += of_group[group]
        fold_of[group] = fold
    return fold_of[numbers]


def folded(
    hashes: Sequence[str],
    labels: Sequence[str],
    *,
    groups: Sequence[str],
    images_per_class: int | str = "all",
    count: int,
    seed: int,
) -> np.ndarray:
    """Returns the fold [n] of each image, of `count`; -1 where it is unused.

    hashes, labels, groups, images_per_class: as `assign` has them. Raises
    `CannotSplit` where a class would have no image to learn from in a fold, of
    which two hold images back.
    """
    names: Sequence[str] = ["train"] * len(hashes)
    if images_per_class != "all":
        names = few(
            names,
            labels,
            hashes,
            images_per_class=int(images_per_class),
            seed=seed,
        )
    used = np.flatnonzero(np.array(names) == "train")
    keys = np.array(together(hashes, groups))
    known, targets = np.unique(np.array(labels), return_inverse=True)
    numbers = np.full(len(hashes), -1)
    if len(set(keys[used])) > 1:
        numbers[used] = folds(
            targets[used], list(keys[used]), seed=seed, count=count
        )
    failed = []
    for target, label in enumerate(known):
        mine = numbers[(targets == target) & (numbers >= 0)]
        if any(
            not np.isin(numbers_of(number, count), mine).any()
            for number in range(count)
        ):
            failed.append(str(label))
    if failed:
        raise CannotSplit(
            f"`folds` {count} leaves no image to learn from, in one of them, "
            f"of: {_few_names(failed)}. Each class needs three images that may "
            "stand in different folds; equal images and groups count once. Add "
            "images, leave these classes out, or give another number.",
            tuple(failed),
        )
    return numbers


def numbers_of(fold: int, count: int) -> list[int]:
    """Returns the folds that teach when `fold` is tested, the next chooses."""
    held = (fold, (fold + 1) % count)
    return [number for number in range(count) if number not in held]


def of_fold(numbers: np.ndarray, fold: int, count: int) -> tuple[str, ...]:
    """Returns the split of each image [n] when `fold` is tested."""
    names = dict.fromkeys(numbers_of(fold, count), "train")
    names |= {fold: "test", (fold + 1) % count: "validation", -1: "unused"}
    return tuple(names[number] for number in numbers.tolist())


def _draw(key: str, seed: int) -> float:
    """Returns a number in [0, 1) that depends on the key and the seed."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _name(draw: float, lacking: Sequence[str]) -> str:
    test = TEST_SHARE if "test" in lacking else 0.0
    validation = VALIDATION_SHARE if "validation" in lacking else 0.0
    if draw < test:
        return "test"
    return "validation" if draw < test + validation else "train"


def together(hashes: Sequence[str], groups: Sequence[str]) -> list[str]:
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
    splits: dict[str, str],
    classes: dict[str, list[str]],
    draws: dict[str, float],
    wanted: Sequence[str],
) -> dict[str, list[str]]:
    """Moves keys in `splits` until each class has one in each split wanted.

    Returns the classes for which that was done, by split. A key may belong to
    several classes, by a group or by equal pixels under two labels: it stays
    where it is if another class would lose its only one there. So each move
    fills one gap and makes none, and this ends. Raises `CannotSplit` with all
    the classes whose gaps cannot be filled.
    """
    owners: dict[str, set[str]] = {}
    for label, members in classes.items():
        for key in members:
            owners.setdefault(key, set()).add(label)
    counts = collections.Counter(
        (label, splits[key]) for key in owners for label in owners[key]
    )
    moved: dict[str, list[str]] = {}
    failed: dict[str, list[str]] = {}
    for label, members in classes.items():
        for split in wanted:
            if counts[label, split]:
                continue
            free = [
                key
                for key in members
                if all(counts[owner, splits[key]] > 1 for owner in owners[key])
            ]
            if not free:
                failed[label] = members
                break
            # The lowest of the split with most.
            key = min(
                free,
                key=lambda key: (-counts[label, splits[key]], draws[key]),
            )
            for owner in owners[key]:
                counts[owner, splits[key]] -= 1
                counts[owner, split] += 1
            splits[key] = split
            moved.setdefault(split, []).append(label)
    if failed:
        raise CannotSplit(_too_small(failed, wanted), tuple(failed))
    return moved


def _too_small(failed: dict[str, list[str]], wanted: Sequence[str]) -> str:
    """Returns a sentence on classes that cannot be split, with their keys."""
    label, members = next(iter(failed.items()))
    sets = len(set(members))
    if len(failed) > 1:
        sizes = [
            f"{label!r} ({len(set(members))})"
            for label, members in failed.items()
        ]
        if len(sizes) > _NAMED:
            sizes[_NAMED:] = [f"{len(sizes) - _NAMED:,} more"]
        return (
            f"{len(failed):,} classes cannot have an image in "
            f"{' and '.join(wanted)} each: {', '.join(sizes)}. In brackets "
            "are their training images; equal images and groups count once. "
            "Where these are enough, other classes share groups or equal "
            "pixels with them. Add images or leave these classes out."
        )
    text = f"class {label!r} must have an image in {' and '.join(wanted)}, but "
    if sets >= len(wanted):
        text += (
            "its images cannot be separated without taking another class's "
            "only one, because they share groups or equal pixels."
        )
    else:
        text += (
            f"it has {errors.count(len(members), 'training image')}, {sets} "
            "where equal images and groups count once."
        )
    return f"{text} Add images or leave the class out."


def _given_notes(
    given: Sequence[str], labels: Sequence[str], groups: Sequence[str]
) -> list[str]:
    notes = []
    lacking = [name for name in SPLITS if name not in given]
    if lacking:
        notes.append(
            f"The data came without a split for {' and '.join(lacking)}; "
            "15 % of its training images were taken for each."
        )
    present = set(zip(labels, given, strict=True))
    for split in ("validation", "test"):
        absent = sorted(
            label for label in set(labels) if (label, split) not in present
        )
        if absent and split not in lacking:
            notes.append(
                f"The given {split} split has no image of: "
                f"{_few_names(absent)}."
            )
    sides: dict[str, set[str]] = {}
    for group, split in zip(groups, given, strict=True):
        if group:
            sides.setdefault(group, set()).add(split)
    crossing = sorted(group for group in sides if len(sides[group]) > 1)
    if crossing:
        notes.append(
            "Groups in more than one of the given splits, so that results are "
            f"too good: {_few_names(crossing)}."
        )
    return notes


def _few_names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    more = len(names) - 5
    return f"{shown} and {more} more" if more > 0 else shown
