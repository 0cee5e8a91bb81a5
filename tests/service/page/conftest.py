"""One browser for all tests of the page; each test has its own context of it, and its own double of the service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser import find_chromium, start_browser
from tests.service.page.page_double import PageDouble, make_double_app, serve_app
from tests.service.page.page_driver import PageBrowser, PageTab, open_contexts


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageBrowser]:
    """Start the browser."""
    if find_chromium() is None:
        pytest.skip("needs Chromium")
    profile = tmp_path_factory.mktemp("chromium")
    with start_browser(profile) as first:
        running = PageBrowser(profile)
        yield running
        running.root.connection.close()
        first.connection.close()


@pytest.fixture
def double() -> Iterator[PageDouble]:
    """Serve a double."""
    made = PageDouble()
    with serve_app(make_double_app(made)) as made.url:
        yield made


@pytest.fixture
def tab(browser: PageBrowser, double: PageDouble) -> Iterator[PageTab]:
    """Open the page. At the end nothing may have happened that the page's policy forbids, and no request gone elsewhere."""
    for made in open_contexts(browser):
        made.open(double.url)
        yield made
        assert made.evaluate("alarms") == []
        assert [url for url in made.requests if not url.startswith((double.url, "data:", "about:"))] == []
