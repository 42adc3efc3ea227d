"""Files of every bad kind among good ones change nothing but skipped.csv."""

import csv
import io
import pathlib
import random
import struct
import zlib

import PIL.Image
import pytest
from conftest import run
from conftest import small
from conftest import write_digits
from pictures import encode
from pictures import photo


def _chunk(name: bytes, body: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + check


def _png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(b""))
        + _chunk(b"IEND", b"")
    )


def bad_files() -> dict[str, tuple[bytes, str]]:
    """Returns the content of each file, and how its reason begins."""
    pixels = photo(0)
    jpeg = encode(pixels, "JPEG")
    png = encode(pixels)
    gif = encode(pixels, "GIF")
    webp = encode(pixels, "WEBP")
    bmp = encode(pixels, "BMP")
    tiff = encode(pixels, "TIFF")
    grey = PIL.Image.fromarray(pixels)
    palette, bits = (
        encode_image(grey.convert(mode), "BMP") for mode in ("P", "1")
    )
    animated = encode(
        pixels,
        "WEBP",
        save_all=True,
        append_images=[PIL.Image.fromarray(photo(1))],
    )
    noise = random.Random(0).randbytes(5000)
    return {
        "empty.jpg": (b"", "empty file"),
        "text.jpg": (b"hello world\n", "not an image"),
        "page.jpg": (b"<!DOCTYPE html><title>404</title>", "not an image"),
        "data.png": (b'{"a": 1}', "not an image"),
        "zeros.jpg": (bytes(5000), "not an image"),
        "ones.jpg": (b"\xff" * 5000, "not an image"),
        "noise.jpg": (noise, "not an image"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "truncated JPEG"),
        "header.jpg": (jpeg[:30], "truncated JPEG"),
        "marker.jpg": (b"\xff\xd8\xff", "truncated JPEG"),
        "no scan.jpg": (jpeg[:200], "truncated JPEG"),
        "half.png": (png[: len(png) // 2], "truncated PNG"),
        "marker.png": (png[:8], "truncated PNG"),
        "header.png": (png[:33], "truncated PNG"),
        "sum.png": (png[:60] + bytes([png[60] ^ 255]) + png[61:], "damaged"),
        "no width.png": (_png(0, 10), "damaged PNG"),
        "no pixels.png": (_png(100, 100), "damaged PNG"),
        "huge.png": (_png(60_000, 60_000), "too large: PNG of 60,000 x 60,000"),
        "endless.png": (_png(2**31 - 1, 2**31 - 1), "too large: PNG"),
        "half.gif": (gif[: len(gif) // 2], "truncated GIF"),
        "marker.gif": (gif[:6], "truncated GIF"),
        "huge.gif": (gif[:6] + b"\xff" * 4 + gif[10:], "too large: GIF"),
        "half.webp": (webp[: len(webp) // 2], "truncated WebP"),
        "marker.webp": (webp[:15], "truncated WebP"),
        "half.bmp": (bmp[:1000], "truncated BMP"),
        "palette.bmp": (palette, "palette BMP"),
        "bits.bmp": (bits, "palette BMP"),
        "huge.bmp": (
            bmp[:18] + struct.pack("<ii", 2**30, 2**30) + bmp[26:],
            "too large: BMP",
        ),
        "scan.tif": (tiff, "TIFF"),
        "scan.jpg": (tiff, "TIFF"),
        "phone.jpg": (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC"),
        "web.png": (b"\0\0\0\x18ftypavif" + bytes(99), "AVIF"),
        "lfs.jpg": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        "paper.jpg": (b"%PDF-1.4\n" + bytes(99), "not an image"),
        "packed.jpg": (b"PK\3\4" + bytes(99), "not an image"),
        "film.mp4": (b"\0\0\0\x18ftypmp42" + bytes(999), "not an image"),
        "cinema.jp2": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "JPEG 2000"),
        "drawing.svg": (b"<svg/>", "not an image"),
        "labels.csv": (b"path,label\n", "not an image"),
        "moving.webp": (animated, "animated WebP"),
        "icon.ico": (encode(pixels[:32, :32], "ICO"), "not an image"),
    }


def encode_image(image: PIL.Image.Image, kind: str) -> bytes:
    """Returns a file of an image that is not RGB."""
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


@pytest.mark.slow
def test_training_is_that_of_the_good_files(tmp_path, no_export):
    names = {digit: f"digit {digit}" for digit in range(6)}
    for folder in ("clean", "mixed"):
        write_digits(tmp_path / folder, names, 167)
    bad = bad_files()
    assert len(bad) > 40
    places = sorted((tmp_path / "mixed").iterdir())
    reasons = {}
    for number, (name, (content, reason)) in enumerate(bad.items()):
        path = places[number % len(places)] / name
        path.write_bytes(content)
        reasons[str(path)] = reason
    link = places[0] / "gone.jpg"
    link.symlink_to(tmp_path / "nowhere.jpg")
    reasons[str(link)] = "cannot be read: No such file"
    for name in (".DS_Store", "Thumbs.db", "._photo.jpg"):
        (places[1] / name).write_bytes(b"left by a system")
    runs = {
        folder: run(
            small(data=f"folder:{tmp_path / folder}", epochs=4),
            tmp_path / f"{folder}-run",
        )
        for folder in ("clean", "mixed")
    }
    answers = {folder: _answers(runs[folder], folder) for folder in runs}
    assert answers["clean"] == answers["mixed"]
    assert runs["clean"].report["test"] == runs["mixed"].report["test"]
    with (runs["mixed"].directory / "skipped.csv").open(newline="") as stream:
        skipped = {row["path"]: row["reason"] for row in csv.DictReader(stream)}
    assert skipped.keys() == reasons.keys()
    for path, reason in reasons.items():
        assert skipped[path].startswith(reason), path


def _answers(trained, folder: str) -> list[list[str]]:
    path = pathlib.Path(trained.directory, "predictions.csv")
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    return [[row[0].partition(f"{folder}/")[2], *row[1:]] for row in rows]
