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
import socket
import tempfile
import textwrap
import urllib.parse
import urllib.request
from collections.abc import Callable
from collections.abc import Sequence
from typing import IO
from typing import Any
from typing import NoReturn

import numpy as np

from tlkeras import errors
from tlkeras import progress as progresses

_KINDS = ("folder", "csv", "tfds", "builtin")
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
# Files and folders that systems leave behind. Hidden ones are left out, too.
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
class Stamp:
    """What changes when a file does.

    size: in bytes. written, changed: when its content, and when anything of it
    was changed last, by the clock of its file system, in nanoseconds since
    1970. The first can be set by anyone, the second is not kept everywhere.
    number: by which the file system knows the file, which some make up anew
    each time.
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
    """

    name: str
    labels: tuple[str, ...]
    examples: tuple[Example, ...]
    read: Callable[[int], bytes]
    stamp: Callable[[int], Stamp | None] = lambda index: None


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
        return _folder(place)
    if kind == "csv" and place:
        return _csv(place)
    if kind == "tfds" and place:
        return _tfds(place, data_dir, progress)
    if kind == "builtin" and place:
        return _builtin(place)
    guess = errors.nearest(kind, _KINDS)
    if os.path.isdir(os.path.expanduser(name)):
        guess = f" Did you mean folder:{name}?"
    elif os.path.isfile(os.path.expanduser(name)):
        guess = f" Did you mean csv:{name}?"
    raise errors.UserError(
        "`data` must be folder:PATH, csv:PATH, tfds:NAME[/CONFIG] or "
        f"builtin:digits[CLASSES]. Received: {name or 'nothing'}.{guess}"
    )


def check_classes(source: Source) -> None:
    """Raises `UserError` unless there are two classes or more.

    Their names must be one line of text each: they go to files that have one
    line for each, and into the exported graph.
    """
    if len(source.labels) < 2:
        raise errors.UserError(
            "a classifier needs at least 2 classes. Received: "
            f"{len(source.labels)} ({', '.join(source.labels)}) in "
            f"{source.name}."
        )
    for label in source.labels:
        text = label.encode(errors="replace").decode()
        if text.splitlines() != [label]:
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


def absolute(name: str) -> str:
    """Returns the name of a source with its path made absolute."""
    kind, _, place = name.partition(":")
    if kind in ("folder", "csv") and place:
        return f"{kind}:{_path(place)}"
    return name


