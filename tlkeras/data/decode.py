"""Encoded image in, RGB pixels out: the one decoder of the whole package.

Training, evaluation, prediction and the exported SavedModel call the same
functions, so an image looks the same wherever it is seen. They are built of
TensorFlow operations only, and therefore load where tlkeras is not installed.
Measured with TensorFlow 2.21 against Pillow 13:

- What can be read is decided by the header. `tf.io.decode_image` alone reads
  a palette BMP silently wrong (off by up to 242), and an animated WebP without
  alpha, read with channels=0, corrupts the memory of the process.
- How large it may be is decided by the header too, before any memory is taken:
  a file of 100 kB may hold a PNG of 100 million pixels.
- JPEG: `INTEGER_ACCURATE` gives Pillow's pixels exactly, at the same speed;
  the default is off by up to 4. The EXIF orientation is applied (0.3 ms),
  but not that of PNG and WebP, which seldom have one. A truncated file
  fails; one that ends early and in good order is grey there, as in Pillow.
- PNG up to 8 bits gives Pillow's pixels exactly. 16 bits are divided by 257
  and rounded (exactly, in float32; integers are not faster). Nothing is
  stretched: 12-bit data in a 16-bit file stay as dark as they are.
- Alpha is composed onto white: dropped, it would show what was cut away, and
  black icons on a transparent ground would be all black. Of a GIF the first
  frame is taken; what is transparent there, or outside of it, becomes white.
- 60,000 damaged files of all kinds gave the same pixels, or were refused, in
  two processes whose heaps were filled with different bytes, with no crash.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tlkeras.data import header

READABLE = header.READABLE
RESIZE_POLICIES = ("pad", "crop", "stretch")
# The kind of a JPEG that holds no Exif block. To look for one in the graph
# takes a fifth of the time of a small image.
UNTURNED = "JPEG without Exif"

# The limit where none is given [pixels]. Where TensorFlow's JPEG and PNG
# decoders stop (2**29 values), and where Pillow raises its decompression bomb
# error.
MAX_PIXELS = 2**29 // 3
# Of which colors are converted at a time [pixels].
_BLOCK = 2**20

kind = header.kind
refusal = header.refusal


class Decoded(NamedTuple):
    """One decoded image.

    pixels: [height, width, 3], uint8 RGB. opacity: the least alpha in [0, 1];
    below 1 the image was composed onto white. used_range: the difference of
    its largest and smallest value, as a share of what 16 bits can hold; 1 for
    an image of 8 bits.
    """

    pixels: tf.Tensor
    opacity: tf.Tensor | float = 1.0
    used_range: tf.Tensor | float = 1.0


def _kind(encoded: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Returns the index in `header.KINDS` [int32 scalar]; as `header.kind`."""
    fits = tf.bitwise.bitwise_and(start, header.BITS) == header.VALUES
    fits = tf.argmax(tf.reduce_all(fits, 1), 0, tf.int32)
    return tf.where(encoded == b"", len(header.KINDS) - 1, fits)


def _fail_if(
    wrong: tf.Tensor, message: Callable[[], tf.Tensor], encoded: tf.Tensor
) -> tf.Tensor:
    """Returns `encoded`, so that what needs it waits; or fails.

    The message is made only where it is needed: it takes 20 operations.
    """

    def fail():
        refused = tf.raw_ops.Assert(condition=False, data=[message()])
        with tf.control_dependencies([refused]):
            return tf.identity(encoded)

    return tf.cond(wrong, fail, lambda: tf.identity(encoded))


def _grouped(number: tf.Tensor) -> tf.Tensor:
    """Returns a number of up to 12 digits in words: 12,345."""
    text = tf.strings.as_string(number)
    for _ in range(3):
        text = tf.strings.regex_replace(text, r"^(\d+)(\d{3})", r"\1,\2")
    return text


def _limited(
    encoded: tf.Tensor,
    name: str,
    height: tf.Tensor,
    width: tf.Tensor,
    max_pixels: int,
) -> tf.Tensor:
    """Returns `encoded`, or fails: the size [pixels] is none or too large."""
    empty = (height <= 0) | (width <= 0)

    def message():
        return tf.where(
            empty,
            refusal(name),
            tf.strings.join(
                [
                    f"{name} of ",
                    _grouped(width),
                    " x ",
                    _grouped(height),
                    f" pixels; at most {max_pixels:,} are allowed "
                    "(--max_pixels)",
                ]
            ),
        )

    # A product of two numbers of 32 bits could overflow.
    large = width > max_pixels // tf.maximum(height, 1)
    return _fail_if(empty | large, message, encoded)


