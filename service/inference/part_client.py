"""Call a part of the service that runs in another process: from worker threads and from asynchronous code.

In: addresses of one part, the token. Out: items of answers, or values. A call that fails before its first item is sent to the next
address, if it may be repeated; one that fails later is an error 503 at once, never a shorter answer. Closing an iterator closes
its connection, by which the part knows that nobody waits any more.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

import httpx

from assistant.tools.toolbox import AnswerAbortedError
from service.inference.address_pool import AddressPool
from service.processes.part_protocol import SILENCE_SECONDS, decode, decode_line, encode, read_error
from service.service_error import ServiceError

T = TypeVar("T")
CONNECT_SECONDS = 0.5
WAIT_SECONDS = 0.1  # between two attempts while a part starts
RETRIED = (502, 503, 504)  # of a part that is starting, draining or overloaded
LIMITS = httpx.Limits(max_connections=1024, max_keepalive_connections=64, keepalive_expiry=5)


class PartUnavailableError(ServiceError, AnswerAbortedError):
    """A part that is needed does not answer. It ends the answer that needs it: nothing is made up instead."""


class PartClient:
    """Calls one part, `name` in errors. Thread-safe."""

    def __init__(self, name: str, urls: Sequence[str], token: str, silence_seconds: float = SILENCE_SECONDS) -> None:
        self.name, self.pool = name, AddressPool(urls)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(silence_seconds, connect=CONNECT_SECONDS)
        options: dict[str, Any] = {"headers": headers, "timeout": timeout, "limits": LIMITS, "trust_env": False}
        self._client = httpx.Client(**options)
        self._make_asynchronous: Callable[[], httpx.AsyncClient] = lambda: httpx.AsyncClient(**options)
        self._asynchronous: httpx.AsyncClient | None = None

    def close(self) -> None:
        """Close the idle connections."""
        self._client.close()

    async def close_async(self) -> None:
        """Close the idle connections of the event loop."""
        if self._asynchronous is not None:
            await self._asynchronous.aclose()
            self._asynchronous = None

    def call(self, path: str, value: Any, kind: type[T], *, is_repeatable: bool = True) -> T:
        """Return the value that a part answers. Raises: ServiceError, PartUnavailableError."""
        body, last = encode(value), None
        for url in self.pool.list_candidates():
            try:
                with self.pool.occupy(url):
                    response = self._client.post(f"{url}/part/{path}", content=body)
            except httpx.HTTPError as error:
                self.pool.report(url, works=False)
                last = error
                if is_repeatable or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                    continue
                break
            self.pool.report(url, works=response.status_code not in RETRIED)
            if response.status_code in RETRIED:
                continue
            return decode(kind, _read_body(response.status_code, response.content))
        raise self._make_error(last) from last

    def describe(self, kind: type[T]) -> T:
        """Return what the part says about itself. Raises: ServiceError, PartUnavailableError."""
        last: Exception | None = None
        for url in self.pool.list_candidates():
            try:
                response = self._client.get(f"{url}/part/about")
            except httpx.HTTPError as error:
                self.pool.report(url, works=False)
                last = error
                continue
            self.pool.report(url, works=response.status_code not in RETRIED)
            if response.status_code in RETRIED:
                continue
            return decode(kind, _read_body(response.status_code, response.content))
        raise self._make_error(last) from last

    def wait(self, kind: type[T], seconds: float) -> T:
        """Return what the part says about itself, as soon as it answers. Raises: PartUnavailableError after so long."""
        end = time.monotonic() + seconds
        while True:
            try:
                return self.describe(kind)
            except PartUnavailableError:
                if time.monotonic() > end:
                    raise
                time.sleep(WAIT_SECONDS)

    def probe(self) -> None:
        """Ask each instance whether it is ready; what does not answer is down until it does."""
        for url in self.pool.list_candidates():
            try:
                response = self._client.get(f"{url}/ready")
                self.pool.report(url, works=response.status_code == 200)
            except httpx.HTTPError:
                self.pool.report(url, works=False)

    def stream(self, path: str, value: Any) -> Generator[Any, None, None]:
        """Yield the items of an answer. Raises: ServiceError, PartUnavailableError."""
        body, last = encode(value), None
        for url in self.pool.list_candidates():
            has_begun = False
            try:
                with self.pool.occupy(url), self._client.stream("POST", f"{url}/part/{path}", content=body) as response:
                    if response.status_code in RETRIED:
                        self.pool.report(url, works=False)
                        continue
                    if response.status_code != 200:
                        raise _read_failure(response.read())
                    self.pool.report(url, works=True)
                    for what, item in map(decode_line, _split_lines(response.iter_bytes())):
                        if what == "end":
                            return
                        if what == "item":
                            has_begun = True
                            yield item
                last = None  # it closed the connection before the end
                self.pool.report(url, works=False)
            except httpx.HTTPError as error:
                self.pool.report(url, works=False)
                last = error
            if has_begun:
                break
        raise self._make_error(last) from last

    async def stream_async(self, path: str, value: Any) -> AsyncGenerator[Any, None]:
        """Yield the items of an answer, from the event loop. Raises: ServiceError, PartUnavailableError."""
        body, last = encode(value), None
        client = self._asynchronous = self._asynchronous or self._make_asynchronous()
        for url in self.pool.list_candidates():
            has_begun = False
            try:
                with self.pool.occupy(url):
                    async with client.stream("POST", f"{url}/part/{path}", content=body) as response:
                        if response.status_code in RETRIED:
                            self.pool.report(url, works=False)
                            continue
                        if response.status_code != 200:
                            raise _read_failure(await response.aread())
                        self.pool.report(url, works=True)
                        rest = b""
                        async for chunk in response.aiter_bytes():
                            *lines, rest = (rest + chunk).split(b"\n")
                            for what, item in map(decode_line, lines):
                                if what == "end":
                                    return
                                if what == "item":
                                    has_begun = True
                                    yield item
                last = None
                self.pool.report(url, works=False)
            except httpx.HTTPError as error:
                self.pool.report(url, works=False)
                last = error
            if has_begun:
                break
        raise self._make_error(last) from last

    def _make_error(self, error: Exception | None) -> PartUnavailableError:
        found = type(error).__name__ if error is not None else "no whole answer"
        message = f"the part {self.name} of the service does not answer; found {found}; try again in a second."
        return PartUnavailableError(503, message, code="part_unavailable", retry_after=1)


def _split_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _read_body(status: int, body: bytes) -> bytes:
    """Return the body of an answer. Raises: the error that it is."""
    if status != 200:
        raise _read_failure(body)
    return body


def _read_failure(body: bytes) -> ServiceError:
    try:
        row: Any = json.loads(body)
    except ValueError:
        row = {}
    return read_error(row.get("error") if isinstance(row, dict) else None)