def files(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Returns all files below `folder`, in order, but hidden and system ones.

    Raises `UserError` where a folder cannot be read.
    """
    found = []
    # Links to folders are followed, but never twice: they may form a ring.
    seen = set()
    for place, folders, names in os.walk(
        folder, onerror=_refuse, followlinks=True
    ):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        found += [
            pathlib.Path(place, name)
            for name in sorted(names)
            if not _hidden(name)
        ]
    return found


def _refuse(error: OSError) -> NoReturn:
    raise errors.UserError(
        f"{error.filename} cannot be read: {error.strerror}."
    ) from None


def _path(place: str) -> pathlib.Path:
    # Of pathlib, expanduser fails where there is no such user.
    return pathlib.Path(os.path.expanduser(place)).absolute()


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _entries(folder: pathlib.Path) -> list[pathlib.Path]:
    try:
        names = os.listdir(folder)
    except OSError as error:
        _refuse(error)
    return [folder / name for name in sorted(names) if not _hidden(name)]


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in _entries(folder) if os.path.isdir(path)]


def _folder(place: str) -> Source:
    root = _path(place)
    if not os.path.isdir(root):
        what = "is no folder" if os.path.exists(root) else "does not exist"
        raise errors.UserError(
            f"`data` folder:PATH must be a folder. Received: {root}, which "
            f"{what}."
        )
    above = _folders(root)
    if not above:
        raise errors.UserError(
            "`data` folder:PATH must hold one folder of images for each "
            f"class. Received: {root}, which holds no folder."
        )
    places = [("", folder) for folder in above]
    if _are_splits(above):
        places = _split_folders(root, above)
    examples = []
    for split, folder in places:
        within = files(folder)
        if not within:
            raise errors.UserError(
                f"class folder {folder} holds no image. Fill it or remove it."
            )
        if all(path.parent != folder for path in within):
            # One level too high, folders of years would pass for classes.
            below = ", ".join(path.name for path in _folders(folder)[:3])
            raise errors.UserError(
                f"class folder {folder} holds no image itself, but folders "
                f"({below}, ...). Name the folder right above the classes; if "
                "this is one, move its images up or list them by csv:PATH."
            )
        examples += [Example(str(path), folder.name, split) for path in within]
    return _of_files(f"folder:{root}", examples)


def _are_splits(folders: list[pathlib.Path]) -> bool:
    """Returns whether these are splits: a class may be named train, too."""
    splits = [_SPLIT_NAMES.get(folder.name.lower()) for folder in folders]
    if None not in splits:
        return True
    for split, folder in zip(splits, folders, strict=True):
        within = _entries(folder) if split == "train" else []
        if within and all(os.path.isdir(path) for path in within):
            return True
    return False


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


def _of_files(name: str, examples: list[Example]) -> Source:
    def stamp(index: int) -> Stamp | None:
        try:
            found = os.stat(examples[index].path)
        except (OSError, ValueError):
            return None
        return Stamp(
            found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
        )

    return Source(
        name,
        tuple(sorted({example.label for example in examples})),
        tuple(examples),
        lambda index: pathlib.Path(examples[index].path).read_bytes(),
        stamp,
    )


def _csv(place: str) -> Source:
    table = _path(place)
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            examples = _csv_rows(stream, table)
    except OSError as error:
        raise errors.UserError(
            f"`data` csv:PATH must be a file that can be read. Received: "
            f"{table}: {error.strerror}."
        ) from None
    except UnicodeDecodeError:
        raise errors.UserError(
            f"`data` {table} must be CSV in UTF-8, and is something else."
        ) from None
    return _of_files(f"csv:{table}", examples)


def _csv_rows(stream: IO[str], table: pathlib.Path) -> list[Example]:
    reader = csv.DictReader(stream, strict=True, skipinitialspace=True)
    try:
        _csv_header(reader, table)
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise errors.UserError(
            f"`data` {table}, line {reader.line_num + 1}, is no CSV: {error}."
        ) from None
    if not rows:
        raise errors.UserError(f"`data` {table} has a header and no row.")
    examples: list[Example] = []
    lines: dict[str, int] = {}
    missing = []
    for line, row in rows:
        where = f"`data` {table}, line {line}"
        example = _csv_row(row, table, where)
        if example.path in lines:
            raise errors.UserError(
                f"{where}: {example.path} stands in line "
                f"{lines[example.path]} already."
            )
        if examples and bool(example.split) != bool(examples[0].split):
            raise errors.UserError(
                f"{where}: `split` must be filled in every row or in none."
            )
        if not os.path.isfile(example.path):
            missing.append(example.path)
        lines[example.path] = line
        examples.append(example)
    if missing:
        raise errors.UserError(
            f"`data` {table} lists {len(missing)} files that do not exist, "
            f"first {missing[0]} (line {lines[missing[0]]}). Paths are "
            "relative to the CSV file."
        )
    return examples


def _csv_header(reader: csv.DictReader, table: pathlib.Path) -> None:
    columns = [column.strip() for column in reader.fieldnames or ()]
    for column in ("path", "label", "split", "group"):
        least = 1 if column in ("path", "label") else 0
        if not least <= columns.count(column) <= 1:
            received = textwrap.shorten(", ".join(columns), 100)
            raise errors.UserError(
                f"`data` {table} must begin with a line that names the "
                "columns path and label, and split and group if wanted, each "
                f"once, with commas between. Received: {received or 'none'}."
            )
    reader.fieldnames = columns


def _csv_row(
    row: dict[str, str | None], table: pathlib.Path, where: str
) -> Example:
    path = row["path"] or ""
    label = (row["label"] or "").strip()
    split = (row.get("split") or "").strip()
    if not path or not label or None in row:
        raise errors.UserError(
            f"{where}: a row needs a path and a label, and no more fields "
            "than the header."
        )
    if split and split.lower() not in _SPLIT_NAMES:
        raise errors.UserError(
            f"{where}: `split` must be train, validation, test or empty. "
            f"Received: {split!r}."
        )
    return Example(
        str(table.parent / path),
        label,
        _SPLIT_NAMES.get(split.lower(), ""),
        (row.get("group") or "").strip(),
    )


def _tfds(place: str, data_dir: str, progress: progresses.Progress) -> Source:
    builder = _tfds_builder(place, data_dir)
    keys = _tfds_keys(builder, place)
    if not builder.is_prepared():
        _tfds_prepare(builder, place)
    splits = builder.info.splits
    given = {
        split: _SPLIT_NAMES[split] for split in splits if split in _SPLIT_NAMES
    }
    # One split alone says nothing of which image is for what.
    if len(set(given.values())) < 2:
        given = dict.fromkeys(given or splits, "")
    examples, read = _tfds_read(builder, place, keys, given, progress)
    used = {example.label for example in examples}
    names = builder.info.features[keys[1]].names
    return Source(
        f"tfds:{place}",
        tuple(name for name in names if name in used),
        tuple(examples),
        read,
    )


def _tfds_builder(place: str, data_dir: str) -> Any:
    # TFDS takes a second to import.
    import tensorflow_datasets as tfds

    directory = os.path.expanduser(data_dir) or None
    try:
        return tfds.builder(place, data_dir=directory)
    except tfds.core.registered.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        if directory and os.path.isdir(directory):
            known += os.listdir(directory)
        name = re.split("[/:]", place)[0]
        raise errors.UserError(
            f"`data` tfds:{place} is neither known to TFDS nor prepared in "
            f"{directory or 'its own place'}.{errors.nearest(name, known)}"
        ) from None
    except Exception as error:  # TFDS raises whatever its builders raise.
        raise errors.UserError(
            f"`data` tfds:{place} cannot be opened: {_first_line(error)}."
        ) from None


def _first_line(error: Exception) -> str:
    """Returns what TFDS says first, without the full stop."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r'^Failed to construct .*?}": ', "", line).rstrip(" .:")


def _tfds_keys(builder: Any, place: str) -> tuple[str, str]:
    """Returns the names of the image and of its class among the features."""
    # TFDS is imported by now.
    import tensorflow_datasets as tfds

    features = builder.info.features
    supervised = builder.info.supervised_keys or ()
    keys = []
    for kind in (tfds.features.Image, tfds.features.ClassLabel):
        names = [key for key in features if isinstance(features[key], kind)]
        keys += [key for key in names if key in supervised] or names
    if len(keys) != 2 or features[keys[0]].np_dtype not in (
        np.uint8,
        np.uint16,
    ):
        raise errors.UserError(
            f"`data` tfds:{place} must have one image, of 8 or 16 bits, and "
            f"one class label. It has the features {', '.join(features)}."
        )
    return keys[0], keys[1]


def _tfds_prepare(builder: Any, place: str) -> None:
    way_on = (
        "Without network, prepare it elsewhere and name its place by "
        "--data_dir."
    )
    # TFDS tries ten times, in 3 minutes, to reach a host that has no address.
    hosts = {urllib.parse.urlsplit(url).hostname for url in builder.url_infos}
    try:
        for host in hosts if not urllib.request.getproxies() else ():
            socket.getaddrinfo(host, None)
    except OSError:
        raise errors.UserError(
            f"`data` tfds:{place} must be downloaded, but there is no way to "
            f"{host}. {way_on}"
        ) from None
    try:
        builder.download_and_prepare()
    except Exception as error:  # TFDS raises whatever its download raises.
        raise errors.UserError(
            f"`data` tfds:{place} could not be downloaded and prepared: "
            f"{_first_line(error)}. {way_on}"
        ) from None


def _tfds_read(
    builder: Any,
    place: str,
    keys: tuple[str, str],
    given: dict[str, str],
    progress: progresses.Progress,
) -> tuple[list[Example], Callable[[int], bytes]]:
    """Returns the examples of the splits `given`, and how to read each.

    TFDS reads in a row; the encoded images are copied to an unnamed file, from
    which they can be read by number.
    """
    # TFDS and TensorFlow are imported by now.
    import tensorflow as tf
    import tensorflow_datasets as tfds

    # It imports Keras, which this module must not do when it is imported.
    from tlkeras.machine import devices

    devices.leave_to_keras()
    image, label = keys
    names = builder.info.features[label].names
    splits = builder.info.splits
    blob = tempfile.TemporaryFile()
    spans = []
    examples = []
    total = sum(splits[split].num_examples for split in given)
    progress.begin(f"reading {place}", total)
    try:
        for split in given:
            rows = builder.as_dataset(
                split=split,
                decoders={image: tfds.decode.SkipDecoding()},
                shuffle_files=False,
                read_config=tfds.ReadConfig(
                    add_tfds_id=True, try_autocache=False
                ),
            )
            for row in tfds.as_numpy(rows):
                progress.advance()
                # So TFDS marks a secret label, as in ImageNet's test split.
                if row[label] < 0:
                    continue
                spans.append((blob.tell(), blob.write(row[image])))
                path = f"tfds:{place}/{row['tfds_id'].decode()}"
                examples.append(Example(path, names[row[label]], given[split]))
        blob.flush()
    except OSError as error:
        raise errors.UserError(
            f"`data` tfds:{place} does not fit into {tempfile.gettempdir()}: "
            f"{error.strerror}. Name another place by the environment "
            "variable TMPDIR."
        ) from None
    except tf.errors.OpError as error:
        raise errors.UserError(
            f"`data` tfds:{place} cannot be read: {_first_line(error)}. "
            "Remove it and prepare it again."
        ) from None
    finally:
        progress.end()
    if len(examples) < total:
        progress.say(
            f"{total - len(examples)} images of tfds:{place} have no label "
            "and are left out"
        )

    def read(index: int) -> bytes:
        start, size = spans[index]
        return os.pread(blob.fileno(), size, start)

    return examples, read


def _builtin(place: str) -> Source:
    classes = _digit_classes(place)
    # scikit-learn takes a second to import.
    import sklearn.datasets

    digits = sklearn.datasets.load_digits()
    chosen = [
        index for index, digit in enumerate(digits.target) if digit in classes
    ]
    # The values are counts of inked points in 4 x 4 fields: 0 to 16.
    pixels = (digits.images[chosen] * 255 / 16).round().astype(np.uint8)

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


def _digit_classes(place: str) -> set[int]:
    part = "[0-9](?:-[0-9])?"
    found = re.fullmatch(rf"digits(?:\[({part}(?:,{part})*)\])?", place)
    parts = (found[1] or "0-9").split(",") if found else []
    if not parts or any(part[0] > part[-1] for part in parts):
        raise errors.UserError(
            "`data` builtin:NAME must be builtin:digits, or with classes and "
            "ranges of them, builtin:digits[0-4] or builtin:digits[1,3,7-9]. "
            f"Received: builtin:{place}."
        )
    return {
        digit
        for part in parts
        for digit in range(int(part[0]), int(part[-1]) + 1)
    }
