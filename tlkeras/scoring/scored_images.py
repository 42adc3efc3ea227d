"""Which images of labelled data a trained model is scored on."""

import dataclasses
import functools
from collections.abc import Callable
from collections.abc import Sequence

from tlkeras import errors
from tlkeras.data import duplicates
from tlkeras.data import facts
from tlkeras.data import scan as scans
from tlkeras.data import sources
from tlkeras.data import splits
from tlkeras.scoring import used_images


@dataclasses.dataclass(frozen=True)
class LabelledData:
    """Data to score, and what the run of the model knows of it.

    trained_on_it: whether the run was trained on this data.
    split_seed: the run's.
    used: which pictures the run used; None where that is not known.
    scan: reads the files, once.
    """

    source: sources.Source
    trained_on_it: bool
    split_seed: int
    used: used_images.UsedImages | None
    scan: Callable[[], Sequence[facts.Facts]]

    def defines(self, split: str) -> bool:
        """Tells whether the data itself says which images are of `split`."""
        # A source that gives some splits but not this one divides the rest.
        return split != "train" and any(
            example.split == split for example in self.source.examples
        )

    def pixels(self) -> list[str]:
        """Returns the hashes of all images, '' where one cannot be read."""
        return [image.pixels for image in self.scan()]

    @functools.cached_property
    def known(self) -> list[bool]:
        """Of each image, whether it taught the model, or chose its epochs."""
        if self.used is None:
            return [False] * len(self.source.examples)
        return [self.used.known(pixels) for pixels in self.pixels()]

    @functools.cached_property
    def copies(self) -> list[bool]:
        """Of each image, whether it looks like one that is known.

        It was then saved anew, resized, cropped or turned. None are where the
        run was trained on this data: there the run itself told of them.
        """
        copies = [False] * len(self.source.examples)
        if self.used is None or self.trained_on_it:
            return copies
        rest = [
            index
            for index, image in enumerate(self.scan())
            if image.thumbnail and not self.known[index]
        ]
        found = duplicates.are_copies(
            scans.thumbnails([self.scan()[index] for index in rest]),
            self.used.thumbnails,
        )
        for index, is_copy in zip(rest, found, strict=True):
            copies[index] = bool(is_copy)
        return copies

    def seen(self, indices: Sequence[int]) -> list[int]:
        """Returns the indices of images that are known, or copies of them."""
        return [i for i in indices if self.known[i] or self.copies[i]]

    def groups(self) -> list[str]:
        """Returns names that are equal for images that belong together.

        These are the images of one group, and those of equal pixels.
        """
        examples = self.source.examples
        names = [
            pixels or example.path
            for pixels, example in zip(self.pixels(), examples, strict=True)
        ]
        return splits.together(names, [example.group for example in examples])


def choose(data: LabelledData, split: str) -> tuple[list[int], list[str]]:
    """Returns the indices of the images to score, and what to know of them."""
    notes = []
    if split == "auto":
        if not data.trained_on_it or _learned_from_test(data):
            return _new_images(data)
        split = "test"
        notes.append(
            "This is the data that the model was trained on: its test split "
            "is scored."
        )
    if split == "all":
        indices = list(range(len(data.source.examples)))
    else:
        names, more = _splits(data, split)
        indices = [index for index, name in enumerate(names) if name == split]
        notes += more
    # That a run used its own training images goes without saying.
    if not (data.trained_on_it and split in ("train", "validation")):
        notes += _used_notes(data, indices)
    return indices, notes


def _learned_from_test(data: LabelledData) -> bool:
    """Tells whether no split is left that the model did not learn from."""
    used = data.used
    return used is not None and any(
        split == "test" and pixels in used.learned
        for pixels, split in used.splits.items()
    )


def _new_images(data: LabelledData) -> tuple[list[int], list[str]]:
    """Returns the images that the model did not learn from, and what to say.

    Raises `UserError` where there are none.
    """
    images = len(data.source.examples)
    if data.used is None:
        return list(range(images)), [
            "All images are scored. Whether the model learned from some of "
            "them is not known: its run has no images.csv."
        ]
    seen = data.seen(range(images))
    indices = sorted(set(range(images)) - set(seen))
    if seen and not any(data.pixels()[index] for index in indices):
        readable = " that can be read" if indices else ""
        raise errors.UserError(
            f"the model learned from all {len(seen)} images of "
            f"{data.source.name}{readable}, or they chose its epochs. Score "
            "others, or give --split=all."
        )
    if len(indices) == images:
        return indices, ["All images are scored."]
    return indices, [
        f"{len(seen)} of {images} images are left out, because the model "
        f"learned from them or they chose its epochs{_copies(data, seen)}; "
        "--split=all scores them, too."
    ]


def _copies(data: LabelledData, seen: Sequence[int]) -> str:
    """Returns how many are known by their looks alone, '' for none."""
    count = sum(data.copies[index] for index in seen)
    if not count:
        return ""
    return f" ({count} saved anew, resized, cropped or turned)"


def _splits(data: LabelledData, split: str) -> tuple[list[str], list[str]]:
    """Returns the split of each image, and what to know of `split`.

    The data's own splits count first, then those of the run.
    """
    examples = data.source.examples
    if data.defines(split):
        return [example.split for example in examples], []
    hashes = data.pixels()
    if data.trained_on_it and data.used is not None:
        # What cannot be read any more is known by its name, and left out and
        # told like all such images.
        known, by_path = data.used.splits, data.used.paths
        names = [
            known.get(pixels, "") if pixels else by_path.get(example.path, "")
            for pixels, example in zip(hashes, examples, strict=True)
        ]
        return names, _changes(data, data.used, split)
    # Only the pixels tell; images that cannot be read count nowhere.
    names = [""] * len(hashes)
    readable = [index for index, pixels in enumerate(hashes) if pixels]
    assigned = splits.assign(
        [hashes[index] for index in readable],
        [examples[index].label for index in readable],
        given=[examples[index].split for index in readable],
        groups=[examples[index].group for index in readable],
        seed=data.split_seed,
    ).names
    for index, name in zip(readable, assigned, strict=True):
        names[index] = name
    if data.trained_on_it:
        return names, []
    return names, [
        f"The data has no {split} split of its own: it was split as "
        "`tlkeras train` would split it."
    ]


def _changes(
    data: LabelledData, used: used_images.UsedImages, split: str
) -> list[str]:
    """Returns what came to the data of a run since, and what is gone."""
    there = set(data.pixels()) - {""}
    of_split = {pixels for pixels, name in used.splits.items() if name == split}
    notes = []
    new = len(there - set(used.splits))
    if new:
        notes.append(
            f"{errors.count(new, 'image')} added since the model was trained, "
            "in no split; --split=all scores all."
        )
    gone = len(of_split - there)
    if gone:
        notes.append(
            f"{gone} of {errors.count(len(of_split), 'image')} of the {split} "
            "split no longer there, or not readable."
        )
    return notes


def _used_notes(data: LabelledData, indices: Sequence[int]) -> list[str]:
    if data.used is None:
        return []
    seen = data.seen(indices)
    if not seen:
        return []
    return [
        f"The model learned from {len(seen)} of these {len(indices)} images, "
        f"or they chose its epochs{_copies(data, seen)}: the result is better "
        "than new images would give."
    ]
