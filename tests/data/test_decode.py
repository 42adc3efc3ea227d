"""Tests of the one decoder: against Pillow, and against itself when saved."""

import itertools
import struct
import zlib

import hypothesis
import numpy as np
import pytest
import samples
import tensorflow as tf
from hypothesis import strategies
from PIL import Image

from tlkeras.data import decode

DAMAGE = hypothesis.settings(
    max_examples=300, deadline=None, derandomize=True, database=None
)


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def traced(encoded):
    return decode.decode(encoded)


def fails(encoded: bytes, match: str | None = None) -> None:
    """Checks that both ways of running refuse these bytes."""
    for function in (decode.decode, traced):
        with pytest.raises(tf.errors.InvalidArgumentError, match=match):
            function(tf.constant(encoded))


@pytest.mark.parametrize("encoded", samples.EXACT.values(), ids=samples.EXACT)
def test_equals_pillow(encoded):
    np.testing.assert_array_equal(traced(encoded), samples.pillow(encoded))


@pytest.mark.parametrize("encoded", samples.JPEGS.values(), ids=samples.JPEGS)
def test_jpeg_equals_pillow(encoded):
    # Equal with libjpeg-turbo on both sides. The 1 is for a Pillow built on
    # another libjpeg; TensorFlow's default method is off by 3 and more.
    difference = np.int32(traced(encoded)) - samples.pillow(encoded)
    assert np.abs(difference).max() <= 1


def test_tensorflow_alone_is_not_enough():
    """The reasons for this module: should one vanish, it can be simplified."""
    plain = np.int32(tf.io.decode_jpeg(samples.JPEG, channels=3))
    assert np.abs(plain - samples.pillow(samples.JPEG)).max() >= 2
    plain = np.int32(
        tf.io.decode_image(samples.REFUSED["palette BMP"], channels=3)
    )
    assert (
        np.abs(plain - samples.pillow(samples.REFUSED["palette BMP"])).max()
        > 100
    )
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.io.decode_image(samples.EXACT["webp alpha"], channels=3)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation, order):
    encoded = samples.with_exif(samples.JPEG, samples.exif(orientation, order))
    assert decode.orientation(encoded) == orientation
    turned = samples.pillow(encoded)
    assert turned.shape[:2] == ((23, 37) if orientation < 5 else (37, 23))
    np.testing.assert_array_equal(traced(encoded), turned)
    np.testing.assert_array_equal(decode.decode(encoded), turned)


def test_orientation_behind_other_segments():
    comment = b"\xff\xfe\0\x05abc\xff"  # 0xff fills up
    encoded = samples.with_exif(samples.JPEG, samples.exif(8, ">"))
    encoded = encoded[:2] + comment * 3 + encoded[2:]
    np.testing.assert_array_equal(traced(encoded), samples.pillow(encoded))


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"MM",
        samples.exif(0, "<"),
        samples.exif(9, "<"),
        samples.exif(256, ">"),
        samples.exif(6, "<")[:8],
        samples.exif(6, "<")[:20],
        b"XX" + samples.exif(6, "<")[2:],
        samples.exif(6, "<").replace(b"\x08\0\0\0", b"\xff\xff\xff\xff"),
        samples.exif(6, "<").replace(b"\x12\1\3\0", b"\x12\1\4\0"),
    ],
)
def test_malformed_exif_is_no_orientation(block):
    np.testing.assert_array_equal(
        traced(samples.with_exif(samples.JPEG, block)),
        samples.pillow(samples.JPEG),
    )


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
    block = bytearray(samples.exif(6, order))
    for place, value in changes:
        block[place] = value
    pixels = traced(
        samples.with_exif(samples.JPEG, bytes(block[:size]))
    ).numpy()
    assert sorted(pixels.shape) == [3, 23, 37]
    np.testing.assert_array_equal(
        np.sort(pixels, axis=None),
        np.sort(samples.pillow(samples.JPEG), axis=None),
    )


