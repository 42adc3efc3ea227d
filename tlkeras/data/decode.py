"""Encoded image in, RGB pixels out: the one decoder of the whole package.

Training, evaluation, prediction and the exported SavedModel call the same
functions, so an image looks the same wherever it is seen. They are built of
TensorFlow operations only, and therefore load where tlkeras is not installed.
Measured with TensorFlow 2.21 against Pillow 13:

- What can be read is decided by the header. `tf.io.decode_image` alone reads
  a palette BMP silently wrong (off by up to 242), and an animated WebP without
  alpha, read with channels=0, corrupts the memory of the process.
- JPEG: `INTEGER_ACCURATE` gives Pillow's pixels exactly, at the same speed;
  the default is off by up to 4. The EXIF orientation is applied (0.3 ms),
  but not that of PNG and WebP, which seldom have one. A truncated file
  fails; one that ends early and in good order is grey there, as in Pillow.
- PNG is decoded at 16 bits and divided by 257: up to 8 bits this gives
  Pillow's pixels exactly, 16 bits are rounded. Nothing is stretched: 12-bit
  data in a 16-bit file stay as dark as they are.
- Alpha is dropped. Of a GIF the first frame is taken; what is transparent
  there becomes black, since the operation gives no other colour.
"""

import functools

import numpy as np
import tensorflow as tf

READABLE = ("JPEG", "PNG", "WebP", "GIF", "BMP")
RESIZE_POLICIES = ("pad", "crop", "stretch")

# Where TensorFlow's JPEG and PNG decoders stop (2**29 values), and where Pillow
# raises its decompression bomb error. Tested first, for a message that names
# the reason. WebP ends at 16,383 x 16,383 by itself, BMP at the size of its
# file; GIF is not limited.
MAX_PIXELS = 2**29 // 3

_GREYS = bytes(np.outer(np.arange(256), [1, 1, 1, 0]).astype(np.uint8))

