"""Pictures of a run: inline SVG whose colours follow the page's.

All is drawn on figures of our own, never through pyplot, so nothing global
changes for whoever calls. Texts stay texts: the browser draws any script,
and what a picture says can be searched and copied.
"""

import contextlib
import dataclasses
import io
import math
import os
import re
import unicodedata
import warnings
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib import axes as axes_module
from matplotlib import figure as figure_module
from matplotlib import lines
from matplotlib import ticker
from matplotlib.backends import backend_agg
from matplotlib.backends import backend_svg

from tlkeras import evaluation
from tlkeras import files
from tlkeras import records

# Each colour is drawn as it is and then named after a variable of the page,
# which holds it for a light and for a dark ground.
_INK = "#1d2127"
_MUTED = "#646b76"
_LINE = "#d8dbe0"
_SHADE = "#f1f2f4"
_BLUE = "#2a6cb0"
_ORANGE = "#c4561b"
_GREY = "#a3a9b3"
_SURFACE = "#fefefe"
_VARIABLES = {
    _INK: "--ink",
    _MUTED: "--muted",
    _LINE: "--line",
    _SHADE: "--shade",
    _BLUE: "--blue",
    _ORANGE: "--orange",
    _GREY: "--grey",
    _SURFACE: "--surface",
}
# At 72 dots an inch one point is one pixel.
_DOTS = 72
_TEXT = 11.0
# Cells lower than this [px] have no room for a class's name.
_NAMED = 6.0


@dataclasses.dataclass(frozen=True)
class _Segment:
    """The epochs of one phase, at `first` and on along the common axis."""

    name: str
    first: int
    epochs: tuple[records.Epoch, ...]
    best: int | None
    rolled_back: bool

    @property
    def places(self) -> list[int]:
        return list(range(self.first, self.first + len(self.epochs)))


