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
