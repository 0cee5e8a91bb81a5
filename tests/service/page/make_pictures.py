"""Make the pictures of docs/page.md: `python -m tests.service.page.make_pictures MODEL` (needs Chromium and a model).

The chat is a real service's; the view of its operator shows an hour of made-up traffic.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.browser import start_browser
from tests.conftest import ROOT
from tests.service.page.page_double import PageDouble, make_double_app, serve_app
from tests.service.page.page_driver import PageBrowser, PageTab
from tests.service.page.test_views_in_a_browser import fill_views
from tests.service.processes.running_service import run_service

IMAGES = ROOT / "docs" / "images"
QUESTIONS = ("What does numpy.cumsum do?", "What is 17 * 23?", "And what is its axis?")
LOOK = "new Promise((resolve) => setTimeout(resolve, 300))"  # until everything is drawn


def shoot(tab: PageTab, name: str, width: int, height: int, *, is_dark: bool = False) -> None:
    """Write one picture."""
    tab.resize(width, height, is_dark=is_dark)
    tab.evaluate("document.querySelector('#log').scrollTop = 1e6")
    tab.evaluate(LOOK)
    tab.shoot(IMAGES / f"page-{name}.png")


def draw_chat(tab: PageTab, url: str) -> None:
    """Ask and look."""
    tab.open(url)
    for number, question in enumerate(QUESTIONS, 1):
        tab.send(question)
        tab.finish(number)
    shoot(tab, "light", 1100, 760)
    shoot(tab, "dark", 1100, 760, is_dark=True)
    shoot(tab, "phone", 320, 640)
    tab.resize(1100, 760)
    tab.evaluate("document.querySelector('.cite').click()")
    shoot(tab, "passage", 1100, 560)


def draw_operation(tab: PageTab, url: str) -> None:
    """Open the operator's view."""
    tab.open(url + "/#/d/operation")
    tab.wait("document.querySelector('#desk .tile')")
    shoot(tab, "operation", 1100, 860)


def draw_all(model: Path) -> None:
    """Make all pictures."""
    double = PageDouble()
    fill_views(double)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        profile = Path(folder) / "chromium"
        with start_browser(profile), run_service(model, Path(folder) / "state") as service:
            browser = PageBrowser(profile)
            draw_chat(browser.open_tab(browser.make_context()), service.url)
            with serve_app(make_double_app(double)) as url:
                draw_operation(browser.open_tab(browser.make_context()), url)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.service.page.make_pictures", description=__doc__)
    parser.add_argument("model", type=Path, help="model folder, with its index and embed beside it")
    draw_all(parser.parse_args(arguments).model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
