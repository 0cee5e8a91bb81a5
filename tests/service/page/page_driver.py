"""Pages of one headless Chromium for all tests: each test has its own context, so its own storage and network."""

from __future__ import annotations

import base64
import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from tests.browser import SECONDS, Tab

WATCH = """
window.alarms = [];
window.alert = window.confirm = window.prompt = (text) => alarms.push(`dialog ${text}`);
window.pwned = () => alarms.push("script");
addEventListener("securitypolicyviolation", (event) => alarms.push(`policy ${event.violatedDirective} ${event.blockedURI}`));
addEventListener("error", (event) => alarms.push(`error ${event.message}`));
addEventListener("unhandledrejection", (event) => alarms.push(`rejected ${event.reason?.message || event.reason}`));
"""
WAIT = "new Promise((resolve) => {{ const look = () => ({0}) ? resolve(true) : setTimeout(look, 10); look(); }})"


class PageTab(Tab):
    """A tab with what a person does in it: type, press, click; and what it did: its requests."""

    def __init__(self, url: str, target: str, context: str) -> None:
        super().__init__(connect(url, max_size=None, proxy=None))
        self.target, self.context = target, context
        self.requests: list[str] = []
        self.call("Network.enable")
        self.call("Page.enable")
        self.resize(1280, 800)
        self.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self.numbers)
        self.connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while (message := json.loads(self.connection.recv(timeout=SECONDS))).get("id") != number:
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        assert "error" not in message, message
        return message["result"]

    def wait(self, until: str) -> None:
        """Wait until a script is true in the page; it must come true within ten seconds."""
        wait = f"Promise.race([{WAIT.format(until)}, new Promise((resolve) => setTimeout(resolve, 10000))])"
        assert self.evaluate(wait), f"never true: {until}; the page shows: {self.evaluate('document.body.innerText')}"

    def open(self, url: str, until: str = "document.querySelector('#profile')?.options.length") -> None:
        self.call("Page.navigate", url=url)
        self.settle(until)

    def reload(self) -> None:
        self.evaluate("window.isOld = true")
        self.call("Page.reload")
        self.settle("!window.isOld && document.querySelector('#profile')?.options.length")

    def settle(self, until: str) -> None:
        """Wait although the document may be replaced meanwhile."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            result = self.call("Runtime.evaluate", expression=f"Boolean({until})", returnByValue=True)
            if result["result"].get("value") is True:
                return
            time.sleep(0.01)
        raise AssertionError(f"never true: {until}")

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press a key; modifiers: 1 Alt, 2 Ctrl, 4 Meta, 8 Shift."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowUp": 38, " ": 32}
        code = codes.get(key, ord(key.upper()[0]))
        text = {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 and not modifiers & 6 else "")
        common = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def send(self, text: str) -> None:
        """Ask a question as a person does."""
        self.evaluate("document.querySelector('#message').focus()")
        self.type(text)
        self.press("Enter")

    def click(self, selector: str) -> None:
        """Click in the middle of an element, where anything that covers it would get the click."""
        box = self.evaluate(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'nearest'}});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def text(self, selector: str = "body") -> str:
        return self.evaluate(f"document.querySelector({selector!r})?.innerText ?? ''")

    def list_texts(self, selector: str) -> list[str]:
        return self.evaluate(f"[...document.querySelectorAll({selector!r})].map((each) => each.innerText)")

    def finish(self, n: int = 1) -> None:
        """Wait until there are this many answers and all are complete."""
        states = "[...document.querySelectorAll('article[aria-busy]')].map((each) => each.ariaBusy)"
        self.wait(f"{states}.join() === '{','.join(['false'] * n)}'")

    def resize(self, width: int, height: int, *, is_dark: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)

    def shoot(self, path: Path) -> None:
        """Write a picture of what is visible."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


class PageBrowser:
    """Makes contexts and tabs in a running browser, by the port that it wrote into its profile."""

    def __init__(self, profile: Path) -> None:
        self.port, path = (profile / "DevToolsActivePort").read_text().split()
        self.root = Tab(connect(f"ws://127.0.0.1:{self.port}{path}", max_size=None, proxy=None))
        self.numbers = itertools.count()

    def make_context(self) -> str:
        return self.root.call("Target.createBrowserContext")["browserContextId"]

    def close_context(self, context: str) -> None:
        self.root.call("Target.disposeBrowserContext", browserContextId=context)

    def open_tab(self, context: str) -> PageTab:
        target = self.root.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        return PageTab(f"ws://127.0.0.1:{self.port}/devtools/page/{target}", target, context)


def open_contexts(browser: PageBrowser) -> Iterator[PageTab]:
    """Yield a tab in a context of its own; close both at the end."""
    context = browser.make_context()
    tab = browser.open_tab(context)
    try:
        yield tab
    finally:
        tab.connection.close()
        browser.close_context(context)


def read_url(url: str, headers: dict[str, str] | None = None, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Return status, headers (names in lower case) and body of a request that uses no proxy."""
    request = urllib.request.Request(url, headers=headers or {}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=SECONDS) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()