def _piece(text: tf.Tensor, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns a part of a string, as far as there is one [bytes]."""
    start = tf.clip_by_value(start, 0, tf.strings.length(text))
    return tf.strings.substr(text, start, tf.maximum(size, 0))


def _integer(
    digits: tf.Tensor,
    big: tf.Tensor | bool = True,
    dtype: tf.DType = tf.int64,
) -> tf.Tensor:
    """Returns the integer of some bytes, big-endian or not [scalar]."""
    powers = 256 ** np.arange(digits.shape[0], dtype=np.int64)
    powers = powers.astype(dtype.as_numpy_dtype)
    if isinstance(big, bool):  # one operation less in the graph
        powers = powers[::-1] if big else powers
    else:
        powers = tf.where(big, powers[::-1], powers)
    return tf.reduce_sum(tf.cast(digits, dtype) * powers)


def _number(
    text: tf.Tensor, start: tf.Tensor, size: int, big: tf.Tensor | bool = True
) -> tf.Tensor:
    """Returns the integer at a place [int32 scalar]; 0 beyond the end."""
    piece = _piece(text, start, size)
    digits = tf.io.decode_raw(piece, tf.uint8, fixed_length=size)
    return _integer(digits, big, tf.int32)


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
    is_wanted = tf.reduce_all(tf.cast(entries[:, :8], tf.int32) == wanted, 1)
    values = tf.cast(tf.boolean_mask(entries[:, 8:10], is_wanted), tf.int32)
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


def orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Returns how `decode` turns an image, 1..8 [int32 scalar].

    That is the Exif orientation of a JPEG, and 1 for all else.
    """
    exif = tf.cond(
        _piece(encoded, 0, 3) == b"\xff\xd8\xff",
        lambda: _exif(encoded),
        lambda: "",
    )
    return tf.cond(exif == "", lambda: 1, lambda: _orientation(exif))


def _to_rgb(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns RGB of 8 bits, and the least alpha in [0, 1].

    16 bits are divided by 257, and alpha is composed onto white.

    pixels: [height, width, 3 or 4], uint8 or uint16. Block by block, because
    float32 would take 16 bytes a pixel: 2.9 GB of the largest image.
    """
    shape = tf.shape(pixels)
    rows = tf.maximum(_BLOCK // tf.maximum(shape[1], 1), 1)
    blocks = (shape[0] + rows - 1) // rows
    scale = pixels.dtype.max // 255

    def convert(number, converted):
        block = pixels[number * rows : (number + 1) * rows]
        block = tf.cast(block, tf.float32) / scale
        if pixels.shape[-1] == 4:
            # Of 8 bits no value lies near one half, so that this is exact.
            block = 255 - (255 - block[..., :3]) * (block[..., 3:] / 255)
        block = tf.cast(tf.round(block), tf.uint8)
        return number + 1, converted.write(number, block)

    converted = tf.TensorArray(
        tf.uint8, blocks, infer_shape=False, element_shape=[None, None, 3]
    )
    _, converted = tf.while_loop(
        lambda number, _: number < blocks,
        convert,
        (0, converted),
        parallel_iterations=1,
    )
    opacity = tf.constant(1.0)
    if pixels.shape[-1] == 4:
        alpha = tf.reduce_min(pixels[..., 3])
        opacity = tf.cast(alpha, tf.float32) / pixels.dtype.max
    return converted.concat(), opacity


def _jpeg(encoded: tf.Tensor, start: tf.Tensor, max_pixels: int) -> Decoded:
    """Returns a JPEG, upright."""
    pixels = _as_stored(encoded, start, max_pixels).pixels
    exif = _exif(encoded)
    return Decoded(
        tf.cond(
            exif == "",
            lambda: pixels,
            lambda: _upright(pixels, _orientation(exif)),
        )
    )


def _as_stored(
    encoded: tf.Tensor, start: tf.Tensor, max_pixels: int
) -> Decoded:
    """Returns a JPEG that no Exif block turns."""
    height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded, tf.int64))
    return Decoded(
        tf.io.decode_jpeg(
            _limited(encoded, "JPEG", height, width, max_pixels),
            channels=3,
            dct_method="INTEGER_ACCURATE",
        )
    )


def _has_transparent_colors(encoded: tf.Tensor) -> tf.Tensor:
    """Returns whether a PNG has a chunk tRNS, which stands before the pixels.

    A PNG is a chain of chunks, each a length (four bytes), a name (four), so
    many bytes and a checksum (four).
    """

    def goes_on(place, name):
        return (name != b"IDAT") & (name != b"tRNS") & (name != b"")

    def following(place, name):
        place += 12 + _number(encoded, place, 4)
        return place, _piece(encoded, place + 4, 4)

    # The limit keeps a hostile file of a million chunks from costing a minute.
    start = (8, tf.constant(b"IHDR"))
    _, name = tf.while_loop(goes_on, following, start, maximum_iterations=256)
    return name == b"tRNS"


def _png(encoded: tf.Tensor, start: tf.Tensor, max_pixels: int) -> Decoded:
    """Returns a PNG, 16 bits divided by 257."""
    # libpng would pass over an unknown chunk before the header.
    right = tf.reduce_all(start[8:16] == list(b"\0\0\0\rIHDR"))
    encoded = _limited(
        encoded,
        "PNG",
        tf.where(right, _integer(start[20:24]), 0),
        _integer(start[16:20]),
        max_pixels,
    )
    # Grey (4) and RGB (6) with a channel for alpha. Others must not be asked
    # for it: TensorFlow gives a palette of 4 bits an alpha of 15.
    alpha = tf.cond(
        (start[25] == 4) | (start[25] == 6),
        lambda: True,
        lambda: _has_transparent_colors(encoded),
    )

    def narrow(channels):
        pixels = tf.io.decode_png(encoded, channels=channels)
        return Decoded(*_to_rgb(pixels)) if channels == 4 else Decoded(pixels)

    def wide(channels):
        pixels = tf.io.decode_png(encoded, channels=channels, dtype=tf.uint16)
        colors = pixels[..., :3]
        used = tf.reduce_max(colors) - tf.reduce_min(colors)
        return Decoded(*_to_rgb(pixels), tf.cast(used, tf.float32) / 65535)

    def read(decoder):
        return tf.cond(alpha, lambda: decoder(4), lambda: decoder(3))

    return tf.cond(start[24] <= 8, lambda: read(narrow), lambda: read(wide))


def _webp(encoded: tf.Tensor, start: tf.Tensor, max_pixels: int) -> Decoded:
    """Returns a WebP, which may have an alpha channel."""
    # A canvas that has not the size of the image is refused by libwebp.
    extended = start[15] == ord("X")
    lossless = start[15] == ord("L")
    packed = _integer(start[21:25], False)

    def size(canvas, lossy, shift):
        return tf.where(
            extended,
            _integer(start[canvas : canvas + 3], False) + 1,
            tf.where(
                lossless,
                packed // 2**shift % 2**14 + 1,
                _integer(start[lossy : lossy + 2], False) % 2**14,
            ),
        )

    width, height = size(24, 26, 0), size(27, 28, 14)
    pixels = tf.io.decode_image(
        _limited(encoded, "WebP", height, width, max_pixels),
        channels=0,
        expand_animations=False,
    )
    return tf.cond(
        tf.shape(pixels)[-1] == 4,
        lambda: Decoded(*_to_rgb(tf.ensure_shape(pixels, [None, None, 4]))),
        lambda: Decoded(pixels),
    )


class _Frame(NamedTuple):
    """Where a GIF's first image stands [bytes].

    start, end: of the image; it starts at 0 where none is complete. screen,
    own: the lengths of the palettes at 13 and at `start` + 10. transparent:
    whether a color of it may be.
    """

    start: tf.Tensor
    end: tf.Tensor
    screen: tf.Tensor
    own: tf.Tensor
    transparent: tf.Tensor


def _palette_length(flags: tf.Tensor) -> tf.Tensor:
    """Returns the length [bytes] of a GIF's palette; 0 if there is none."""
    return tf.where(flags >= 128, tf.bitwise.left_shift(6, flags % 8), 0)


def _first_frame(encoded: tf.Tensor) -> _Frame:
    """Returns where a GIF's first image stands."""
    content = tf.io.decode_raw(encoded, tf.uint8)
    total = tf.size(content)

    def byte(place):
        return tf.cast(content[tf.minimum(place, total - 1)], tf.int32)

    def goes_on(place, inside, frame, transparent):
        return (place < total) & (inside | (frame == 0))

    def record(place, frame, transparent):
        mark = byte(place)
        image = mark == 0x2C
        start = tf.where(image, 11 + _palette_length(byte(place + 9)), 2)
        known = image | (mark == 0x21)
        # A control block says in its first bit whether a color is transparent.
        control = (mark == 0x21) & (byte(place + 1) == 0xF9)
        return (
            tf.where(known, place + start, total),
            known,
            tf.where(image, place, frame),
            transparent | control & (byte(place + 3) % 2 == 1),
        )

    def blocks(place, frame, transparent):
        # Blocks of equal size, mostly 255 bytes, are passed over in one step.
        size = byte(place)
        step = size + 1
        last = tf.minimum(total, place + tf.minimum(step * 4096, total))
        sizes = tf.reshape(content[place:last:step], [-1])
        other = tf.cast(sizes, tf.int32) != size
        equal = tf.where(
            tf.reduce_any(other),
            tf.argmax(other, output_type=tf.int32),
            tf.size(other),
        )
        ends = size == 0
        place += tf.where(ends, 1, equal * step)
        return place, ~ends, frame, transparent

    def following(place, inside, *known):
        return tf.cond(
            inside, lambda: blocks(place, *known), lambda: record(place, *known)
        )

    screen = _palette_length(byte(10))
    # Each step takes 30 us. The limit is met only by hostile files: in 2 MB
    # whose blocks all differ in size from the one before.
    place, inside, frame, transparent = tf.while_loop(
        goes_on,
        following,
        (13 + screen, False, 0, False),
        maximum_iterations=2**14,
    )
    frame = tf.where(inside, 0, frame)
    own = _palette_length(byte(frame + 9))
    return _Frame(frame, place, screen, own, transparent)


def _decode_frame(
    encoded: tf.Tensor, frame: _Frame, screen: tf.Tensor, own: tf.Tensor
) -> tf.Tensor:
    """Returns the frame in the palettes `screen` and `own`, moved to 0, 0."""
    between = 13 + frame.screen
    behind = frame.start + 10 + frame.own
    alone = tf.strings.join(
        [
            _piece(encoded, 0, 13),
            screen,
            _piece(encoded, between, frame.start + 1 - between),
            bytes(4),
            _piece(encoded, frame.start + 5, 5),
            own,
            _piece(encoded, behind, frame.end - behind),
            ";",
        ]
    )
    return tf.io.decode_image(alone, channels=3, expand_animations=False)


# Called, and not put into the graph: even where they are not wanted,
# TensorFlow passes over all its operations, 40 us with each JPEG. Autograph
# would take half a second to find nothing to convert.
@tf.function(autograph=False, experimental_attributes={"_noinline": True})
def _gif(encoded: tf.Tensor, start: tf.Tensor, max_pixels: int) -> Decoded:
    """Returns a GIF's first frame, white around it.

    TensorFlow decodes all frames to return one, takes the largest of them
    for the screen, and cuts off what is not in the upper left of it. So it is
    given the first frame alone, moved there.
    """
    frame = _first_frame(encoded)
    left, top, width, height = [
        _number(encoded, frame.start + place, 2, False)
        for place in (1, 3, 5, 7)
    ]
    complete = (frame.start > 0) & (width > 0) & (height > 0)
    all_width = tf.maximum(
        left + width, tf.cast(_integer(start[6:8], False), tf.int32)
    )
    all_height = tf.maximum(
        top + height, tf.cast(_integer(start[8:10], False), tf.int32)
    )
    encoded = _limited(
        encoded,
        "GIF",
        tf.cast(tf.where(complete, all_height, 0), tf.int64),
        tf.cast(all_width, tf.int64),
        max_pixels,
    )

    pixels = _decode_frame(
        encoded,
        frame,
        _piece(encoded, 13, frame.screen),
        _piece(encoded, frame.start + 10, frame.own),
    )

    def on_ground():
        # What is transparent comes out black whatever the palette is.
        white = tf.constant(b"\xff" * 768)
        palettes = _piece(white, 0, frame.screen), _piece(white, 0, frame.own)
        drawn = _decode_frame(encoded, frame, *palettes)
        opacity = tf.cast(tf.reduce_min(drawn), tf.float32) / 255
        return tf.maximum(pixels, 255 - drawn), opacity

    pixels, opacity = tf.cond(
        frame.transparent, on_ground, lambda: (pixels, 1.0)
    )

    def padded():
        right, bottom = all_width - left - width, all_height - top - height
        around = [[top, bottom], [left, right], [0, 0]]
        return tf.pad(pixels, around, constant_values=255), 0.0

    whole = (width == all_width) & (height == all_height)
    pixels, opacity = tf.cond(whole, lambda: (pixels, opacity), padded)
    return Decoded(pixels, opacity)


def _bmp(encoded: tf.Tensor, start: tf.Tensor, max_pixels: int) -> Decoded:
    """Returns a BMP."""
    width, height = _integer(start[18:22], False), _integer(start[22:26], False)
    # Below 0 (two's complement), the rows go from top to bottom.
    height = tf.minimum(height, 2**32 - height)
    return Decoded(
        tf.io.decode_image(
            _limited(encoded, "BMP", height, width, max_pixels),
            channels=3,
            expand_animations=False,
        )
    )


_READERS = (_jpeg, _png, _webp, _gif, _bmp)  # in the order of READABLE
_BY_NAME = {**dict(zip(READABLE, _READERS, strict=True)), UNTURNED: _as_stored}


def decode(
    encoded: tf.Tensor,
    max_pixels: int = MAX_PIXELS,
    kind: str | None = None,
) -> tf.Tensor:
    """Returns the pixels of `decode_fully`, [height, width, 3], uint8 RGB."""
    return decode_fully(encoded, max_pixels, kind).pixels


def decode_fully(
    encoded: tf.Tensor,
    max_pixels: int = MAX_PIXELS,
    kind: str | None = None,
) -> Decoded:
    """Returns one encoded image, decoded, and what was done for it.

    Args:
        encoded: a file's bytes, string scalar.
        max_pixels: width times height that is decoded at most; what is larger
            is refused by its header, before any memory is taken for it.
        kind: one of `READABLE` where the header has been read already, or
            `UNTURNED`; the graph then holds what that kind needs, and nothing
            else.

    Raises:
        tf.errors.InvalidArgumentError: it is no image, of a kind that is not
            read (the message names it), damaged, or too large (the message
            gives both numbers).
    """
    encoded = tf.convert_to_tensor(encoded)
    start = tf.io.decode_raw(
        tf.strings.substr(encoded, 0, header.LENGTH),
        tf.uint8,
        fixed_length=header.LENGTH,
    )
    start = tf.ensure_shape(start, [header.LENGTH])
    if kind is not None:
        decoded = _BY_NAME[kind](encoded, start, max_pixels)
    else:
        index = _kind(encoded, start)
        readers = [
            READABLE.index(name) if name in READABLE else -1
            for name in header.KINDS
        ]
        reader = tf.gather(readers, index)
        encoded = _fail_if(
            reader < 0,
            lambda: tf.gather([refusal(name) for name in header.KINDS], index),
            encoded,
        )
        decoded = tf.switch_case(
            reader,
            [
                functools.partial(read, encoded, start, max_pixels)
                for read in _READERS
            ],
        )
    pixels = tf.ensure_shape(decoded.pixels, [None, None, 3])
    return decoded._replace(pixels=pixels)


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
    (down, right), (above, left) = (
        tf.unstack(tf.cast(each, tf.float32))
        for each in (target / sides, margin)
    )
    # Rows, then columns: what the operation does by itself, to the last bit.
    # But given columns it works on three values at a time, and takes half
    # again as long as with their transpose.
    height, width = tf.unstack(shape[-3:-1])
    lines = tf.reshape(pixels, [-1, height, 1, 3 * width])
    lines = _resize_rows(lines, size, down, above)
    lines = tf.transpose(tf.reshape(lines, [-1, size, width, 3]), [0, 2, 1, 3])
    lines = tf.reshape(lines, [-1, width, 1, 3 * size])
    lines = _resize_rows(lines, size, right, left)
    lines = tf.cast(tf.round(lines), tf.uint8)
    square = [size, size, 3]
    if pixels.shape.rank == 3:  # fewer operations
        return tf.transpose(tf.reshape(lines, square), [1, 0, 2])
    lines = tf.transpose(tf.reshape(lines, [-1, *square]), [0, 2, 1, 3])
    resized = tf.reshape(lines, tf.concat([shape[:-3], square], 0))
    return tf.ensure_shape(resized, pixels.shape[:-3] + square)


def _resize_rows(
    lines: tf.Tensor, size: int, scale: tf.Tensor, margin: tf.Tensor
) -> tf.Tensor:
    """Returns lines [n, size, 1, c], float32, of lines [n, height, 1, c].

    The operation behind `tf.image.resize(antialias=True)`; used directly, it
    also pads and crops, and computes nothing that is cut off.
    """
    return tf.raw_ops.ScaleAndTranslate(
        images=lines,
        size=[size, 1],
        scale=tf.stack([scale, 1.0]),
        translation=tf.stack([margin, 0.0]),
        kernel_type="triangle",
        antialias=True,
    )


def load(
    encoded: tf.Tensor, size: int, policy: str, max_pixels: int = MAX_PIXELS
) -> tf.Tensor:
    """Returns the pixels [size, size, 3], uint8 RGB, of one encoded image."""
    return resize(decode(encoded, max_pixels), size, policy)
