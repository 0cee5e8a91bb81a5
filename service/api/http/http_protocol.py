"""Uvicorn's HTTP/1.1 protocol with what it leaves out: a time limit for the headers, and errors in OpenAI's shape.

    uvicorn.Config(app, http=HttpProtocol, h11_max_incomplete_event_size=MAX_HEAD_BYTES)

Covers: a connection that sends nothing or one byte a second (408 after HEAD_SECONDS), one that reads nothing (closed after
SEND_SECONDS), bytes that are no HTTP (400), headers over MAX_HEAD_BYTES (431).
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.errors import ServiceError

HEAD_SECONDS = 10.0
SEND_SECONDS = 30.0
MAX_HEAD_BYTES = 16_384


class HttpProtocol(H11Protocol):
    """Closes connections whose request line and headers do not come in time, and those of clients that do not read."""

    head_seconds = HEAD_SECONDS
    send_seconds = SEND_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the time for the first request."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer with the connection."""
        self._stop_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came; the time runs while a request has begun and its headers are not complete."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._head_timer is None and not self.transport.is_closing():
            self._start_timer()

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
