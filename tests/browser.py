"""Drive a headless Chromium through its debugging protocol, for tests that need a real browser's rules."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

from websockets.sync.client import connect
from websockets.sync.connection import Connection

FLAGS = (
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
        "--mute-audio",
    ),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--remote-debugging-port=0",
        "--no-proxy-server",
    ),
)
SECONDS = 60.0


def find_chromium() -> str | None:
    """Return the path of an installed Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Tab:
    """A tab of the browser: navigate, and evaluate scripts in its page."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.numbers = connection, itertools.count(1)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command; return its result."""
        number = next(self.numbers)
        self.connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while (message := json.loads(self.connection.recv(timeout=SECONDS))).get("id") != number:
            pass
        assert "error" not in message, message
        return message["result"]

    def evaluate(self, script: str) -> Any:
        """Return the value of a script, or of its promise."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, url: str, until: str = "document.readyState === 'complete'") -> None:
        """Navigate as a user who types the address; wait until the script `until` is true in the page."""
        self.call("Page.navigate", url=url)
        self.wait(until)

    def wait(self, until: str) -> None:
        """Wait until a script is true in the page, which may be replaced meanwhile."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):
                if self.evaluate(until):
                    return
            time.sleep(0.1)
        raise AssertionError(f"never true: {until}; {self.evaluate('location.href + document.body.innerText')}")


@contextlib.contextmanager
def start_browser(profile: Path) -> Generator[Tab]:
    """Start a browser with an empty profile; yield its tab."""
    program = find_chromium()
    assert program is not None
    command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            port = _read_port(profile / "DevToolsActivePort", browser)
            with _open(f"http://127.0.0.1:{port}/json/list") as answer:
                url = next(target["webSocketDebuggerUrl"] for target in json.load(answer) if target["type"] == "page")
            with connect(url, max_size=None, proxy=None) as connection:
                yield Tab(connection)
        finally:
            browser.kill()


def _read_port(path: Path, browser: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + SECONDS
    while not (path.exists() and path.read_text().count("\n")):
        assert time.monotonic() < deadline, "the browser did not start"
        assert browser.poll() is None, "the browser exited"
        time.sleep(0.1)
    return path.read_text().splitlines()[0]


def _open(url: str) -> Any:
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=SECONDS)
