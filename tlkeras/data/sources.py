"""Where labelled images come from: folders, CSV files, TFDS, scikit-learn.

A source only lists and reads; what the files are worth is seen when they are
decoded. Nothing here imports TensorFlow before it must, so that a mistake in
a path is told at once.
"""

import csv
import dataclasses
import os
import pathlib
import re
import tempfile
from collections.abc import Callable

from tlkeras import errors
from tlkeras import progress as progresses

SPLITS = ("train", "validation", "test")

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
# Files and folders that systems leave behind; all hidden ones are left out,
# too.
_SYSTEM = ("thumbs.db", "desktop.ini", "__macosx")


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
class Source:
    """Labelled images in a fixed order.

    name: what opens it again, with absolute paths.
    labels: the classes, in the order of the logits.
    read: index -> the encoded image's bytes.
    """

    name: str
    labels: tuple[str, ...]
    examples: tuple[Example, ...]
    read: Callable[[int], bytes]


def open(
    name: str, *, data_dir: str = "", progress: progresses.Progress
) -> Source:
    """Returns the source of this name; `tfds:` may download.

    data_dir: where TFDS finds and keeps its data; '' is TFDS' own place.

    Raises `UserError` where there is no such source, or nothing to learn in
    it.
    """
    kind, _, place = name.partition(":")
    if kind == "folder" and place:
        source = _folder(place)
    elif kind == "csv" and place:
        source = _csv(place)
    elif kind == "tfds" and place:
        source = _tfds(place, data_dir, progress)
    elif kind == "builtin" and place:
        source = _builtin(place)
    else:
        received = repr(name) if name else "nothing"
        raise errors.UserError(
            "`data` must be folder:PATH, csv:PATH, tfds:NAME[/CONFIG] or "
            f"builtin:digits[CLASSES]. Received: {received}."
            + (
                f" Did you mean folder:{name}?"
                if name and pathlib.Path(name).is_dir()
                else ""
            )
        )
    return source


def check_classes(source: Source) -> None:
    """Raises `UserError` unless there are two classes or more."""
    if len(source.labels) < 2:
        raise errors.UserError(
            "a classifier needs at least 2 classes. Received: "
            f"{len(source.labels)} ({', '.join(source.labels)}) in "
            f"{source.name}."
        )


