"""Prefect's server for this workspace: a temporary one while a flow runs, or the one that `make ui` has already started.

In: the repository's root. Out: environment variables that point Prefect's clients to it, with its key. The history is in
var/prefect, so that every later UI shows every run. If PREFECT_API_URL is set, that server is used and none is started: it gets
no key of ours, unless it is the server of `make ui`.
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
import urllib.request
from collections.abc import Callable, Generator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from filelock import lock_descriptor

from flows.processes import child
from flows.processes.credentials import USER, make_basic, read_key
from flows.steps import console

HOME = Path("var/prefect")
LOG = HOME / "server.log"
RUNNING = HOME / "server.json"  # written by `make ui`, which holds a lock on it while it runs
SILENT = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
# The settings of the temporary server that Prefect starts itself; ours runs under a guard and can't outlive a killed flow.
TEMPORARY = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
# A request fails after 20 seconds and is repeated once: a run whose server has died goes on without it (Prefect's defaults: 60
# seconds, five times, for each of many requests).
IMPATIENT = {"PREFECT_API_REQUEST_TIMEOUT": "20", "PREFECT_CLIENT_MAX_RETRIES": "1"}
PREFECT, PREFECT_MODULE = "prefect", "prefect.server.api.server:create_app"
MLFLOW = "mlflow"
START_SECONDS, NOTICE_SECONDS = 60.0, 15.0


class ServerError(RuntimeError):
    """A server did not start; the message has the three parts of an error."""


def get_settings(root: Path) -> dict[str, str]:
    """Return the settings of every Prefect process of this workspace: its own home, no analytics."""
    return {"PREFECT_HOME": str((root / HOME).resolve()), **SILENT}


def configure_client(root: Path) -> str:
    """Set this process's environment for Prefect, imported next, except for a temporary server; return the API's URL, or ""."""
    local = "127.0.0.1,localhost"  # never through a proxy
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), local]))
    os.environ.update(SILENT)
    for name, value in {"PREFECT_LOGGING_SETTINGS_PATH": str(console.SETTINGS), **IMPATIENT}.items():
        os.environ.setdefault(name, value)
    ours = find_running_url(root)
    url = os.environ.get("PREFECT_API_URL", "")
    if url and url.rstrip("/") != ours:
        return url
    os.environ.update(get_settings(root))
    os.environ.pop("PREFECT_API_KEY", None)  # of another server
    os.environ["PREFECT_API_AUTH_STRING"] = make_basic(read_key(root, PREFECT))
    if ours:
        os.environ["PREFECT_API_URL"] = ours
    return ours


def start_temporary(root: Path) -> subprocess.Popen[str]:
    """Start a server for one run in the background, and point this process's environment to it.

    It is stopped at exit, after Prefect has sent its last logs: exit handlers run in reverse order.
    """
    port = find_free_port()
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    process = start_prefect(root, port, TEMPORARY)
    atexit.register(child.stop, process)
    return process


def start_prefect(root: Path, port: int, extra: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start Prefect's server on a port. It checks the key too, and repeats what it refuses in WebSockets."""
    own = {
        **get_settings(root),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_API_AUTH_STRING": make_basic(read_key(root, PREFECT)),
    }
    return start(root, [PREFECT, PREFECT_MODULE, "--factory", "--port", str(port)], {**own, **extra}, root / LOG)


def start(root: Path, arguments: list[str], extra: Mapping[str, str], log: Path) -> subprocess.Popen[str]:
    """Start a server under its guard, with its output in `log`. `arguments` are those of flows.processes.host."""
    environment = {**child.make_environment(os.environ), **extra}
    for name in ("PREFECT_LOGGING_SETTINGS_PATH", "PREFECT_API_URL", *IMPATIENT):
        environment.pop(name, None)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "flows.processes.host", *arguments]
    with log.open("w") as file:
        return child.start(command, cwd=root, environment=environment, output=file, stop_signal="SIGTERM")