# Each row: what the file is, and (offset [bytes], bytes found there, bits
# compared: all where none are given). The first row that fits decides.
_SIGNATURES = (
    ("JPEG", (0, b"\xff\xd8\xff")),
    ("PNG", (0, b"\x89PNG\r\n\x1a\n")),
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
_KINDS = tuple(row[0] for row in _SIGNATURES)


def _table() -> tuple[np.ndarray, np.ndarray]:
    """Returns values and bits compared of all rows but the last [rows, n]."""
    parts = [part for row in _SIGNATURES for part in row[1:]]
    width = max(part[0] + len(part[1]) for part in parts)
    values = np.zeros([len(_SIGNATURES) - 1, width], np.uint8)
    bits = np.zeros_like(values)
    for row, (_, *parts) in enumerate(_SIGNATURES[:-1]):
        for offset, value, *mask in parts:
            place = slice(offset, offset + len(value))
            values[row, place] = list(value)
            bits[row, place] = list(mask[0]) if mask else 255
    return values, bits


_VALUES, _BITS = _table()
_WIDTH = _VALUES.shape[1]


def kind(encoded: bytes) -> str:
    """Returns what the header says a file is: one of `READABLE`, or another.

    The same table decides in the graph: `decode` refuses what is not in
    `READABLE`, and may still fail on a file that is damaged further on.
    """
    if not encoded:
        return "empty file"
    header = np.frombuffer(encoded[:_WIDTH].ljust(_WIDTH, b"\0"), np.uint8)
    return _KINDS[np.argmax(np.all(header & _BITS == _VALUES, axis=1))]


def refusal(name: str) -> str:
    """Returns a sentence on why `decode` fails on a file of this kind."""
    if name in READABLE:
        return f"{name} that is damaged, or has more than {MAX_PIXELS} pixels"
    if name == "not an image":
        return "not an image that can be read"
    if name in ("empty file", "Git LFS pointer"):
        return f"not an image that can be read: {name}"
    return f"not an image that can be read: {name}; convert it to PNG or JPEG"


def _kind(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the index in `_KINDS` [int32 scalar]; as `kind`."""
    start = tf.strings.substr(encoded, 0, _WIDTH)
    header = tf.io.decode_raw(start, tf.uint8, fixed_length=_WIDTH)
    fits = tf.reduce_all(tf.bitwise.bitwise_and(header, _BITS) == _VALUES, 1)
    empty = tf.strings.length(encoded) == 0
    return tf.where(empty, len(_KINDS) - 1, tf.argmax(fits, 0, tf.int32))


def _bounded(
    encoded: tf.Tensor, height: tf.Tensor, width: tf.Tensor
) -> tf.Tensor:
    """Returns `encoded`, if the image is not too large [pixels]."""
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    small = tf.debugging.Assert(
        pixels <= MAX_PIXELS,
        [f"not an image that can be read: more than {MAX_PIXELS} pixels"],
    )
    with tf.control_dependencies([small]):
        return tf.identity(encoded)


def _piece(text: tf.Tensor, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns a part of a string, as far as there is one [bytes]."""
    start = tf.clip_by_value(start, 0, tf.strings.length(text))
    return tf.strings.substr(text, start, tf.maximum(size, 0))


def _number(
    text: tf.Tensor, start: tf.Tensor, size: int, big: tf.Tensor | bool = True
) -> tf.Tensor:
    """Returns the integer at a place, big-endian or not; 0 beyond the end."""
    piece = _piece(text, start, size)
    digits = tf.io.decode_raw(piece, tf.uint8, fixed_length=size)
    digits = tf.cast(tf.where(big, digits, digits[::-1]), tf.int32)
    return tf.reduce_sum(digits * [256**power for power in range(size)][::-1])


def _exif(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the Exif block of a JPEG [string], empty if there is none.

    A JPEG begins with a chain of segments, each a marker (two bytes), a
    length (two bytes, which count too) and a body. The markers of metadata
    are the highest, and Exif must stand before all else.
    """

    def goes_on(start, exif):
        return (_number(encoded, start, 2) >= 0xFFE0) & (exif == "")

    def following(start, _):
        marker = _number(encoded, start, 2)
        length = _number(encoded, start + 2, 2)
        named = _piece(encoded, start + 4, 6) == b"Exif\0\0"
        exif = tf.where(
            (marker == 0xFFE1) & named,
            _piece(encoded, start + 10, length - 8),
            "",
        )
        # 0xff before a marker is filling.
        return start + tf.where(marker == 0xFFFF, 1, 2 + length), exif

    # The limit keeps a hostile file of a million empty segments from
    # costing a minute.
    return tf.while_loop(
        goes_on, following, (2, tf.constant("")), maximum_iterations=64
    )[1]


def _orientation(exif: tf.Tensor) -> tf.Tensor:
    """Returns the orientation in an Exif block, 1..8; 1 if malformed."""
    order = _piece(exif, 0, 4)
    big = order == b"MM\0*"
    start = _number(exif, 4, 4, big)
    count = _number(exif, start, 2, big)
    entries = tf.io.decode_raw(_piece(exif, start + 2, 12 * count), tf.uint8)
    entries = tf.reshape(entries[: tf.size(entries) // 12 * 12], [-1, 12])
    # Tag 0x0112, type 3 (16 bits), 1 value; then that value.
    wanted = tf.where(big, [1, 18, 0, 3, 0, 0, 0, 1], [18, 1, 3, 0, 1, 0, 0, 0])
    found = tf.reduce_all(tf.cast(entries[:, :8], tf.int32) == wanted, 1)
    values = tf.cast(tf.boolean_mask(entries[:, 8:10], found), tf.int32)
    values = tf.reduce_sum(values * tf.where(big, [256, 1], [1, 256]), 1)
    value = tf.concat([values, [1]], 0)[0]
    known = (big | (order == b"II*\0")) & (value >= 1) & (value <= 8)
    return tf.where(known, value, 1)


def _upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Returns pixels [height, width, 3] as the camera was held."""

    def when(orientations, change, pixels):
        changes = tf.reduce_any(orientation == orientations)
        return tf.cond(changes, lambda: change(pixels), lambda: pixels)

    # On 12 million pixels a reversed slice takes 350 ms, tf.reverse 16 ms.
    pixels = when([5, 6, 7, 8], lambda x: tf.transpose(x, [1, 0, 2]), pixels)
    pixels = when([2, 3, 6, 7], lambda x: tf.reverse(x, [1]), pixels)
    return when([3, 4, 7, 8], lambda x: tf.reverse(x, [0]), pixels)


def _jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the pixels of a JPEG, upright."""
    height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded))
    pixels = tf.io.decode_jpeg(
        _bounded(encoded, height, width),
        channels=3,
        dct_method="INTEGER_ACCURATE",
    )
    exif = _exif(encoded)
    return tf.cond(
        exif == "",
        lambda: pixels,
        lambda: _upright(pixels, _orientation(exif)),
    )


def _png(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the pixels of a PNG, 16 bits divided by 257."""
    width, height = _number(encoded, 16, 4), _number(encoded, 20, 4)
    wide = tf.io.decode_png(
        _bounded(encoded, height, width), channels=3, dtype=tf.uint16
    )
    return tf.cast(tf.round(tf.cast(wide, tf.float32) / 257), tf.uint8)


def _webp(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the pixels of a WebP, which may have an alpha channel."""
    pixels = tf.io.decode_image(encoded, channels=0, expand_animations=False)
    return pixels[..., :3]


def _other(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the pixels of a BMP, or of the first frame of a GIF."""
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


_READERS = (_jpeg, _png, _webp, _other, _other)  # in the order of READABLE


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the pixels [height, width, 3], uint8 RGB, of one encoded image.

    Args:
        encoded: a file's bytes, string scalar.

    Raises:
        tf.errors.InvalidArgumentError: it is no image, of a kind that is not
            read (the message names it), damaged, or too large.
    """
    encoded = tf.convert_to_tensor(encoded)
    index = _kind(encoded)
    readers = [
        READABLE.index(name) if name in READABLE else -1 for name in _KINDS
    ]
    reader = tf.gather(readers, index)
    readable = tf.debugging.Assert(
        reader >= 0, [tf.gather([refusal(name) for name in _KINDS], index)]
    )
    # What is decoded waits for the refusal, so it cannot be skipped.
    with tf.control_dependencies([readable]):
        encoded = tf.identity(encoded)
    pixels = tf.switch_case(
        reader, [functools.partial(read, encoded) for read in _READERS]
    )
    return tf.ensure_shape(pixels, [None, None, 3])


def resize(pixels: tf.Tensor, size: int, policy: str) -> tf.Tensor:
    """Returns square images [..., size, size, 3], uint8.

    Bilinear and antialiased, each value within 1 of Pillow's. An image that
    has the size already comes back as it was.

    Args:
        pixels: [..., height, width, 3], uint8, one image or a batch of them.
        size: height and width to give it, pixels.
        policy: `pad` keeps all of the image and its shape, and puts black
            around it; `crop` keeps the shape and cuts off what is too long,
            on both sides equally; `stretch` keeps all and changes the shape.

    Raises:
        ValueError: there is no such policy.
    """
    if policy not in RESIZE_POLICIES:
        raise ValueError(
            f"`policy` must be one of {', '.join(RESIZE_POLICIES)}. "
            f"Received: policy={policy!r}."
        )
    pixels = tf.convert_to_tensor(pixels)
    shape = tf.shape(pixels)
    sides = tf.cast(shape[-3:-1], tf.float64)
    scale = {
        "pad": size / tf.reduce_max(sides),
        "crop": size / tf.reduce_min(sides),
        "stretch": size / sides,
    }[policy]
    # Whole pixels, one at least: a line 1 pixel wide must not vanish.
    target = tf.maximum(tf.round(sides * scale), 1)
    margin = tf.cast((size - target) / 2, tf.int32)
    # The operation behind `tf.image.resize(antialias=True)`; used directly,
    # it also pads and crops, and computes nothing that is cut off.
    resized = tf.raw_ops.ScaleAndTranslate(
        images=tf.reshape(pixels, tf.concat([[-1], shape[-3:]], 0)),
        size=[size, size],
        scale=tf.cast(target / sides, tf.float32),
        translation=tf.cast(margin, tf.float32),
        kernel_type="triangle",
        antialias=True,
    )
    resized = tf.saturate_cast(tf.round(resized), tf.uint8)
    resized = tf.reshape(resized, tf.concat([shape[:-3], [size, size, 3]], 0))
    return tf.ensure_shape(resized, pixels.shape[:-3] + [size, size, 3])


def load(encoded: tf.Tensor, size: int, policy: str) -> tf.Tensor:
    """Returns the pixels [size, size, 3], uint8 RGB, of one encoded image."""
    return resize(decode(encoded), size, policy)
