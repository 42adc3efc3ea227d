"""What the first bytes of a file say: its kind and its size.

Nothing here needs TensorFlow, so that files can be told apart, and errors
explained, before it is loaded. The table of signatures is also the one that
`tlkeras.data.decode` puts into its graphs.
"""

import dataclasses
import re
import struct
from typing import Any

import numpy as np

# Of a JPEG's metadata, which are followed at most: a hostile file of a million
# empty ones would else cost a minute.
_SEGMENTS = 64
READABLE = ("JPEG", "PNG", "WebP", "GIF", "BMP")

_JPEG = b"\xff\xd8\xff"
_GREYS = bytes(np.outer(np.arange(256), [1, 1, 1, 0]).astype(np.uint8))

# Each row: what the file is, and (offset [bytes], bytes found there, bits
# compared: all where none are given). The first row that fits decides.
_SIGNATURES: tuple[tuple[Any, ...], ...] = (
    ("JPEG", (0, _JPEG)),
    ("PNG", (0, b"\x89PNG\r\n\x1a\n")),
    # TensorFlow 2.21 reads it with channels=0 beyond its memory.
    ("animated WebP", (0, b"RIFF"), (8, b"WEBPVP8X"), (20, b"\2", b"\2")),
    ("WebP", (0, b"RIFF"), (8, b"WEBPVP8")),
    ("GIF", (0, b"GIF8")),
    # A BMP has the size of its header at 14, bits per pixel at 28, its
    # compression (0: none) at 30, its palette right after the header.
    *(
        ("BMP", (0, b"BM"), (14, bytes([size, 0, 0, 0])), *pixels)
        for size in (40, 108, 124)
        for pixels in (
            [(28, bytes([24, 0, 0, 0, 0, 0]))],
            [(28, bytes([32, 0, 0, 0, 0, 0]))],
            [(28, bytes([8, 0, 0, 0, 0, 0])), (14 + size, _GREYS)],
        )
    ),
    *(
        ("palette BMP", (0, b"BM"), (15, bytes(3)), (28, bytes([bits, 0])))
        for bits in (1, 4, 8)
    ),
    ("BMP of a rare kind", (0, b"BM"), (15, bytes(3))),
    ("TIFF", (0, b"II*\0")),
    ("TIFF", (0, b"MM\0*")),
    ("TIFF", (0, b"II+\0")),
    ("TIFF", (0, b"MM\0+")),
    ("HEIC", (4, b"ftyphe")),
    ("HEIC", (4, b"ftypmif1")),
    ("AVIF", (4, b"ftypavi")),
    ("JPEG 2000", (4, b"jP  \r\n\x87\n")),
    ("DICOM", (128, b"DICM")),
    ("Git LFS pointer", (0, b"version https://git-lfs")),
    ("not an image",),
    ("empty file",),
)
KINDS = tuple(row[0] for row in _SIGNATURES)


def _table() -> tuple[np.ndarray, np.ndarray]:
    """Returns values and bits compared of all rows but the last [rows, n]."""
    pieces = [piece for row in _SIGNATURES for piece in row[1:]]
    width = max(piece[0] + len(piece[1]) for piece in pieces)
    values = np.zeros([len(_SIGNATURES) - 1, width], np.uint8)
    bits = np.zeros_like(values)
    for row, (_, *pieces) in enumerate(_SIGNATURES[:-1]):
        for offset, value, *mask in pieces:
            place = slice(offset, offset + len(value))
            values[row, place] = list(value)
            bits[row, place] = list(mask[0]) if mask else 255
    return values, bits


