"""A picture by Pillow instead of by our decoder, where TensorFlow is not.

The function also stands in the example that travels with an exported file, as
it is here; by how much answers differ by it is measured at each export.
"""

import numpy as np
import PIL.Image
import PIL.ImageOps


def square(file, size, resize):
    """Returns a picture as the model takes it: [size, size, 3], uint8, RGB.

    file: a path or an open file. resize: pad, crop or stretch.
    """
    picture = PIL.ImageOps.exif_transpose(PIL.Image.open(file))
    if picture.mode.startswith("I"):
        grey = np.asarray(picture).astype(np.float64) / 257
        picture = PIL.Image.fromarray(grey.round().astype(np.uint8))
    if picture.has_transparency_data:
        white = PIL.Image.new("RGBA", picture.size, "white")
        picture = PIL.Image.alpha_composite(white, picture.convert("RGBA"))
    sides = np.array(picture.size)
    scale = {
        "pad": size / sides.max(),
        "crop": size / sides.min(),
        "stretch": size / sides,
    }[resize]
    target = np.maximum(np.round(sides * scale), 1).astype(int)
    resized = picture.convert("RGB").resize(
        target.tolist(), PIL.Image.Resampling.BILINEAR
    )
    canvas = PIL.Image.new("RGB", (size, size))
    canvas.paste(resized, ((size - target) / 2).astype(int).tolist())
    return np.asarray(canvas)
