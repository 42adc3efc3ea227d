"""From a source to images that can be trained on: scanned, split, counted."""

import collections
import dataclasses
import hashlib
import math
import os
from collections.abc import Sequence

import numpy as np

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.data import duplicates as copies
from tlkeras.data import facts as file_facts
from tlkeras.data import images as image_stores
from tlkeras.data import scan as scans
from tlkeras.data import sources
from tlkeras.data import splits

# All pairs of so many pictures are compared in 5 s on two cores, of twice as
# many in 20.
_COMPARED = 20_000


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """How many sets of two or more images have equal pixels.

    across_given_splits, under_two_labels: how many of these sets.
    alike_across_splits: how many validation and test images look like one of
      training, as `duplicates.alike` has it; -1 where that was not looked at.
    """

    groups: int
    across_given_splits: int
    under_two_labels: int
    alike_across_splits: int = 0


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Readable images with their labels, by position 0 to n - 1.

    rows: where each one stands in `images` [n]. targets: index into `labels`
    [n]. splits: train, validation, test or unused, for each. hashes: of each
    image's pixels [n]. skipped: (path, reason) of unreadable images. groups:
    equal for images that must stay together [n]. sizes: width and height of
    each file's picture [n, 2], in pixels.
    """

    name: str
    labels: tuple[str, ...]
    paths: tuple[str, ...]
    targets: np.ndarray
    splits: tuple[str, ...]
    hashes: np.ndarray
    rows: np.ndarray
    images: image_stores.Images
    skipped: tuple[tuple[str, str], ...]
    duplicates: Duplicates
    notes: tuple[str, ...]
    groups: tuple[str, ...]
    sizes: np.ndarray

    def positions(self, split: str) -> np.ndarray:
        """Returns the positions [n] of the images of `split`."""
        return np.flatnonzero(np.array(self.splits) == split)


def prepare(
    source: sources.Source,
    *,
    shape: image_stores.Shape,
    split_seed: int,
    images_per_class: int | str = "all",
    on_bad_image: str = "skip",
    store_bytes: float,
    directory: str | os.PathLike,
    keep: str | os.PathLike,
    progress: progresses.Progress,
) -> Dataset:
    """Returns `source` scanned, split, and ready to be read.

    store_bytes: of disk for the decoded images, in `directory`. keep: the
    directory in which the scan's results are kept between runs.

    Raises `UserError` where images cannot be read and `on_bad_image` is
    `fail`, or where a class has too few that can.
    """
    stamps = sources.stamps(source)
    store = image_stores.Store(
        source, stamps, shape, store_bytes=store_bytes, directory=directory
    )
    facts = scans.scan(
        source,
        stamps,
        max_pixels=shape.max_pixels,
        keep=keep,
        store=store,
        progress=progress,
    )
    skipped = tuple(
        (example.path, each.reason)
        for example, each in zip(source.examples, facts, strict=True)
        if each.reason
    )
    if skipped and on_bad_image == "fail":
        raise errors.UserError(
            f"{len(skipped)} images cannot be read, first {skipped[0][0]}: "
            f"{skipped[0][1]}. Mend or remove them, or give "
            "--on_bad_image=skip."
        )
    rows = [index for index, each in enumerate(facts) if not each.reason]
    examples = [source.examples[index] for index in rows]
    hashes = [facts[index].pixels for index in rows]
    labels = [example.label for example in examples]
    present = set(labels)
    for example, each in zip(source.examples, facts, strict=True):
        if example.label not in present:
            raise errors.UserError(
                f"class {example.label!r} of {source.name} has no image that "
                f"can be read, first {example.path}: {each.reason}."
            )
    groups = [example.group for example in examples]
    split = splits.assign(
        hashes,
        labels,
        given=[example.split for example in examples],
        groups=groups,
        seed=split_seed,
    )
    names = split.names
    if images_per_class != "all":
        names = splits.few(
            names,
            labels,
            hashes,
            images_per_class=int(images_per_class),
            seed=split_seed,
        )
    index = {label: number for number, label in enumerate(source.labels)}
    duplicates = _duplicates(
        examples,
        hashes,
        _alike([facts[row] for row in rows], names, progress),
    )
    return Dataset(
        name=source.name,
        labels=source.labels,
        paths=tuple(example.path for example in examples),
        targets=np.array([index[label] for label in labels], np.int32),
        splits=names,
        hashes=np.array(hashes),
        rows=np.array(rows, np.int64),
        images=store.images(),
        skipped=skipped,
        duplicates=duplicates,
        notes=split.notes + _duplicate_notes(duplicates),
        groups=tuple(splits.together(hashes, groups)),
        sizes=np.array([[facts[row].width, facts[row].height] for row in rows]),
    )


def digest(dataset: Dataset) -> str:
    """Returns a word for the images, their order, their labels and splits."""
    words = [
        *dataset.labels,
        *dataset.hashes,
        *dataset.splits,
        *map(str, dataset.targets),
    ]
    text = "\n".join(words).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Returns the number of images by split and class."""
    result = {}
    for split in (*splits.SPLITS, "unused"):
        found = collections.Counter(
            dataset.targets[dataset.positions(split)].tolist()
        )
        if split != "unused" or found:
            result[split] = {
                label: found[number]
                for number, label in enumerate(dataset.labels)
            }
    return result


def _alike(
    pictures: Sequence[file_facts.Facts],
    names: Sequence[str],
    progress: progresses.Progress,
) -> int:
    """Returns how many images look like one of training; equal ones apart."""
    if len(pictures) > _COMPARED:
        return -1
    thumbnails = np.frombuffer(
        b"".join(each.thumbnail for each in pictures), np.uint8
    )
    side = math.isqrt(len(thumbnails) // len(pictures))
    count = 0
    for group in copies.alike(
        thumbnails.reshape(-1, side, side), progress=progress
    ):
        learned = {
            pictures[index].pixels
            for index in group.images
            if names[index] == "train"
        }
        count += sum(
            bool(learned)
            and names[index] in ("validation", "test")
            and pictures[index].pixels not in learned
            for index in group.images
        )
    return count


def _duplicates(
    examples: list[sources.Example], hashes: list[str], alike: int
) -> Duplicates:
    groups = [
        [examples[index] for index in group] for group in copies.equal(hashes)
    ]
    return Duplicates(
        len(groups),
        sum(len({each.split for each in group}) > 1 for group in groups),
        sum(len({each.label for each in group}) > 1 for group in groups),
        alike,
    )


def _duplicate_notes(duplicates: Duplicates) -> tuple[str, ...]:
    notes = []
    if duplicates.groups:
        notes.append(
            "Pictures that are there more than once, with equal pixels: "
            f"{duplicates.groups}. Splits made here keep equal ones on one "
            "side."
        )
    if duplicates.across_given_splits:
        notes.append(
            "Pictures that stand in more than one of the given splits, so "
            f"that results are too good: {duplicates.across_given_splits}."
        )
    if duplicates.under_two_labels:
        notes.append(
            "Pictures that stand under more than one label, so that no "
            "classifier can be right on all of them: "
            f"{duplicates.under_two_labels}."
        )
    if duplicates.alike_across_splits > 0:
        notes.append(
            "Validation and test pictures that look like one of training, so "
            "that results may be too good: "
            f"{duplicates.alike_across_splits}. `tlkeras check` shows them, "
            "and its --fix keeps them on one side."
        )
    return tuple(notes)
