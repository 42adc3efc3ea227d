"""Pictures of a run: its curves, its confusion, how calibrated it is."""

import dataclasses
import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import cast

import matplotlib
import numpy as np
from matplotlib import axes as axes_module
from matplotlib import figure
from matplotlib import lines
from matplotlib import ticker

from tlkeras import records
from tlkeras.report import drawing
from tlkeras.scoring import metrics

# Cells lower than this [px] have no room for a class's name.
_NAMED = 6.0
# Classes of which a matrix can still be looked at.
_PICTURED = 300


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


@drawing.styled
def curves(
    history: Sequence[records.Epoch], phases: Sequence[Mapping[str, Any]]
) -> dict[str, drawing.Picture]:
    """Returns accuracy, loss and learning rate against the epoch.

    Two pictures, `accuracy` and `loss` (cross-entropy), both over all phases
    with the rate beneath. `phases` are those of report.json: they say which
    epoch was the best and what was rolled back. No epochs, no pictures.
    """
    segments = _segments(history, phases)
    if not segments:
        return {}
    accuracy = _curve(
        segments,
        "Accuracy",
        ("accuracy", "training"),
        ("validation_accuracy", "validation"),
        share=True,
    )
    loss = _curve(
        segments,
        "Loss",
        ("loss", "training loss"),
        ("validation_cross_entropy", "validation cross-entropy"),
        share=False,
    )
    return {"accuracy": accuracy, "loss": loss}


