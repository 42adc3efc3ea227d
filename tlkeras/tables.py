"""Tables on the terminal."""

import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import rich.console
import rich.table
import rich.text

from tlkeras import catalog
from tlkeras import evaluation

if TYPE_CHECKING:
    from tlkeras import doctor
    from tlkeras import using

_SHOWN = 50


def show(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
) -> None:
    """Prints a table; the columns in `right` are aligned to the right.

    Where the output is no terminal nothing is cut to its width.
    """
    console = rich.console.Console(highlight=False)
    if not console.is_terminal:
        console = rich.console.Console(highlight=False, width=10000)
    table = rich.table.Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(
            name,
            justify="right" if name in right else "left",
            overflow="fold",
            no_wrap=name in right,
        )
    for row in rows:
        table.add_row(*(rich.text.Text(str(cell)) for cell in row))
    console.print(table)


def backbones() -> None:
    """Prints the catalogue of networks, and what it notes of families."""
    show(
        ("backbone", "parameters", "features", "pixels", "smallest", "weights"),
        [
            (
                row.name,
                f"{row.parameters:,}",
                str(row.width),
                str(row.default_size),
                str(row.smallest_size),
                ", ".join(row.weights) or "-",
            )
            for row in catalog.BACKBONES
        ],
        right=("parameters", "features", "pixels", "smallest"),
    )
    notes = {row.family: row.note for row in catalog.BACKBONES if row.note}
    print("\nNotes; what Keras' constructors ask for, tlkeras sees to:\n")
    show(("family", "note"), list(notes.items()))


def predictions(prediction: "using.Prediction", table: str = "") -> None:
    """Prints label and score of the first 50 images, if there are any."""
    if not prediction.paths:
        return
    answers = prediction.probabilities.argmax(axis=1)
    rows = [
        (path, prediction.labels[answer], f"{100 * scores[answer]:.1f} %")
        for path, answer, scores in zip(
            prediction.paths, answers, prediction.probabilities, strict=True
        )
    ]
    show(("image", "label", "score"), rows[:_SHOWN], right=("score",))
    if len(rows) > _SHOWN:
        where = f"{table} has" if table else "--csv=FILE writes"
        print(f"... and {len(rows) - _SHOWN} more; {where} them all")


def judgement(found: "using.Judgement") -> None:
    """Prints how good a model is: in all, and by class."""
    for note in found.notes:
        print(note)
    if found.skipped:
        path, reason = found.skipped[0]
        print(
            f"{len(found.skipped)} images cannot be read and are left out, "
            f"first {path}: {reason}"
        )
    print(evaluation.sentence(found.quality))
    for warning in found.quality["warnings"]:
        print(f"  {warning}")
    show(
        ("class", "images", "precision", "recall", "F1"),
        [
            (
                row["label"],
                str(row["n"]),
                _share(row["precision"]),
                _share(row["recall"]),
                _share(row["f1"]),
            )
            for row in found.quality["per_class"]
        ],
        right=("images", "precision", "recall", "F1"),
    )


def comparison(report: Mapping[str, Any]) -> None:
    """Prints compare.json's content as a table, and what to take from it."""
    from tlkeras.report import comparison as words

    show(
        (
            "way",
            "validation",
            "test",
            "95 % interval",
            "balanced",
            "training",
            "images/s",
            "against the best",
        ),
        [
            (
                row["way"]
                + (
                    f" (dropped after {row['seeds']})" if row["dropped"] else ""
                ),
                _percent(row["validation_accuracy"]),
                _percent(row["accuracy"]["value"]),
                f"{100 * row['accuracy']['low']:.1f} to "
                f"{100 * row['accuracy']['high']:.1f}",
                _percent(row["balanced_accuracy"]),
                f"{row['seconds']:.1f} s",
                f"{row['images_per_second']:,.0f}",
                words.verdict(row),
            )
            for row in report["ways"]
        ],
        right=(
            "validation",
            "test",
            "95 % interval",
            "balanced",
            "training",
            "images/s",
        ),
    )
    print(words.conclusion(report))


def kept(
    directory: pathlib.Path, scans: tuple[int, int], rows: tuple[int, int]
) -> None:
    """Prints what is kept between runs: (how many, bytes) of each kind."""
    print(directory)
    show(
        ("kept", "number", "megabytes"),
        [
            ("scanned images", f"{scans[0]:,}", f"{scans[1] / 1e6:,.1f}"),
            ("files of activations", f"{rows[0]:,}", f"{rows[1] / 1e6:,.1f}"),
        ],
        right=("number", "megabytes"),
    )


def checkup(found: "doctor.Checkup") -> None:
    """Prints what was found in a data set: classes, then decisions first."""
    names = found.source.labels
    rows = found.counts
    show(
        ("class", *(split or "images" for split in rows)),
        [
            (label, *(f"{row[label]:,}" for row in rows.values()))
            for label in names
        ],
        right=[split or "images" for split in rows],
    )
    for finding in found.findings:
        print(f"{'DECIDE' if finding.decision else 'note  '}  {finding.title}")
        if not finding.groups:
            print(f"        {finding.text}")
    if not found.decisions:
        print("nothing needs a decision")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
