"""Tests of the header: it agrees with Pillow, and never raises."""

import io
import pathlib
import subprocess
import sys

import hypothesis
import pytest
import samples
from hypothesis import strategies
from PIL import Image

import tlkeras
from tlkeras.data import header

EVERY = samples.EXACT | samples.JPEGS | samples.REFUSED
# Of these, Pillow or the header knows no size.
OPAQUE = (
    *("TIFF", "BMP of a rare kind", "JPEG 2000", "AVIF", "HEIC", "DICOM"),
    *("Git LFS pointer", "not an image", "empty file"),
)


@pytest.mark.parametrize("name", [name for name in EVERY if name not in OPAQUE])
def test_agrees_with_pillow(name):
    found = header.read(EVERY[name])
    image = Image.open(io.BytesIO(EVERY[name]))
    assert (found.width, found.height) == image.size


@pytest.mark.parametrize("name", OPAQUE)
def test_of_what_is_not_read(name):
    assert header.read(EVERY[name]) == header.Header(name, 0, 0)


@pytest.mark.parametrize("colors", [2, 16])
def test_palette_bmp(colors):
    for image in (samples.RGB.quantize(colors), samples.RGB.convert("1")):
        encoded = samples.save(image, "BMP")
        found = header.read(encoded)
        assert found.kind == "palette BMP"
        size = Image.open(io.BytesIO(encoded)).size
        assert (found.width, found.height) == size


@pytest.mark.parametrize("screen", [(0, 0), (50, 9), (50, 40), (65535, 1)])
def test_gif_is_as_large_as_screen_and_frame(screen):
    encoded = samples.gif(left=7, top=2, screen=screen)
    found = header.read(encoded)
    assert (found.width, found.height) == Image.open(io.BytesIO(encoded)).size


@pytest.mark.parametrize(
    "encoded",
    [
        samples.EXACT["png"][:16] + bytes(4) + samples.EXACT["png"][20:],
        samples.EXACT["png"][:16] + b"\xff" * 8 + samples.EXACT["png"][24:],
        samples.EXACT["png"].replace(b"IHDR", b"abCd"),
        samples.EXACT["bmp"][:18] + b"\xff" * 4 + samples.EXACT["bmp"][22:],
        samples.EXACT["webp"][:23] + bytes(7),
        samples.EXACT["gif"][:700],
        samples.JPEG[:4],
        samples.JPEG[:2] + samples.JPEG[-2:],
    ],
)
def test_damaged(encoded):
    found = header.read(encoded)
    assert found.kind in header.READABLE
    assert found == header.Header(found.kind)


@hypothesis.settings(
    max_examples=1000, deadline=None, derandomize=True, database=None
)
@hypothesis.given(
    strategies.binary(max_size=60),
    strategies.sampled_from(list(EVERY.values())),
    strategies.integers(0, 1200),
    strategies.integers(0, 40),
)
def test_never_raises(noise, encoded, place, left_out):
    for each in (
        noise,
        encoded[:place],
        encoded[:place] + noise + encoded[place + left_out :],
        encoded[: place % 40] + noise,
    ):
        found = header.read(each)
        assert found.kind == header.kind(each)
        assert found.width >= 0 and found.height >= 0
        assert (found.width > 0) == (found.height > 0)


def test_without_tensorflow():
    code = (
        "import sys; from tlkeras.data import header; "
        "assert header.read(b'GIF89a').kind == 'GIF'; "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    place = pathlib.Path(tlkeras.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=place)


@strategies.composite
def chains_of_segments(draw) -> bytes:
    """Draws what may stand at the beginning of a JPEG, Exif or not."""
    markers = strategies.sampled_from([0xE0, 0xE1, 0xE1, 0xFE, 0xDB, 0xFF])
    bodies = strategies.sampled_from(
        [b"", b"JFIF\0", b"Exif\0\0", b"Exif\0\0MM\0*", b"ExifXX", b"\xff\xda"]
    )
    file = b"\xff\xd8"
    for marker, body in draw(
        strategies.lists(strategies.tuples(markers, bodies), max_size=6)
    ):
        length = len(body) + 2 + draw(strategies.sampled_from([0, 0, 0, -3, 9]))
        file += b"\xff" * draw(strategies.integers(0, 2))
        file += bytes([0xFF, marker]) + max(length, 0).to_bytes(2) + body
    return file * draw(strategies.sampled_from([1, 1, 40]))


@pytest.fixture(scope="module")
def exif():
    """Returns the Exif block that the graph finds in a file."""
    tf = pytest.importorskip("tensorflow")
    from tlkeras.data import decode

    graph = tf.function(
        decode._exif,
        autograph=False,
        input_signature=[tf.TensorSpec([], tf.string)],
    )
    return lambda file: graph(file).numpy()


@hypothesis.given(file=chains_of_segments())
@hypothesis.settings(max_examples=300, deadline=None)
def test_what_is_said_to_have_no_exif_has_none_in_the_graph(exif, file):
    if not header.may_be_turned(file):
        assert exif(file) == b""


def test_who_may_be_turned():
    assert header.may_be_turned(samples.JPEGS["jpeg turned"])
    assert not header.may_be_turned(samples.JPEG)
    assert not header.may_be_turned(samples.with_exif(b"GIF8", b"MM"))
    # Behind the last segment that is followed.
    many = b"\xff\xd8" + b"\xff\xe0\0\2" * 64 + samples.JPEG[2:]
    assert header.may_be_turned(many)
