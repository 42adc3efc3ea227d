"""Which images of labelled data a trained model is scored on."""

import dataclasses
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

from tlkeras import errors
from tlkeras.data import facts
from tlkeras.data import sources
from tlkeras.data import splits
from tlkeras.scoring import used_images
from tlkeras.settings import config as configs


@dataclasses.dataclass(frozen=True)
class Given:
    """Data to score, and what the model's run knows of it.

    own: whether the run was trained on it. trained: the run's settings. seen:
    its pictures. facts: reads the files, once.
    """

    source: sources.Source
    own: bool
    trained: configs.Config | None
    seen: used_images.UsedImages | None
    facts: Callable[[], Sequence[facts.Facts]]

    def has(self, split: str) -> bool:
        """Tells whether the data itself says which images are of `split`."""
        # A source that gives some splits but not this one divides the rest.
        return split != "train" and any(
            example.split == split for example in self.source.examples
        )

    def pixels(self, indices: Iterable[int]) -> list[str]:
        """Returns the hashes of images, '' where one cannot be read."""
        found = self.facts()
        return [found[index].pixels for index in indices]


def choose(given: Given, split: str) -> tuple[list[int], list[str]]:
    """Returns the indices of the images to score, and what to know of them."""
    everything = list(range(len(given.source.examples)))
    if split == "auto" and not given.own:
        return _unseen(given, everything)
    notes = []
    if split == "auto":
        split = "test"
        notes.append(
            "This is the data that the model was trained on: its test split "
            "is scored."
        )
    indices = everything if split == "all" else _split(given, split)
    if split != "all" and not (given.own or given.has(split)):
        notes.append(
            f"The data says nothing of a {split} split: it was divided as "
            "`tlkeras train` would divide it."
        )
    if given.own and split != "all" and not given.has(split):
        notes += _changes(given, split)
    if given.own and split in ("train", "validation"):
        return indices, notes
    known = 0
    if given.seen is not None:
        known = sum(map(given.seen.known, given.pixels(indices)))
    if known:
        notes.append(
            f"{known} of these {len(indices)} images are pictures that the "
            "model learned from, or that chose its epochs: the result is "
            "better than new images would give."
        )
    return indices, notes


def _changes(given: Given, split: str) -> list[str]:
    """Returns what came to the data of a run since, and what is gone."""
    if given.seen is None:
        return []
    there = set(given.pixels(range(len(given.source.examples)))) - {""}
    notes = []
    new = len(there - set(given.seen.splits))
    if new:
        notes.append(
            f"{new} pictures were not there when the model was trained and "
            "are in no split; --split=all scores all."
        )
    mine = {
        pixels for pixels, name in given.seen.splits.items() if name == split
    }
    gone = len(mine - there)
    if gone:
        notes.append(
            f"{gone} of the {len(mine)} pictures of the {split} split are no "
            "longer there, or cannot be read."
        )
    return notes


def _unseen(given: Given, everything: list[int]) -> tuple[list[int], list[str]]:
    """Returns the images that the model did not learn from, and what to say.

    Raises `UserError` where there are none.
    """
    if given.seen is None:
        return everything, [
            "All images are scored. Whether the model learned from some of "
            "them is not known: it does not stand in the directory of its run."
        ]
    indices = [
        index
        for index, pixels in zip(
            everything, given.pixels(everything), strict=True
        )
        if not given.seen.known(pixels)
    ]
    if not indices:
        raise errors.UserError(
            f"all {len(everything)} images of {given.source.name} are pictures "
            "that the model learned from, or that chose its epochs. Score "
            "others, or give --split=all."
        )
    left_out = len(everything) - len(indices)
    if not left_out:
        return indices, ["All images are scored."]
    return indices, [
        f"{left_out} of {len(everything)} images are pictures that the model "
        "learned from, or that chose its epochs. They are left out; "
        "--split=all scores them, too."
    ]


def _split(given: Given, split: str) -> list[int]:
    """Returns the indices of the images of `split`, as in a run's training."""
    if given.has(split):
        return [
            index
            for index, example in enumerate(given.source.examples)
            if example.split == split
        ]
    everything = range(len(given.source.examples))
    if given.own and given.seen is not None:
        # What cannot be read any more is known by its name, and left out and
        # told like all such images.
        return [
            index
            for index, pixels in zip(
                everything, given.pixels(everything), strict=True
            )
            if split
            == (
                given.seen.splits.get(pixels)
                if pixels
                else given.seen.paths.get(given.source.examples[index].path)
            )
        ]
    # Only the pixels tell; images that cannot be read count nowhere.
    hashes = given.pixels(everything)
    rows = [index for index, pixels in enumerate(hashes) if pixels]
    examples = [given.source.examples[index] for index in rows]
    names = splits.assign(
        [hashes[index] for index in rows],
        [example.label for example in examples],
        given=[example.split for example in examples],
        groups=[example.group for example in examples],
        seed=given.trained.split_seed if given.trained is not None else 0,
    ).names
    return [row for row, name in zip(rows, names, strict=True) if name == split]
