"""Prefect's server for this workspace: a temporary one while a flow runs, or the one that `make ui` has already started.

In: the repository's root. Out: environment variables that point Prefect at it. History lies in var/prefect, so that every
run is seen by every later UI. PREFECT_API_URL, where it is set, is used instead and nothing is started.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from flows.processes import child
from flows.steps import console

HOME = Path("var/prefect")
LOG = HOME / "server.log"
RUNNING = HOME / "server.json"  # written by `make ui`
SILENT = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
# As Prefect starts its own temporary server, but under a guard: it must not outlive a killed flow.
TEMPORARY = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
UVICORN = (
    "uvicorn",
    "--factory",
    "prefect.server.api.server:create_app",
    "--host",
    "127.0.0.1",
    "--log-level",
    "error",
)
START_SECONDS = 120.0


class ServerError(RuntimeError):
    """A server did not start."""


def settings(root: Path) -> dict[str, str]:
    """What every Prefect process of this workspace needs: its own home, no analytics."""
    return {"PREFECT_HOME": str((root / HOME).resolve()), **SILENT}


def ensure(root: Path) -> None:
    """Sets this process's environment so that Prefect, imported next, finds a server; starts one unless there is one.

    The server starts beside whatever comes next (`wait` is for the moment it is needed) and is ended at exit, after
    Prefect has sent its last logs: what is registered first is called last.
    """
    near = "127.0.0.1,localhost"  # never through a proxy
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), near]))
    os.environ.update(SILENT)
    os.environ.setdefault("PREFECT_LOGGING_SETTINGS_PATH", str(console.SETTINGS))
    if os.environ.get("PREFECT_API_URL"):
        return
    os.environ.update(settings(root))
    if url := running_url(root):
        os.environ["PREFECT_API_URL"] = url
        return
    port = free_port()
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    atexit.register(
        child.stop, start(root, [sys.executable, "-m", *UVICORN, "--port", str(port)], TEMPORARY, root / LOG)
    )


def start(root: Path, command: list[str], more: Mapping[str, str], log: Path) -> subprocess.Popen[str]:
    """A server under its guard, its output in `log`."""
    environment = {**child.environment_of(os.environ), **more}
    environment.pop("PREFECT_LOGGING_SETTINGS_PATH", None)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        return child.start(command, cwd=root, environment=environment, output=file, ask="SIGTERM")


def wait(url: str, log: Path, process: subprocess.Popen[str] | None = None) -> None:
    """Until `url` answers. Raises: `ServerError` with the log's last lines if the process dies or takes too long."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and (process is None or process.poll() is None):
        if is_healthy(url):
            return
        time.sleep(0.1)
    tail = log.read_text(errors="replace").strip().splitlines()[-5:] if log.exists() else []
    found = "\n    ".join(tail) or "no answer"
    raise ServerError(f"{url} does not answer\n  found: {found}\n  to do: see {log}, then try again")


def is_healthy(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def running_url(root: Path) -> str:
    """The API of the server that `make ui` runs, "" if there is none."""
    try:
        url = str(json.loads((root / RUNNING).read_text())["prefect"])
    except (FileNotFoundError, ValueError, KeyError):
        return ""
    return f"{url}/api" if is_healthy(f"{url}/api/health") else ""


def free_port(wanted: int = 0) -> int:
    """`wanted` if nobody listens there, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise ServerError("no free port\n  found: none on 127.0.0.1\n  to do: end a program that listens")