def find_loss(process: subprocess.Popen[str] | None, url: str) -> str:
    """Return why the server is lost, or "": its process ended, or it has not answered two requests."""
    if process is not None and process.poll() is not None:
        return f"its process ended with code {process.returncode}"
    is_answering = any(is_healthy(url, seconds) for seconds in (5.0, 15.0))
    return "" if is_answering else f"no answer from {url}"


def leave(code: int) -> NoReturn:
    """Exit at once, without Prefect's exit handlers, which would send logs to a lost server for half a minute.

    A temporary server that still runs is stopped by its guard.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait_until_healthy(
    url: str,
    log: Path | None,
    process: subprocess.Popen[str] | None = None,
    on_wait: Callable[[str], None] | None = None,
    seconds: float = START_SECONDS,
) -> None:
    """Wait until `url` answers; meanwhile, pass the reason to `on_wait` now and then.

    Raises `ServerError` with the log's last lines if the process dies or takes too long.
    """
    started, notice = time.monotonic(), NOTICE_SECONDS
    while (waited := time.monotonic() - started) < seconds and (process is None or process.poll() is None):
        if is_healthy(url):
            return
        if on_wait is not None and waited > notice:
            on_wait(f"waiting for the server at {urlsplit(url).netloc}: no answer for {waited:.0f} s")
            notice *= 2
        time.sleep(0.1)
    has_ended = process is not None and process.poll() is not None
    raise make_error(url, log, "its process ended" if has_ended else f"no answer for {seconds:.0f} s")


def make_error(url: str, log: Path | None, found: str) -> ServerError:
    """Return the error of a server that does not answer, with the last lines of its log."""
    tail = log.read_text(errors="replace").strip().splitlines()[-5:] if log is not None and log.exists() else []
    found = "\n    ".join([found, *tail])
    todo = f"read {log}, then try again" if log else "start that server, or unset the variable that names it"
    return ServerError(f"{url} does not answer\n  found: {found}\n  to do: {todo}")


def is_healthy(url: str, seconds: float = 5.0) -> bool:
    """Return whether `url` answers with status 200."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=seconds) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError, HTTPException):
        return False


@contextlib.contextmanager
def announce(root: Path) -> Generator[Callable[[Mapping[str, str]], None]]:
    """Hold the lock of the servers of `make ui`; yield a function that writes their URLs. Raises `ServerError` if it is held."""
    path = root / RUNNING
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def write(urls: Mapping[str, str]) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(dict(urls)).encode(), 0)

    try:
        if not any(lock_descriptor(descriptor, blocking=False) or time.sleep(0.05) for _ in range(20)):
            raise ServerError(
                f"{RUNNING}: another `make ui` is starting the servers\n  found: it holds the lock\n  to do: use its servers"
            )
        write({})
        yield write
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def read_running(root: Path) -> dict[str, str]:
    """Return the URLs of the servers that `make ui` runs; empty if none does: a file without a lock is left from a killed one."""
    try:
        descriptor = os.open(root / RUNNING, os.O_RDWR)
    except OSError:
        return {}
    try:
        if lock_descriptor(descriptor, blocking=False):
            return {}
        return dict(json.loads(os.pread(descriptor, 4096, 0)))
    except ValueError:
        return {}
    finally:
        os.close(descriptor)


def find_running_url(root: Path) -> str:
    """Return the API's URL of the server that `make ui` runs, or "" if there is none."""
    url = read_running(root).get("prefect")
    return f"{url}/api" if url and is_healthy(f"{url}/api/health") else ""


def make_environment_of_stages(root: Path, base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` without Prefect's keys, and with MLflow's if MLFLOW_TRACKING_URI is the server of `make ui`."""
    environment = {
        name: value for name, value in base.items() if name not in ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY")
    }
    store, ours = base.get("MLFLOW_TRACKING_URI", "").rstrip("/"), read_running(root).get(MLFLOW)
    has_key = any(name in base for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"))
    if store and store == ours and not has_key:
        environment |= {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": read_key(root, MLFLOW)}
    return environment


def find_free_port(wanted: int = 0) -> int:
    """Return `wanted` if no process listens on it, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise ServerError("no free port\n  found: none on 127.0.0.1\n  to do: stop a program that listens on one")
