"""Pictures of several strategies beside each other."""

import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import axes as axes_module
from matplotlib import ticker
from matplotlib.backends import backend_agg

from tlkeras import files
from tlkeras import progress as progresses
from tlkeras.report import drawing


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


@drawing.styled
def costs(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns test accuracy against seconds of training, as SVG.

    Each of `rows` has `way`, `seconds` and `accuracy` (`value`, and the ends
    of its interval, `low` and `high`); the first is the best.
    """
    figure, place = drawing.figure(470, 340)
    axes = place(52, 44, 400, 270)
    axes.set_xscale("log")
    axes.grid(True)
    for number, row in enumerate(rows):
        colour = drawing.BLUE if number == 0 else drawing.MUTED
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
        ticker.FuncFormatter(lambda value, _: progresses.duration(value))
    )
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.yaxis.set_major_formatter(drawing.share_of(axes.get_ylim()))
    axes.set_xlabel("training")
    drawing.title(axes, "Test accuracy with its 95 % interval", offset=8)
    return drawing.svg(figure, "Test accuracy against training time")


@drawing.styled
def courses(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns validation accuracy against seconds of training, as SVG.

    Each of `rows` has `way` and `members`, each with its `history`: seconds
    and validation accuracy of each epoch. The first is the best.
    """
    figure, place = drawing.figure(470, 340)
    axes = place(52, 44, 400, 270)
    axes.grid(True)
    ends = []
    for number, row in enumerate(rows):
        colour = drawing.BLUE if number == 0 else drawing.MUTED
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
    axes.yaxis.set_major_formatter(drawing.share_of(axes.get_ylim()))
    axes.set_xlabel("epochs so far")
    drawing.title(axes, "Validation accuracy", offset=8)
    return drawing.svg(figure, "Validation accuracy against training time")


def _name_points(
    axes: axes_module.Axes, points: Sequence[tuple[str, float, float]]
) -> None:
    """Names points (name, x, y) beside them, where no other name stands.

    The first is the best one. The limits of `axes` must stand.
    """
    size = drawing.TEXT - 1.5
    edge = axes.bbox.x1
    taken: list[tuple[float, float, float]] = []
    for name, x, y in sorted(points, key=lambda point: -point[2]):
        text = drawing.plain(name, 24)
        width = drawing.width(text, size)
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
            color=drawing.BLUE if name == points[0][0] else drawing.INK,
            fontsize=size,
            va="center",
        )