@DAMAGE
@hypothesis.given(
    strategies.sampled_from([*samples.EXACT, *samples.JPEGS, *samples.REFUSED]),
    strategies.lists(
        strategies.tuples(
            strategies.integers(0, 63), strategies.binary(max_size=3)
        ),
        max_size=4,
    ),
    strategies.integers(0, 3000),
)
def test_damaged_header_is_read_or_refused(name, changes, size):
    encoded = (samples.EXACT | samples.JPEGS | samples.REFUSED)[name]
    for place, value in changes:
        encoded = encoded[:place] + value + encoded[place + len(value) :]
    encoded = encoded[:size]
    kind = decode.kind(encoded)
    try:
        pixels = traced(encoded)
    except tf.errors.InvalidArgumentError as error:
        refused = "not an image that can be read" in error.message
        assert refused == (kind not in decode.READABLE)
        assert not refused or decode.refusal(kind) in error.message
    else:
        assert kind in decode.READABLE
        assert pixels.dtype == tf.uint8 and pixels.shape[2] == 3


@pytest.mark.parametrize("kind", samples.REFUSED)
def test_refusal(kind):
    assert decode.kind(samples.REFUSED[kind]) == kind
    fails(samples.REFUSED[kind], f"{decode.refusal(kind)}\\W")


def test_refusal_says_what_to_do():
    assert decode.refusal("TIFF") == (
        "not an image that can be read: TIFF; convert it to PNG or JPEG"
    )
    assert decode.refusal("empty file").endswith(": empty file")


def test_kind():
    for name, encoded in (samples.EXACT | samples.JPEGS).items():
        assert decode.kind(encoded).lower() == name.split()[0]
        assert decode.kind(encoded) in decode.READABLE


@pytest.mark.parametrize(
    "name",
    ["png", "png palette", "bmp", "webp", "webp alpha lossless", "gif"],
)
@pytest.mark.parametrize("part", [0.02, 0.1, 0.5, 0.98])
def test_truncated(name, part):
    encoded = samples.EXACT[name]
    fails(encoded[: int(len(encoded) * part)])


@pytest.mark.parametrize("name", samples.JPEGS)
@pytest.mark.parametrize("missing", [1, 2, 100, 500, 9999])
def test_truncated_jpeg(name, missing):
    fails(samples.JPEGS[name][: -min(missing, len(samples.JPEGS[name]) - 3)])


