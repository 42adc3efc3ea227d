"""Small files of every kind, made with Pillow, and what Pillow reads there."""

import io
import struct
import zlib

import numpy as np
from PIL import Image
from PIL import ImageOps


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
    """Returns the pixels that Pillow reads, upright, composed onto white."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    # Pillow's own composition is off by one here and there.
    pixels = np.asarray(image.convert("RGBA"), float)
    colors = 255 - (255 - pixels[..., :3]) * pixels[..., 3:] / 255
    return np.rint(colors).astype(np.uint8)


def png(
    values: np.ndarray, bits: int, color: int, interlaced: bool = False
) -> bytes:
    """Returns a PNG of the values [height, width, channels]; Pillow writes
    neither grey of 2 and 4 bits, nor colour of 16, nor interlaced ones."""

    def chunk(name, body):
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    def lines(values):
        if bits == 16:
            rows = values.astype(">u2").reshape(len(values), -1)
            rows = rows.view(np.uint8)
        else:
            each = np.unpackbits(values.reshape(len(values), -1, 1), axis=2)
            each = each[..., -bits:].reshape(len(values), -1)
            rows = np.packbits(each, axis=1)
        return b"".join(b"\0" + row.tobytes() for row in rows)

    passes = [(0, 0, 1, 1)]
    if interlaced:  # left, top, and the distances of one pass
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)]
        passes += [(0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b"".join(
        lines(values[top::down, left::right])
        for left, top, right, down in passes
    )
    height, width = values.shape[:2]
    header = struct.pack(
        ">IIBBBBB", width, height, bits, color, 0, 0, interlaced
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


def gif(
    left: int = 0,
    top: int = 0,
    screen: tuple[int, int] = (37, 23),
    local: bool = False,
) -> bytes:
    """Returns `PALETTE` as a GIF, its frame somewhere on a screen.

    local: the colours belong to the frame.
    """
    file = save(PALETTE, "GIF")
    start = 13 + (3 << (file[10] & 7) + 1)
    frame = file.index(b",", start)
    kinds = (file[10] & 127, file[frame + 9] | 128 | file[10] & 7)
    kinds = kinds if local else (file[10], file[frame + 9])
    return b"".join(
        [
            file[:6] + struct.pack("<HHB", *screen, kinds[0]) + file[11:13],
            b"" if local else file[13:start],
            file[start:frame],
            struct.pack("<BHHHHB", 0x2C, left, top, 37, 23, kinds[1]),
            file[13:start] if local else b"",
            file[frame + 10 :],
        ]
    )


def top_down(bmp: bytes) -> bytes:
    """Returns a BMP of 24 bits with its rows in the other order."""
    width, height = struct.unpack_from("<ii", bmp, 18)
    start = struct.unpack_from("<I", bmp, 10)[0]
    rows = np.frombuffer(bmp, np.uint8, offset=start).reshape(height, -1)[::-1]
    return (
        bmp[:22] + struct.pack("<i", -height) + bmp[26:start] + rows.tobytes()
    )


def ycck(jpeg: bytes) -> bytes:
    """Returns a JPEG of CMYK with other colours, declared to be YCCK."""
    place = jpeg.index(b"Adobe") + 11
    return jpeg[:place] + b"\2" + jpeg[place + 1 :]


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
    "png transparent": save(RGB, "PNG", transparency=(127, 127, 127)),
    "png grey transparent": save(GREY, "PNG", transparency=127),
    "png 2 bits": png(picture(channels=1) // 64, 2, 0),
    "png 4 bits": png(picture(channels=1) // 16, 4, 0),
    "png interlaced": png(picture(), 8, 2, interlaced=True),
    "png interlaced 4 bits": png(picture(channels=1) // 16, 4, 0, True),
    "png 1 bit transparent": save(RGB.convert("1"), "PNG", transparency=1),
    "png palette alpha": save(
        PALETTE, "PNG", transparency=bytes(range(0, 256, 16))
    ),
    "gif": save(RGB, "GIF"),
    "gif transparent": save(PALETTE, "GIF", transparency=3),
    "gif not interlaced": save(RGB, "GIF", interlace=0),
    "gif with comments": save(RGB, "GIF", comment=bytes(999), duration=9),
    "gif local palette": gif(local=True),
    "gif on a small screen": gif(screen=(9, 9)),
    "gif grey": save(GREY, "GIF"),
    "gif animated": save(
        RGB, "GIF", save_all=True, append_images=[RGB.rotate(90)]
    ),
    "bmp": save(RGB, "BMP"),
    "bmp top down": top_down(save(RGB, "BMP")),
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
    "jpeg ycck": ycck(save(RGB.convert("CMYK"), "JPEG")),
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
    "AVIF": save(RGB, "AVIF"),
    "HEIC": b"\0\0\0\x18ftypheic" + bytes(99),
    "DICOM": bytes(128) + b"DICM" + bytes(99),
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "not an image": b"label,count\ncat,3\n",
    "empty file": b"",
}
