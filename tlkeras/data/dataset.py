"""From a source to images that can be trained on: scanned, split, counted."""

import collections
import dataclasses
import os

import numpy as np

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.data import images as image_stores
from tlkeras.data import sources
from tlkeras.data import splits


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """How many sets of two or more images have equal pixels.

    across_given_splits, under_two_labels: how many of these sets.
    """

    groups: int
    across_given_splits: int
    under_two_labels: int


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Readable images with their labels, by position 0 to n - 1.

    rows: where each one stands in `images` [n]. targets: index into `labels`
    [n]. splits: train, validation, test or unused, for each. keys: a number
    [n] of each image's pixels. skipped: (path, reason) of unreadable images.
    """

    name: str
    labels: tuple[str, ...]
    paths: tuple[str, ...]
    targets: np.ndarray
    splits: tuple[str, ...]
    keys: np.ndarray
    rows: np.ndarray
    images: image_stores.Images
    skipped: tuple[tuple[str, str], ...]
    duplicates: Duplicates
    notes: tuple[str, ...]

    def positions(self, split: str) -> np.ndarray:
        """Returns the positions [n] of the images of `split`."""
        return np.flatnonzero(np.array(self.splits) == split)


def prepare(
    source: sources.Source,
    *,
    image_size: int,
    resize: str,
    split_seed: int,
    images_per_class: int | str = "all",
    on_bad_image: str = "skip",
    store_bytes: float,
    directory: str | os.PathLike,
    progress: progresses.Progress,
) -> Dataset:
    """Returns `source` decoded, resized and split.

    image_size: side in pixels. store_bytes: of disk for the decoded images,
    in `directory`.

    Raises `UserError` where images cannot be read and `on_bad_image` is
    `fail`, or where a class has too few that can.
    """
    scan = image_stores.scan(
        source,
        size=image_size,
        resize=resize,
        store_bytes=store_bytes,
        directory=directory,
        progress=progress,
    )
    skipped = tuple(
        (example.path, why)
        for example, why in zip(source.examples, scan.reasons, strict=True)
        if why
    )
    if skipped and on_bad_image == "fail":
        raise errors.UserError(
            f"{len(skipped)} images cannot be read, first {skipped[0][0]}: "
            f"{skipped[0][1]}. Mend or remove them, or give "
            "--on_bad_image=skip."
        )
    rows = [index for index, why in enumerate(scan.reasons) if not why]
    examples = [source.examples[index] for index in rows]
    hashes = [scan.hashes[index] for index in rows]
    labels = [example.label for example in examples]
    present = set(labels)
    for example, why in zip(source.examples, scan.reasons, strict=True):
        if example.label not in present:
            raise errors.UserError(
                f"class {example.label!r} of {source.name} has no image that "
                f"can be read, first {example.path}: {why}."
            )
    split = splits.assign(
        hashes,
        labels,
        given=[example.split for example in examples],
        groups=[example.group for example in examples],
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
    duplicates = _duplicates(examples, hashes)
    return Dataset(
        name=source.name,
        labels=source.labels,
        paths=tuple(example.path for example in examples),
        targets=np.array([index[label] for label in labels], np.int32),
        splits=names,
        keys=np.array([int(each[:15], 16) for each in hashes], np.int64),
        rows=np.array(rows, np.int64),
        images=scan.images,
        skipped=skipped,
        duplicates=duplicates,
        notes=split.notes + _duplicate_notes(duplicates),
    )


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


def _duplicates(
    examples: list[sources.Example], hashes: list[str]
) -> Duplicates:
    same: dict[str, list[sources.Example]] = {}
    for example, pixels in zip(examples, hashes, strict=True):
        same.setdefault(pixels, []).append(example)
    groups = [group for group in same.values() if len(group) > 1]
    return Duplicates(
        len(groups),
        sum(len({each.split for each in group}) > 1 for group in groups),
        sum(len({each.label for each in group}) > 1 for group in groups),
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
    return tuple(notes)
