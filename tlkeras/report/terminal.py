"""Tables on the terminal."""

import pathlib
import shlex
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import rich.console
import rich.table
import rich.text

from tlkeras.advisor import textbook as textbooks
from tlkeras.backbones import catalog
from tlkeras.scoring import metrics

if TYPE_CHECKING:
    from tlkeras.advisor import advice as advices
    from tlkeras.check import audit
    from tlkeras.check import checks
    from tlkeras.scoring import evaluate as evaluation
    from tlkeras.scoring import intervals
    from tlkeras.scoring import predicting

_SHOWN = 50
# Findings of a kind, and pictures of one, that are named on the terminal.
_GROUPS = 3


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
    with console.capture() as captured:
        console.print(table)
    # The last column is filled up with blanks, which only wrap a line.
    for line in captured.get().splitlines():
        print(line.rstrip())


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


def predictions(prediction: "predicting.Prediction", table: str = "") -> None:
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


def scores(found: "evaluation.Evaluation") -> None:
    """Prints how good a model is: in all, and by class."""
    for note in found.notes:
        print(note)
    skipped = found.prediction.failed
    if skipped:
        path, reason = skipped[0]
        print(
            f"{len(skipped)} images cannot be read and are left out, "
            f"first {path}: {reason}"
        )
    print(metrics.sentence(found.quality))
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
            "strategy",
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
                row["way"] + _marks(row),
                _percent(row["validation_accuracy"]),
                _percent(row["accuracy"]["value"]),
                f"{100 * row['accuracy']['low']:.1f} to "
                f"{100 * row['accuracy']['high']:.1f}",
                _percent(row["balanced_accuracy"]),
                f"{row['seconds']:.1f} s",
                f"{row['images_per_second']:,.0f}",
                words.verdict(row, report["claimed"]),
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
    place = shlex.quote(words.again(report))
    print(
        f"use it: tlkeras predict --model={place} photos/\n"
        "make a whole run of it, with a report and a SavedModel: tlkeras train "
        f"--config={place}/config.toml"
    )


def _marks(row: Mapping[str, Any]) -> str:
    marks = []
    if row["dropped"]:
        marks.append(f"dropped after {row['seeds']}")
    if row["rolled_back"]:
        marks.append(f"{row['rolled_back']} of {row['seeds']} rolled back")
    return f" ({', '.join(marks)})" if marks else ""


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


def checkup(found: "audit.Checkup") -> None:
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
        elif finding.decision:
            _pictures(found, finding)
    if not found.decisions:
        print("nothing needs a decision")


def _pictures(found: "audit.Checkup", finding: "checks.Finding") -> None:
    """Prints the paths of the first groups, and why they stand here."""
    examples = found.source.examples
    for number, group in enumerate(finding.groups[:_GROUPS]):
        paths = ", ".join(examples[index].path for index in group[:_GROUPS])
        more = ", ..." if len(group) > _GROUPS else ""
        note = f": {finding.notes[number]}" if finding.notes else ""
        print(f"        {paths}{more}{note}")
    rest = len(finding.groups) - _GROUPS
    if rest > 0:
        print(f"        and {rest:,} more; --html and --json have them all")


def evidence(advice: "advices.Advice") -> None:
    """Prints what was measured of a data set and a base, stage by stage."""
    found = advice.evidence
    size, cost = found.size, found.cost
    for note in advice.notes:
        print(note)
    pixels = "unknown"
    if size.width is not None:
        pixels = f"{size.width:.0f} x {size.height:.0f}"
    looked = f"{found.sampled:,} of " if found.sampled < size.images else ""
    grouped = ""
    if found.groups < found.sampled:
        grouped = f", in {found.groups:,} groups, which are what counts"
    print(
        f"{advice.data} with {advice.backbone} ({advice.weights})\n"
        f"training split: {size.images:,} images of {size.classes} classes, "
        f"{size.images_per_class_min:,} to a class at least, "
        f"{size.images_per_class_median:,.0f} in the median, the largest "
        f"{size.imbalance:.1f} times the smallest\n"
        f"median image {pixels} pixels, input {size.input}; looked at: "
        f"{looked}{size.images:,}{grouped}"
    )
    show(
        (
            "up to layer",
            "channels",
            "KL",
            "distance",
            "linear",
            "5 nearest",
            "at random",
            "gain",
        ),
        [
            (
                depth.layer,
                str(depth.channels),
                _number(depth.kl),
                _number(depth.wasserstein),
                _interval(depth.linear),
                _interval(depth.neighbours),
                _interval(depth.random_linear),
                _interval(depth.pretraining_gain, "+"),
            )
            for depth in found.depths
        ],
        right=("channels", "KL", "distance"),
    )
    print(
        "KL [nats], distance [standard deviations of the source]: of the "
        "activations from what\n"
        "  BatchNorm keeps of the source, mean of a stage's channels; - if it "
        "keeps nothing\n"
        "linear, 5 nearest: cross-validated accuracy on what a stage gives, in "
        "percent with 95 %\n"
        "  interval; no equal pictures in two folds; the commonest class has "
        f"{100 * found.majority:.1f}\n"
        "at random: linear on the same network with random weights; gain: what "
        "the pretrained\n"
        "  weights add to that"
    )
    if found.source is None:
        print("the source's classifier: absent from these weights")
    else:
        print(
            f"the source's classifier: energy {found.source.energy:.2f}, "
            f"entropy {found.source.entropy:.2f} nats (of the images' mean "
            f"{found.source.mean_entropy:.2f}), highest probability "
            f"{found.source.confidence:.2f}"
        )
    points = ", ".join(
        f"{point.images:.0f} images {_interval(point.linear)}"
        for point in found.curve
    )
    print(f"learning curve of the last linear: {points}")
    whose = "this family" if cost.measured_ratio else "other networks"
    print(
        f"seconds: an image takes {1e3 * cost.forward:.1f} ms forward (measured"
        "); learning, an epoch takes about\n"
        f"  {1e3 * cost.training:.1f} ms an image with all of the base, "
        f"{1e3 * cost.last_stage:.1f} with its last stage (not measured here: "
        f"by ratios of {whose})"
    )
    print(
        f"this took two forward passes of {found.sampled:,} images, "
        f"{cost.passes:.1f} s; tracing {cost.tracing:.1f} s; reading "
        f"{cost.reading:.1f} s; probes {cost.probes:.1f} s"
    )


def textbook(advice: "advices.Advice") -> None:
    """Prints what the textbook would do, as its word and not a measurement."""
    from tlkeras.advisor import evidence as evidences

    found = advice.scenario
    if found is None:
        print(
            "The textbook has no word here: these weights keep nothing of a "
            "source, so that nobody\n  can say how similar the images are."
        )
    else:
        print(
            f"The textbook's word (CS231n, scenario {found.number} of 4: "
            f"{'small' if found.small else 'large'} and "
            f"{'similar' if found.similar else 'different'}), not a "
            f"measurement:\n  {found.advice}\n"
            f"  that is --strategy={found.strategy}; the mean distance is "
            f"{evidences.distance(advice.evidence):.2f}"
        )
        print(textbooks.explain())
    print(
        "What was measured is above; nothing decides by it yet. To know, let "
        "`tlkeras compare` train several strategies."
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(
    found: "intervals.Share | intervals.Difference", sign: str = ""
) -> str:
    """Returns a share and its interval, in percent."""
    return (
        f"{100 * found.value:{sign}.1f} ({100 * found.low:{sign}.0f} to "
        f"{100 * found.high:{sign}.0f})"
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
