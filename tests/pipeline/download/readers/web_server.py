"""Run a local web server with configurable faults."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Trouble:
    """A fault in one GET response: an error status, or a disconnect or stall after some bytes."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    cut_after: int = -1
    stall_after: int = -1


@dataclass
class Page:
    """A file on the server; each GET uses up one of `troubles`, later ones succeed."""

    data: bytes
    etag: str = '"1"'
    last_modified: str = ""
    has_range: bool = True
    has_head: bool = True
    has_length: bool = True
    extra_length: int = 0  # declared but not sent
    headers: dict[str, str] = field(default_factory=dict[str, str])
    troubles: list[Trouble] = field(default_factory=list[Trouble])
    then: Page | None = None  # the next version, after the troubles
    etags: list[str] = field(
        default_factory=list[str]
    )  # of the mirrors behind this name; each request meets the next one
    head_status: int = 0  # of all HEAD requests
    total_told: int = 0  # in Content-Range, instead of the length


class Server:
    """A server with `pages` by path and a `log` of (method, path, requested range, status)."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.log: list[tuple[str, str, str, int]] = []
        self.over = threading.Event()
        self.headers: list[dict[str, str]] = []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def asked(self, method: str = "GET") -> list[tuple[str, int]]:
        """Return (range, status) of the requests by this method."""
        return [(asked, status) for each, _, asked, status in self.log if each == method]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                server.respond(self)

            def do_GET(self) -> None:
                server.respond(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        page = self.pages.get(path)
        asked = request.headers.get("Range", "")
        self.headers.append(dict(request.headers))
        if page is None or (request.command == "HEAD" and not page.has_head):
            self._status(request, 404 if page is None else 405, {})
            return
        if page.etags:
            page.etag = page.etags[0]
            page.etags = [*page.etags[1:], page.etag]
        if request.command == "HEAD" and page.head_status:
            self._status(request, page.head_status, {})
            return
        trouble = page.troubles.pop(0) if request.command == "GET" and page.troubles else Trouble()
        if trouble.status:
            self._status(request, trouble.status, trouble.headers)
            return
        if request.command == "GET" and not page.troubles and page.then:
            self.pages[path] = page.then
        start = 0
        condition = request.headers.get("If-Range")
        if asked and page.has_range and condition in (None, page.etag, page.last_modified):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if asked and start >= len(page.data):
            self._status(request, 416, {"Content-Range": f"bytes */{len(page.data)}"})
            return
        status, total = (206 if start else 200), len(page.data) + page.extra_length
        self.log.append((request.command, path, asked, status))
        request.send_response(status)
        given = {"Connection": "close", "ETag": page.etag, "Last-Modified": page.last_modified, **page.headers}
        if start:
            given["Content-Range"] = f"bytes {start}-{total - 1}/{page.total_told or total}"
        if page.has_length:
            given["Content-Length"] = str(total - start)
        for name, value in given.items():
            if value:
                request.send_header(name, value)
        request.end_headers()
        request.close_connection = True
        if request.command == "GET":
            self._send(request, page.data[start:], trouble)

    def _send(self, request: BaseHTTPRequestHandler, data: bytes, trouble: Trouble) -> None:
        end = min(n for n in (trouble.cut_after, trouble.stall_after, len(data)) if n >= 0)
        try:
            request.wfile.write(data[:end])
            request.wfile.flush()
            if trouble.stall_after >= 0:
                self.over.wait(20)
        except OSError:
            pass  # the client has disconnected

    def _status(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        self.log.append((request.command, request.path, request.headers.get("Range", ""), status))
        request.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            request.send_header(name, value)
        request.end_headers()


@contextmanager
def run_server() -> Generator[Server, None, None]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.http.shutdown()
        server.http.server_close()
        thread.join()
