"""Prefect's server for this workspace: a temporary one while a flow runs, or the one that `make ui` has already started.

In: the repository's root. Out: environment variables that point Prefect to it. The history is in var/prefect, so that every
later UI shows every run. If PREFECT_API_URL is set, that server is used and none is started.
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
# The settings of the temporary server that Prefect starts itself; ours runs under a guard and can't outlive a killed flow.
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
    """A server did not start; the message has the three parts of an error."""


def get_settings(root: Path) -> dict[str, str]:
    """Return the settings of every Prefect process of this workspace: its own home, no analytics."""
    return {"PREFECT_HOME": str((root / HOME).resolve()), **SILENT}


def ensure_server(root: Path) -> None:
    """Set this process's environment so that Prefect, imported next, finds a server; start one unless there is one.

    It starts in the background (`wait_until_healthy` waits for it), and is stopped at exit after Prefect has sent its last
    logs: exit handlers run in reverse order.
    """
    local = "127.0.0.1,localhost"  # never through a proxy
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), local]))
    os.environ.update(SILENT)
    os.environ.setdefault("PREFECT_LOGGING_SETTINGS_PATH", str(console.SETTINGS))
    if os.environ.get("PREFECT_API_URL"):
        return
    os.environ.update(get_settings(root))
    if url := find_running_url(root):
        os.environ["PREFECT_API_URL"] = url
        return
    port = find_free_port()
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    atexit.register(
        child.stop, start(root, [sys.executable, "-m", *UVICORN, "--port", str(port)], TEMPORARY, root / LOG)
    )


def start(root: Path, command: list[str], extra: Mapping[str, str], log: Path) -> subprocess.Popen[str]:
    """Start a server under its guard, with its output in `log`."""
    environment = {**child.make_environment(os.environ), **extra}
    environment.pop("PREFECT_LOGGING_SETTINGS_PATH", None)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        return child.start(command, cwd=root, environment=environment, output=file, stop_signal="SIGTERM")


def wait_until_healthy(url: str, log: Path, process: subprocess.Popen[str] | None = None) -> None:
    """Wait until `url` answers. Raises `ServerError` with the log's last lines if the process dies or takes too long."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and (process is None or process.poll() is None):
        if is_healthy(url):
            return
        time.sleep(0.1)
    tail = log.read_text(errors="replace").strip().splitlines()[-5:] if log.exists() else []
    found = "\n    ".join(tail) or "no answer"
    raise ServerError(f"{url} does not answer\n  found: {found}\n  to do: read {log}, then try again")


def is_healthy(url: str) -> bool:
    """Return whether `url` answers with status 200."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def find_running_url(root: Path) -> str:
    """Return the API's URL of the server that `make ui` runs, or "" if there is none."""
    try:
        url = str(json.loads((root / RUNNING).read_text())["prefect"])
    except (FileNotFoundError, ValueError, KeyError):
        return ""
    return f"{url}/api" if is_healthy(f"{url}/api/health") else ""


def find_free_port(wanted: int = 0) -> int:
    """Return `wanted` if no process listens on it, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise ServerError("no free port\n  found: none on 127.0.0.1\n  to do: stop a program that listens on one")
