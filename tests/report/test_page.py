import html.parser
import io
import math
import re
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import pytest
from PIL import Image

from tlkeras import files
from tlkeras import records
from tlkeras.models import task as tasks
from tlkeras.report import comparison_plots
from tlkeras.report import page
from tlkeras.report import plots
from tlkeras.scoring import metrics

FIVE = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
ENVIRONMENT = {"keras": "3.15.1", "device": "CPU <Xeon>"}
CALIBRATION = {"value": 0.0456, "low": 0.0321, "high": 0.0789, "chance": 0.0234}
COMMAND = "tlkeras train --data='folder:/photos & more' --seed=7"
# Elements of HTML that have no end tag.
VOID = ("meta", "br", "img", "link", "hr", "input")


class Reader(html.parser.HTMLParser):
    """Collects what a reader sees, and what the page refers to."""

    def __init__(self, text):
        super().__init__()
        self.text = ""
        self.tags = []
        self.references = []
        self._open = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "data"):
                self.references.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data.replace("\u00a0", " ")


def picture(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def phase(name="head", **changes):
    return {
        "name": name,
        "seconds": 42.3,
        "epochs": 14,
        "best_epoch": 9,
        "stopped": "patience",
        "trainable_parameters": 1234567,
        "validation_accuracy": 0.8751,
        "validation_cross_entropy": 0.36142,
        "improved": False,
        "rolled_back": False,
        "learning": 158,
        "unmoved": 3,
        "steps": 7654,
        "momentum": 0.0,
        "views_cached": 2,
        "learning_rate": 1e-3,
        "unfreeze": "none",
        "batch_norm": "frozen",
    } | changes


def epochs(name="head", count=14, rate=1e-3):
    return [
        records.Epoch(
            name,
            number,
            rate,
            1 / number,
            1 - 0.5 / number,
            0.95 - 0.5 / number,
            1.1 / number,
            3.0,
            400.0,
        )
        for number in range(1, count + 1)
    ]


def quality(labels, images=400, seed=0, strength=3.0):
    random = np.random.default_rng(seed)
    targets = random.integers(0, len(labels), images)
    logits = random.normal(size=(images, len(labels)))
    logits[np.arange(images), targets] += strength
    return metrics.compute(
        tasks.SINGLE_LABEL.probabilities(logits), targets, labels
    )


def report(labels=FIVE, phases=None, **changes):
    data = {
        "name": "folder:/home/anna/flower photos",
        "classes": list(labels),
        "images": {
            split: {label: start + index for index, label in enumerate(labels)}
            for split, start in (
                ("train", 3100),
                ("validation", 410),
                ("test", 520),
            )
        },
        "skipped": 17,
        "skipped_reasons": {"truncated JPEG": 12, "not an image": 5},
        "duplicates": {
            "groups": 23,
            "across_given_splits": 0,
            "under_two_labels": 0,
            "alike_across_splits": 0,
        },
        "notes": ["The split is a hash of the pixels."],
    } | changes.pop("data", {})
    return {
        "schema": 1,
        "test": quality(labels, seed=1),
        "validation": quality(labels, images=333, seed=2),
        "data": data,
        "phases": [phase()] if phases is None else phases,
        "task": "single_label",
        "strategy": "fine_tuning",
        "backbone": "MobileNetV2",
        "weights": "imagenet",
        "image_size": 160,
        "selection_metric": "validation accuracy",
        "advice": None,
        "next_steps": [],
        "final_fit": None,
        "folds": None,
        "seconds": 3723.0,
        "images_per_second": 412.7,
        "notes": ["The rate was forced."],
        "calibration": {
            "temperature": 1.37,
            "images": 333,
            "text": "The logits are divided by 1.37.",
            "before": CALIBRATION | {"value": 0.1234},
            "after": CALIBRATION,
        },
        "label_sets": {
            "coverage": 0.95,
            "fewest": 19,
            "needed": 0.11,
            "held": {"value": 0.9412, "low": 0.9123, "high": 0.9678},
            "labels": 1.39,
            "single": 0.7654,
        },
        "unknown": {
            "rate": 0.05,
            "images": 700,
            "similarity": 0.71,
            "fewest": 19,
            "refused": {"value": 0.0612, "low": 0.0412, "high": 0.0881},
        },
    } | changes


def step(text: str) -> dict[str, str]:
    return {"rule": "fit", "reason": text, "command": f"tlkeras {text}"}


def decided(text: str) -> dict[str, object]:
    """What the advisor decided, as the report has it."""
    option = {
        "strategy": text,
        "accuracy": {"value": 0.7312, "low": 0.6543, "high": 0.8123},
        "seconds": {"value": 83.0, "low": 40.0, "high": 170.0},
    }
    return {
        "strategy": text,
        "steps": [text],
        "epochs": 7,
        "options": [option],
        "close": [],
        "reasons": text,
        "textbook": text,
    }


def render(of=None, history=None, mistakes=(), **changes):
    of = report() if of is None else of
    given = {
        "drawn": page.draw(of, epochs() if history is None else history),
        "mistakes": mistakes,
        "command": COMMAND,
        "configuration": 'backbone = "MobileNetV2"\n',
        "environment": ENVIRONMENT,
    } | changes
    return page.render(of, **given)


def test_how_true_the_scores_are():
    text = seen(render())
    for fact in ("12.3 % before", "4.6 % now", "2.3 % by chance"):
        assert fact in text
    assert "1.39 labels on average, and one alone in 76.5 %" in text
    assert "94.1 % of them (95 % interval 91.2 to 96.8 %)" in text
    assert "6.1 % are refused (95 % interval 4.1 to 8.8 %)" in text
    few = dict.fromkeys(("needed", "held", "labels", "single"))
    sets = report()["label_sets"] | few
    text = seen(render(report(label_sets=sets)))
    assert "take 19 validation images" in text
    nothing = report()["unknown"] | {"images": 0, "refused": None}
    assert "Nothing is refused" in seen(render(report(unknown=nothing)))


def seen(text):
    return re.sub(r"\s+", " ", Reader(text).text)


def test_every_fact_of_the_report_appears():
    of = report(
        phases=[
            phase(),
            phase(
                "finetune",
                unfreeze="stages:2",
                best_epoch=6,
                epochs=10,
                stopped="budget",
                validation_accuracy=0.9134,
                validation_cross_entropy=0.2917,
                improved=True,
                learning_rate=3e-5,
                batch_norm="training",
                momentum=0.93,
                views_cached=0,
            ),
        ],
        advice=decided("Enough images. Near."),
        next_steps=[step("Overfitting <much>")],
    )
    text = seen(render(of))
    assert "What to try next Overfitting <much>.tlkeras Overfitting" in text
    test = of["test"]
    for share in (
        test["accuracy"]["value"],
        test["accuracy"]["low"],
        test["accuracy"]["high"],
        test["majority"],
        test["balanced_accuracy"],
        test["macro_f1"],
        test["expected_calibration_error"],
        of["validation"]["accuracy"]["value"],
        of["validation"]["accuracy"]["high"],
        of["validation"]["balanced_accuracy"],
        0.8751,
        0.9134,
        *(row["recall"] for row in test["per_class"]),
        *(row["precision"] for row in test["per_class"]),
        *(row["f1"] for row in test["per_class"]),
    ):
        assert f"{100 * share:.1f} %" in text
    for fact in (
        f"{test['cross_entropy']:.3f}",
        "from 400 test images",
        "333",
        "flower photos",
        "folder:/home/anna/flower photos",
        "MobileNetV2, weights imagenet",
        "160 × 160",
        "fine tuning",
        "validation accuracy",
        "1 h 2 min",
        "413 images a second",
        "1,234,567",
        "7,654",
        "158",
        "42 s",
        "0.361",
        "0.292",
        "training, momentum 0.93",
        "stages:2",
        "3e-5",
        "The head learned on the frozen base for 14 epochs",
        "It stopped when validation no longer got better.",
        "Its best epoch, 9,",
        "2 topmost stages of the base learned for 10 epochs",
        "It used all of its epochs.",
        "+3.8 points against 'head', an improvement beyond one standard error",
        "The rate was forced.",
        "The split is a hash of the pixels.",
        "73.1 %",
        "65.4 % to 81.2 %",
        "Enough images.",
        "3,104",
        "15,510",
        "2,060",
        "17, listed in skipped.csv: 12 × truncated JPEG, 5 × not an image",
        "23; across given splits 0, under two labels 0",
        COMMAND,
        'backbone = "MobileNetV2"',
        "3.15.1",
        "CPU <Xeon>",
    ):
        assert fact in text, fact
    for label in FIVE:
        assert label in text


def test_rollback_says_why():
    of = report(
        phases=[
            phase(validation_accuracy=0.875, validation_cross_entropy=0.361),
            phase(
                "finetune",
                unfreeze="all",
                rolled_back=True,
                validation_accuracy=0.868,
                validation_cross_entropy=0.377,
            ),
            phase("again", unfreeze="from:block_13", validation_accuracy=0.88),
        ]
    )
    text = seen(render(of))
    assert "rolled back" in text
    assert (
        "reached 86.8 % (cross-entropy 0.377) on validation, not better than "
        "the 87.5 % (cross-entropy 0.361) of 'head', so it was rolled back: "
        "the weights of 'head' stand."
    ) in text
    # The phase after it is compared with what stands, not with what fell.
    assert "from layer block_13 upwards" in text
    assert "+0.5 points against 'head', no improvement beyond one" in text


def test_a_phase_that_diverged():
    of = report(
        phases=[
            phase(),
            phase(
                "finetune",
                stopped="diverged",
                rolled_back=True,
                epochs=1,
                best_epoch=0,
                validation_accuracy=None,
                validation_cross_entropy=None,
            ),
        ]
    )
    lost = records.Epoch(
        "finetune", 1, 1e-3, math.nan, math.nan, 0.2, math.inf, 1.0, 1.0
    )
    text = seen(render(of, history=[*epochs(), lost]))
    assert "no longer finite" in text
    assert "No epoch gave a finite result, so the weights of 'head'" in text


def test_scratch_says_that_it_started_from_nothing():
    of = report(phases=[phase("scratch", unfreeze="all")], strategy="scratch")
    assert "All of the network learned, from random weights" in seen(render(of))


def test_groups_are_said_to_be_what_counts():
    test = quality(FIVE, images=60)
    assert "groups, which" not in seen(render(report(test=test)))
    test["accuracy"]["groups"] = 7
    assert "in 7 groups, which" in seen(render(report(test=test)))


def test_slices_are_shown_where_there_are_some():
    test = quality(FIVE, images=60)
    assert "By hospital" not in seen(render(report(test=test)))
    value = {"value": "north", "accuracy": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    test["slices"] = {"column": "hospital", "values": [value]}
    assert "By hospital" in seen(render(report(test=test)))


def test_warnings_stand_before_the_story():
    test = quality(FIVE, images=60, strength=0.0)
    of = report(
        test=test,
        data={
            "duplicates": {
                "groups": 5,
                "across_given_splits": 4,
                "under_two_labels": 1,
                "alike_across_splits": 0,
            }
        },
    )
    text = seen(render(of))
    head = text[: text.index("What was done")]
    assert len(test["warnings"]) == 2
    for warning in test["warnings"]:
        assert warning in head
    assert "4 groups of equal images stand in more than one" in head
    assert "1 group of equal images stands under two labels" in head


def test_no_warnings_no_box():
    assert "warnings" not in Reader(render()).tags
    assert 'class="warnings"' not in render()


def test_mistakes_are_shown_as_pictures():
    mistakes = [
        {
            "path": f"/photos/{index}.jpg",
            "true_label": "roses",
            "label": "tulips",
            "score": 0.9 - index / 10,
            "png": picture(index),
            "maps": [],
        }
        for index in range(3)
    ]
    text = render(mistakes=mistakes)
    reader = Reader(text)
    assert reader.tags.count("img") == 3
    shown = seen(text)
    assert "is roses" in shown
    assert "predicted tulips, 90.0 %" in shown
    places = [shown.index(f"/photos/{index}.jpg") for index in range(3)]
    assert places == sorted(places)


def test_no_mistakes():
    labels = ("a", "b")
    perfect = metrics.compute(
        np.eye(2)[[0, 1] * 150], np.array([0, 1] * 150), labels
    )
    text = seen(render(report(labels, test=perfect)))
    assert "None: all 300 test images were predicted rightly." in text


def test_what_is_not_perfect_is_not_a_hundred_percent():
    answers = np.zeros(4000, int)
    answers[0] = 1
    nearly = metrics.compute(
        np.eye(2)[answers], np.zeros(4000, int), ("a", "b")
    )
    text = seen(render(report(("a", "b"), test=nearly)))
    assert "99.9 % test accuracy" in text


EVIL = (
    '<b>&"',
    "'</script><script>alert(1)</script>",
    "$x_1^2$ \\frac{",
    "]]> {{ 7 * 7 }} %",
    "猫 عربي \U0001f98a",
    "two\nlines\x00\x1b",
    "half \udcff letter",
)


def test_labels_and_paths_may_be_anything(tmp_path):
    name = EVIL[1]
    of = report(
        EVIL,
        phases=[phase(EVIL[0], unfreeze=f"from:{EVIL[0]}")],
        notes=[name],
        backbone=name,
        weights=name,
        selection_metric=name,
        advice=decided(name),
        data={"name": f"folder:/{name}", "notes": [name]},
    )
    mistakes = [
        {
            "path": f"/photos/{label}.jpg",
            "true_label": label,
            "label": label,
            "score": 0.5,
            "png": picture(),
            "maps": [],
        }
        for label in EVIL
    ]
    text = page.render(
        of,
        drawn=page.draw(of, epochs(EVIL[0])),
        mistakes=mistakes,
        command=name,
        configuration=name,
        environment={name: name},
    )
    files.write_text(tmp_path / "report.html", text)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == text
    reader = Reader(text)
    assert "script" not in reader.tags
    assert '<b>&"' in reader.text
    assert EVIL[2] in reader.text
    assert EVIL[3] in reader.text
    assert EVIL[4] in reader.text
    assert "half \\udcff letter" in reader.text
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_the_page_refers_to_nothing_outside():
    mistakes = [
        {
            "path": "https://example.org/x.jpg",
            "true_label": "roses",
            "label": "tulips",
            "score": 0.5,
            "png": picture(),
            "maps": [],
        }
    ]
    text = render(mistakes=mistakes)
    reader = Reader(text)
    assert reader.references
    for reference in reader.references:
        assert reference.startswith(("data:image/png;base64,", "#"))
    for word in ("@import", "<script", "<link", "<iframe", "javascript:"):
        assert word not in text
    for inside in re.findall(r"url\(([^)]*)\)", text):
        assert inside.strip("'\"").startswith("#")


def test_inner_references_of_pictures_have_their_target():
    text = render()
    targets = set(re.findall(r'\bid="([^"]+)"', text))
    used = {name for name in re.findall(r'href="#([^"]+)"', text)}
    used |= set(re.findall(r"url\(#([^)]+)\)", text))
    assert used
    assert used <= targets


@pytest.mark.parametrize(
    ("labels", "phases", "history"),
    [
        (("cat", "dog"), [phase(), phase("finetune")], None),
        (tuple(f"a long name, number {n}" for n in range(37)), None, None),
        (FIVE, [phase(stopped="callback", epochs=2)], epochs(count=2)),
        (FIVE, [phase("scratch", epochs=1)], epochs("scratch", 1)),
        (FIVE, [], []),
        (tuple(str(n) for n in range(300)), None, None),
    ],
)
def test_cases(labels, phases, history):
    text = render(report(labels, phases), history=history)
    reader = Reader(text)
    for label in labels:
        assert label in reader.text
    expected = 2 if history is None or len(history) > 1 else 0
    # Confusion, reliability, and the curves of two classes.
    expected += 4 if len(labels) == 2 else 2
    assert reader.tags.count("svg") == expected


@pytest.mark.parametrize("missing", ["test", "validation"])
def test_a_split_without_result(missing):
    text = seen(render(report(**{missing: None})))
    assert ("no test result" in text) == (missing == "test")


def test_a_class_without_images_has_a_dash():
    labels = ("a", "b", "c")
    test = metrics.compute(
        np.eye(3)[[0, 1] * 150], np.array([0, 1] * 150), labels
    )
    rows = re.findall(r"<tr>.*?</tr>", render(report(labels, test=test)))
    (last,) = [row for row in rows if ">c<" in row and "bar" in row]
    assert last.count("–") == 3


def test_a_missing_key_is_told_and_not_left_blank():
    of = report()
    del of["weights"]
    with pytest.raises(Exception, match="weights"):
        render(of)


def test_pictures_are_well_formed_and_keep_texts():
    history = epochs("head $a_1$ <i>", 3) + epochs("two", 2, 1e-4)
    phases = [
        phase("head $a_1$ <i>", best_epoch=2),
        phase("two", rolled_back=True),
    ]
    for drawn in plots.curves(history, phases).values():
        svg = drawn.svg
        texts = [
            element.text
            for element in xml.etree.ElementTree.fromstring(svg).iter("text")
        ]
        assert "head $a_1$ <i>" in texts
        assert "two (rolled back)" in texts
        assert {"1", "2", "3", "4", "5"} <= set(texts)
        assert "1e-3" in texts


def test_phases_of_one_name_are_told_apart_by_their_epochs():
    history = epochs("head", 3) + epochs("head", 2)
    svg = plots.curves(history, [phase(), phase()])["loss"].svg
    texts = [
        element.text
        for element in xml.etree.ElementTree.fromstring(svg).iter("text")
    ]
    assert texts.count("head") == 2


def test_numbers_stand_in_cells_only_while_they_can_be_read():
    def texts(classes):
        labels = [f"c{n}" for n in range(classes)]
        drawn = plots.confusion(
            {
                "per_class": [
                    {"label": label, "recall": 1 / classes, "n": 7 * classes}
                    for label in labels
                ],
                "confused": [
                    {"true_label": one, "label": other, "n": 7}
                    for one in labels
                    for other in labels
                    if one != other
                ],
            }
        )
        root = xml.etree.ElementTree.fromstring(drawn.svg)
        return [element.text for element in root.iter("text")]

    assert texts(5).count("7") == 25
    assert texts(120).count("7") == 0
    assert "c119" in texts(120)
    assert "c299" not in texts(300)


def test_more_classes_than_can_be_looked_at_have_no_matrix():
    labels = [f"species {n}" for n in range(1000)]
    text = render(report(labels))
    reader = Reader(text)
    assert reader.tags.count("svg") == 3
    assert "never predicted are left out" in reader.text
    assert "species 999" in reader.text
    assert len(text) < 800_000


def test_pyplot_and_keras_stay_out():
    code = (
        "import sys; from tlkeras.report import page; "
        "print({'matplotlib.pyplot', 'keras', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.stdout == "set()\n", done.stderr


def test_comparison_is_a_png(tmp_path):
    rows = [
        {
            "name": f"fine_tuning ${index}_x$",
            "accuracy": 0.9 - index / 10,
            "low": 0.88 - index / 10,
            "high": 0.93 - index / 10,
            "seconds": seconds,
        }
        for index, seconds in enumerate((3.21, 75.0, 4000.0, None))
    ]
    comparison_plots.comparison(rows, tmp_path / "comparison.png")
    with Image.open(tmp_path / "comparison.png") as image:
        assert image.format == "PNG"
        assert image.width > 800
    assert list(tmp_path.iterdir()) == [tmp_path / "comparison.png"]


def test_comparison_of_equal_and_perfect_results(tmp_path):
    row = {"name": "a", "accuracy": 1.0, "low": 1.0, "high": 1.0, "seconds": 1}
    comparison_plots.comparison([row], tmp_path / "comparison.png")
    with pytest.raises(ValueError, match="at least one"):
        comparison_plots.comparison([], tmp_path / "none.png")
