"""Report and comparison in a real browser: nothing wider than a phone's screen, no message in the console, few pages of paper."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pypdfium2
import pytest

from pipeline.report.render import render_html
from pipeline.report.two_versions import ChangedItem, TwoVersions, render_page
from tests.browser import Tab, find_chromium, start_browser
from tests.pipeline.report.test_report import CHAMPION, FACTS, HOSTILE, PROVENANCE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="needs Chromium"),
]
LONG = "a_name_without_any_place_to_break_" * 6
CHANGED = ChangedItem(
    "heldout-00001", [LONG], '[{"role": "user", "content": "What?"}]', HOSTILE, LONG, '{"call": null}'
)
TWO = TwoVersions(
    "version 6",
    LONG,
    CHAMPION.decision,
    "worse",
    [(LONG, LONG, "2")],
    [("data/sft", "d" * 12, "e" * 12)],
    [CHANGED] * 9,
    [],
)
PAGES = {"report": render_html(FACTS, PROVENANCE, CHAMPION), "compare": render_page(TWO)}
WIDER = """[...document.querySelectorAll('body *')].filter(each =>
    each.getBoundingClientRect().right > 376 && !each.closest('.wide')).map(each => each.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with start_browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone_and_paper(tab: Tab, tmp_path: Path, name: str) -> None:
    (tmp_path / "page.html").write_text(PAGES[name], encoding="utf-8")
    tab.call("Emulation.setDeviceMetricsOverride", width=375, height=812, deviceScaleFactor=2, mobile=True)
    tab.open((tmp_path / "page.html").as_uri())
    assert tab.evaluate(WIDER) == []
    assert tab.evaluate("document.documentElement.scrollWidth") == 375
    assert tab.evaluate("document.querySelectorAll('script, img').length") == 0, "hostile text stays text"
    pdf = tab.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"]
    document = pypdfium2.PdfDocument(io.BytesIO(base64.b64decode(pdf)))
    text = "".join(page.get_textpage().get_text_bounded() for page in document)
    assert 1 <= len(document) <= 8
    assert "Bits per byte" in text
    assert "Under their names in data/metrics" not in text, "the list of all metrics stays on the screen"
