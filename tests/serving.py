"""`mlflow models serve` of a repository's champion, for as long as a test needs it."""

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
def served(repo: FakeRepo, folder: Path) -> Iterator[int]:
    """The port. It is started elsewhere, so that the code comes from the version and not from the repository."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{repo.root / 'var/mlflow.db'}", "PYTHONPATH": ""}
    command = ["models", "serve", "-m", "models:/minigpt@champion", "--env-manager", "local", "--port", str(port)]
    command = [sys.executable, "-m", "mlflow", *command, "--workers", "1"]
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    environment = repo.environment() | store
    with subprocess.Popen(command, cwd=elsewhere, env=environment, start_new_session=True) as server:
        try:
            yield port
        finally:
            os.killpg(server.pid, signal.SIGKILL)


def ask(port: int, body: dict[str, Any]) -> dict[str, Any]:
    """POST /invocations, as soon as somebody listens."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Content-Type": "application/json"}
    url, until = f"http://127.0.0.1:{port}/invocations", time.monotonic() + 120
    while True:
        try:
            with opener.open(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        except OSError:
            assert time.monotonic() < until, f"nobody listens on {port}"
            time.sleep(0.2)
