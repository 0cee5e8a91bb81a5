"""Uvicorn's HTTP/1.1 protocol with what it leaves out: a time limit for the headers, and errors in OpenAI's shape.

    uvicorn.Config(app, http=HttpProtocol, h11_max_incomplete_event_size=MAX_HEAD_BYTES)

Covers: a connection that sends nothing or one byte a second (408 after HEAD_SECONDS), one that reads nothing (closed after
SEND_SECONDS), bytes that are no HTTP (400), headers over MAX_HEAD_BYTES (431).
While there are too many requests for answers, one that came in one piece is refused here, by its first bytes, in 0.05 ms
instead of 1 ms: refusing four times as many as can be answered has to leave time to answer.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.service_error import ServiceError

HEAD_SECONDS = 10.0
SEND_SECONDS = 30.0
MAX_HEAD_BYTES = 16_384
ANSWERS = (b"POST /v1/chat/completions ", b"POST /v1/completions ", b"POST /v1/responses ")
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,9})\r\n", re.IGNORECASE)


class HttpProtocol(H11Protocol):
    """Closes connections whose request line and headers do not come in time, and those of clients that do not read."""

    head_seconds = HEAD_SECONDS
    send_seconds = SEND_SECONDS
    find_refusal: Callable[[], ServiceError | None] = staticmethod(lambda: None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the time for the first request; send each write at once.

        asyncio does so only for sockets that name their protocol; without it a client's delayed acknowledgment holds back the
        second of two writes for 40 ms.
        """
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer with the connection."""
        self._stop_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came; the time runs while a request has begun and its headers are not complete."""
        is_answer = data.startswith(ANSWERS) and self._is_between_requests()
        if is_answer and (refusal := self.find_refusal()) is not None and _is_whole_request(data):
            self.transport.write(_make_refusal(refusal))
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._head_timer is None and not self.transport.is_closing():
            self._start_timer()

    def _is_between_requests(self) -> bool:
        is_idle = self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE
        return is_idle and not self.conn.trailing_data[0] and not self.transport.is_closing()

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read; nothing more is computed for it after `send_seconds`."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        self._stop_write_timer()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request."""
        is_long = self.conn.their_state is h11.ERROR and len(self.conn.trailing_data[0]) >= MAX_HEAD_BYTES
        if is_long:
            error = ServiceError(431, f"headers: too long; found over {MAX_HEAD_BYTES:,} bytes; send fewer.")
        else:
            error = ServiceError(400, "request: not HTTP/1.1; found bytes that can't be read; send an HTTP request.")
        self._send_and_close(error)

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing() and self.conn.our_state is h11.IDLE:
            message = (
                f"headers: not complete after {self.head_seconds:g} seconds; found a slow client; send them faster."
            )
            self._send_and_close(ServiceError(408, message, code="request_timeout"))

    def _send_and_close(self, error: ServiceError) -> None:
        body = json.dumps(error.to_json()).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        events = (h11.Response(status_code=error.status, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        try:
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass  # an answer is under way: closing is all that is left
        self.transport.close()


def _is_whole_request(data: bytes) -> bool:
    """Return whether these bytes are one request with its whole body and nothing after it."""
    end = data.find(b"\r\n\r\n")
    if not 0 < end < MAX_HEAD_BYTES:
        return False
    length = _LENGTH.search(data, 0, end + 2)
    return length is not None and len(data) == end + 4 + int(length[1])


def _make_refusal(error: ServiceError) -> bytes:
    body = json.dumps(error.to_json()).encode()
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nretry-after: {max(1, round(error.retry_after or 1))}\r\n"
        f"x-request-id: req_{secrets.token_hex(12)}\r\n\r\n"
    )
    return head.encode() + body
