"""Tests of the one decoder: against Pillow, and against itself when saved."""

import io
import itertools
import struct
import zlib

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies
from PIL import Image
from PIL import ImageOps

from tlkeras.data import decode

DAMAGE = hypothesis.settings(
    max_examples=300, deadline=None, derandomize=True, database=None
)


def picture(height: int = 23, width: int = 37, channels: int = 3) -> np.ndarray:
    """Returns waves with some noise [height, width, channels], uint8."""
    y, x, c = np.mgrid[:height, :width, :channels]
    waves = 127 + 120 * np.sin(x / 7 + c) * np.cos(y / 5 - c)
    noise = np.random.default_rng(0).normal(0, 8, waves.shape)
    return np.clip(waves + noise, 0, 255).astype(np.uint8)


def save(image: Image.Image, kind: str, **options) -> bytes:
    """Returns the file that Pillow writes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pillow(encoded: bytes) -> np.ndarray:
    """Returns the pixels that Pillow reads, upright, alpha dropped."""
    image = Image.open(io.BytesIO(encoded))
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def png(values: np.ndarray, bits: int, color: int) -> bytes:
    """Returns a PNG of the values [height, width, channels]; Pillow writes
    neither grey of 2 and 4 bits nor colour of 16."""

    def chunk(name, body):
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    if bits == 16:
        rows = values.astype(">u2").reshape(len(values), -1).view(np.uint8)
    else:
        each = np.unpackbits(values.reshape(len(values), -1, 1), axis=2)
        rows = np.packbits(each[..., -bits:].reshape(len(values), -1), axis=1)
    rows = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(
        ">IIBBBBB", values.shape[1], values.shape[0], bits, color, 0, 0, 0
    )
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def with_exif(jpeg: bytes, block: bytes) -> bytes:
    """Returns the JPEG with an Exif segment put in front."""
    body = b"Exif\0\0" + block
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    return jpeg[:2] + segment + jpeg[2:]


def exif(orientation: int, order: str) -> bytes:
    """Returns an Exif block of three tags; `order` is that of `struct`."""
    entries = [
        struct.pack(order + "HHII", 0x0100, 4, 1, 640),
        struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0),
        struct.pack(order + "HHIHH", 0x0128, 3, 1, 2, 0),
    ]
    start = struct.pack(order + "HIH", 42, 8, len(entries))
    mark = b"MM" if order == ">" else b"II"
    return mark + start + b"".join(entries) + bytes(4)


RGB = Image.fromarray(picture())
RGBA = Image.fromarray(picture(channels=4))
LA = Image.merge("LA", RGBA.split()[:2])
GREY = RGB.convert("L")
PALETTE = RGB.quantize(16)
JPEG = save(RGB, "JPEG", quality=90)

EXACT = {
    "png": save(RGB, "PNG"),
    "png grey": save(GREY, "PNG"),
    "png 1 bit": save(RGB.convert("1"), "PNG"),
    "png palette": save(PALETTE, "PNG"),
    "png palette 2 bits": save(RGB.quantize(4), "PNG"),
    "png palette transparent": save(PALETTE, "PNG", transparency=3),
    "png alpha": save(RGBA, "PNG"),
    "png grey alpha": save(LA, "PNG"),
    "gif": save(RGB, "GIF"),
    "gif grey": save(GREY, "GIF"),
    "gif animated": save(
        RGB, "GIF", save_all=True, append_images=[RGB.rotate(90)]
    ),
    "bmp": save(RGB, "BMP"),
    "bmp grey": save(GREY, "BMP"),
    "bmp alpha": save(RGBA, "BMP"),
    "webp": save(RGB, "WEBP"),
    "webp lossless": save(RGB, "WEBP", lossless=True),
    "webp alpha": save(RGBA, "WEBP"),
    "webp alpha lossless": save(RGBA, "WEBP", lossless=True, exact=True),
    "webp with metadata": save(RGB, "WEBP", exif=b"Exif\0\0" + exif(1, ">")),
}
JPEGS = {
    "jpeg": JPEG,
    "jpeg without subsampling": save(RGB, "JPEG", subsampling=0),
    "jpeg progressive": save(RGB, "JPEG", progressive=True),
    "jpeg grey": save(GREY, "JPEG"),
    "jpeg cmyk": save(RGB.convert("CMYK"), "JPEG"),
    "jpeg coarse": save(RGB, "JPEG", quality=20),
    "jpeg turned": with_exif(JPEG, exif(6, "<")),
}
REFUSED = {
    "TIFF": save(RGB, "TIFF"),
    "palette BMP": save(PALETTE, "BMP"),
    "animated WebP": save(
        RGBA, "WEBP", save_all=True, append_images=[RGBA.rotate(90)]
    ),
    "BMP of a rare kind": save(RGB, "BMP").replace(b"\x18\0", b"\x10\0", 1),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(9),
    "HEIC": b"\0\0\0\x18ftypheic" + bytes(99),
    "DICOM": bytes(128) + b"DICM" + bytes(99),
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "not an image": b"label,count\ncat,3\n",
    "empty file": b"",
}


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def traced(encoded):
    return decode.decode(encoded)


def fails(encoded: bytes, match: str | None = None) -> None:
    """Checks that both ways of running refuse these bytes."""
    for function in (decode.decode, traced):
        with pytest.raises(tf.errors.InvalidArgumentError, match=match):
            function(tf.constant(encoded))


@pytest.mark.parametrize("encoded", EXACT.values(), ids=EXACT)
def test_equals_pillow(encoded):
    np.testing.assert_array_equal(traced(encoded), pillow(encoded))


@pytest.mark.parametrize("encoded", JPEGS.values(), ids=JPEGS)
def test_jpeg_equals_pillow(encoded):
    # Equal with libjpeg-turbo on both sides. The 1 is for a Pillow built on
    # another libjpeg; TensorFlow's default method is off by 3 and more.
    difference = np.int32(traced(encoded)) - pillow(encoded)
    assert np.abs(difference).max() <= 1


def test_tensorflow_alone_is_not_enough():
    """The reasons for this module: should one vanish, it can be simplified."""
    plain = np.int32(tf.io.decode_jpeg(JPEG, channels=3))
    assert np.abs(plain - pillow(JPEG)).max() >= 2
    plain = np.int32(tf.io.decode_image(REFUSED["palette BMP"], channels=3))
    assert np.abs(plain - pillow(REFUSED["palette BMP"])).max() > 100
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.io.decode_image(EXACT["webp alpha"], channels=3)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation, order):
    encoded = with_exif(JPEG, exif(orientation, order))
    turned = pillow(encoded)
    assert turned.shape[:2] == ((23, 37) if orientation < 5 else (37, 23))
    np.testing.assert_array_equal(traced(encoded), turned)
    np.testing.assert_array_equal(decode.decode(encoded), turned)


def test_orientation_behind_other_segments():
    comment = b"\xff\xfe\0\x05abc\xff"  # 0xff fills up
    encoded = with_exif(JPEG, exif(8, ">"))
    encoded = encoded[:2] + comment * 3 + encoded[2:]
    np.testing.assert_array_equal(traced(encoded), pillow(encoded))


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"MM",
        exif(0, "<"),
        exif(9, "<"),
        exif(256, ">"),
        exif(6, "<")[:8],
        exif(6, "<")[:20],
        b"XX" + exif(6, "<")[2:],
        exif(6, "<").replace(b"\x08\0\0\0", b"\xff\xff\xff\xff"),
        exif(6, "<").replace(b"\x12\1\3\0", b"\x12\1\4\0"),
    ],
)
def test_malformed_exif_is_no_orientation(block):
    np.testing.assert_array_equal(traced(with_exif(JPEG, block)), pillow(JPEG))


@DAMAGE
@hypothesis.given(
    strategies.sampled_from("<>"),
    strategies.lists(
        strategies.tuples(
            strategies.integers(0, 49), strategies.integers(0, 255)
        ),
        max_size=6,
    ),
    strategies.integers(0, 50),
)
def test_damaged_exif_never_fails(order, changes, size):
    block = bytearray(exif(6, order))
    for place, value in changes:
        block[place] = value
    pixels = traced(with_exif(JPEG, bytes(block[:size]))).numpy()
    assert sorted(pixels.shape) == [3, 23, 37]
    np.testing.assert_array_equal(
        np.sort(pixels, axis=None), np.sort(pillow(JPEG), axis=None)
    )


@DAMAGE
@hypothesis.given(
    strategies.sampled_from([*EXACT, *JPEGS, *REFUSED]),
    strategies.lists(
        strategies.tuples(
            strategies.integers(0, 63), strategies.binary(max_size=3)
        ),
        max_size=4,
    ),
    strategies.integers(0, 3000),
)
def test_damaged_header_is_read_or_refused(name, changes, size):
    encoded = (EXACT | JPEGS | REFUSED)[name]
    for place, value in changes:
        encoded = encoded[:place] + value + encoded[place + len(value) :]
    encoded = encoded[:size]
    kind = decode.kind(encoded)
    try:
        pixels = traced(encoded)
    except tf.errors.InvalidArgumentError as error:
        refused = decode.refusal(kind) in error.message
        assert refused == (kind not in decode.READABLE)
    else:
        assert kind in decode.READABLE
        assert pixels.dtype == tf.uint8 and pixels.shape[2] == 3


@pytest.mark.parametrize("kind", REFUSED)
def test_refusal(kind):
    assert decode.kind(REFUSED[kind]) == kind
    fails(REFUSED[kind], f"{decode.refusal(kind)}\\W")


def test_refusal_says_what_to_do():
    assert decode.refusal("TIFF") == (
        "not an image that can be read: TIFF; convert it to PNG or JPEG"
    )
    assert decode.refusal("empty file").endswith(": empty file")


def test_kind():
    for name, encoded in (EXACT | JPEGS).items():
        assert decode.kind(encoded).lower() == name.split()[0]
        assert decode.kind(encoded) in decode.READABLE


@pytest.mark.parametrize(
    "name",
    ["png", "png palette", "bmp", "webp", "webp alpha lossless", "gif"],
)
@pytest.mark.parametrize("part", [0.02, 0.1, 0.5, 0.98])
def test_truncated(name, part):
    encoded = EXACT[name]
    fails(encoded[: int(len(encoded) * part)])


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("missing", [1, 2, 100, 500, 9999])
def test_truncated_jpeg(name, missing):
    fails(JPEGS[name][: -min(missing, len(JPEGS[name]) - 3)])


def test_too_many_pixels():
    def of(height, width):
        frame = JPEG.index(b"\xff\xc0") + 5
        size = struct.pack(">HH", height, width)
        yield JPEG[:frame] + size + JPEG[frame + 4 :]
        size = struct.pack(">II", width, height)
        yield EXACT["png"][:16] + size + EXACT["png"][24:]

    side = int(decode.MAX_PIXELS**0.5) + 1
    for encoded in of(side, side):
        fails(encoded, "more than 178956970 pixels")
    for encoded in of(0, 5):
        fails(encoded)


@pytest.mark.parametrize(
    ("color", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)]
)
def test_16_bits_are_scaled(color, channels):
    values = np.arange(2**16).reshape(256, 256)
    wanted = np.round(values / 257).astype(np.uint8)
    wide = np.stack([values] * channels, axis=-1)
    pixels = traced(png(wide, 16, color))
    np.testing.assert_array_equal(pixels, wanted[..., None] * [1, 1, 1])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_few_bits_span_the_whole_range(bits):
    values = np.arange(2**bits, dtype=np.uint8)[None, :, None]
    wanted = np.linspace(0, 255, 2**bits).astype(np.uint8)
    pixels = traced(png(values, bits, 0))
    np.testing.assert_array_equal(pixels[0, :, 0], wanted)


def test_12_bits_in_16_stay_dark():
    values = np.full([2, 2, 1], 4095)
    assert np.all(traced(png(values, 16, 0)) == 16)


def test_transparent_gif_is_black_there():
    encoded = save(PALETTE, "GIF", transparency=3)
    visible = np.asarray(PALETTE) != 3
    wanted = pillow(save(PALETTE, "GIF")) * visible[..., None]
    np.testing.assert_array_equal(traced(encoded), wanted)


class Module(tf.Module):
    """What export saves: decode, and resize for one size and policy."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def decode(self, encoded):
        return decode.decode(encoded)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def load(self, encoded):
        return tf.map_fn(
            lambda each: decode.load(each, 32, "pad"),
            encoded,
            fn_output_signature=tf.TensorSpec([32, 32, 3], tf.uint8),
        )