@pytest.mark.parametrize("name", [*samples.EXACT, *samples.JPEGS])
def test_limit_of_pixels(name):
    encoded = (samples.EXACT | samples.JPEGS)[name]
    assert decode.decode(encoded, 37 * 23).shape in ([23, 37, 3], [37, 23, 3])
    message = (
        f"{decode.kind(encoded)} of 37 x 23 pixels; at most 850 are allowed "
        r"\(--max_pixels\)"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode.decode(encoded, 850)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode.load(encoded, 16, "pad", 850)


def sized(kind: str, width: int, height: int) -> bytes:
    """Returns a small file that says it is large."""
    encoded = samples.EXACT.get(kind, samples.JPEG)
    place, order = {
        "jpeg": (samples.JPEG.index(b"\xff\xc0") + 5, ">HH"),
        "png": (16, ">II"),
        "gif": (6, "<HH"),
        "bmp": (18, "<ii"),
        "webp": (26, "<HH"),
        "webp lossless": (21, "<I"),
        "webp alpha": (24, "<HBHB"),
    }[kind]
    numbers = {
        "jpeg": (height, width),
        "webp lossless": (width - 1 | height - 1 << 14 | 1 << 28,),
        "webp alpha": (
            *((width - 1) % 2**16, width - 1 >> 16),
            *((height - 1) % 2**16, height - 1 >> 16),
        ),
    }.get(kind, (width, height))
    size = struct.pack(order, *numbers)
    return encoded[:place] + size + encoded[place + len(size) :]


@pytest.mark.parametrize(
    ("kind", "width", "height"),
    [
        ("jpeg", 65_500, 65_500),
        ("jpeg", 13_378, 13_378),
        ("png", 13_378, 13_378),
        ("png", 2**31 - 1, 2**31 - 1),
        ("gif", 65_535, 65_535),
        ("bmp", 2**31 - 1, 2**31 - 1),
        ("bmp", 30_000, 30_000),
        ("webp", 16_383, 16_383),
        ("webp lossless", 16_384, 16_384),
        ("webp alpha", 2**24, 2**24),
    ],
)
def test_too_large(kind, width, height):
    encoded = sized(kind, width, height)
    fails(
        encoded,
        f"{decode.kind(encoded)} of {width:,} x {height:,} pixels; at most "
        r"178,956,970 are allowed \(--max_pixels\)",
    )


@pytest.mark.parametrize(
    ("kind", "width", "height"),
    [
        ("jpeg", 0, 5),
        ("png", 0, 5),
        ("png", 5, 0),
        ("png", 2**32 - 1, 5),
        ("png", 2**31, 2**31),
        ("bmp", 0, 5),
        ("bmp", -5, 5),
        ("bmp", 5, -(2**31)),
        ("webp", 0, 5),
        ("webp alpha", 38, 23),
    ],
)
def test_no_size(kind, width, height):
    fails(sized(kind, width, height))


def test_png_with_a_false_header():
    """libpng passes over an unknown chunk before the header."""
    body = struct.pack(">II5x", 5, 5)
    false = struct.pack(">I", 13) + b"abCd" + body
    false += struct.pack(">I", zlib.crc32(b"abCd" + body))
    encoded = samples.EXACT["png"]
    fails(encoded[:8] + false + encoded[8:], "PNG that is damaged")


def test_jpeg_with_a_second_size():
    frame = samples.JPEG.index(b"\xff\xc0")
    second = samples.JPEG[frame : frame + 19]
    second = second[:5] + struct.pack(">HH", 60_000, 60_000) + second[9:]
    for place in (frame + 19, len(samples.JPEG) - 2):
        fails(samples.JPEG[:place] + second + samples.JPEG[place:])


def test_second_frame_of_a_gif_is_not_decoded():
    encoded = samples.gif()
    second = b",\0\0\0\0" + struct.pack("<HHB", 65_535, 65_535, 0)
    encoded = encoded[:-1] + second + b"\x08\1\0\0;"
    np.testing.assert_array_equal(
        traced(encoded), samples.pillow(samples.gif())
    )


@pytest.mark.parametrize(
    ("color", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)]
)
def test_16_bits_are_scaled(color, channels):
    values = np.arange(2**16).reshape(256, 256)
    wanted = np.round(values / 257).astype(np.uint8)
    wide = np.stack([values] * channels, axis=-1)
    if channels in (2, 4):
        wide[..., -1] = 65535
    pixels = traced(samples.png(wide, 16, color))
    np.testing.assert_array_equal(pixels, wanted[..., None] * [1, 1, 1])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_few_bits_span_the_whole_range(bits):
    values = np.arange(2**bits, dtype=np.uint8)[None, :, None]
    wanted = np.linspace(0, 255, 2**bits).astype(np.uint8)
    pixels = traced(samples.png(values, bits, 0))
    np.testing.assert_array_equal(pixels[0, :, 0], wanted)


def test_12_bits_in_16_stay_dark():
    values = np.full([2, 2, 1], 4095)
    assert np.all(traced(samples.png(values, 16, 0)) == 16)


