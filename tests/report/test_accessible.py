"""The report in a browser: by axe-core, by keyboard, on paper and a phone."""

import shutil

import pytest
from test_page import render
from test_page import report

from tlkeras.report import templates

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium"),
]
OPEN = "document.querySelectorAll('details').forEach(each => each.open = true)"
AXE = """
axe.run().then(found => found.violations
  .map(each => each.id + ': ' + each.nodes[0].html))
"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        yield found
        found.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    place = tmp_path_factory.mktemp("page") / "report.html"
    place.write_text(render(report(("ants", "bees"))), encoding="utf-8")
    served = templates.load("serve.html").render(
        labels=["ants", "bees"], size=96, megabytes=20
    )
    place.with_name("serve.html").write_text(served, encoding="utf-8")
    return f"file://{place}"


@pytest.mark.parametrize("name", ["report", "serve"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_nothing_is_wrong_nor_too_wide(browser, address, width, scheme, name):
    base = pytest.importorskip("axe_core_python.base")
    page = browser.new_page(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        bypass_csp=True,
    )
    page.goto(address.replace("report.html", f"{name}.html"))
    for _ in range(2):
        page.evaluate(base.AXE_FILE_PATH.read_text(encoding="utf-8"))
        assert page.evaluate(AXE) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(OPEN)
    page.close()


def test_what_is_folded_opens_by_keyboard_and_on_paper(browser, address):
    page = browser.new_page(bypass_csp=True)
    page.goto(address)
    count = "document.querySelectorAll('details[open]').length"
    before = page.evaluate(count)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.keyboard.press("Enter")
    assert page.evaluate(count) == before + 1
    page.keyboard.press("Enter")
    table = page.locator("details.fold table").first
    assert not table.is_visible()
    page.emulate_media(media="print")
    assert table.is_visible()
    page.close()
