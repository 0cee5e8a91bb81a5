"""Limits of a request that hold before any route sees it, as ASGI middleware: size of the body, time to send it, number of headers.

Each request gets its id here (`scope["request_id"]`, header X-Request-Id). Memory: a body in one piece, at most `max_body_bytes`.
Time: 10 µs a request.

Covers: a body that grows without a content-length, one that comes byte by byte (slow loris; slow headers are `http_protocol`'s).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from base64 import b32encode
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from service.api.http.error_responses import make_error_response
from service.service_error import ServiceError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
MAX_HEADERS = 100
ANSWERS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses"})
MAX_DISCARDED = 16_000_000  # bytes of a body that is too large
DISCARD_SECONDS = 3.0
MAX_HEADER_BYTES = 16_384


def make_request_id() -> str:
    """Return a new id: req_ and 24 characters (120 random bits)."""
    return "req_" + b32encode(secrets.token_bytes(15)).decode().lower()


class RequestLimits:
    """Wraps an application. A request that is over a limit gets 413, 408 or 431 and its connection is closed.

    `refuse_answer` returns the error of requests for answers while there are too many. They are not even parsed: refusing them
    would take the time that the others need.
    """

    def __init__(
        self,
        app: App,
        max_body_bytes: int = 1_000_000,
        body_seconds: float = 20.0,
        refuse_answer: Callable[[], ServiceError | None] = lambda: None,
    ) -> None:
        self.app, self.max_body_bytes, self.body_seconds = app, max_body_bytes, body_seconds
        self._refuse_answer = refuse_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["request_id"] = request_id = make_request_id()
        name = (b"x-request-id", request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], name]
            await send(message)

        try:
            body = await self._read(scope, receive)
        except ServiceError as error:
            error.headers["Connection"] = "close"
            if error.status == 413:
                await self._discard(receive)
            await make_error_response(error)(scope, receive, send_with_id)
            return
        if scope["path"] in ANSWERS and (refusal := self._refuse_answer()) is not None:
            await make_error_response(refusal)(scope, receive, send_with_id)
        elif body is not None:
            await self.app(scope, _replay(body, receive), send_with_id)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the body; None if the client left while it sent it."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if len(headers) > MAX_HEADERS:
            message = f"headers: too many; found {len(headers)}; send at most {MAX_HEADERS}."
            raise ServiceError(431, message, code="too_many_headers")
        if (size := sum(len(name) + len(value) for name, value in headers)) > MAX_HEADER_BYTES:
            message = f"headers: too long; found {size:,} bytes; send at most {MAX_HEADER_BYTES:,}."
            raise ServiceError(431, message, code="headers_too_large")
        names = {name for name, _ in headers}
        if (
            b"content-length" in names and b"transfer-encoding" in names
        ):  # two servers may see two different requests in it
            message = (
                "headers: must say once where the body ends; found content-length and transfer-encoding; send one."
            )
            raise ServiceError(400, message, code="ambiguous_length")
        length = next((value for name, value in headers if name == b"content-length"), b"")
        if length.isdigit() and int(length) > self.max_body_bytes:
            raise self._make_size_error(int(length))
        try:
            async with asyncio.timeout(self.body_seconds):
                return await self._collect(receive)
        except TimeoutError:
            message = f"body: not complete after {self.body_seconds:g} seconds; found a slow client; send it faster."
            raise ServiceError(408, message, code="request_timeout") from None

    async def _collect(self, receive: Receive) -> bytes | None:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self.max_body_bytes:
                raise self._make_size_error(size)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    async def _discard(self, receive: Receive) -> None:
        """Read what a client is still sending, within limits: one whose connection is closed before does not see the answer."""
        n_left = MAX_DISCARDED
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_SECONDS):
                while n_left > 0:
                    message = await receive()
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return
                    n_left -= len(message.get("body", b""))

    def _make_size_error(self, size: int) -> ServiceError:
        message = f"body: too large; found at least {size:,} bytes; send at most {self.max_body_bytes:,}."
        return ServiceError(413, message, code="request_too_large")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once, then what the server says: that the client has left."""
    is_given = False

    async def replay() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