@pytest.mark.parametrize(("color", "channels"), [(4, 2), (6, 4)])
def test_alpha_of_16_bits_is_composed_onto_white(color, channels):
    random = np.random.default_rng(0)
    values = random.integers(0, 2**16, [40, 50, channels])
    values[:9, :, -1], values[9:19, :, -1] = 65535, 0
    alpha = values[..., -1:] / 65535
    wanted = (65535 - (65535 - values[..., :-1]) * alpha) / 257
    decoded = decode.decode_fully(samples.png(values, 16, color))
    assert np.abs(np.int32(decoded.pixels) - wanted).max() <= 0.5 + 1e-4
    assert np.all(decoded.pixels[9:19] == 255)
    assert decoded.opacity == 0


def test_black_icons_on_a_transparent_ground_are_seen():
    icon = np.zeros([9, 9, 4], np.uint8)
    icon[3:6, 3:6, 3] = 255
    wanted = np.broadcast_to(255 - icon[..., 3:], [9, 9, 3])
    image = Image.fromarray(icon)
    for encoded in (
        samples.save(image, "PNG"),
        samples.save(image.convert("LA"), "PNG"),
        samples.save(image, "WEBP", lossless=True),
        samples.save(image, "GIF"),
    ):
        np.testing.assert_array_equal(traced(encoded), wanted)


def test_opacity_is_the_least_alpha():
    for name, encoded in (samples.EXACT | samples.JPEGS).items():
        image = Image.open(samples.io.BytesIO(encoded))
        least = 255
        if image.has_transparency_data:
            least = np.asarray(image.convert("RGBA"))[..., 3].min()
        decoded = decode.decode_fully(encoded)
        assert decoded.opacity == np.float32(least) / 255, name
        assert decoded.used_range == 1, name


@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3), (6, 4)])
def test_used_range_of_16_bits(color, channels):
    random = np.random.default_rng(0)
    values = random.integers(0, 4096, [40, 50, channels])
    if channels == 4:
        values[..., 3] = 65535
    values[0, 0, 0], values[0, 1, 0] = 0, 4095
    for factor, wanted in ((1, 4095 / 65535), (16, 65520 / 65535)):
        wide = values * factor if channels != 4 else values.copy()
        wide[..., :3] = values[..., :3] * factor
        used = decode.decode_fully(samples.png(wide, 16, color)).used_range
        assert float(used) == pytest.approx(wanted)


def test_orientation_of_other_kinds():
    for encoded in (*samples.EXACT.values(), samples.JPEG, b"", b"text"):
        assert decode.orientation(encoded) == 1


@pytest.mark.parametrize("screen", [(50, 40), (20, 40), (37, 23), (0, 0)])
@pytest.mark.parametrize(("left", "top"), [(0, 0), (5, 3)])
def test_gif_frame_on_a_screen(screen, left, top):
    encoded = samples.gif(left, top, screen)
    width, height = max(screen[0], left + 37), max(screen[1], top + 23)
    wanted = np.full([height, width, 3], 255, np.uint8)
    place = slice(top, top + 23), slice(left, left + 37)
    wanted[place] = np.asarray(samples.PALETTE.convert("RGB"))
    np.testing.assert_array_equal(traced(encoded), wanted)
    # Pillow has the same pixels, but the palette's first colour around them.
    np.testing.assert_array_equal(samples.pillow(encoded)[place], wanted[place])
    assert samples.pillow(encoded).shape == wanted.shape


def test_hostile_blocks_of_a_gif():
    """Blocks of changing size cannot be passed over in one step."""
    blocks = b"\1a\2bb" * 100_000
    start = samples.gif()[: samples.gif().index(b",", 61)]
    with pytest.raises(tf.errors.InvalidArgumentError, match="GIF that is"):
        traced(start + b"!\xfe" + blocks + b"\0" + samples.gif()[len(start) :])


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
    files = list((samples.EXACT | samples.JPEGS).values())
    batch = reloaded.load(tf.constant(files))
    for encoded, image in zip(files, batch, strict=True):
        eager = decode.decode(encoded)
        np.testing.assert_array_equal(traced(encoded), eager)
        np.testing.assert_array_equal(reloaded.decode(encoded), eager)
        np.testing.assert_array_equal(decode.resize(eager, 32, "pad"), image)
    for kind, encoded in samples.REFUSED.items():
        with pytest.raises(tf.errors.InvalidArgumentError, match=kind[1:]):
            reloaded.decode(encoded)
    with pytest.raises(tf.errors.InvalidArgumentError, match="TIFF"):
        reloaded.load(tf.constant([files[0], samples.REFUSED["TIFF"]]))


