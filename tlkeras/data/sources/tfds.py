"""`tfds:NAME[/CONFIG]`: TensorFlow Datasets, downloaded or prepared before."""

import os
import re
import socket
import tempfile
import urllib.parse
import urllib.request
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.data.sources.source import SPLIT_NAMES
from tlkeras.data.sources.source import Example
from tlkeras.data.sources.source import Source
from tlkeras.data.sources.source import normal_form


def open(
    place: str, *, data_dir: str = "", progress: progresses.Progress
) -> Source:
    """Returns the source of the TFDS data set `place`.

    TFDS reads in order only; the encoded images are copied to an unnamed file,
    from which they can be read by index.
    """
    builder = _builder(place, data_dir)
    image, label = _features(builder, place)
    if not builder.is_prepared():
        _prepare(builder, place)
    names = [normal_form(name) for name in builder.info.features[label].names]
    splits = _splits(builder)
    total = sum(builder.info.splits[split].num_examples for split in splits)
    blob = tempfile.TemporaryFile()
    examples: list[Example] = []
    spans: list[tuple[int, int]] = []
    progress.begin(f"reading {place}", total)
    try:
        for split in splits:
            for row in _rows(builder, image, split, place):
                progress.advance()
                # So TFDS marks a secret label, as in ImageNet's test split.
                if row[label] < 0:
                    continue
                spans.append((blob.tell(), blob.write(row[image])))
                path = f"tfds:{place}/{row['tfds_id'].decode()}"
                examples.append(Example(path, names[row[label]], splits[split]))
        blob.flush()
    except OSError as error:
        raise errors.UserError(
            f"`data` tfds:{place} does not fit into {tempfile.gettempdir()}: "
            f"{error.strerror}. Name another place by the environment "
            "variable TMPDIR."
        ) from None
    finally:
        progress.end()
    if len(examples) < total:
        progress.say(
            f"{errors.count(total - len(examples), 'image')} of tfds:{place} "
            "left out, without a label"
        )

    def read(index: int) -> bytes:
        start, size = spans[index]
        return os.pread(blob.fileno(), size, start)

    weakref.finalize(read, blob.close)
    used = {example.label for example in examples}
    labels = tuple(dict.fromkeys(name for name in names if name in used))
    return Source(f"tfds:{place}", labels, tuple(examples), read)


def _builder(place: str, data_dir: str) -> Any:
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


def _features(builder: Any, place: str) -> tuple[str, str]:
    """Returns the names of the image and of its class among the features."""
    # TFDS is imported by now.
    import tensorflow_datasets as tfds

    features = builder.info.features
    supervised = builder.info.supervised_keys or ()
    chosen = []
    for kind in (tfds.features.Image, tfds.features.ClassLabel):
        names = [name for name in features if isinstance(features[name], kind)]
        chosen += [name for name in names if name in supervised] or names
    readable = (np.uint8, np.uint16)
    if len(chosen) != 2 or features[chosen[0]].np_dtype not in readable:
        raise errors.UserError(
            f"`data` tfds:{place} must have one image, of 8 or 16 bits, and "
            f"one class label. It has the features {', '.join(features)}."
        )
    return chosen[0], chosen[1]


def _splits(builder: Any) -> dict[str, str]:
    """Returns which splits are read, and what is for what; '' is undecided."""
    splits = builder.info.splits
    given = {
        split: SPLIT_NAMES[split] for split in splits if split in SPLIT_NAMES
    }
    # One split alone says nothing of which image is for what.
    if len(set(given.values())) < 2:
        return dict.fromkeys(given or splits, "")
    return given


def _prepare(builder: Any, place: str) -> None:
    """Downloads and prepares the data set."""
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


def _rows(
    builder: Any, image: str, split: str, place: str
) -> Iterator[dict[str, Any]]:
    """Yields the rows of a split, with their images still encoded."""
    # TFDS and TensorFlow are imported by now.
    import tensorflow as tf
    import tensorflow_datasets as tfds

    # It imports Keras, which this module must not do when it is imported.
    from tlkeras.machine import devices

    devices.leave_to_keras()
    rows = builder.as_dataset(
        split=split,
        decoders={image: tfds.decode.SkipDecoding()},
        shuffle_files=False,
        read_config=tfds.ReadConfig(add_tfds_id=True, try_autocache=False),
    )
    try:
        yield from tfds.as_numpy(rows)
    except tf.errors.OpError as error:
        raise errors.UserError(
            f"`data` tfds:{place} cannot be read: {_first_line(error)}. "
            "Remove it and prepare it again."
        ) from None
