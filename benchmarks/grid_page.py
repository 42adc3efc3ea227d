"""What the grid says: from grid.csv to a page with tables and pictures.

A cell is a data set, a number of training images and a base, over its seeds.

- Regret is by cross-fitting: the best way of a cell is chosen by the other
  seeds' test images, and what it then reaches with this seed is what a policy
  is held against. Chosen and judged by the same images, the best of several
  ways would be lucky, and every policy would seem to lose.
- The standard error of a cell is that of the difference between the means of
  two ways. A seed draws its own images, easier or harder for all ways, so what
  all have in common with a seed is taken off first; the variance of what is
  left is that of all ways together (a two-way layout). Scratch is left out of
  it: it is tens of points behind, and its swings say nothing of who is ahead.
  Cells with more than 1.5 points are shown, and not scored.
- Intervals are by drawing whole data sets with replacement (1,000 times): the
  cells of one data set are no independent witnesses.

  python benchmarks/grid_page.py --input=benchmarks/grid.csv
"""

import csv
import dataclasses
import pathlib
import statistics
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import scipy.stats
from absl import app
from absl import flags
from matplotlib import figure as figure_module
from matplotlib.backends import backend_agg

from tlkeras.advisor import textbook
from tlkeras.settings import strategies

_INPUT = flags.DEFINE_string("input", "benchmarks/grid.csv", "of grid.py")
_OUTPUT = flags.DEFINE_string(
    "output", "benchmarks/grid.md", "the page; its pictures stand beside it"
)
_ABOUT = flags.DEFINE_string("about", "", "how the grid was run, in words")