@drawing.styled
def confusion(quality: Mapping[str, Any]) -> drawing.Picture | None:
    """Returns the confusion matrix, true classes in rows.

    `quality` is what `metrics.compute` gives; of more than 300 classes there
    is no picture. A cell's strength is its share of its
    row: blue where the answer was right, orange where it was wrong. Counts are
    written while they can be read.
    """
    labels = [row["label"] for row in quality["per_class"]]
    classes = len(labels)
    if classes > _PICTURED:
        return None
    place = {label: index for index, label in enumerate(labels)}
    counts = np.diag(
        [round((row["recall"] or 0) * row["n"]) for row in quality["per_class"]]
    )
    for pair in quality["confused"]:
        counts[place[pair["true_label"]], place[pair["label"]]] = pair["n"]
    cell = min(76.0, max(640 / classes, min(8.0, 1000 / classes)))
    size = min(drawing.TEXT, max(5.0, 0.8 * cell))
    names = [drawing.plain(label, 26) for label in labels]
    widest = max(drawing.width(name, size) for name in names)
    if cell < _NAMED:
        widest = 0.0
    flat = widest <= cell - 4
    side = cell * classes
    left = widest + 34
    bottom = (size + 8 if flat else widest + 8) + 24
    figure, place = drawing.figure(left + side + 10, side + bottom + 8)
    axes = place(left, bottom, side, side)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    # The power lets the rare mistakes show beside the many right answers.
    strength = np.where(counts > 0, 0.1 + 0.8 * shares**0.75, 0.0)
    pixels = np.empty((classes, classes, 4))
    pixels[:] = matplotlib.colors.to_rgba(drawing.ORANGE)
    pixels[np.arange(classes), np.arange(classes)] = matplotlib.colors.to_rgba(
        drawing.BLUE
    )
    pixels[..., 3] = strength
    axes.imshow(pixels, interpolation="none", aspect="auto")
    _cells(axes, counts, strength, cell)
    ticks = range(classes if cell >= _NAMED else 0)
    names = names[: len(ticks)]
    axes.set_xticks(
        ticks, labels=names, rotation=0 if flat else 90, fontsize=size
    )
    axes.set_yticks(ticks, labels=names, fontsize=size)
    axes.tick_params(length=0, pad=4, labelcolor=drawing.INK)
    # Lines between the cells: all of them, or every tenth of many.
    step = 1 if classes <= 40 else 10
    edges = np.arange(0, classes + step, step).clip(max=classes) - 0.5
    axes.hlines(edges, -0.5, classes - 0.5, colors=drawing.LINE, linewidth=0.6)
    axes.vlines(edges, -0.5, classes - 0.5, colors=drawing.LINE, linewidth=0.6)
    axes.set_xlim(-0.5, classes - 0.5)
    axes.set_ylim(classes - 0.5, -0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    middle = side / 2
    figure.text(
        (left + middle) / (left + side + 10),
        7 / (side + bottom + 8),
        "predicted class",
        color=drawing.MUTED,
        ha="center",
    )
    figure.text(
        13 / (left + side + 10),
        (bottom + middle) / (side + bottom + 8),
        "true class",
        color=drawing.MUTED,
        rotation=90,
        ha="center",
        va="center",
    )
    return drawing.picture(figure, "Confusion matrix", scrolled=classes > 12)


@drawing.styled
def reliability(bins: Sequence[Mapping[str, Any]]) -> drawing.Picture:
    """Returns accuracy against confidence, with how many beneath.

    `bins` are those of `evaluation.metrics`; the bars are 95 % Wilson
    intervals. On the diagonal a score means what it says.
    """
    figure, place = drawing.figure(400, 400)
    axes = place(48, 112, 330, 270)
    strip = place(48, 42, 330, 44)
    for panel in (axes, strip):
        panel.set_xlim(0, 1)
        panel.xaxis.set_major_locator(ticker.MultipleLocator(0.2))
        panel.xaxis.set_major_formatter(drawing.share_of(1.0))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_locator(ticker.MultipleLocator(0.2))
    axes.yaxis.set_major_formatter(drawing.share_of(1.0))
    axes.tick_params(labelbottom=False)
    axes.grid(True)
    axes.plot([0, 1], [0, 1], color=drawing.GREY, linewidth=1, dashes=(4, 3))
    filled = [part for part in bins if part["n"]]
    for part in filled:
        right = round(part["accuracy"] * part["n"])
        low, high = metrics.wilson(right, part["n"])
        axes.plot(
            [part["confidence"]] * 2,
            [low, high],
            color=drawing.BLUE,
            linewidth=1.2,
            alpha=0.55,
        )
    axes.plot(
        [part["confidence"] for part in filled],
        [part["accuracy"] for part in filled],
        color=drawing.BLUE,
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
        color=drawing.GREY,
    )
    most = max((part["n"] for part in bins), default=1)
    strip.set_yticks([most], labels=[f"{most:,}"])
    strip.set_ylim(0, max(1, most))
    drawing.title(axes, "Accuracy", offset=8)
    drawing.title(strip, "Images", offset=5)
    strip.set_xlabel("score of the prediction")
    return drawing.picture(figure, "Accuracy against score")


@drawing.styled
def two_classes(curves: Mapping[str, Any]) -> dict[str, drawing.Picture]:
    """Returns the ROC and the precision-recall curve of one of two classes.

    curves: as of `two_classes.curves`. The dashed line is chance.
    """
    base = curves["base"]
    found = {}
    for name, points, chance, title, horizontal, said in (
        (
            "roc",
            curves["roc"],
            ([0, 1], [0, 1]),
            "Found",
            "share of false alarms",
            f"ROC curve, area {curves['roc_area']:.3f}",
        ),
        (
            "precision_recall",
            curves["precision_recall"],
            ([0, 1], [base, base]),
            "Precision",
            "recall",
            "Precision against recall, average precision "
            f"{curves['average_precision']:.3f}",
        ),
    ):
        figure, place = drawing.figure(400, 356)
        axes = place(48, 46, 330, 280)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(ticker.MultipleLocator(0.2))
            axis.set_major_formatter(drawing.share_of(1.0))
        axes.grid(True)
        axes.plot(*chance, color=drawing.GREY, linewidth=1, dashes=(4, 3))
        axes.plot(
            *np.transpose(points),
            color=drawing.BLUE,
            linewidth=1.8,
            clip_on=False,
            drawstyle="steps-post" if name == "roc" else "default",
        )
        drawing.title(axes, title, offset=8)
        axes.set_xlabel(horizontal)
        found[name] = drawing.picture(figure, said)
    return found


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
) -> drawing.Picture:
    width, left, right = 500.0, 46.0, 10.0
    inner = width - left - right
    epochs = sum(len(segment.epochs) for segment in segments)
    limits = (0.5, epochs + 0.5)
    names, rows = _phase_names(segments, inner / epochs, inner)
    above = 34 + 15 * rows
    figure, place = drawing.figure(width, 304 + 15 * rows)
    axes = place(left, 100, inner, 304 + 15 * rows - 100 - above)
    strip = place(left, 38, inner, 36)
    values: list[float] = []
    for segment in segments:
        for (field, _), front in ((training, False), (validation, True)):
            line = [
                drawing.finite(getattr(epoch, field))
                for epoch in segment.epochs
            ]
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
            color=drawing.GREY if segment.rolled_back else drawing.MUTED,
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
                    color=drawing.SHADE,
                    linewidth=0,
                    zorder=0,
                )
            if segment.first > 1:
                panel.axvline(
                    start, color=drawing.MUTED, linewidth=0.8, dashes=(3, 3)
                )
    axes.grid(True, axis="y")
    axes.tick_params(axis="x", length=0, labelbottom=False)
    strip.xaxis.set_major_locator(
        ticker.MaxNLocator(8, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)
    )
    strip.set_xlabel("epoch")
    for text, at, row, anchor in names:
        axes.annotate(
            text,
            (at, 1),
            (0, 5 + 15 * (rows - 1 - row)),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=drawing.MUTED,
            ha=anchor,
        )
    drawing.title(axes, title, offset=12 + 15 * rows)
    drawing.title(strip, "Learning rate", offset=5)
    _legend(axes, training[1], validation[1], offset=12 + 15 * rows)
    return drawing.picture(figure, f"{title} against epoch")


