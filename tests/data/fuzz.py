"""Damaged files of every kind, and a process that decodes them.

`python fuzz.py live|DIRECTORY < files` prints a line for each file: a hash of
its pixels, or `-` where it is refused, and the seconds it took; in the end by
how much the memory [MB] grew at most after the first of them. The decoder is
the scan's, or that of a SavedModel. The files come as `write` gives them.
"""

import hashlib
import random
import resource
import struct
import sys
import time
import zlib
from collections.abc import Iterator

import samples

REFUSED = "-"

_VALUES = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)


def files(number: int, seed: int) -> Iterator[bytes]:
    """Returns damaged files, the same for the same seed."""
    chance = random.Random(seed)
    originals = [
        *{**samples.EXACT, **samples.JPEGS, **samples.REFUSED}.values()
    ]
    originals = [each for each in originals if len(each) > 40]
    for _ in range(number):
        file = chance.choice(originals)
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            change = chance.choice(_CHANGES)
            file = change(chance, file, chance.choice(originals))
        if file.startswith(b"\x89PNG") and chance.random() < 0.7:
            file = _checked(file)
        yield file


def _place(chance: random.Random, file: bytes) -> int:
    """Returns a place in the file, in its header every second time."""
    limit = len(file) if chance.random() < 0.5 else min(len(file), 64)
    return chance.randrange(limit + 1)


def _flip(chance, file, other):
    """Flips bits."""
    changed = bytearray(file)
    for _ in range(chance.choice((1, 1, 2, 8))):
        if changed:
            place = min(_place(chance, file), len(file) - 1)
            changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _extremes(chance, file, other):
    """Sets a few bytes to what limits are made of."""
    place = _place(chance, file)
    values = bytes(
        chance.choice(_VALUES) for _ in range(chance.choice((1, 2, 4)))
    )
    return file[:place] + values + file[place + len(values) :]


def _truncate(chance, file, other):
    """Cuts off the end."""
    return file[: _place(chance, file)]


def _swap_header(chance, file, other):
    """Puts the header of one on the body of another."""
    place = chance.choice((4, 8, 12, 16, 26, 30, 54, 64))
    return other[:place] + file[place:]


def _splice(chance, file, other):
    """Goes on with another."""
    return file[: _place(chance, file)] + other[_place(chance, other) :]


def _repeat(chance, file, other):
    """Repeats a part."""
    start = _place(chance, file)
    end = start + chance.choice((1, 3, 16, 200))
    again = chance.choice((2, 3, 30))
    return file[:start] + file[start:end] * again + file[end:]


def _remove(chance, file, other):
    """Leaves out a part."""
    start = _place(chance, file)
    return file[:start] + file[start + chance.choice((1, 2, 4, 50)) :]


def _insert(chance, file, other):
    """Puts noise in between."""
    place = _place(chance, file)
    noise = chance.randbytes(chance.choice((1, 2, 4, 50)))
    return file[:place] + noise + file[place:]


_CHANGES = (
    _flip,
    _flip,
    _extremes,
    _extremes,
    _truncate,
    _swap_header,
    _splice,
    _repeat,
    _remove,
    _insert,
)


def _checked(png: bytes) -> bytes:
    """Returns a PNG whose checksums are right, so that it is read further."""
    parts, place = [png[:8]], 8
    while place + 12 <= len(png):
        size = struct.unpack_from(">I", png, place)[0]
        body = png[place + 4 : place + 8 + size]
        parts.append(png[place : place + 4] + body)
        parts.append(struct.pack(">I", zlib.crc32(body)))
        place += 12 + size
    return b"".join(parts) + png[place:]


def write(damaged: Iterator[bytes]) -> bytes:
    """Returns files as one."""
    return b"".join(struct.pack("<I", len(each)) + each for each in damaged)


def _decode_all(where: str) -> None:
    import tensorflow as tf

    if where == "live":
        from tlkeras.data import images

        graph = images.decoder(images.Shape(16, "pad"))

        def decode(encoded):
            return graph(encoded)[0]

    else:
        loaded = tf.saved_model.load(where)

        def decode(encoded):
            return loaded.decode(tf.constant(encoded))

        if "tlkeras" in sys.modules:
            raise RuntimeError("tlkeras is imported")
    first = 0
    while length := sys.stdin.buffer.read(4):
        encoded = sys.stdin.buffer.read(*struct.unpack("<I", length))
        start = time.perf_counter()
        try:
            pixels = decode(encoded).numpy()
        except tf.errors.InvalidArgumentError:
            found = REFUSED
        else:
            digest = hashlib.sha256(str(pixels.shape).encode())
            digest.update(pixels)
            found = digest.hexdigest()
        print(found, f"{time.perf_counter() - start:.3f}", flush=True)
        first = first or _peak()
    print("peak", _peak() - first, flush=True)


def _peak() -> int:
    """Returns the most memory that this process had [MB]."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes >> (20 if sys.platform == "darwin" else 10)


if __name__ == "__main__":
    _decode_all(sys.argv[1])
