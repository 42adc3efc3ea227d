"""From a source to images that can be trained on: scanned, split, counted."""

import contextlib
import dataclasses
import hashlib
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


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """How many sets of two or more images have equal pixels.

    across_given_splits, under_two_labels: how many of these sets.
    alike_across_splits: how many validation and test images look like one of
      training, as `duplicates.alike` has it.
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
    each file's picture [n, 2], in pixels. thumbnails: grey [n, 32, 32]. folds:
    of cross-validation [n], -1 where an image is unused; `splits` are then
    those of the first of them.
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
    thumbnails: np.ndarray
    folds: np.ndarray | None = None

    def positions(self, split: str) -> np.ndarray:
        """Returns the positions [n] of the images of `split`."""
        return np.flatnonzero(np.array(self.splits) == split)

    def check(self, *names: str) -> None:
        """Raises `UserError` where files of these splits are others now.

        Those whose images are stored are needed no more.
        """
        self.images.check(self.rows[np.isin(self.splits, names)])

    def close(self) -> None:
        """Gives back the file of decoded images; no image is read after it."""
        self.images.close()


def prepare(
    source: sources.Source,
    *,
    shape: image_stores.Shape,
    split_seed: int,
    images_per_class: int | str = "all",
    folds: int = 0,
    on_bad_image: str = "skip",
    store_bytes: float,
    directory: str | os.PathLike,
    cache_dir: str | os.PathLike,
    progress: progresses.Progress,
) -> Dataset:
    """Returns `source` scanned, split, and ready to be read.

    folds: how many for cross-validation, 0 for none. store_bytes: of disk for
    the decoded images, in `directory`. cache_dir: where the scan's results are
    kept between runs.

    Raises `UserError` where images cannot be read and `on_bad_image` is
    `fail`, or where a class has too few that can.
    """
    stamps = sources.stamps(source)
    store = image_stores.Store(
        source, stamps, shape, store_bytes=store_bytes, directory=directory
    )
    with contextlib.ExitStack() as on_error:
        on_error.callback(store.close)
        facts = scans.scan(
            source,
            stamps,
            max_pixels=shape.max_pixels,
            cache_dir=cache_dir,
            store=store,
            progress=progress,
        )
        skipped = _unreadable(source, facts, on_bad_image)
        data = _split(
            source,
            facts,
            store.images(),
            skipped,
            seed=split_seed,
            images_per_class=images_per_class,
            folds=folds,
            progress=progress,
        )
        on_error.pop_all()
    return data


def _split(
    source: sources.Source,
    facts: Sequence[file_facts.Facts],
    images: image_stores.Images,
    skipped: tuple[tuple[str, str], ...],
    *,
    seed: int,
    images_per_class: int | str,
    folds: int,
    progress: progresses.Progress,
) -> Dataset:
    """Returns the readable images of `source`, split."""
    rows = [index for index, fact in enumerate(facts) if not fact.reason]
    facts = [facts[row] for row in rows]
    examples = [source.examples[row] for row in rows]
    hashes = [fact.pixels for fact in facts]
    labels = [example.label for example in examples]
    groups = [example.group for example in examples]
    numbers = None
    if folds:
        numbers = splits.folded(
            hashes,
            labels,
            groups=groups,
            images_per_class=images_per_class,
            count=folds,
            seed=seed,
        )
        split = splits.Split(splits.of_fold(numbers, 0, folds), ())
    else:
        split = splits.assign(
            hashes,
            labels,
            given=[example.split for example in examples],
            groups=groups,
            images_per_class=images_per_class,
            seed=seed,
        )
    number = {label: index for index, label in enumerate(source.labels)}
    thumbnails = scans.thumbnails(facts)
    alike = _alike(facts, thumbnails, split.names, progress)
    duplicates = _duplicates(examples, hashes, alike)
    return Dataset(
        name=source.name,
        labels=source.labels,
        paths=tuple(example.path for example in examples),
        targets=np.array([number[label] for label in labels], np.int32),
        splits=split.names,
        hashes=np.array(hashes),
        rows=np.array(rows, np.int64),
        images=images,
        skipped=skipped,
        duplicates=duplicates,
        notes=(
            *split.notes,
            *_duplicate_notes(duplicates),
            *_file_notes(facts),
        ),
        groups=tuple(splits.together(hashes, groups)),
        sizes=np.array([[fact.width, fact.height] for fact in facts]),
        thumbnails=thumbnails,
        folds=numbers,
    )


def of_fold(dataset: Dataset, fold: int, count: int) -> Dataset:
    """Returns `dataset` as it is split when one of its `count` folds tests."""
    names = splits.of_fold(np.asarray(dataset.folds), fold, count)
    return dataclasses.replace(dataset, splits=names)


def pooled(dataset: Dataset) -> Dataset:
    """Returns `dataset` with every image that is used as one of test."""
    names = (
        "unused" if name == "unused" else "test" for name in dataset.splits
    )
    return dataclasses.replace(dataset, splits=tuple(names))


def _unreadable(
    source: sources.Source,
    facts: Sequence[file_facts.Facts],
    on_bad_image: str,
) -> tuple[tuple[str, str], ...]:
    """Returns (path, reason) of the images that cannot be read.

    Raises `UserError` where there must be none, or a class has no other.
    """
    skipped = []
    absent: dict[str, str] = {}
    for example, fact in zip(source.examples, facts, strict=True):
        if fact.reason:
            skipped.append((example.path, fact.reason))
            absent.setdefault(example.label, f"{example.path}: {fact.reason}")
    if skipped and on_bad_image == "fail":
        raise errors.UserError(
            f"{errors.count(len(skipped), 'image')} cannot be read, first "
            f"{skipped[0][0]}: {skipped[0][1]}. Repair or remove them, or give "
            "--on_bad_image=skip."
        )
    for example, fact in zip(source.examples, facts, strict=True):
        if not fact.reason:
            absent.pop(example.label, None)
    if absent:
        classes = ", ".join(map(repr, absent))
        raise errors.UserError(
            f"class{'es' if len(absent) > 1 else ''} {classes} of "
            f"{source.name}: none of its images can be read, first "
            f"{next(iter(absent.values()))}."
        )
    return tuple(skipped)


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
        targets = dataset.targets[dataset.positions(split)]
        images = np.bincount(targets, minlength=len(dataset.labels)).tolist()
        if split != "unused" or len(targets):
            result[split] = dict(zip(dataset.labels, images, strict=True))
    return result


def _alike(
    facts: Sequence[file_facts.Facts],
    thumbnails: np.ndarray,
    names: Sequence[str],
    progress: progresses.Progress,
) -> int:
    """Returns how many images look like one of training; equal ones apart."""
    count = 0
    for group in copies.alike(thumbnails, progress=progress):
        learned = {
            facts[index].pixels
            for index in group.images
            if names[index] == "train"
        }
        count += sum(
            bool(learned)
            and names[index] in ("validation", "test")
            and facts[index].pixels not in learned
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
        sum(len({example.split for example in group}) > 1 for group in groups),
        sum(len({example.label for example in group}) > 1 for group in groups),
        alike,
    )


def _duplicate_notes(duplicates: Duplicates) -> tuple[str, ...]:
    return _counted(
        (
            duplicates.groups,
            "Images of which there are exact copies: {}; a split that is made "
            "here keeps copies on one side.",
        ),
        (
            duplicates.across_given_splits,
            "Images in more than one of the given splits, so that results "
            "are too good: {}.",
        ),
        (
            duplicates.under_two_labels,
            "Images under more than one label, so that no classifier can be "
            "right on all of them: {}.",
        ),
        (
            duplicates.alike_across_splits,
            "Validation and test images that look like one of training, so "
            "that results may be too good: {}. `tlkeras check` shows them, "
            "and its --fix keeps them on one side.",
        ),
    )


def _file_notes(facts: Sequence[file_facts.Facts]) -> tuple[str, ...]:
    return _counted(
        (
            sum(fact.opacity < 1 for fact in facts),
            "Images with transparent pixels, which were put onto white: {}.",
        ),
        (
            sum(fact.is_dark for fact in facts),
            "Warning: images of 16 bits that use less than a sixteenth of "
            "their range, and are nearly black or without contrast: {}. 12 "
            "bits in files of 16 must be multiplied by 16, or stretched, "
            "before training and before predicting.",
        ),
    )


def _counted(*notes: tuple[int, str]) -> tuple[str, ...]:
    """Returns the texts whose counts are above zero, filled in."""
    return tuple(text.format(count) for count, text in notes if count > 0)
