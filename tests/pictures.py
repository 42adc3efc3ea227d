"""Pictures as a camera makes them, and files of every kind that hold them."""

import dataclasses
import io
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterable

import numpy as np
import PIL.Image

from tlkeras import progress as progresses
from tlkeras.data import facts
from tlkeras.data import images
from tlkeras.data import scan as scans
from tlkeras.data import sources

QUIET = progresses.Progress(quiet=True)


def photo(seed: int, height: int = 96, width: int = 120) -> np.ndarray:
    """Returns a picture [height, width, 3] with shapes large and small."""
    random = np.random.default_rng(seed)
    found = np.zeros([height, width, 3])
    for cells in (3, 6, 12, 24):
        grid = random.uniform(0, 255, [cells, cells, 3]).astype(np.uint8)
        layer = PIL.Image.fromarray(grid).resize((width, height), 3)
        found += np.asarray(layer, float) / 4
    stretched = (found - found.mean()) * 1.6 + 120
    return stretched.clip(0, 255).astype(np.uint8)


def encode(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    """Returns a file of this kind, as Pillow writes it."""
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def turned(pixels: np.ndarray, orientation: int) -> bytes:
    """Returns a JPEG that says it is to be shown in this orientation."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return encode(pixels, "JPEG", quality=95, exif=exif)


def write(root: pathlib.Path, contents: dict[str, bytes]) -> None:
    """Writes files by their path below `root`."""
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def opened(place: os.PathLike, kind: str = "folder") -> sources.Source:
    return sources.open(f"{kind}:{place}", progress=QUIET)


def of(
    contents: Iterable[bytes | BaseException], label: str = "a"
) -> sources.Source:
    """Returns a source of these contents, or errors, that are no files."""
    contents = list(contents)

    def read(index: int) -> bytes:
        if isinstance(contents[index], BaseException):
            raise contents[index]
        return contents[index]

    examples = tuple(
        sources.Example(f"{index}.png", label) for index in range(len(contents))
    )
    return sources.Source("folder:/x", (label,), examples, read)


def scan(
    source: sources.Source,
    keep: os.PathLike,
    *,
    stamps: tuple | None = None,
    max_pixels: int = images.Shape(1, "pad").max_pixels,
    store: images.Store | None = None,
    progress: progresses.Progress = QUIET,
) -> tuple[facts.Facts, ...]:
    return scans.scan(
        source,
        sources.stamps(source) if stamps is None else stamps,
        max_pixels=max_pixels,
        cache_dir=keep,
        store=store,
        progress=progress,
    )


def counted(
    source: sources.Source, before: Callable[[int], None] = lambda index: None
) -> tuple[sources.Source, list[int]]:
    """Returns the source and a list that gets each index that is read."""
    indices: list[int] = []

    def read(index: int) -> bytes:
        before(index)
        indices.append(index)
        return source.read(index)

    return dataclasses.replace(source, read=read), indices