def absolute(name: str) -> str:
    """Returns the name of a source with its path made absolute."""
    kind, _, place = name.partition(":")
    if kind in ("folder", "csv") and place:
        return f"{kind}:{pathlib.Path(place).expanduser().absolute()}"
    return name


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns all files below `folder`, sorted, but hidden and system ones."""
    found = []
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        found += [
            pathlib.Path(directory, name)
            for name in sorted(names)
            if not _hidden(name)
        ]
    return found


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not _hidden(path.name)
    )


def _folder(place: str) -> Source:
    root = pathlib.Path(place).expanduser().absolute()
    if not root.is_dir():
        what = "is no folder" if root.exists() else "does not exist"
        raise errors.UserError(
            f"`data` folder:PATH must be a folder. Received: {root}, which "
            f"{what}."
        )
    try:
        above = _folders(root)
        names = [path.name.lower() for path in above]
        if "train" in names or "training" in names:
            places = _split_folders(root, above)
        else:
            places = [("", path) for path in above]
        examples = []
        for split, folder in places:
            within = files(folder)
            if not within:
                raise errors.UserError(
                    f"class folder {folder} holds no image. Fill it or remove "
                    "it."
                )
            examples += [
                Example(str(path), folder.name, split) for path in within
            ]
    except PermissionError as error:
        raise errors.UserError(
            f"`data` cannot be read: no permission for {error.filename}."
        ) from None
    if not examples:
        raise errors.UserError(
            "`data` folder:PATH must hold one folder of images for each "
            f"class. Received: {root}, which holds no folder."
        )
    labels = tuple(sorted({example.label for example in examples}))
    paths = [example.path for example in examples]
    return Source(
        f"folder:{root}",
        labels,
        tuple(examples),
        lambda index: pathlib.Path(paths[index]).read_bytes(),
    )


def _split_folders(
    root: pathlib.Path, above: list[pathlib.Path]
) -> list[tuple[str, pathlib.Path]]:
    """Returns (split, class folder) where splits stand above the classes."""
    places = []
    for folder in above:
        split = _SPLIT_NAMES.get(folder.name.lower())
        if split is None:
            raise errors.UserError(
                f"`data` {root} has a folder for the split train, so the "
                "others must be train, validation or test. Received: "
                f"{folder.name}."
            )
        classes = _folders(folder)
        if not classes:
            raise errors.UserError(
                f"split folder {folder} holds no class folder."
            )
        places += [(split, path) for path in classes]
    return places


def _csv(place: str) -> Source:
    table = pathlib.Path(place).expanduser().absolute()
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = reader.fieldnames or ()
            for column in ("path", "label"):
                if column not in columns:
                    raise errors.UserError(
                        f"`data` {table} must have the columns path and label "
                        "(split and group if wanted). Received: "
                        f"{', '.join(columns) or 'an empty file'}."
                    )
            examples = [
                _csv_row(row, reader.line_num, table) for row in reader
            ]
    except FileNotFoundError:
        raise errors.UserError(
            f"`data` csv:PATH must be a file. Received: {table}, which does "
            "not exist."
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise errors.UserError(
            f"`data` {table} cannot be read as CSV in UTF-8: {error}."
        ) from None
    if not examples:
        raise errors.UserError(f"`data` {table} has no row.")
    _check_csv(examples, table)
    labels = tuple(sorted({example.label for example in examples}))
    paths = [example.path for example in examples]
    return Source(
        f"csv:{table}",
        labels,
        tuple(examples),
        lambda index: pathlib.Path(paths[index]).read_bytes(),
    )


def _csv_row(
    row: dict[str, str | None], line: int, table: pathlib.Path
) -> Example:
    path, label = row["path"], row["label"]
    if not path or not label or None in row:
        raise errors.UserError(
            f"`data` {table}, line {line}: a row needs a path and a label, "
            "and no more fields than the header."
        )
    split = (row.get("split") or "").strip()
    if split and split.lower() not in _SPLIT_NAMES:
        raise errors.UserError(
            f"`data` {table}, line {line}: `split` must be train, validation, "
            f"test or empty. Received: {split!r}."
        )
    return Example(
        str(table.parent / path),
        label,
        _SPLIT_NAMES.get(split.lower(), ""),
        row.get("group") or "",
    )


def _check_csv(examples: list[Example], table: pathlib.Path) -> None:
    given = {bool(example.split) for example in examples}
    if len(given) > 1:
        raise errors.UserError(
            f"`data` {table}: `split` must be filled in every row or in none."
        )
    seen = set()
    missing = []
    for example in examples:
        if example.path in seen:
            raise errors.UserError(
                f"`data` {table} lists {example.path} more than once."
            )
        seen.add(example.path)
        if not pathlib.Path(example.path).is_file():
            missing.append(example.path)
    if missing:
        raise errors.UserError(
            f"`data` {table} lists {len(missing)} files that do not exist, "
            f"first {missing[0]}. Paths are relative to the CSV file."
        )


def _tfds(
    place: str, data_dir: str, progress: progresses.Progress
) -> Source:
    # TFDS takes a second to import.
    import tensorflow_datasets as tfds

    directory = str(pathlib.Path(data_dir).expanduser()) if data_dir else None
    try:
        builder = tfds.builder(place, data_dir=directory)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        short = place.split("/")[0].split(":")[0]
        close = errors.nearest(short, tfds.list_builders())
        first = str(error).strip().splitlines()[0]
        raise errors.UserError(
            f"`data` tfds:{place} is not known to TFDS.{close} ({first})"
        ) from None
    image, label = _tfds_keys(builder, place)
    try:
        builder.download_and_prepare()
    except Exception as error:  # TFDS raises whatever its download raises.
        first = str(error).strip().splitlines() or [type(error).__name__]
        raise errors.UserError(
            f"`data` tfds:{place} could not be downloaded and prepared: "
            f"{first[0]}"
        ) from None
    names = builder.info.features[label].names
    total = sum(split.num_examples for split in builder.info.splits.values())
    given = {
        split: _SPLIT_NAMES[split]
        for split in builder.info.splits
        if split in _SPLIT_NAMES
    }
    if not given:
        given = {split: "" for split in builder.info.splits}
    keep = len(set(given.values())) > 1
    examples = []
    blob = tempfile.TemporaryFile()
    places = []
    progress.begin(f"reading {place}", total)
    for split, known in given.items():
        rows = builder.as_dataset(
            split=split,
            decoders={image: tfds.decode.SkipDecoding()},
            shuffle_files=False,
            read_config=tfds.ReadConfig(add_tfds_id=True),
        )
        for row in tfds.as_numpy(rows):
            encoded = row[image]
            places.append((blob.tell(), len(encoded)))
            blob.write(encoded)
            examples.append(
                Example(
                    f"tfds:{place}/{row['tfds_id'].decode()}",
                    names[int(row[label])],
                    known if keep else "",
                )
            )
            progress.advance()
    progress.end()
    blob.flush()

    def read(index: int) -> bytes:
        start, size = places[index]
        return os.pread(blob.fileno(), size, start)

    used = {example.label for example in examples}
    return Source(
        f"tfds:{place}",
        tuple(name for name in names if name in used),
        tuple(examples),
        read,
    )


def _tfds_keys(builder, place: str) -> tuple[str, str]:
    """Returns the names of the image and of its class among the features."""
    # TFDS is imported by now.
    import tensorflow_datasets as tfds

    def only(kind: type) -> str | None:
        names = [
            name
            for name, feature in builder.info.features.items()
            if isinstance(feature, kind)
        ]
        return names[0] if len(names) == 1 else None

    keys = builder.info.supervised_keys
    if keys and len(keys) == 2 and all(isinstance(key, str) for key in keys):
        image, label = keys
    else:
        image, label = only(tfds.features.Image), only(tfds.features.ClassLabel)
    features = builder.info.features
    if (
        image is None
        or label is None
        or not isinstance(features[image], tfds.features.Image)
        or not isinstance(features[label], tfds.features.ClassLabel)
    ):
        raise errors.UserError(
            f"`data` tfds:{place} must have one image and one class label. It "
            f"has the features {', '.join(features)}."
        )
    return image, label


def _builtin(place: str) -> Source:
    found = re.fullmatch(r"digits(?:\[([0-9,\-]+)\])?", place)
    if not found:
        raise errors.UserError(
            "`data` builtin:NAME must be builtin:digits, or with classes "
            f"builtin:digits[0-4] or builtin:digits[1,3,7]. Received: "
            f"builtin:{place}."
        )
    classes = _digit_classes(found.group(1), place)
    # scikit-learn takes a second to import.
    import sklearn.datasets

    digits = sklearn.datasets.load_digits()
    chosen = [
        index for index, digit in enumerate(digits.target) if digit in classes
    ]
    # The values are counts of black pixels in 4 x 4 fields: 0 to 16.
    pixels = (digits.images[chosen] * 255 / 16).round().astype("uint8")

    def read(index: int) -> bytes:
        # TensorFlow is imported by whoever decodes the bytes.
        import tensorflow as tf

        return tf.io.encode_png(pixels[index][..., None]).numpy()

    examples = tuple(
        Example(f"builtin:digits/{index}", str(digits.target[index]))
        for index in chosen
    )
    labels = tuple(str(digit) for digit in sorted(classes))
    return Source(f"builtin:{place}", labels, examples, read)


def _digit_classes(text: str | None, place: str) -> set[int]:
    if text is None:
        return set(range(10))
    classes: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not re.fullmatch(r"[0-9](-[0-9])?", part) or (last or first) < first:
            raise errors.UserError(
                "the classes of builtin:digits must be digits and ranges such "
                f"as 0-4 or 1,3,7. Received: builtin:{place}."
            )
        classes |= set(range(int(first), int(last or first) + 1))
    return classes


