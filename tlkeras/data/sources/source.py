"""A source of labelled images: what it lists, and how an image is read."""

import dataclasses
import unicodedata
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

from tlkeras import errors
from tlkeras import progress as progresses

# The names that a source may give to its splits, in lower case.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}


@dataclasses.dataclass(frozen=True)
class Example:
    """One labelled image.

    path: where it is, as shown to a person.
    split: `train`, `validation` or `test` where the source says so, else ''.
    group: images of one group never stand in two splits; '' is no group.
    """

    path: str
    label: str
    split: str = ""
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Stamp:
    """What changes when a file does.

    size: in bytes. written, changed: when its content and when its metadata
    last changed, by the clock of its file system, in nanoseconds since 1970.
    Anyone can set the first; not every file system records the second.
    number: the inode, which some file systems make up at every mount.
    """

    size: int
    written: int
    changed: int
    number: int = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class Source:
    """Labelled images in a fixed order.

    name: what opens it again, with absolute paths.
    labels: the classes, in the order of the logits.
    examples: either all of them have a split, or none has.
    read: index -> the encoded image's bytes; `OSError` if that fails.
    stamp: index -> the file's stamp; None where the images are no files, or
      this one cannot be found.
    empty: folders of classes that hold no image. nested: those that hold all
      of their images in folders. loose: pictures that stand beside folders of
      classes, and so in no class.
    """

    name: str
    labels: tuple[str, ...]
    examples: tuple[Example, ...]
    read: Callable[[int], bytes]
    stamp: Callable[[int], Stamp | None] = lambda index: None
    empty: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()


def normal_form(name: str) -> str:
    """Returns the name of a class or group, whatever source it stands in.

    It is in Unicode's normal form C, without white space around it. Systems
    and editors write one name in several ways that look alike: macOS stores e
    and an accent where others have a letter for both, and what is typed into a
    table ends with a space.
    """
    return unicodedata.normalize("NFC", name).strip()


def say_ways(names: Iterable[str], progress: progresses.Progress) -> None:
    """Says of which classes there are several names that count as one."""
    ways: dict[str, set[str]] = {}
    for name in names:
        ways.setdefault(normal_form(name), set()).add(name)
    for label, several in ways.items():
        if len(several) > 1:
            # Only as escapes do they look different.
            progress.say(
                f"the class {label!r} is written in {len(several)} ways, which "
                "count as one: they differ in white space around the name, or "
                f"in Unicode's form: {', '.join(map(ascii, sorted(several)))}"
            )


def is_label(text: str) -> bool:
    """Tells whether a class can have this name: one line of UTF-8.

    It goes to files that have one line for each, and into the exported graph.
    """
    return text.encode(errors="replace").decode().splitlines() == [text]


def check_classes(source: Source) -> None:
    """Raises `UserError` unless there are two classes or more, with names.

    And images in each.
    """
    for folder in source.empty:
        raise errors.UserError(
            f"class folder {folder} holds no image. Fill it or remove it."
        )
    if len(source.labels) < 2:
        raise errors.UserError(
            "a classifier needs at least 2 classes. Received: "
            f"{len(source.labels)} ({', '.join(source.labels)}) in "
            f"{source.name}."
        )
    for label in source.labels:
        if not is_label(label):
            raise errors.UserError(
                "the name of a class must be one line of UTF-8. Received: "
                f"{label!r} in {source.name}."
            )


def stamps(source: Source) -> tuple[Stamp | None, ...]:
    """Returns the stamps of all images, as they are now."""
    return tuple(source.stamp(index) for index in range(len(source.examples)))


def read(source: Source, stamps: Sequence[Stamp | None], index: int) -> bytes:
    """Returns the bytes of one encoded image.

    Raises `UserError` if the file is another than when `stamps` were taken:
    its label and split may be wrong now. Raises `OSError` if it cannot be
    read.
    """
    encoded = source.read(index)
    if source.stamp(index) != stamps[index]:
        raise errors.UserError(
            f"{source.examples[index].path} changed while {source.name} was "
            "being read. Run again when nothing writes there."
        )
    return encoded