def curves(
    history: Sequence[records.Epoch], phases: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Returns accuracy, loss and learning rate against the epoch, as SVG.

    Two pictures, both over all phases with the rate beneath: accuracy, and
    cross-entropy in nats. `phases` are those of report.json: they say which
    epoch was the best and what was rolled back. No epochs, no pictures.
    """
    segments = _segments(history, phases)
    if not segments:
        return []
    accuracy = _curve(
        segments,
        "Accuracy",
        ("accuracy", "training"),
        ("validation_accuracy", "validation"),
        share=True,
    )
    loss = _curve(
        segments,
        "Loss (nats)",
        ("loss", "training loss"),
        ("validation_cross_entropy", "validation cross-entropy"),
        share=False,
    )
    return [accuracy, loss]


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Returns the confusion matrix [k, k] as SVG, true classes in rows.

    A cell's strength is its share of its row: blue where the answer was
    right, orange where it was wrong. Counts are written while they can be
    read.
    """
    counts = np.asarray(matrix, np.int64)
    classes = len(labels)
    cell = min(76.0, max(640 / classes, min(8.0, 1000 / classes)))
    size = min(_TEXT, max(5.0, 0.8 * cell))
    names = [_plain(label, 26) for label in labels]
    widest = max(_width(name, size) for name in names)
    if cell < _NAMED:
        widest = 0.0
    flat = widest <= cell - 4
    side = cell * classes
    left = widest + 34
    bottom = (size + 8 if flat else widest + 8) + 24
    figure, place = _figure(left + side + 10, side + bottom + 8)
    axes = place(left, bottom, side, side)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    # The power lets the rare mistakes show beside the many right answers.
    strength = np.where(counts > 0, 0.1 + 0.8 * shares**0.75, 0.0)
    pixels = np.empty((classes, classes, 4))
    pixels[:] = matplotlib.colors.to_rgba(_ORANGE)
    pixels[np.arange(classes), np.arange(classes)] = matplotlib.colors.to_rgba(
        _BLUE
    )
    pixels[..., 3] = strength
    axes.imshow(pixels, interpolation="none", aspect="auto")
    _cells(axes, counts, strength, cell)
    ticks = range(classes if cell >= _NAMED else 0)
    names = names[: len(ticks)]
    axes.set_xticks(
        ticks,
        labels=names,
        rotation=0 if flat else 90,
        fontsize=size,
        parse_math=False,
    )
    axes.set_yticks(ticks, labels=names, fontsize=size, parse_math=False)
    axes.tick_params(length=0, pad=4, labelcolor=_INK)
    # Lines between the cells: all of them, or every tenth of many.
    step = 1 if classes <= 40 else 10
    edges = np.arange(0, classes + step, step).clip(max=classes) - 0.5
    axes.hlines(edges, -0.5, classes - 0.5, colors=_LINE, linewidth=0.6)
    axes.vlines(edges, -0.5, classes - 0.5, colors=_LINE, linewidth=0.6)
    axes.set_xlim(-0.5, classes - 0.5)
    axes.set_ylim(classes - 0.5, -0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    middle = side / 2
    figure.text(
        (left + middle) / (left + side + 10),
        7 / (side + bottom + 8),
        "answer",
        color=_MUTED,
        fontsize=_TEXT,
        ha="center",
    )
    figure.text(
        13 / (left + side + 10),
        (bottom + middle) / (side + bottom + 8),
        "true class",
        color=_MUTED,
        fontsize=_TEXT,
        rotation=90,
        ha="center",
        va="center",
    )
    return _svg(figure, "Confusion matrix", scrolled=classes > 12)


def reliability(bins: Sequence[Mapping[str, Any]]) -> str:
    """Returns accuracy against confidence as SVG, with how many beneath.

    `bins` are those of `evaluation.metrics`; the bars are 95 % Wilson
    intervals. On the diagonal a score means what it says.
    """
    figure, place = _figure(400, 400)
    axes = place(48, 112, 330, 270)
    strip = place(48, 42, 330, 44)
    for panel in (axes, strip):
        panel.set_xlim(0, 1)
        panel.xaxis.set_major_locator(ticker.MultipleLocator(0.2))
        panel.xaxis.set_major_formatter(_share_of(1.0))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_locator(ticker.MultipleLocator(0.2))
    axes.yaxis.set_major_formatter(_share_of(1.0))
    axes.tick_params(labelbottom=False)
    axes.grid(True, color=_LINE, linewidth=0.6)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, dashes=(4, 3))
    filled = [part for part in bins if part["n"]]
    for part in filled:
        right = round(part["accuracy"] * part["n"])
        low, high = evaluation.wilson(right, part["n"])
        axes.plot(
            [part["confidence"]] * 2,
            [low, high],
            color=_BLUE,
            linewidth=1.2,
            alpha=0.55,
        )
    axes.plot(
        [part["confidence"] for part in filled],
        [part["accuracy"] for part in filled],
        color=_BLUE,
        linewidth=0,
        marker="o",
        markersize=5.5,
        clip_on=False,
        zorder=3,
    )
    strip.bar(
        [(part["low"] + part["high"]) / 2 for part in bins],
        [part["n"] for part in bins],
        width=[0.86 * (part["high"] - part["low"]) for part in bins],
        color=_GREY,
    )
    most = max((part["n"] for part in bins), default=1)
    strip.set_yticks([most], labels=[f"{most:,}"])
    strip.set_ylim(0, max(1, most))
    _title(axes, "Accuracy", offset=8)
    _title(strip, "Images", offset=5)
    strip.set_xlabel("score of the answer", color=_MUTED, fontsize=_TEXT)
    return _svg(figure, "Accuracy against score")


def comparison(
    rows: Sequence[Mapping[str, Any]], path: str | os.PathLike
) -> None:
    """Writes the test accuracy of several strategies to `path`, as PNG.

    Each of `rows` has `name`, `accuracy`, `low` and `high` (the ends of its
    95 % interval, in [0, 1]) and `seconds` (or None).
    """
    if not rows:
        raise ValueError("`rows` must hold at least one strategy.")
    names = [_plain(str(row["name"]), 40) for row in rows]
    left = max(_width(name, _TEXT) for name in names) + 24
    height = 34.0 * len(rows)
    figure, place = _figure(left + 420 + 130, height + 54)
    figure.set_facecolor(_SURFACE)
    axes = place(left, 44, 420, height)
    heights = np.arange(len(rows))[::-1]
    low = min(row["low"] for row in rows)
    high = max(row["high"] for row in rows)
    margin = max(0.04 * (high - low), 0.005)
    axes.set_xlim(max(0.0, low - margin), min(1.0, high + margin))
    axes.set_ylim(-0.6, len(rows) - 0.4)
    best = max(row["accuracy"] for row in rows)
    axes.grid(True, axis="x", color=_LINE, linewidth=0.6)
    for row, at in zip(rows, heights, strict=True):
        colour = _BLUE if row["accuracy"] == best else _MUTED
        axes.plot(
            [row["low"], row["high"]],
            [at, at],
            color=colour,
            linewidth=5,
            alpha=0.35,
            solid_capstyle="round",
            clip_on=False,
        )
        axes.plot(
            [row["accuracy"]],
            [at],
            color=colour,
            marker="o",
            markersize=8,
            clip_on=False,
            zorder=3,
        )
        seconds = row.get("seconds")
        after = "" if seconds is None else f"   {duration(seconds)}"
        axes.text(
            1.0,
            at,
            f"   {100 * row['accuracy']:.1f} %{after}",
            transform=axes.get_yaxis_transform(),
            color=_INK,
            fontsize=_TEXT,
            va="center",
        )
    axes.set_yticks(heights, labels=names, parse_math=False)
    axes.tick_params(axis="y", length=0, labelcolor=_INK, labelsize=_TEXT)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(_share_of(axes.get_xlim()))
    axes.set_xlabel(
        "test accuracy with 95 % interval", color=_MUTED, fontsize=_TEXT
    )
    backend_agg.FigureCanvasAgg(figure)
    with files.replacing(path) as temporary, _quiet():
        figure.savefig(temporary, format="png", dpi=2 * _DOTS)


def costs(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns test accuracy against seconds of training, as SVG.

    Each of `rows` has `way`, `seconds` and `accuracy` (`value`, and the ends
    of its interval, `low` and `high`); the first is the best.
    """
    figure, place = _figure(470, 340)
    axes = place(52, 44, 400, 270)
    axes.set_xscale("log")
    axes.grid(True, color=_LINE, linewidth=0.6)
    for number, row in enumerate(rows):
        colour = _BLUE if number == 0 else _MUTED
        accuracy = row["accuracy"]
        seconds = max(row["seconds"], 0.1)
        axes.plot(
            [seconds, seconds],
            [accuracy["low"], accuracy["high"]],
            color=colour,
            linewidth=4,
            alpha=0.3,
            solid_capstyle="round",
        )
        axes.plot(
            [seconds], [accuracy["value"]], color=colour, marker="o", zorder=3
        )
    axes.margins(x=0.1)
    _name_points(
        axes,
        [
            (row["way"], max(row["seconds"], 0.1), row["accuracy"]["value"])
            for row in rows
        ],
    )
    axes.xaxis.set_major_formatter(
        ticker.FuncFormatter(lambda value, _: duration(value))
    )
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.yaxis.set_major_formatter(_share_of(axes.get_ylim()))
    axes.set_xlabel("training", color=_MUTED, fontsize=_TEXT)
    _title(axes, "Test accuracy with its 95 % interval", offset=8)
    return _svg(figure, "Test accuracy against training time")


def courses(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns validation accuracy against seconds of training, as SVG.

    Each of `rows` has `way` and `members`, each with its `history`: seconds
    and validation accuracy of each epoch. The first is the best.
    """
    figure, place = _figure(470, 340)
    axes = place(52, 44, 400, 270)
    axes.grid(True, color=_LINE, linewidth=0.6)
    ends = []
    for number, row in enumerate(rows):
        colour = _BLUE if number == 0 else _MUTED
        for member in row["members"]:
            history = member["history"]
            if not history:
                continue
            seconds = np.cumsum([each["seconds"] for each in history])
            values = [each["validation_accuracy"] for each in history]
            axes.plot(
                seconds,
                values,
                color=colour,
                linewidth=1.6 if number == 0 else 1.0,
                alpha=1.0 if number == 0 else 0.7,
                zorder=3 if number == 0 else 2,
            )
            if member is row["members"][0]:
                ends.append((row["way"], seconds[-1], values[-1]))
    axes.set_xlim(left=0.0)
    if ends:
        _name_points(axes, ends)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    axes.xaxis.set_major_formatter(
        ticker.FuncFormatter(lambda value, _: f"{value:g} s")
    )
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.yaxis.set_major_formatter(_share_of(axes.get_ylim()))
    axes.set_xlabel("epochs so far", color=_MUTED, fontsize=_TEXT)
    _title(axes, "Validation accuracy", offset=8)
    return _svg(figure, "Validation accuracy against training time")


def _name_points(
    axes: axes_module.Axes, points: Sequence[tuple[str, float, float]]
) -> None:
    """Names points (name, x, y) beside them, where no other name stands.

    The first is the best one. The limits of `axes` must stand.
    """
    size = _TEXT - 1.5
    edge = axes.bbox.x1
    taken: list[tuple[float, float, float]] = []
    for name, x, y in sorted(points, key=lambda point: -point[2]):
        text = _plain(name, 24)
        width = _width(text, size)
        across, up = axes.transData.transform((x, y))
        left = across + 7
        if left + width > edge:
            left = across - 7 - width
        down = up
        while any(
            left < end and begin < left + width and abs(down - other) < 12
            for begin, end, other in taken
        ):
            down -= 3
        taken.append((left, left + width, down))
        axes.annotate(
            text,
            (x, y),
            (left - across, down - up),
            textcoords="offset points",
            color=_BLUE if name == points[0][0] else _INK,
            fontsize=size,
            va="center",
            parse_math=False,
        )


def duration(seconds: float) -> str:
    """Returns `seconds` as a person says them."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def _segments(
    history: Sequence[records.Epoch], phases: Sequence[Mapping[str, Any]]
) -> list[_Segment]:
    # A new phase begins where the name changes or the count starts again.
    groups: list[list[records.Epoch]] = []
    for epoch in history:
        last = groups[-1][-1] if groups else None
        if last and last.phase == epoch.phase and last.epoch < epoch.epoch:
            groups[-1].append(epoch)
        else:
            groups.append([epoch])
    # A phase without epochs has no group; a cut-off group may lack a phase.
    waiting = list(phases)
    segments = []
    first = 1
    for group in groups:
        name = group[0].phase
        told: Mapping[str, Any] = {}
        for index, phase in enumerate(waiting):
            if phase["name"] == name:
                told = phase
                del waiting[: index + 1]
                break
        best = next(
            (
                index
                for index, epoch in enumerate(group)
                if epoch.epoch == told.get("best_epoch")
            ),
            None,
        )
        segments.append(
            _Segment(
                name,
                first,
                tuple(group),
                best,
                bool(told.get("rolled_back")),
            )
        )
        first += len(group)
    return segments


def _curve(
    segments: Sequence[_Segment],
    title: str,
    training: tuple[str, str],
    validation: tuple[str, str],
    *,
    share: bool,
) -> str:
    width, left, right = 500.0, 46.0, 10.0
    inner = width - left - right
    epochs = sum(len(segment.epochs) for segment in segments)
    limits = (0.5, epochs + 0.5)
    names, rows = _phase_names(segments, inner / epochs, inner)
    above = 34 + 15 * rows
    figure, place = _figure(width, 304 + 15 * rows)
    axes = place(left, 100, inner, 304 + 15 * rows - 100 - above)
    strip = place(left, 38, inner, 36)
    values: list[float] = []
    for segment in segments:
        for (field, _), front in ((training, False), (validation, True)):
            line = [_finite(getattr(epoch, field)) for epoch in segment.epochs]
            values += [value for value in line if math.isfinite(value)]
            _line(axes, segment, line, front)
        rates = [
            epoch.learning_rate if epoch.learning_rate > 0 else math.nan
            for epoch in segment.epochs
        ]
        # One step an epoch: the rate belongs to all of it.
        edges = np.repeat(np.arange(len(rates) + 1) + segment.first - 0.5, 2)
        strip.plot(
            edges[1:-1],
            np.repeat(rates, 2),
            color=_GREY if segment.rolled_back else _MUTED,
            linewidth=1.4,
        )
    _value_limits(axes, values, share=share)
    _rate_limits(
        strip,
        [
            epoch.learning_rate
            for segment in segments
            for epoch in segment.epochs
        ],
    )
    for panel in (axes, strip):
        panel.set_xlim(limits)
        for segment in segments:
            start = segment.first - 0.5
            if segment.rolled_back:
                panel.axvspan(
                    start,
                    start + len(segment.epochs),
                    color=_SHADE,
                    linewidth=0,
                    zorder=0,
                )
            if segment.first > 1:
                panel.axvline(start, color=_MUTED, linewidth=0.8, dashes=(3, 3))
    axes.grid(True, axis="y", color=_LINE, linewidth=0.6)
    axes.tick_params(axis="x", length=0, labelbottom=False)
    strip.xaxis.set_major_locator(
        ticker.MaxNLocator(8, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)
    )
    strip.set_xlabel("epoch", color=_MUTED, fontsize=_TEXT)
    for text, at, row, anchor in names:
        axes.annotate(
            text,
            (at, 1),
            (0, 5 + 15 * (rows - 1 - row)),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=_MUTED,
            fontsize=_TEXT,
            ha=anchor,
            parse_math=False,
        )
    _title(axes, title, offset=12 + 15 * rows)
    _title(strip, "Learning rate", offset=5)
    _legend(axes, training[1], validation[1], offset=12 + 15 * rows)
    return _svg(figure, f"{title} against epoch")


def _line(
    axes: axes_module.Axes,
    segment: _Segment,
    values: Sequence[float],
    front: bool,
) -> None:
    colour = _BLUE if front else _ORANGE
    if segment.rolled_back:
        colour = _GREY
    # One epoch makes no line; a dot shows it.
    lonely = len(values) == 1
    axes.plot(
        segment.places,
        values,
        color=colour,
        linewidth=1.8 if front else 1.1,
        alpha=1.0 if front else 0.75,
        marker="o" if lonely and not front else None,
        markersize=3,
        solid_joinstyle="round",
        zorder=3 if front else 2,
    )
    best = segment.best
    if front and (best is not None or lonely):
        index = 0 if best is None else best
        axes.plot(
            [segment.places[index]],
            [values[index]],
            color=colour,
            marker="o",
            markersize=6.5,
            markerfacecolor=colour if best is not None else _SURFACE,
            markeredgecolor=_SURFACE if best is not None else colour,
            markeredgewidth=1.2,
            clip_on=False,
            zorder=4,
        )


def _legend(
    axes: axes_module.Axes, training: str, validation: str, *, offset: float
) -> None:
    handles = [
        lines.Line2D([], [], color=_BLUE, linewidth=1.8, label=validation),
        lines.Line2D(
            [], [], color=_ORANGE, linewidth=1.1, alpha=0.75, label=training
        ),
        lines.Line2D(
            [],
            [],
            color=_BLUE,
            linewidth=0,
            marker="o",
            markersize=6,
            label="best epoch",
        ),
    ]
    height = axes.get_position().height * axes.figure.get_figheight() * _DOTS
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1, 1 + (offset - 4) / height),
        ncols=3,
        frameon=False,
        fontsize=_TEXT - 0.5,
        labelcolor=_MUTED,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.3,
        handletextpad=0.5,
        columnspacing=1.1,
    )


def _phase_names(
    segments: Sequence[_Segment], step: float, inner: float
) -> tuple[list[tuple[str, float, int, str]], int]:
    """Returns (text, place, row, anchor) a phase, and how many rows."""
    ends: list[float] = []
    found = []
    for segment in segments:
        text = _plain(segment.name, 30)
        if segment.rolled_back:
            text += " (rolled back)"
        start = (segment.first - 1) * step
        width = _width(text, _TEXT) + 8
        anchor = "left"
        if start + width > inner:
            # Too far to the right: the name ends where the picture does.
            start, anchor = max(0.0, inner - width), "right"
        row = next(
            (row for row, end in enumerate(ends) if end <= start), len(ends)
        )
        if row == len(ends):
            ends.append(0.0)
        ends[row] = start + width
        place = segment.first - 0.5 + 3 / step
        if anchor == "right":
            place = 0.5 + inner / step
        found.append((text, place, row, anchor))
    return found, len(ends)


def _value_limits(
    axes: axes_module.Axes, values: Sequence[float], *, share: bool
) -> None:
    if not values:
        axes.set_ylim(0, 1)
        return
    low, high = min(values), max(values)
    # Two values a hair apart should not look worlds apart.
    least = 0.05 if share else 0.05 * max(abs(high), 1e-3)
    margin = max(0.06 * (high - low), (least - (high - low)) / 2)
    if share:
        axes.set_ylim(max(0.0, low - margin), min(1.0, high + margin))
        axes.yaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(_share_of(axes.get_ylim()))
        return
    # A run that went astray would flatten all the rest on a linear axis.
    if low > 0 and high > 30 * float(np.median(values)):
        axes.set_yscale("log")
        axes.set_ylim(low / 1.2, high * 1.2)
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(_number))
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
        return
    axes.set_ylim(max(0.0, low - margin), high + margin)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))


def _rate_limits(strip: axes_module.Axes, rates: Sequence[float]) -> None:
    positive = [rate for rate in rates if rate > 0 and math.isfinite(rate)]
    strip.set_yscale("log")
    strip.yaxis.set_minor_locator(ticker.NullLocator())
    if not positive:
        strip.set_yticks([])
        return
    high = max(positive)
    # Cosine ends at nothing; four decades show its course.
    low = max(min(positive), high / 1e4)
    strip.set_ylim(low / 2, high * 2)
    ticks = [high]
    if low < high / 8:
        ticks.append(10 ** math.ceil(math.log10(low)))
    strip.set_yticks(ticks, labels=[_number(tick) for tick in ticks])


def _cells(
    axes: axes_module.Axes,
    counts: np.ndarray,
    strength: np.ndarray,
    cell: float,
) -> None:
    size = min(_TEXT, 0.42 * cell)
    digits = _width(f"{counts.max()}", size)
    if cell < 21 or digits > cell - 3:
        return
    for row, column in zip(*np.nonzero(counts), strict=True):
        axes.text(
            column,
            row,
            f"{counts[row, column]}",
            color="white" if strength[row, column] > 0.55 else _INK,
            fontsize=size,
            ha="center",
            va="center_baseline",
        )


def _figure(width: float, height: float) -> tuple[figure_module.Figure, Any]:
    """Returns a figure [px] and a function that places axes in it [px]."""
    figure = figure_module.Figure(
        figsize=(width / _DOTS, height / _DOTS), dpi=_DOTS
    )
    figure.set_facecolor("none")

    def place(
        left: float, bottom: float, inner: float, upper: float
    ) -> axes_module.Axes:
        axes = figure.add_axes(
            (left / width, bottom / height, inner / width, upper / height)
        )
        axes.set_facecolor("none")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(_LINE)
        axes.tick_params(
            length=3, color=_LINE, labelcolor=_MUTED, labelsize=_TEXT - 0.5
        )
        axes.set_axisbelow(True)
        return axes

    return figure, place


def _title(axes: axes_module.Axes, text: str, *, offset: float) -> None:
    axes.annotate(
        text,
        (0, 1),
        (0, offset),
        xycoords="axes fraction",
        textcoords="offset points",
        color=_INK,
        fontsize=_TEXT,
        fontweight="bold",
        ha="left",
    )


def _svg(
    figure: figure_module.Figure, title: str, *, scrolled: bool = False
) -> str:
    """Returns `figure` as an SVG element that takes the page's colours.

    scrolled: whether it keeps its width where the screen is narrower.
    """
    backend_svg.FigureCanvasSVG(figure)
    stream = io.StringIO()
    # The salt keeps the names inside apart from those of other pictures.
    style = {"svg.fonttype": "none", "svg.hashsalt": title}
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context(style), _quiet():
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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The browser has the letters that matplotlib's own font lacks.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        warnings.filterwarnings("ignore", "Matplotlib currently does not")
        yield


def _share_of(limits: tuple[float, float] | float) -> ticker.FuncFormatter:
    span = limits if isinstance(limits, float) else limits[1] - limits[0]
    places = 0 if span > 0.04 else 1
    return ticker.FuncFormatter(lambda value, _: f"{100 * value:.{places}f} %")


def _number(value: float, _: object = None) -> str:
    return f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e")


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def _plain(text: str, longest: int) -> str:
    """Returns `text` on one line, without its middle where it is long."""
    text = "".join(
        "\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter
        for letter in " ".join(text.split())
    )
    if len(text) <= longest:
        return text
    head = (longest - 1) * 2 // 3
    return f"{text[:head]}\u2026{text[head + 1 - longest :]}"


def _width(text: str, size: float) -> float:
    """Returns about how wide `text` is in a sans serif of `size` [px]."""
    return size * sum(
        1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.57
        for letter in text
    )