# A larger standard error tells nothing about who wins [share].
_UNCERTAIN = 0.015
_DRAWS = 1000
# What the textbook's strategies are among the ways. Its linear classifier is
# one that was solved, not one that a budget of steps cut short.
_TEXTBOOK = {
    "feature_extraction": "converged_head",
    "fine_tuning": "fine_tuning",
    "pretrained_init": "pretrained_init",
}
# A gap this small is none [share].
_TIE = 0.01
_EVIDENCE = {
    "images": "training images",
    "images_per_class_min": "images of the smallest class",
    "classes": "classes",
    "imbalance": "imbalance",
    "distance": "distance to the source (Wasserstein, mean of stages)",
    "early_wasserstein": "distance, earliest stage",
    "last_wasserstein": "distance, last stage",
    "last_kl": "KL to the source, last stage",
    "last_linear": "linear probe, last stage",
    "middle_linear": "linear probe, middle stage",
    "last_neighbours": "nearest neighbours, last stage",
    "last_pretraining_gain": "linear probe less that of random weights",
    "last_random_linear": "linear probe of random weights",
    "curve": "learning curve: all less half of the images",
}
_TICKS = (50, 100, 200, 500, 1000)
# Sizes nearer to each other than by this factor have one number.
_LEAST_APART = 1.4
_COLOURS = {
    "converged_head": "#2a6cb0",
    "feature_extraction": "#7fb2e5",
    "last_stage": "#3d8f5f",
    "fine_tuning": "#c4561b",
    "fine_tuning_low": "#e8a27c",
    "pretrained_init": "#8a5aa8",
    "scratch": "#8d939d",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A data set, a size and a base over the seeds.

    accuracy, validation, seconds: by way, one number a seed [seeds].
    images: to learn from. evidence: the mean of each piece over the seeds.
    """

    data: str
    size: str
    base: str
    images: int
    accuracy: Mapping[str, np.ndarray]
    validation: Mapping[str, np.ndarray]
    seconds: Mapping[str, np.ndarray]
    evidence: Mapping[str, float]

    @property
    def error(self) -> float:
        """Standard error of the difference between two ways' means."""
        table = np.stack(
            [found for way, found in self.accuracy.items() if way != "scratch"]
        )
        count, seeds = table.shape
        rest = table - table.mean(1, keepdims=True)
        rest -= rest.mean(0)
        variance = np.square(rest).sum() / ((count - 1) * (seeds - 1))
        return float(np.sqrt(2 * variance / seeds))

    @property
    def scored(self) -> bool:
        """Tells whether the cell says who wins."""
        return self.error <= _UNCERTAIN


# Which way a policy takes with a seed of a cell.
Policy = Callable[[Cell, int], str]


def main(arguments: list[str]) -> None:
    """Writes the page and its pictures."""
    del arguments
    with open(_INPUT.value, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    cells = read(rows)
    if not any(cell.scored for cell in cells):
        raise app.UsageError(
            f"{_INPUT.value} has no cell yet that can be scored: with two "
            "seeds or more of all ways, and a standard error of at most "
            f"{100 * _UNCERTAIN:g} points."
        )
    page = pathlib.Path(_OUTPUT.value)
    names = ways(cells)
    _plot_accuracy(cells, names, page.with_name("grid_accuracy.png"))
    _plot_gaps(cells, page.with_name("grid_gaps.png"))
    page.write_text("\n".join(_page(cells, rows)) + "\n", encoding="utf-8")
    print(f"{len(cells)} cells, {sum(each.scored for each in cells)} scored")


def read(rows: Sequence[Mapping[str, str]]) -> list[Cell]:
    """Returns the cells that all ways have been run in, with equal seeds."""
    grouped: dict[tuple[str, str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        key = (row["data"], row["size"], row["base"])
        grouped.setdefault(key, []).append(row)
    everything = {row["way"] for row in rows}
    cells = []
    for (data, size, base), own in grouped.items():
        table: dict[str, dict[int, Mapping[str, str]]] = {}
        for row in own:
            table.setdefault(row["way"], {})[int(row["seed"])] = row
        # A grid that was stopped has seeds that not all ways have had.
        seeds = sorted(
            set.intersection(*(set(found) for found in table.values()))
        )
        if set(table) != everything or len(seeds) < 2:
            continue

        def column(way, name, seeds=seeds, table=table):
            return np.array([float(table[way][seed][name]) for seed in seeds])

        names = [name for name in strategies.NAMES if name in table]
        cells.append(
            Cell(
                data,
                size,
                base,
                int(own[0]["images"]),
                {way: column(way, "accuracy") for way in names},
                {way: column(way, "validation_accuracy") for way in names},
                {way: column(way, "seconds") for way in names},
                _evidence(list(table[names[0]].values())),
            )
        )
    return sorted(cells, key=lambda cell: (cell.data, cell.base, cell.images))


def _evidence(rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    found = {}
    for name in _EVIDENCE:
        if name == "curve":
            continue
        values = [row[f"evidence_{name}"] for row in rows]
        if all(values):
            found[name] = statistics.mean(map(float, values))
    ends = [
        (row["evidence_curve_all"], row["evidence_curve_half"]) for row in rows
    ]
    if all(all(end) for end in ends):
        found["curve"] = statistics.mean(
            float(whole) - float(half) for whole, half in ends
        )
    return found


def ways(cells: Sequence[Cell]) -> list[str]:
    """Returns the names of the ways, in their usual order."""
    return list(cells[0].accuracy)


def always(way: str) -> Policy:
    """Returns the policy that looks at nothing."""
    return lambda cell, seed: way


def by_textbook(cell: Cell, seed: int) -> str:
    """Returns the way of the textbook's scenario."""
    found = textbook.scenario(cell.images, cell.evidence["distance"])
    return _TEXTBOOK[found.strategy]


def by_validation(cell: Cell, seed: int) -> str:
    """Returns the way that did best on the validation images of one seed.

    The cheapest of equals: `tlkeras compare` looks at the cross-entropy then,
    which grid.csv does not have.
    """
    return max(
        cell.accuracy,
        key=lambda way: (
            cell.validation[way][seed],
            -float(np.median(cell.seconds[way])),
        ),
    )


def policies(names: Sequence[str]) -> dict[str, Policy]:
    """Returns the policies by what they are called."""
    found = {f"always {way}": always(way) for way in names}
    if set(_TEXTBOOK.values()) <= set(names):
        found["the textbook's four scenarios"] = by_textbook
    found["best on validation, of equals the cheapest"] = by_validation
    return found


def regrets(cell: Cell, policy: Policy) -> np.ndarray:
    """Returns what a policy lost with each seed [seeds], cross-fitted."""
    table = np.stack(list(cell.accuracy.values()))
    names = list(cell.accuracy)
    lost = []
    for seed in range(table.shape[1]):
        others = np.delete(table, seed, axis=1).mean(1)
        best = table[int(others.argmax()), seed]
        lost.append(best - table[names.index(policy(cell, seed)), seed])
    return np.array(lost)


def interval(
    groups: Mapping[str, Sequence[int]],
    statistic: Callable[[np.ndarray], float],
) -> tuple[float, float]:
    """Returns the 95 % interval of a statistic of some cells, by number.

    groups: data set -> the numbers of its cells.
    """
    generator = np.random.default_rng(0)
    names = list(groups)
    found = []
    for _ in range(_DRAWS):
        drawn = generator.choice(names, len(names))
        chosen = np.concatenate([groups[name] for name in drawn])
        value = statistic(chosen)
        if np.isfinite(value):
            found.append(value)
    return tuple(np.quantile(found, [0.025, 0.975]))


def _groups(cells: Sequence[Cell]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for number, cell in enumerate(cells):
        groups.setdefault(cell.data, []).append(number)
    return groups


def _best_head(cell: Cell) -> float:
    return float(cell.accuracy["converged_head"].mean())


def _gap(cell: Cell) -> float:
    """What full fine-tuning wins over the solved head [share]."""
    return float(cell.accuracy["fine_tuning"].mean()) - _best_head(cell)


def _page(
    cells: Sequence[Cell], rows: Sequence[Mapping[str, str]]
) -> list[str]:
    scored = [cell for cell in cells if cell.scored]
    names = ways(cells)
    dates = sorted({row["date"] for row in rows})
    return [
        "# What the grid says",
        "",
        f"Written by `grid_page.py` from `grid.csv`: {len(rows):,} trainings, "
        f"{len(cells)} cells of {len(_groups(cells))} data sets, "
        f"{len({cell.base for cell in cells})} bases and "
        f"{len({cell.size for cell in cells})} sizes; "
        f"{len(scored)} cells are scored, the others have a standard error "
        f"of more than {100 * _UNCERTAIN:g} points. {dates[0]} to {dates[-1]}, "
        f"{rows[0]['machine']}; {rows[0]['versions']}. {_ABOUT.value}".rstrip(),
        "",
        "![Accuracy against training images](grid_accuracy.png)",
        "",
        "## Who wins",
        "",
        *_winners(cells, names),
        "",
        "## What a fixed choice would have lost",
        "",
        *_losses(scored, names),
        "",
        "## What it costs",
        "",
        *_costs(cells, names),
        "",
        "## What the evidence foretells",
        "",
        *_correlations(scored),
        "",
        "![Gain of fine-tuning against evidence](grid_gaps.png)",
        "",
        "## All cells",
        "",
        *_all_cells(cells, names),
    ]


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    marks = ["---", *["---:"] * (len(header) - 1)]
    return ["| " + " | ".join(each) + " |" for each in (header, marks, *lines)]


def _winners(cells: Sequence[Cell], names: Sequence[str]) -> list[str]:
    """Returns how often each way is best, by the size of the data set."""
    bands = ((0, 50), (50, 100), (100, 250), (250, 10**9))
    lines = []
    for way in names:
        line = [way]
        for low, high in bands:
            own = [
                cell
                for cell in cells
                if cell.scored and low < _known(cell) <= high
            ]
            wins = [_near_best(cell, way) for cell in own]
            line.append(f"{sum(wins)} of {len(own)}")
        lines.append(line)
    text = (
        "In how many scored cells a way is the best, or within "
        f"{100 * _TIE:g} point of it (means over the seeds), by the images "
        "known (training and validation):"
    )
    header = ["way", "up to 50", "up to 100", "up to 250", "more"]
    return [text, "", *_table(header, lines)]


def _known(cell: Cell) -> float:
    return cell.images / 0.75


def _near_best(cell: Cell, way: str) -> bool:
    means = {name: values.mean() for name, values in cell.accuracy.items()}
    return means[way] >= max(means.values()) - _TIE


def _losses(scored: Sequence[Cell], names: Sequence[str]) -> list[str]:
    groups = _groups(scored)
    lines = []
    for name, policy in policies(names).items():
        lost = np.array([regrets(cell, policy).mean() for cell in scored])
        low, high = interval(groups, lambda chosen, x=lost: x[chosen].mean())
        lines.append(
            (
                lost.mean(),
                [
                    name,
                    _points(lost.mean()),
                    f"{_points(low)} to {_points(high)}",
                    _points(np.quantile(lost, 0.9)),
                    _points(lost.max()),
                ],
            )
        )
    lines.sort(key=lambda line: line[0])
    header = [
        "policy",
        "mean loss, points",
        "95 % interval",
        "nine of ten cells lose less than",
        "worst cell",
    ]
    return [
        "Accuracy on test images that a policy loses against the way that the "
        "other seeds find best (cross-fitted, so it can be below 0):",
        "",
        *_table(header, [line for _, line in lines]),
    ]


def _costs(cells: Sequence[Cell], names: Sequence[str]) -> list[str]:
    bases = sorted({cell.base for cell in cells})
    lines = []
    for way in names:
        line = [way]
        for base in bases:
            own = [
                float(np.median(cell.seconds[way]))
                for cell in cells
                if cell.base == base
            ]
            line.append(
                f"{statistics.median(own):.0f} ({min(own):.0f} to "
                f"{max(own):.0f})"
            )
        lines.append(line)
    return [
        "Seconds of training, the median of the cells, the smallest and the "
        "largest. Activations are shared: who comes later finds them computed.",
        "",
        *_table(["way", *bases], lines),
    ]


def _correlations(scored: Sequence[Cell]) -> list[str]:
    groups = _groups(scored)
    targets = {
        "fine-tuning over the head": _gap,
        "fine-tuning over scratch": lambda cell: float(
            cell.accuracy["fine_tuning"].mean()
            - cell.accuracy["scratch"].mean()
        ),
    }
    lines = []
    for name, words in _EVIDENCE.items():
        if not all(name in cell.evidence for cell in scored):
            continue
        values = np.array([cell.evidence[name] for cell in scored])
        line = [words]
        for gap in targets.values():
            wins = np.array([gap(cell) for cell in scored])
            line.append(_correlation(values, wins, groups))
        lines.append(line)
    return [
        "Spearman's rank correlation over the scored cells of a piece of "
        "evidence with what is won, and its 95 % interval. An interval that "
        "holds 0 says that this grid shows nothing.",
        "",
        *_table(["evidence", *targets], lines),
    ]


def _correlation(
    values: np.ndarray, wins: np.ndarray, groups: Mapping[str, Sequence[int]]
) -> str:
    if not np.ptp(values):
        return "-"

    def statistic(chosen: np.ndarray) -> float:
        if not np.ptp(values[chosen]) or not np.ptp(wins[chosen]):
            return float("nan")
        return scipy.stats.spearmanr(values[chosen], wins[chosen]).statistic

    low, high = interval(groups, statistic)
    all_cells = np.arange(len(values))
    return f"{statistic(all_cells):+.2f} ({low:+.2f} to {high:+.2f})"


def _all_cells(cells: Sequence[Cell], names: Sequence[str]) -> list[str]:
    lines = []
    for cell in cells:
        line = [f"{cell.data}, {cell.base}", str(cell.images)]
        line += [f"{100 * cell.accuracy[way].mean():.1f}" for way in names]
        line.append(f"{100 * cell.error:.1f}{'' if cell.scored else ' *'}")
        line.append(str(len(cell.accuracy[names[0]])))
        lines.append(line)
    return [
        "Test accuracy in %, the mean of the seeds; the standard error of a "
        "difference between two ways, with * where the cell is not scored.",
        "",
        *_table(["cell", "training images", *names, "error", "seeds"], lines),
    ]


def _points(value: float) -> str:
    # Without the minus of a zero.
    return f"{round(100 * value, 1) + 0.0:.1f}"


def _plot_accuracy(
    cells: Sequence[Cell], names: Sequence[str], path: pathlib.Path
) -> None:
    """Draws accuracy against training images, a panel a data set and base."""
    data = sorted({cell.data for cell in cells})
    bases = sorted({cell.base for cell in cells})
    figure = figure_module.Figure(
        (3.0 * len(data), 2.9 * len(bases) + 0.6), layout="constrained"
    )
    backend_agg.FigureCanvasAgg(figure)
    panels = figure.subplots(len(bases), len(data), squeeze=False)
    for row, base in enumerate(bases):
        for column, name in enumerate(data):
            axes = panels[row][column]
            own = [
                each for each in cells if (each.data, each.base) == (name, base)
            ]
            for way in names:
                axes.errorbar(
                    [cell.images for cell in own],
                    [100 * cell.accuracy[way].mean() for cell in own],
                    [
                        100
                        * cell.accuracy[way].std(ddof=1)
                        / np.sqrt(len(cell.accuracy[way]))
                        for cell in own
                    ],
                    color=_COLOURS[way],
                    marker="o",
                    markersize=3,
                    linewidth=1.4,
                    elinewidth=0.8,
                    label=way,
                )
            axes.set_xscale("log")
            ticks = _apart([cell.images for cell in own])
            axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8)
            axes.minorticks_off()
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", linewidth=0.4)
            if row == 0:
                axes.set_title(name, fontsize=10)
            if column == 0:
                axes.set_ylabel(f"{base}\ntest accuracy (%)", fontsize=9)
            if row == len(bases) - 1:
                axes.set_xlabel("training images", fontsize=9)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(names),
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path, dpi=110)


def _apart(images: Sequence[int]) -> list[int]:
    """Returns sizes whose numbers do not run into each other, largest first."""
    ticks: list[int] = []
    for size in sorted(set(images), reverse=True):
        if not ticks or size * _LEAST_APART <= ticks[-1]:
            ticks.append(size)
    return ticks


def _plot_gaps(cells: Sequence[Cell], path: pathlib.Path) -> None:
    """Draws what fine-tuning wins against four pieces of evidence."""
    shown = ("images", "distance", "last_linear", "last_pretraining_gain")
    figure = figure_module.Figure((12.5, 3.5), layout="constrained")
    backend_agg.FigureCanvasAgg(figure)
    data = sorted({cell.data for cell in cells})
    colours = dict(zip(data, list(_COLOURS.values()), strict=False))
    panels = figure.subplots(1, len(shown), sharey=True)
    for axes, name in zip(panels, shown, strict=True):
        for each in data:
            for scored in (True, False):
                own = [
                    cell
                    for cell in cells
                    if cell.data == each
                    and cell.scored == scored
                    and name in cell.evidence
                ]
                axes.scatter(
                    [cell.evidence[name] for cell in own],
                    [100 * _gap(cell) for cell in own],
                    s=22,
                    color=colours[each] if scored else "none",
                    edgecolors=colours[each],
                    linewidths=0.9,
                    label=each if scored else None,
                )
        axes.axhline(0, color="#646b76", linewidth=0.8)
        if name == "images":
            axes.set_xscale("log")
            axes.set_xticks(_TICKS, map(str, _TICKS))
            axes.minorticks_off()
        axes.set_xlabel(_EVIDENCE[name].partition(" (")[0], fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(
        "fine-tuning less solved head\n(points of accuracy)", fontsize=9
    )
    handles, labels = panels[0].get_legend_handles_labels()
    for colour, text in (("#646b76", "scored"), ("none", "not scored: noisy")):
        handles.append(
            panels[0].scatter(
                [], [], s=22, color=colour, edgecolors="#646b76", linewidths=0.9
            )
        )
        labels.append(text)
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(labels),
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    app.run(main)