def test_saved_model(tmp_path):
    tf.saved_model.save(Module(), str(tmp_path))
    reloaded = tf.saved_model.load(str(tmp_path))
    files = list((EXACT | JPEGS).values())
    batch = reloaded.load(tf.constant(files))
    for encoded, image in zip(files, batch, strict=True):
        eager = decode.decode(encoded)
        np.testing.assert_array_equal(traced(encoded), eager)
        np.testing.assert_array_equal(reloaded.decode(encoded), eager)
        np.testing.assert_array_equal(decode.resize(eager, 32, "pad"), image)
    for kind, encoded in REFUSED.items():
        with pytest.raises(tf.errors.InvalidArgumentError, match=kind[1:]):
            reloaded.decode(encoded)
    with pytest.raises(tf.errors.InvalidArgumentError, match="TIFF"):
        reloaded.load(tf.constant([files[0], REFUSED["TIFF"]]))


def test_saved_graph_holds_no_python():
    graph = Module().load.get_concrete_function().graph.as_graph_def()
    nodes = [graph.node, *(each.node_def for each in graph.library.function)]
    names = {node.op for node in itertools.chain.from_iterable(nodes)}
    assert "DecodeImage" in names
    assert not {name for name in names if "PyFunc" in name}


def test_in_a_data_set():
    files = list((EXACT | JPEGS).values())
    data = tf.data.Dataset.from_tensor_slices(files)
    data = data.map(lambda each: decode.load(each, 16, "crop"), 2)
    assert data.element_spec.shape == (16, 16, 3)
    for encoded, image in zip(files, data, strict=True):
        np.testing.assert_array_equal(decode.load(encoded, 16, "crop"), image)