def test_saved_graph_holds_no_python():
    graph = Module().load.get_concrete_function().graph.as_graph_def()
    nodes = [graph.node, *(each.node_def for each in graph.library.function)]
    names = {node.op for node in itertools.chain.from_iterable(nodes)}
    assert "DecodeImage" in names
    assert not {name for name in names if "PyFunc" in name}


def test_in_a_data_set():
    files = list((samples.EXACT | samples.JPEGS).values())
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
    pixels = samples.picture(*shape)
    resized = decode.resize(pixels, size, policy)
    assert resized.dtype == tf.uint8
    # Pillow rounds twice, after each axis.
    difference = np.int32(resized) - fitted(pixels, size, policy)
    assert np.abs(difference).max() <= 1
    assert np.abs(difference).mean() <= 0.5


@pytest.mark.parametrize("policy", decode.RESIZE_POLICIES)
def test_resize_leaves_the_right_size_alone(policy):
    pixels = samples.picture(48, 48)
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
    batch = np.stack(
        [samples.picture(), 255 - samples.picture(), samples.picture()[::-1]]
    )
    singles = [decode.resize(image, 24, policy) for image in batch]
    np.testing.assert_array_equal(resize(batch), np.stack(singles))
    np.testing.assert_array_equal(
        decode.resize(batch[None], 24, policy)[0], np.stack(singles)
    )
    assert resize(batch[:0]).shape == (0, 24, 24, 3)


@pytest.mark.parametrize("policy", decode.RESIZE_POLICIES)
@pytest.mark.parametrize("shape", [(30, 70), (70, 30), (1, 9), (224, 224)])
def test_resize_equals_tensorflows_operation(shape, policy):
    """Given rows and columns at once it does the same, more slowly."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape, 3))
    pixels = pixels.astype(np.uint8)
    size = 48
    sides = np.array(shape, np.float64)
    scale = {
        "pad": size / sides.max(),
        "crop": size / sides.min(),
        "stretch": size / sides,
    }[policy]
    target = np.maximum(np.round(sides * scale), 1)
    expected = tf.raw_ops.ScaleAndTranslate(
        images=pixels,
        size=[size, size],
        scale=(target / sides).astype(np.float32),
        translation=((size - target) / 2).astype(int).astype(np.float32),
        kernel_type="triangle",
        antialias=True,
    )
    np.testing.assert_array_equal(
        decode.resize(pixels, size, policy),
        tf.saturate_cast(tf.round(expected), tf.uint8),
    )


def test_resize_policy():
    with pytest.raises(ValueError, match="one of pad, crop, stretch.*'fit'"):
        decode.resize(samples.picture(), 24, "fit")


def test_blocks_of_colors_do_not_matter(monkeypatch):
    random = np.random.default_rng(0)
    files = [
        samples.EXACT["png alpha"],
        samples.EXACT["webp alpha"],
        *(
            samples.png(random.integers(0, 2**16, [23, 37, channels]), 16, kind)
            for kind, channels in ((2, 3), (6, 4))
        ),
    ]
    expected = [decode.decode_fully(encoded) for encoded in files]
    for size in (1, 37, 100):
        monkeypatch.setattr(decode, "_BLOCK", size)
        for encoded, whole in zip(files, expected, strict=True):
            found = decode.decode_fully(encoded)
            np.testing.assert_array_equal(found.pixels, whole.pixels)
            assert found.opacity == whole.opacity