def _line(
    axes: axes_module.Axes,
    segment: _Segment,
    values: Sequence[float],
    front: bool,
) -> None:
    colour = drawing.BLUE if front else drawing.ORANGE
    if segment.rolled_back:
        colour = drawing.GREY
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
            markerfacecolor=colour if best is not None else drawing.SURFACE,
            markeredgecolor=drawing.SURFACE if best is not None else colour,
            markeredgewidth=1.2,
            clip_on=False,
            zorder=4,
        )


def _legend(
    axes: axes_module.Axes, training: str, validation: str, *, offset: float
) -> None:
    handles = [
        lines.Line2D(
            [], [], color=drawing.BLUE, linewidth=1.8, label=validation
        ),
        lines.Line2D(
            [],
            [],
            color=drawing.ORANGE,
            linewidth=1.1,
            alpha=0.75,
            label=training,
        ),
        lines.Line2D(
            [],
            [],
            color=drawing.BLUE,
            linewidth=0,
            marker="o",
            markersize=6,
            label="best epoch",
        ),
    ]
    height = (
        axes.get_position().height
        * cast(figure.Figure, axes.figure).get_figheight()
        * drawing.DOTS
    )
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1, 1 + (offset - 4) / height),
        ncols=3,
    )


def _phase_names(
    segments: Sequence[_Segment], step: float, inner: float
) -> tuple[list[tuple[str, float, int, str]], int]:
    """Returns (text, place, row, anchor) a phase, and how many rows."""
    ends: list[float] = []
    found = []
    for segment in segments:
        text = drawing.plain(segment.name, 30)
        if segment.rolled_back:
            text += " (rolled back)"
        start = (segment.first - 1) * step
        width = drawing.width(text, drawing.TEXT) + 8
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
        axes.yaxis.set_major_formatter(drawing.share_of(axes.get_ylim()))
        return
    # A run that went astray would flatten all the rest on a linear axis.
    if low > 0 and high > 30 * float(np.median(values)):
        axes.set_yscale("log")
        axes.set_ylim(low / 1.2, high * 1.2)
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(drawing.number))
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
    strip.set_yticks(ticks, labels=[drawing.number(tick) for tick in ticks])


def _cells(
    axes: axes_module.Axes,
    counts: np.ndarray,
    strength: np.ndarray,
    cell: float,
) -> None:
    size = min(drawing.TEXT, 0.42 * cell)
    digits = drawing.width(f"{counts.max()}", size)
    if cell < 21 or digits > cell - 3:
        return
    for row, column in zip(*np.nonzero(counts), strict=True):
        axes.text(
            column,
            row,
            f"{counts[row, column]}",
            color="white" if strength[row, column] > 0.55 else drawing.INK,
            fontsize=size,
            ha="center",
            va="center_baseline",
        )