# A file of which `start & BITS == VALUES` in row i is of kind `KINDS[i]`.
VALUES, BITS = _table()
LENGTH = VALUES.shape[1]


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says of itself; 0 where it says nothing sensible.

    kind: one of `READABLE`, or what else it is.
    width, height: as stored [pixels]: a JPEG's orientation is not applied.
    """

    kind: str
    width: int = 0
    height: int = 0


def kind(encoded: bytes) -> str:
    """Returns what the header says a file is: one of `READABLE`, or another.

    The same table decides in the graph: `decode` refuses what is not in
    `READABLE`, and may still fail on a file that is damaged further on.
    """
    # The first row of the table, and most files.
    if encoded.startswith(_JPEG):
        return "JPEG"
    if not encoded:
        return "empty file"
    start = np.frombuffer(encoded[:LENGTH].ljust(LENGTH, b"\0"), np.uint8)
    return KINDS[np.argmax(np.all(start & BITS == VALUES, axis=1))]


def refusal(name: str) -> str:
    """Returns a sentence on why `decode` fails on a file of this kind."""
    if name in READABLE:
        return f"{name} that is damaged"
    if name == "not an image":
        return "not an image that can be read"
    if name in ("empty file", "Git LFS pointer"):
        return f"not an image that can be read: {name}"
    return f"not an image that can be read: {name}; convert it to PNG or JPEG"


def read(encoded: bytes) -> Header:
    """Returns the header of a file, of which the beginning is enough.

    It never raises: a damaged file has a kind, and 0 x 0 pixels.
    """
    name = kind(encoded)
    try:
        result = Header(name, *_PARSERS[name](encoded))
    except (KeyError, IndexError, struct.error):
        return Header(name)
    return result if result.width > 0 and result.height > 0 else Header(name)


_MARKER = re.compile(rb"\xff[^\xff\0]")


def _jpeg(encoded: bytes) -> tuple[int, int]:
    place = 2
    # libjpeg skips whatever stands before a marker, and 0xff fills up.
    while match := _MARKER.search(encoded, place):
        place, marker = match.end(), encoded[match.end() - 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", encoded, place + 3)
            return width, height
        if marker in (0xD9, 0xDA):
            break
        if marker != 0x01 and not 0xD0 <= marker <= 0xD8:
            place += struct.unpack_from(">H", encoded, place)[0]
    raise IndexError


def may_be_turned(encoded: bytes) -> bool:
    """Tells whether a file is a JPEG with an Exif block, or may be one.

    The chain of its segments is followed as `decode` follows it, so that what
    this calls false has no block there. To search all of a large file for the
    block's first bytes would keep other threads waiting.
    """
    if not encoded.startswith(_JPEG):
        return False
    place = 2
    for _ in range(_SEGMENTS):
        marker = int.from_bytes(encoded[place : place + 2])
        if marker < 0xFFE0:
            return False
        if encoded[place + 4 : place + 10] == b"Exif\0\0":
            return True
        if marker == 0xFFFF:
            place += 1
        else:
            place += 2 + int.from_bytes(encoded[place + 2 : place + 4])
    return True


def _png(encoded: bytes) -> tuple[int, int]:
    length, name, width, height = struct.unpack_from(">I4sII", encoded, 8)
    if (length, name) != (13, b"IHDR") or max(width, height) >= 2**31:
        raise IndexError
    return width, height


def _webp(encoded: bytes) -> tuple[int, int]:
    chunk = encoded[12:16]
    if chunk == b"VP8X":
        width, more, height, most = struct.unpack_from("<HBHB", encoded, 24)
        return width + (more << 16) + 1, height + (most << 16) + 1
    if chunk == b"VP8L" and encoded[20] == 0x2F:
        packed = struct.unpack_from("<I", encoded, 21)[0]
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 " and encoded[23:26] == b"\x9d\1\x2a":
        width, height = struct.unpack_from("<HH", encoded, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise IndexError


def _gif(encoded: bytes) -> tuple[int, int]:
    """A GIF is as large as its screen, or reaches as far as its first frame."""
    width, height, flags = struct.unpack_from("<HHB", encoded, 6)
    place = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    while encoded[place] == 0x21:  # an extension, of blocks
        place += 2
        while encoded[place]:
            place += 1 + encoded[place]
        place += 1
    if encoded[place] != 0x2C:
        raise IndexError
    left, top, right, bottom = struct.unpack_from("<HHHH", encoded, place + 1)
    if not right or not bottom:
        raise IndexError
    return max(width, left + right), max(height, top + bottom)


def _bmp(encoded: bytes) -> tuple[int, int]:
    size, width, height = struct.unpack_from("<Iii", encoded, 14)
    if size < 40:
        raise IndexError
    # Below 0, the rows go from top to bottom.
    return width, abs(height)


_PARSERS = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WebP": _webp,
    "animated WebP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
    "palette BMP": _bmp,
}
