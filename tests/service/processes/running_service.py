"""A real service in a process of its own, over a tiny model, for tests of signals, kills and load."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.conftest import ROOT

START_SECONDS = 60.0


class RunningService:
    """`python -m service serve` on a free port. `log` is what it has printed so far."""

    def __init__(self, model: Path, state: Path, *flags: str) -> None:
        self._path = state.parent / f"{state.name}-{secrets.token_hex(4)}.log"
        command = [
            sys.executable,
            "-m",
            "service",
            "serve",
            "--model",
            str(model),
            "--state",
            str(state),
            "--port",
            "0",
            *flags,
        ]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with self._path.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)
        self.url = self._wait()

    def _wait(self) -> str:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            for line in self.log.splitlines():
                if line.startswith("serving http"):
                    return line.split()[1]
            assert self.process.poll() is None, self.log
            time.sleep(0.02)
        raise AssertionError(f"the service did not start: {self.log}")

    @property
    def log(self) -> str:
        return self._path.read_text()

    def terminate(self) -> int:
        """Send SIGTERM; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, text: str, **settings: object) -> httpx.Response:
        body = {"model": "minigpt/direct", "messages": [{"role": "user", "content": text}], **settings}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=60)


@contextmanager
def run_service(model: Path, state: Path, *flags: str) -> Generator[RunningService]:
    """Run a service; whatever happens, its process is gone afterwards."""
    service = RunningService(model, state, *flags)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.kill()
