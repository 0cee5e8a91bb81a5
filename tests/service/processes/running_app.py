"""Run an ASGI application on a real socket, in a thread of the test's process."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

from service.processes.http_server import bind


@contextmanager
def run_app(app: Any) -> Generator[str]:
    """Serve until the context ends. Yield the address."""
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < end
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@contextmanager
def run_raw(answers: list[bytes]) -> Generator[str]:
    """Answer each connection with the next of these bytes (the last one again and again) and close it. Yield the address."""
    listener = bind("127.0.0.1", 0)
    n_served = 0

    def serve() -> None:
        nonlocal n_served
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    read_request(connection)
                    connection.sendall(answers[min(n_served, len(answers) - 1)])
                except OSError:
                    pass
                n_served += 1

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(2)
        listener.close()
        thread.join(5)


def read_request(connection: Any) -> bytes:
    """Return the bytes of a request: its head and the body that the head announces."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return data
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while lengths and len(body) < lengths[0]:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
