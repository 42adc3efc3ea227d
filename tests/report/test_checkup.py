"""The page of a check: whole, self-contained, and true to every name."""

import html.parser
import os
import re

import numpy as np
import pictures
import pytest

from tlkeras import files
from tlkeras.check import audit
from tlkeras.report import checkup as page

# Elements of HTML that have no end tag.
VOID = ("meta", "br", "img", "hr")
LATIN = os.fsdecode(b"caf\xe9.png")
ODD = "<b>&\"'二 x"


class Reader(html.parser.HTMLParser):
    """Collects what a reader sees, and what the page refers to."""

    def __init__(self, text: str):
        super().__init__()
        self.text = ""
        self.names = []
        self.references = []
        self.anchors = []
        self._open = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.anchors.append(value)
            if name in ("src", "href"):
                self.references.append(value)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data


def png(seed: int) -> bytes:
    return pictures.encode(pictures.photo(seed, 48, 60))


def check(root, keep) -> audit.Checkup:
    return audit.check(
        pictures.opened(root),
        image_size=64,
        max_pixels=10**6,
        cache_dir=keep,
        progress=pictures.QUIET,
    )


@pytest.fixture(scope="module")
def checkup(tmp_path_factory) -> audit.Checkup:
    """A folder whose names are all that a file system permits."""
    root = tmp_path_factory.mktemp("data") / "<i>photos & more"
    contents = {f"{ODD}/{seed}.png": png(seed) for seed in range(4)}
    contents |= {f"b/{seed}.png": png(100 + seed) for seed in range(4)}
    contents |= {
        f"b/{ODD}.png": png(50),
        f"b/{LATIN}": png(50),
        f"b/{ODD}.txt": b"text",
        "b/{{ 7 * 7 }}.png": png(50),
        "b/line\nbreak.png": pictures.encode(np.zeros([40, 40, 3], np.uint8)),
    }
    pictures.write(root, contents)
    return check(root, tmp_path_factory.mktemp("keep"))


def test_the_page_is_well_formed_and_needs_nothing_else(checkup, tmp_path):
    text = page.render(checkup)
    files.write_text(tmp_path / "new" / "a.html", text)
    reader = Reader(text)
    images = [each for each in reader.references if not each.startswith("#")]
    # Three equal ones and the black one.
    assert len(images) == 4
    assert all(each.startswith("data:image/jpeg;base64,") for each in images)
    for each in reader.references:
        assert each[1:] in reader.anchors or each in images
    rest = re.sub("base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search("https?:|//|<script|@import|<link|url\\(", rest)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_names_are_shown_and_not_obeyed(checkup):
    text = page.render(checkup)
    reader = Reader(text)
    assert "<i>" not in text and "<b>&" not in text
    for name in (
        "<i>photos & more",
        f"{ODD}.png",
        f"{ODD}.txt",
        "{{ 7 * 7 }}.png",
        r"caf\udce9.png",
    ):
        assert name in reader.text
    for word in ("not an image", "1 image cannot be used", "2 things need"):
        assert word in " ".join(reader.text.split())


def test_every_finding_has_its_section(checkup):
    reader = Reader(page.render(checkup))
    names = [finding.name for finding in checkup.findings]
    assert reader.anchors == names
    assert set(names) == {"unreadable", "constant", "equal", "few"}
    for finding in checkup.findings:
        assert finding.title in reader.text
        assert finding.text in reader.text


def test_a_clean_folder(tmp_path):
    contents = {
        f"{label}/{seed}.png": png(1000 * ord(label) + seed)
        for label in "ab"
        for seed in range(24)
    }
    pictures.write(tmp_path / "photos", contents)
    reader = Reader(page.render(check(tmp_path / "photos", tmp_path)))
    text = " ".join(reader.text.split())
    assert "0 things need a decision" in text
    assert "48 of 48 images can be used, in 2 classes. Nothing was" in text
    assert reader.anchors == reader.references == []


def test_many_findings_make_no_endless_page(tmp_path):
    contents = {f"a/{seed}.png": png(seed) for seed in range(5)}
    contents |= {f"b/{seed}.png": b"text" for seed in range(1100)}
    for seed in range(30):
        flat = np.full([40, 90, 3], seed, np.uint8)
        contents[f"b/flat{seed}.png"] = pictures.encode(flat)
    contents |= {f"a/equal{number}.png": png(99) for number in range(12)}
    pictures.write(tmp_path / "photos", contents)
    text = page.render(check(tmp_path / "photos", tmp_path))
    reader = Reader(text)
    # Groups of one flat picture each, twice: they are long, too.
    images = [each for each in reader.references if not each.startswith("#")]
    assert len(images) == 24 + 24 + 8
    assert "And 100 more, which --json=FILE lists." in reader.text
    assert "And 6 more, which --json=FILE lists." in reader.text
    assert "and 4 more" in reader.text
    assert len(text) < 1e6


def test_pictures_that_are_gone_by_now_are_skipped(tmp_path):
    contents = {
        f"{label}/{seed}.png": png(ord(label) + 7 * seed)
        for label in "ab"
        for seed in range(4)
    }
    contents |= {f"a/equal{number}.png": png(999) for number in range(3)}
    pictures.write(tmp_path / "photos", contents)
    checkup = check(tmp_path / "photos", tmp_path)
    (tmp_path / "photos" / "a" / "equal1.png").unlink()
    (tmp_path / "photos" / "a" / "equal2.png").write_bytes(b"text")
    reader = Reader(page.render(checkup))
    assert sum(not each.startswith("#") for each in reader.references) == 1
    assert "equal0.png" in reader.text and "equal1.png" not in reader.text