def fitted(pixels: np.ndarray, size: int, policy: str) -> np.ndarray:
    """Returns what Pillow makes of an image [size, size, 3]."""
    height, width = pixels.shape[:2]
    scale = {
        "pad": size / max(height, width),
        "crop": size / min(height, width),
    }.get(policy)
    if scale is None:
        height = width = size
    else:
        height = max(round(height * scale), 1)
        width = max(round(width * scale), 1)
    image = Image.fromarray(pixels).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    # Towards zero, for a margin to add and for one to cut off.
    left, top = int((size - width) / 2), int((size - height) / 2)
    return np.asarray(
        image.crop((-left, -top, size - left, size - top)), np.int32
    )


@pytest.mark.parametrize("policy", decode.RESIZE_POLICIES)
@pytest.mark.parametrize("size", [1, 7, 32, 97])
@pytest.mark.parametrize(
    "shape", [(23, 37), (37, 23), (64, 64), (1, 1), (1, 90), (150, 2), (31, 32)]
)
def test_resize_equals_pillow(shape, size, policy):
    pixels = picture(*shape)
    resized = decode.resize(pixels, size, policy)
    assert resized.dtype == tf.uint8
    # Pillow rounds twice, after each axis.
    difference = np.int32(resized) - fitted(pixels, size, policy)
    assert np.abs(difference).max() <= 1
    assert np.abs(difference).mean() <= 0.5


