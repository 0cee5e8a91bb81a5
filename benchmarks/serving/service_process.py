"""Start the service as its users do, in a process of its own with an empty state, for the benchmarks of serving."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOT
from pipeline.frame.errors import UserError

START_SECONDS = 120.0


@dataclass(frozen=True)
class ServiceProcess:
    """A running service."""

    process: subprocess.Popen[str]
    url: str


@contextmanager
def start_service(folder: Path, model: Path | None = None, *flags: str) -> Generator[ServiceProcess, None, None]:
    """Start `python -m service serve` on a free port; `model` is a folder, by default the champion."""
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--state", str(folder / "state"), *flags]
    command += ["--model", str(model)] if model is not None else []
    log = folder / "service.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, text=True)
        try:
            yield ServiceProcess(process, _wait_for_url(process, log))
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for_url(process: subprocess.Popen[str], log: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        text = log.read_text()
        if (match := re.search(r"serving (http://\S+)", text)) is not None:
            return match[1].rstrip("/")
        if process.poll() is not None:
            raise UserError("the service did not start", text[-500:], "name a --model that it can serve")
        time.sleep(0.05)
    raise UserError("the service did not start", f"nothing in {START_SECONDS} s", "see whether the machine is busy")
