"""Run an application on uvicorn, and let running answers end when the process is told to stop.

SIGTERM or the first Ctrl-C: `/ready` answers 503 at once and new requests are refused with Retry-After, running answers end whole,
at most `drain_seconds`; then the process exits with 0. A second signal exits at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.api.http.http_protocol import MAX_HEAD_BYTES, HttpProtocol
from service.service_error import ServiceError

POLL_SECONDS = 0.05
KEEP_ALIVE_SECONDS = 15


class DrainingServer(uvicorn.Server):
    """A server that drains before it exits. `on_drain` is called once, from a signal handler; `count_open` returns the number of
    answers that are still running."""

    def __init__(
        self, config: uvicorn.Config, on_drain: Callable[[], None], count_open: Callable[[], int], drain_seconds: float
    ) -> None:
        super().__init__(config)
        self._on_drain, self._count_open, self._drain_seconds = on_drain, count_open, drain_seconds
        self._drained_by: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; exit at the second signal. The signal is not raised again at the end: a drained service ended well."""
        if self._drained_by is not None:
            self.should_exit = self.force_exit = True
            return
        self._drained_by = time.monotonic() + self._drain_seconds
        self._on_drain()

    async def on_tick(self, counter: int) -> bool:
        """Exit when the last answer has ended, or when the time is over."""
        if self._drained_by is not None and not self.should_exit:
            self.should_exit = self._count_open() == 0 or time.monotonic() > self._drained_by
        return await super().on_tick(counter)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises: ValueError for an address that can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(
            f"can't listen on {host} port {port}; found: {reason}; choose another --port or --host."
        ) from error
    return listener


def run_server(
    app: FastAPI,
    listener: socket.socket,
    *,
    on_drain: Callable[[], None],
    count_open: Callable[[], int],
    drain_seconds: float,
    find_refusal: Callable[[], ServiceError | None] = lambda: None,
) -> int:
    """Serve until a signal. Return the exit code. `find_refusal`: why no answer can begin now."""
    protocol = type("RefusingProtocol", (HttpProtocol,), {"find_refusal": staticmethod(find_refusal)})
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=5,
        http=protocol,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        server_header=False,
        date_header=False,
    )
    server = DrainingServer(config, on_drain, count_open, drain_seconds)
    with contextlib.suppress(KeyboardInterrupt):
        previous = {sig: signal.getsignal(sig) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            asyncio.run(server.serve(sockets=[listener]))
        finally:
            for sig, handler in previous.items():
                signal.signal(sig, handler)
    return 0