@pytest.mark.parametrize("policy", decode.RESIZE_POLICIES)
def test_resize_leaves_the_right_size_alone(policy):
    pixels = picture(48, 48)
    np.testing.assert_array_equal(decode.resize(pixels, 48, policy), pixels)


@pytest.mark.parametrize("policy", decode.RESIZE_POLICIES)
@pytest.mark.parametrize("shape", [(20, 50), (50, 21)])
def test_resize_keeps_a_constant(shape, policy):
    for value in (0, 1, 128, 254, 255):
        pixels = np.full([*shape, 3], value, np.uint8)
        resized = decode.resize(pixels, 33, policy).numpy()
        if policy == "pad":
            short = round(33 * min(shape) / 50)
            first = (33 - short) // 2
            inside = slice(first, first + short)
            rows = resized if shape[0] < shape[1] else resized.swapaxes(0, 1)
            assert np.all(rows[inside] == value)
            assert not rows[:first].any() and not rows[inside.stop :].any()
        else:
            assert np.all(resized == value)


def test_resize_keeps_a_line_in_sight():
    line = np.full([1, 2000, 3], 255, np.uint8)
    assert decode.resize(line, 32, "pad").numpy().sum() == 32 * 3 * 255


def test_crop_keeps_the_middle():
    pixels = np.zeros([10, 30, 3], np.uint8)
    pixels[:, 10:20] = 200
    assert np.all(decode.resize(pixels, 10, "crop") == 200)


@pytest.mark.parametrize("policy", decode.RESIZE_POLICIES)
def test_resize_batch_equals_single(policy):
    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)]
    )
    def resize(pixels):
        return decode.resize(pixels, 24, policy)

    assert resize.get_concrete_function().output_shapes == (
        tf.TensorShape([None, 24, 24, 3])
    )
    batch = np.stack([picture(), 255 - picture(), picture()[::-1]])
    singles = [decode.resize(image, 24, policy) for image in batch]
    np.testing.assert_array_equal(resize(batch), np.stack(singles))
    np.testing.assert_array_equal(
        decode.resize(batch[None], 24, policy)[0], np.stack(singles)
    )
    assert resize(batch[:0]).shape == (0, 24, 24, 3)


def test_resize_policy():
    with pytest.raises(ValueError, match="one of pad, crop, stretch.*'fit'"):
        decode.resize(picture(), 24, "fit")
