"""Run `mlflow models serve` for the champion of a test repository."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fake_repo import FakeRepo


@contextlib.contextmanager
def serve_champion(repo: FakeRepo, folder: Path) -> Iterator[int]:
    """Yield the port of a server. It runs in another folder, so that it imports the registered code, not the repository's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{repo.root / 'var/mlflow.db'}", "PYTHONPATH": ""}
    command = ["models", "serve", "-m", str(repo.root / "var/champion/package")]  # as `make serve` does
    command += ["--env-manager", "local", "--port", str(port)]
    command = [sys.executable, "-m", "mlflow", *command, "--workers", "1"]
    working_folder = folder / "elsewhere"
    working_folder.mkdir()
    environment = repo.environment() | store
    with subprocess.Popen(command, cwd=working_folder, env=environment, start_new_session=True) as server:
        try:
            yield port
        finally:
            os.killpg(server.pid, signal.SIGKILL)


def ask(port: int, body: dict[str, Any]) -> dict[str, Any]:
    """POST `body` to /invocations, as soon as the server accepts connections, and return the response."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Content-Type": "application/json"}
    url, deadline = f"http://127.0.0.1:{port}/invocations", time.monotonic() + 120
    while True:
        try:
            with opener.open(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        except OSError:
            assert time.monotonic() < deadline, f"no server on port {port}"
            time.sleep(0.2)
