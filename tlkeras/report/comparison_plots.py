"""Pictures of several strategies beside each other."""

import itertools
import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import axes as axes_module
from matplotlib import figure as figure_module
from matplotlib import lines as lines_module
from matplotlib import ticker
from matplotlib.backends import backend_agg

from tlkeras import files
from tlkeras import progress as progresses
from tlkeras.report import drawing

# Of the legend.
_COLUMNS = 2
# What a logarithmic axis of time may be marked with [s], and how often.
_TIMES = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800),
    *(hours * 3600 for hours in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
)
_MOST_TIMES = 6
# Neighbours are 2.5 times apart at most, so that a longer axis has two of them:
# one tick says nothing of a scale.
_LEAST_SPAN = 6.5


@drawing.styled
def comparison(
    rows: Sequence[Mapping[str, Any]], path: str | os.PathLike
) -> None:
    """Writes the test accuracy of several strategies to `path`, as PNG.

    Each of `rows` has `name`, `accuracy`, `low` and `high` (the ends of its
    95 % interval, in [0, 1]) and `seconds` (or None).
    """
    if not rows:
        raise ValueError("`rows` must hold at least one strategy.")
    names = [drawing.plain(str(row["name"]), 40) for row in rows]
    left = max(drawing.width(name, drawing.TEXT) for name in names) + 24
    height = 34.0 * len(rows)
    figure, place = drawing.figure(left + 420 + 130, height + 54)
    figure.set_facecolor(drawing.SURFACE)
    axes = place(left, 44, 420, height)
    heights = np.arange(len(rows))[::-1]
    low = min(row["low"] for row in rows)
    high = max(row["high"] for row in rows)
    margin = max(0.04 * (high - low), 0.005)
    axes.set_xlim(max(0.0, low - margin), min(1.0, high + margin))
    axes.set_ylim(-0.6, len(rows) - 0.4)
    best = max(row["accuracy"] for row in rows)
    axes.grid(True, axis="x")
    for row, at in zip(rows, heights, strict=True):
        colour = drawing.BLUE if row["accuracy"] == best else drawing.MUTED
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
        after = "" if seconds is None else f"   {progresses.duration(seconds)}"
        axes.text(
            1.0,
            at,
            f"   {100 * row['accuracy']:.1f} %{after}",
            transform=axes.get_yaxis_transform(),
            va="center",
        )
    axes.set_yticks(heights, labels=names)
    axes.tick_params(
        axis="y", length=0, labelcolor=drawing.INK, labelsize=drawing.TEXT
    )
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(drawing.share_of(axes.get_xlim()))
    axes.set_xlabel("test accuracy with 95 % interval")
    backend_agg.FigureCanvasAgg(figure)
    with files.replacing(path) as temporary, drawing.quiet():
        figure.savefig(temporary, format="png", dpi=2 * drawing.DOTS)


def draw(rows: Sequence[Mapping[str, Any]]) -> dict[str, drawing.Picture]:
    """Returns the pictures of a comparison by name.

    rows: as compare.json has them, the best first.
    """
    return {"costs": _costs(rows), "courses": _courses(rows)}


@drawing.styled
def _costs(rows: Sequence[Mapping[str, Any]]) -> drawing.Picture:
    """Returns test accuracy against seconds of training."""
    figure, axes = _axes(rows)
    axes.set_xscale("log")
    for row, (colour, marker) in _series(rows):
        accuracy = row["accuracy"]
        seconds = max(row["seconds"], 0.1)
        axes.plot(
            [seconds, seconds],
            [accuracy["low"], accuracy["high"]],
            color=colour,
            linewidth=1.6,
            alpha=0.6,
        )
        axes.plot(
            [seconds],
            [accuracy["value"]],
            color=colour,
            marker=marker,
            markersize=7,
            zorder=3,
        )
    axes.margins(x=0.1)
    _times(axes)
    axes.yaxis.set_major_formatter(drawing.share_of(axes.get_ylim()))
    axes.set_xlabel("training time")
    drawing.title(axes, "Test accuracy with its 95 % interval", offset=8)
    return drawing.picture(figure, "Test accuracy against training time")


@drawing.styled
def _courses(rows: Sequence[Mapping[str, Any]]) -> drawing.Picture:
    """Returns validation accuracy against seconds of training.

    A training of one epoch, such as a solved head, is a marker.
    """
    figure, axes = _axes(rows)
    axes.set_xscale("log")
    for row, (colour, marker) in _series(rows):
        for number, member in enumerate(row["runs"]):
            history = member["history"]
            seconds = np.cumsum([each["seconds"] for each in history])
            axes.plot(
                np.maximum(seconds, 0.1),
                [each["validation_accuracy"] for each in history],
                color=colour,
                linewidth=1.6 if number == 0 else 0.9,
                alpha=0.9 if number == 0 else 0.5,
                marker=marker,
                markersize=5 if number == 0 else 3,
                zorder=3 if number == 0 else 2,
            )
    _times(axes)
    axes.yaxis.set_major_formatter(drawing.share_of(axes.get_ylim()))
    axes.set_xlabel("training time, after each epoch")
    drawing.title(axes, "Validation accuracy, each seed a line", offset=8)
    return drawing.picture(figure, "Validation accuracy against training time")


def _series(
    rows: Sequence[Mapping[str, Any]],
) -> list[tuple[Mapping[str, Any], tuple[str, str]]]:
    """Returns each strategy with its colour and its marker."""
    return list(zip(rows, itertools.cycle(drawing.SERIES), strict=False))


def _axes(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[figure_module.Figure, axes_module.Axes]:
    """Returns a figure with axes, and below them which strategy is which."""
    lines = -(-len(rows) // _COLUMNS)
    below = 44 + 17 * lines + 8
    figure, place = drawing.figure(440, below + 270 + 28)
    axes = place(52, below, 376, 270)
    axes.grid(True)
    handles = [
        lines_module.Line2D(
            [],
            [],
            color=colour,
            marker=marker,
            markersize=6,
            linewidth=0,
            label=drawing.plain(row["strategy"], 28),
        )
        for row, (colour, marker) in _series(rows)
    ]
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(52 / 440, 4 / (below + 298)),
        ncols=_COLUMNS,
        labelcolor=drawing.INK,
    )
    return figure, axes


def _times(axes: axes_module.Axes) -> None:
    """Writes a few times along a logarithmic axis, whatever it spans."""
    low, high = axes.get_xlim()
    if high < _LEAST_SPAN * low:
        middle = (low * high) ** 0.5
        half = _LEAST_SPAN**0.5
        axes.set_xlim(middle / half, middle * half)
        low, high = axes.get_xlim()
    shown = [time for time in _TIMES if low <= time <= high]
    # No more than there is room for.
    axes.set_xticks(shown[:: -(-len(shown) // _MOST_TIMES)])
    axes.xaxis.set_major_formatter(
        ticker.FuncFormatter(lambda value, _: _short(value))
    )
    axes.xaxis.set_minor_locator(ticker.NullLocator())


def _short(seconds: float) -> str:
    """Returns a time of `_TIMES` as a person says it."""
    for unit, length in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= length:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"
