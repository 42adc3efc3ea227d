"""What all pictures share: inline SVG whose colours follow the page's.

All is drawn on figures of our own, never through pyplot, so nothing global
changes for whoever calls. Texts stay texts: the browser draws any script,
and what a picture says can be searched and copied.
"""

import contextlib
import dataclasses
import io
import math
import os
import pathlib
import re
import unicodedata
import warnings
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib import axes as axes_module
from matplotlib import figure as figure_module
from matplotlib import ticker
from matplotlib.backends import backend_agg
from matplotlib.backends import backend_svg

from tlkeras import files

# Each colour is drawn as it is and then named after a variable of the page,
# which holds it for a light and for a dark ground.
INK = "#1d2127"
MUTED = "#646b76"
LINE = "#d8dbe0"
SHADE = "#f1f2f4"
BLUE = "#2a6cb0"
ORANGE = "#c4561b"
GREY = "#a3a9b3"
SURFACE = "#fefefe"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    SHADE: "--shade",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREY: "--grey",
    SURFACE: "--surface",
}
# Of strategies beside each other: colours that are seen on both grounds, and
# markers, so that no two are alike to whoever sees no colours.
SERIES = (
    ("#2a7fc9", "o"),
    ("#d1571e", "s"),
    ("#2f9e6e", "^"),
    ("#b5559b", "D"),
    ("#b8860b", "v"),
    ("#7a6ad8", "P"),
    ("#c23b50", "X"),
    ("#5b8a9a", "<"),
    ("#8a7f3f", ">"),
    ("#808790", "*"),
)
# At 72 dots an inch one point is one pixel.
DOTS = 72
TEXT = 11.0

# Every function that draws is decorated with this.
styled = matplotlib.rc_context(
    {
        "font.size": TEXT,
        "text.color": INK,
        # Names of classes are no formulas.
        "text.parse_math": False,
        "axes.facecolor": "none",
        "axes.edgecolor": LINE,
        "axes.labelcolor": MUTED,
        "axes.labelsize": TEXT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": LINE,
        "grid.linewidth": 0.6,
        "xtick.color": LINE,
        "ytick.color": LINE,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "xtick.labelsize": TEXT - 0.5,
        "ytick.labelsize": TEXT - 0.5,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "xtick.minor.size": 3,
        "ytick.minor.size": 3,
        "legend.frameon": False,
        "legend.fontsize": TEXT - 0.5,
        "legend.labelcolor": MUTED,
        "legend.borderpad": 0,
        "legend.borderaxespad": 0,
        "legend.handlelength": 1.3,
        "legend.handletextpad": 0.5,
        "legend.columnspacing": 1.1,
        # Letters stay letters in an SVG.
        "svg.fonttype": "none",
    }
)


def figure(width: float, height: float) -> tuple[figure_module.Figure, Any]:
    """Returns a figure [px] and a function that places axes in it [px]."""
    figure = figure_module.Figure(
        figsize=(width / DOTS, height / DOTS), dpi=DOTS
    )
    figure.set_facecolor("none")

    def place(
        left: float, bottom: float, inner: float, upper: float
    ) -> axes_module.Axes:
        return figure.add_axes(
            (left / width, bottom / height, inner / width, upper / height)
        )

    return figure, place


def title(axes: axes_module.Axes, text: str, *, offset: float) -> None:
    """Writes `text` above `axes`, `offset` [px] higher."""
    axes.annotate(
        text,
        (0, 1),
        (0, offset),
        xycoords="axes fraction",
        textcoords="offset points",
        fontweight="bold",
    )


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture for a page, and the same as a file.

    svg: an element that takes the page's colours. png: encoded, on a light
    ground, two dots a pixel.
    """

    svg: str
    png: bytes


def picture(
    figure: figure_module.Figure, title: str, *, scrolled: bool = False
) -> Picture:
    """Returns `figure` as a picture; `title` is what is read out of it.

    scrolled: whether it keeps its width where the screen is narrower.
    """
    return Picture(_svg(figure, title, scrolled), _png(figure))


def _png(figure: figure_module.Figure) -> bytes:
    backend_agg.FigureCanvasAgg(figure)
    stream = io.BytesIO()
    with quiet():
        figure.savefig(stream, format="png", dpi=2 * DOTS, facecolor=SURFACE)
    return stream.getvalue()


def _svg(figure: figure_module.Figure, title: str, scrolled: bool) -> str:
    backend_svg.FigureCanvasSVG(figure)
    stream = io.StringIO()
    # The salt keeps the names inside apart from those of other pictures.
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": title}), quiet():
        figure.savefig(stream, format="svg", metadata=nothing)
    root = ElementTree.fromstring(stream.getvalue())
    used = set(re.findall(r"#([\w-]+)", stream.getvalue()))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name in list(element.attrib):
            value = element.attrib.pop(name)
            name = name.rpartition("}")[2]
            if name == "id" and value not in used:
                continue
            if name == "style":
                value = _style(value)
            element.set(name, value)
    for parent in root.iter("defs"):
        # This rule would hold for all of the page, not for the picture only.
        for child in parent.findall("style"):
            parent.remove(child)
    width = float(root.attrib.pop("width").removesuffix("pt"))
    del root.attrib["height"]
    most = "" if scrolled else "; max-width: 100%"
    root.set("style", f"width: {width:.0f}px{most}")
    root.set("role", "img")
    root.set("aria-label", title)
    text = ElementTree.tostring(root, encoding="unicode")
    return re.sub(r"\s*\n\s*", " ", text)


def _style(style: str) -> str:
    style = re.sub(r"font-family: [^;]*(; )?", "", style)
    for colour, variable in _VARIABLES.items():
        style = style.replace(colour, f"var({variable}, {colour})")
    return style


def write(
    pictures: Mapping[str, Picture], directory: str | os.PathLike
) -> None:
    """Writes each picture as NAME.png into `directory`."""
    for name, each in pictures.items():
        files.write_bytes(pathlib.Path(directory, f"{name}.png"), each.png)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Lets a picture be written without matplotlib's word on letters."""
    # The browser has the letters that matplotlib's own font lacks.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        warnings.filterwarnings("ignore", "Matplotlib currently does not")
        yield


def share_of(limits: tuple[float, float] | float) -> ticker.FuncFormatter:
    """Returns how shares in [0, 1] are written on an axis, in percent."""
    span = limits if isinstance(limits, float) else limits[1] - limits[0]
    places = 0 if span > 0.04 else 1
    return ticker.FuncFormatter(lambda value, _: f"{100 * value:.{places}f} %")


def number(value: float, _: object = None) -> str:
    """Returns a number as an axis shows it."""
    if 0 < value < 1e-2:
        # As it is typed, and short enough to stand beside an axis.
        text = f"{value:.1e}".replace(".0e", "e")
    else:
        text = f"{value:.2g}"
    return text.replace("e-0", "e-").replace("e+0", "e")


def finite(value: float) -> float:
    """Returns `value`, or NaN, which leaves a gap, where it is not finite."""
    return value if math.isfinite(value) else math.nan


def plain(text: str, longest: int) -> str:
    """Returns `text` on one line, without its middle where it is long."""
    text = "".join(
        "\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter
        for letter in " ".join(text.split())
    )
    if len(text) <= longest:
        return text
    head = (longest - 1) * 2 // 3
    return f"{text[:head]}\u2026{text[head + 1 - longest :]}"


def width(text: str, size: float) -> float:
    """Returns about how wide `text` is in a sans serif of `size` [px]."""
    return size * sum(
        1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.57
        for letter in text
    )
