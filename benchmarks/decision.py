"""Fits what `auto` decides by to measured trainings, and says how good it is.

Reads `recipes.csv`, fits the accuracy of each option to the evidence, and
writes decision.md: what every policy would have lost on data sets, and on
bases, that the fit has not seen. The coefficients that it prints are those of
`tlkeras/advisor/decision.py`.

  python benchmarks/decision.py
"""

import collections
import csv
import dataclasses
import datetime
import math
import pathlib
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np
from absl import app
from absl import flags

from tlkeras import records
from tlkeras.advisor import decision
from tlkeras.advisor import textbook

_INPUT = flags.DEFINE_string("input", "benchmarks/recipes.csv", "measured")
_OUTPUT = flags.DEFINE_string("output", "benchmarks/decision.md", "the page")

# The recipe that each option is, from the cheapest to the dearest, and the
# forward passes of an image in a step (`advisor/costs.py`; with BatchNorm
# learning as measured in recipes.csv, in the same run).
OPTIONS = {
    "feature_extraction": ("head", 0.0),
    "last_stage_high": ("stage-1e-3", 0.4),
    "fine_tuning_high": ("frozen-1e-3", 3.1),
    "pretrained_init": ("zero-norm-1e-3", 4.2),
}
# What a fixed policy takes that `auto` does not choose from.
FIXED = {**OPTIONS, "fine_tuning": ("frozen-1e-4", 3.1)}
# Cells that the prior is worth.
_HEAD_PENALTY = 3.0
_GAIN_PENALTY = 20.0


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One data set, size, base and seed, with what every recipe came to."""

    data: str
    base: str
    size: int
    seed: int
    steps: int
    probe: float
    distance: float
    learned: int
    classes: int
    test_images: int
    accuracy: dict[str, float]
    validation: dict[str, records.Score]

    @property
    def family(self) -> str:
        """The set that the images come from, however they were changed."""
        return self.data.rstrip("0123456789").partition("-")[0]

    @property
    def place(self) -> tuple[str, str, int]:
        """What the seeds of a cell have in common."""
        return self.data, self.base, self.size

    @property
    def options(self) -> dict[str, float]:
        """The accuracy that each strategy has reached on test images."""
        return {
            name: self.accuracy[recipe]
            for name, (recipe, _) in FIXED.items()
            if recipe in self.accuracy
        }


def main(arguments: list[str]) -> None:
    """Prints the coefficients and writes the page."""
    del arguments
    cells = read(pathlib.Path(_INPUT.value))
    lines = fit(cells, _residuals(cells, "family"))
    print("LINES: Mapping[str, Line] = {")
    for name, line in lines.items():
        numbers = ", ".join(f"{each:.2f}" for each in dataclasses.astuple(line))
        print(f'    "{name}": Line({numbers}),')
    print("}")
    pathlib.Path(_OUTPUT.value).write_text(page(cells, lines))


def read(path: pathlib.Path) -> list[Cell]:
    """Returns the cells in which every recipe was trained that an option is."""
    groups = collections.defaultdict(list)
    with path.open(newline="") as stream:
        for row in csv.DictReader(stream):
            key = (row["data"], row["base"], int(row["size"]))
            groups[*key, int(row["seed"]), int(row["steps"])].append(row)
    cells = []
    for key, rows in groups.items():
        accuracy = {r["recipe"]: float(r["test_accuracy"]) for r in rows}
        if not {recipe for recipe, _ in OPTIONS.values()} <= set(accuracy):
            continue
        first = next(row for row in rows if row["recipe"] == "head")
        cells.append(
            Cell(
                *key,
                float(first["evidence_last_linear"]),
                float(first["evidence_distance"]),
                int(first["learned"]),
                int(first["classes"]),
                int(first["test_images"]),
                accuracy,
                {
                    row["recipe"]: records.Score(
                        float(row["validation_accuracy"]),
                        float(row["validation_cross_entropy"]),
                        int(first["size"]) - int(first["learned"]),
                    )
                    for row in rows
                    if row["validation_accuracy"]
                },
            )
        )
    return cells


def fit(
    cells: Sequence[Cell], deviations: dict[str, float] | None = None
) -> dict[str, decision.Line]:
    """Returns the line of each option, by ridge regression on logits.

    The head's is drawn to the probe's own accuracy, and what the others add to
    it to a constant: cells are few, and slopes that only fit their noise would
    let `auto` leave the option that is good everywhere.

    deviations: of what was seen on sets left out from what was predicted.
    """
    rows = np.array([_features(cell) for cell in cells])
    seen = {
        name: np.array(
            [_logit(cell.options[name], cell.test_images) for cell in cells]
        )
        for name in OPTIONS
    }
    head = next(iter(OPTIONS))
    base = _ridge(rows, seen[head], np.array([1.0, 0.0, 0.0]), _HEAD_PENALTY)
    lines = {}
    for name in OPTIONS:
        numbers = base
        if name != head:
            gain = seen[name] - seen[head]
            numbers = base + _ridge(rows, gain, np.zeros(3), _GAIN_PENALTY)
        deviation = deviations[name] if deviations else 0.0
        lines[name] = decision.Line(*map(float, (*numbers, deviation)))
    return lines


def _ridge(
    rows: np.ndarray, wanted: np.ndarray, prior: np.ndarray, penalty: float
) -> np.ndarray:
    """Returns the constant and the slopes, which are drawn to `prior`."""
    mean = rows.mean(axis=0)
    centred = rows - mean
    rest = wanted - rows @ prior
    slopes = prior + np.linalg.solve(
        # Of columns of spread 1.
        centred.T @ centred + penalty * np.diag(centred.var(axis=0) + 1e-9),
        centred.T @ (rest - rest.mean()),
    )
    return np.array([wanted.mean() - mean @ slopes, *slopes])


def _features(cell: Cell) -> list[float]:
    return [
        _logit(cell.probe, cell.size),
        math.log2(cell.learned / 100),
        cell.distance - 0.4,
    ]


def _logit(share: float, images: int) -> float:
    share = (share * images + 1) / (images + 2)
    return math.log(share / (1 - share))


def predict(
    lines: dict[str, decision.Line], cell: Cell
) -> dict[str, decision.Expected]:
    """Returns what the lines predict of each option."""
    return {
        name: decision.accuracy(
            line,
            probe=cell.probe,
            images=cell.learned,
            distance=cell.distance,
            asked=cell.size,
        )
        for name, line in lines.items()
    }


def _left_out(
    cells: Sequence[Cell], by: str
) -> list[tuple[Cell, dict[str, decision.Line]]]:
    """Returns each cell with the lines fitted without its set, or base."""
    found = []
    for value in dict.fromkeys(getattr(cell, by) for cell in cells):
        rest = [cell for cell in cells if getattr(cell, by) != value]
        lines = fit(rest, _residuals(rest, by))
        found += [(cell, lines) for cell in cells if getattr(cell, by) == value]
    return found


def _several(cells: Sequence[Cell], by: str) -> bool:
    return len({getattr(cell, by) for cell in cells}) > 1


def _residuals(cells: Sequence[Cell], by: str) -> dict[str, float]:
    """Returns by how much an option is off on what the fit has not seen.

    What the test images themselves leave open is a part of it.
    """
    by = by if _several(cells, by) else "family"
    squares = collections.defaultdict(list)
    for value in {getattr(cell, by) for cell in cells}:
        lines = fit([cell for cell in cells if getattr(cell, by) != value])
        for cell in cells:
            if getattr(cell, by) == value:
                for name, found in predict(lines, cell).items():
                    seen = _logit(cell.options[name], cell.test_images)
                    expected = math.log(found.value / (1 - found.value))
                    squares[name].append((seen - expected) ** 2)
    return {name: math.sqrt(np.mean(each)) for name, each in squares.items()}


Policy = Callable[[Cell], str]


def choose(lines: dict[str, decision.Line], cell: Cell) -> str:
    """Returns the option that `auto` would take."""
    return decision.choose(
        {name: each.value for name, each in predict(lines, cell).items()}
    )


def _unless_worse(cell: Cell, name: str) -> str:
    """Returns the head where validation says that the step was clearly bad."""
    before, after = (
        cell.validation[FIXED[each][0]] for each in ("feature_extraction", name)
    )
    if records.clearly_worse(after, before):
        return "feature_extraction"
    return name


def _if_better(cell: Cell, name: str) -> str:
    """Returns the head where validation does not say that the step was good."""
    before, after = (
        cell.validation[FIXED[each][0]] for each in ("feature_extraction", name)
    )
    return name if records.better(after, before) else "feature_extraction"


def _textbook(cell: Cell) -> str:
    return textbook.scenario(cell.learned, cell.distance).strategy


def _best_on_validation(cell: Cell) -> str:
    best = "feature_extraction"
    for name, (recipe, _) in OPTIONS.items():
        standing = cell.validation[OPTIONS[best][0]]
        if records.better(cell.validation[recipe], standing):
            best = name
    return best


def _passes(cell: Cell, name: str) -> float:
    """Returns what an option costs, in forward passes of one image."""
    return 2 * cell.size + 32 * cell.steps * FIXED[name][1]


def page(cells: Sequence[Cell], lines: dict[str, decision.Line]) -> str:
    """Returns the page in Markdown."""
    sets = sorted({cell.data for cell in cells})
    said = [
        "# What `auto` decides, and what it would have lost",
        "",
        "Written by `python benchmarks/decision.py` from `recipes.csv` "
        f"({datetime.date.today()}): {len(cells)} cells, of "
        f"{len(sets)} data sets ({', '.join(sets)}), "
        f"{len({cell.base for cell in cells})} bases, "
        f"{', '.join(str(s) for s in sorted({c.size for c in cells}))} known "
        "images, three quarters of them to learn from, "
        f"{cells[0].steps} steps of 32 images at 96 pixels. A cell is a data "
        "set, a base, a size and a seed.",
        "",
        "Loss: points of test accuracy behind the best of the recipes that "
        "were trained in a cell (uncorrected: the best of several noisy "
        "numbers is too good, by a point or so). Cost: in that of always "
        "fine-tuning, in forward passes.",
    ]
    for by, what in (("family", "data set"), ("base", "base")):
        if _several(cells, by):
            said += ["", f"## One {what} left out", "", *_losses(cells, by)]
    if _best_of_others(cells):
        said += [
            "",
            "## Against what the other seed finds best",
            "",
            "Cross-fitted, so that nothing is gained by luck; one data set "
            "left out. In the cells that have two seeds, of which a cell's "
            "loss is the mean; it can be below 0.",
            "",
            *_losses(cells, "family", fitted=True),
        ]
    said += ["", "## Recipes", "", *_recipes(cells)]
    said += ["", "## How far off the predictions are", ""]
    said += _calibration(cells)
    said += ["", "## Where `auto` loses most", "", *_worst(cells)]
    said += ["", "## The lines", "", "| option | constant | probe | images |"]
    said[-1] += " distance | deviation |"
    said.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, line in lines.items():
        numbers = (f"{each:.2f}" for each in dataclasses.astuple(line))
        said.append(f"| {name} | {' | '.join(numbers)} |")
    return "\n".join(said) + "\n"


def _best_of_others(cells: Sequence[Cell]) -> dict[Cell, str]:
    """Returns the recipe that the other seeds of a cell find best."""
    found = {}
    for cell in cells:
        same = [
            other
            for other in cells
            if other.seed != cell.seed and other.place == cell.place
        ]
        known = set(_whole(cell)).intersection(*map(_whole, same))
        if same:
            found[cell] = max(
                sorted(known),
                key=lambda name: np.mean(
                    [each.accuracy[name] for each in same]
                ),
            )
    return found


def _losses(
    cells: Sequence[Cell], by: str, *, fitted: bool = False
) -> list[str]:
    """Returns the table; `fitted` against what the other seeds find best."""
    others = _best_of_others(cells)
    table = [
        "| policy | mean loss, points | worst cell | cost | cells |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    left = _left_out(cells, by)
    of_cell = {id(cell): lines for cell, lines in left}
    policies: dict[str, tuple[Policy, Policy]] = {}
    for name in FIXED:
        policies[f"always {name}"] = (lambda cell, name=name: name,) * 2
    policies["the textbook's four scenarios"] = (_textbook,) * 2
    # All three are trained.
    policies["best on validation"] = (_best_on_validation, None)
    auto = lambda cell: choose(of_cell[id(cell)], cell)  # noqa: E731
    policies["auto, every step kept"] = (auto, auto)
    policies["auto, a step rolled back if clearly worse"] = (
        lambda cell: _unless_worse(cell, auto(cell)),
        auto,
    )
    policies["auto, a step kept only if better"] = (
        lambda cell: _if_better(cell, auto(cell)),
        auto,
    )
    tuned = "always fine_tuning_high, kept only if better"
    policies[tuned] = (
        lambda cell: _if_better(cell, "fine_tuning_high"),
        lambda cell: "fine_tuning_high",
    )
    for name, (kept, trained) in policies.items():
        losses = collections.defaultdict(list)
        costs = []
        for cell, _ in left:
            took = kept(cell)
            if took not in cell.options or (fitted and cell not in others):
                continue
            best = max(_whole(cell).values())
            if fitted:
                best = cell.accuracy[others[cell]]
            # The seeds of a cell are one cell, where one judges the other.
            place = cell.place if fitted else cell
            losses[place].append(100 * (best - cell.options[took]))
            cost = (
                _passes(cell, trained(cell))
                if trained
                else sum(_passes(cell, each) for each in OPTIONS)
            )
            costs.append(cost / _passes(cell, "fine_tuning"))
        means = [np.mean(each) for each in losses.values()]
        table.append(
            f"| {name} | {np.mean(means):.2f} | {max(means):.1f} | "
            f"{np.mean(costs):.2f} | {len(means)} |"
        )
    return table


def _whole(cell: Cell) -> dict[str, float]:
    """Returns the recipes that learn from the training images alone."""
    return {n: a for n, a in cell.accuracy.items() if not n.endswith("+")}


def _recipes(cells: Sequence[Cell]) -> list[str]:
    sizes = sorted({cell.size for cell in cells})
    table = [
        "Mean gain over the solved head in points, and in how many cells; +: "
        "learns from the validation images, too.",
        "",
        "| recipe | " + " | ".join(f"{size} images" for size in sizes) + " |",
        "| --- |" + " ---: |" * len(sizes),
    ]
    for name in sorted({n for cell in cells for n in cell.accuracy}):
        line = []
        for size in sizes:
            gains = [
                100 * (cell.accuracy[name] - cell.accuracy["head"])
                for cell in cells
                if cell.size == size and name in cell.accuracy
            ]
            if len(gains) < 2:
                line.append("-")
                continue
            error = np.std(gains, ddof=1) / math.sqrt(len(gains))
            line.append(f"{np.mean(gains):+.1f} ± {error:.1f} ({len(gains)})")
        table.append(f"| {name} | {' | '.join(line)} |")
    return table


def _calibration(cells: Sequence[Cell]) -> list[str]:
    inside = collections.defaultdict(list)
    for cell, lines in _left_out(cells, "family"):
        for name, found in predict(lines, cell).items():
            seen = cell.options[name]
            inside[name].append(found.low <= seen <= found.high)
    return [
        f"- {name}: {sum(each)} of {len(each)} cells lie within the 95 % "
        "interval that was predicted without their data set."
        for name, each in inside.items()
    ]


def _worst(cells: Sequence[Cell]) -> list[str]:
    rows = []
    for cell, lines in _left_out(cells, "family"):
        took = _unless_worse(cell, choose(lines, cell))
        whole = _whole(cell)
        best = max(whole, key=whole.__getitem__)
        loss = 100 * (whole[best] - cell.options[took])
        rows.append((loss, cell, took, best))
    rows.sort(key=lambda row: -row[0])
    return [
        "| cell | took | best | loss |",
        "| --- | --- | --- | ---: |",
        *(
            f"| {cell.data}, {cell.size}, {cell.base}, seed {cell.seed} | "
            f"{took} | {best} | {loss:.1f} |"
            for loss, cell, took, best in rows[:8]
        ),
    ]


if __name__ == "__main__":
    app.run(main)
