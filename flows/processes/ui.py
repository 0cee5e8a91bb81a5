"""python -m flows ui: serve Prefect's and MLflow's pages for this workspace until Ctrl-C.

In: var/prefect and the MLflow store. Out: two URLs, on the default ports (4200, 5000) or on free ones, with the keys that open the
pages. Both servers run under guards: neither can outlive this process; one that ends by itself is started again. Meanwhile,
`python -m flows retrain` uses this Prefect server instead of a temporary one. If PREFECT_API_URL or MLFLOW_TRACKING_URI name a
server, its URL is printed instead.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from flows.processes import access, child, credentials, server

PREFECT_PORT, MLFLOW_PORT = 4200, 5000
MLFLOW, MLFLOW_APPLICATION = server.MLFLOW, "mlflow.server.fastapi_app:app"
MLFLOW_LOG = Path("var/mlflow-server.log")
# No job runner, which would start eight more processes with 2 GB; no telemetry.
LEAN = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "DO_NOT_TRACK": "1",
    "PYTHONWARNINGS": "ignore",
}
MAX_RESTARTS, RESTART_SECONDS = (
    5,
    600.0,
)  # more of them within ten minutes: something is wrong that a restart does not mend


@dataclass
class Page:
    """A server and its page. `launch` starts it; there is none for a server that runs already."""

    title: str
    content: str
    name: str
    url: str
    health: str
    log: Path
    is_ours: bool
    launch: Callable[[], subprocess.Popen[str]] | None = None
    process: subprocess.Popen[str] | None = None
    restarts: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Start the server, if it is ours."""
        self.process = self.launch() if self.launch is not None else None

    def revive(self) -> None:
        """Start the server again if it has ended, unless that has happened too often."""
        if self.launch is None or self.process is None or self.process.poll() is None:
            return
        child.stop(self.process)
        self.restarts = [moment for moment in self.restarts if time.monotonic() - moment < RESTART_SECONDS]
        if len(self.restarts) >= MAX_RESTARTS:
            print(
                f"error: {self.title}'s server keeps stopping\n  found: {MAX_RESTARTS} restarts within {RESTART_SECONDS / 60:.0f}"
                f" minutes\n  to do: read {self.log}, then run `make ui` again",
                file=sys.stderr,
                flush=True,
            )
            self.process = None
            return
        self.restarts.append(time.monotonic())
        print(f"{self.title}'s server stopped; starting it again (the reason may be in {self.log})", flush=True)
        self.start()


def serve(root: Path) -> int:
    """Start the servers that are missing, print their URLs and wait for Ctrl-C; return the exit code."""
    if running := server.read_running(root):
        print("the servers are running already:")
        makers = {server.PREFECT: make_prefect_page, MLFLOW: make_mlflow_page}
        print_urls(root, [makers[name](url) for name, url in running.items()])
        return 0
    pages: list[Page] = []
    with server.announce(root) as write:
        try:
            print("starting Prefect's and MLflow's servers …", flush=True)
            pages += [find_prefect(root), find_mlflow(root)]
            for page in pages:
                page.start()
            for page in pages:
                log, seconds = (root / page.log, math.inf) if page.is_ours else (None, server.START_SECONDS)
                server.wait_until_healthy(f"{page.url}{page.health}", log, page.process, _print, seconds)
            print_urls(root, pages)
            write({page.name: page.url for page in pages if page.is_ours})
            print("Ctrl-C stops both.", flush=True)
            watch(pages)
            return 1
        except KeyboardInterrupt:
            print("\nstopping both", flush=True)
            return 0
        finally:
            for page in pages:
                if page.process is not None:
                    child.stop(page.process)


def watch(pages: list[Page]) -> None:
    """Keep the servers running; return when none of ours is left."""
    ours = [page for page in pages if page.is_ours]
    while not ours or any(page.process is not None for page in ours):
        time.sleep(0.5)
        for page in ours:
            page.revive()


def _print(text: str) -> None:
    print(text, flush=True)


def print_urls(root: Path, pages: list[Page]) -> None:
    """Print where the pages are. The address of a server of ours has its key behind the #, which browsers never send."""
    for page in pages:
        opening = f"{access.LOGIN}#{credentials.read_key(root, page.name)}" if page.is_ours else ""
        print(f"{page.title:<8} {page.content:<24} {page.url}{opening}")
    ours = [page.name for page in pages if page.is_ours]
    if not all(credentials.is_private(root, name) for name in ours):
        print(
            f"note: other users of this machine can read the keys: the file system of {credentials.KEYS} has no modes"
        )
    if ours:
        print("The part behind # is the key: it opens the page for you alone. Programs: docs/security.md", flush=True)


def find_prefect(root: Path) -> Page:
    """Return Prefect's server: the one that the environment names, else our own."""
    if url := os.environ.get("PREFECT_API_URL"):
        return make_prefect_page(url.rstrip("/").removesuffix("/api"), is_ours=False)
    port = server.find_free_port(PREFECT_PORT)
    page = make_prefect_page(f"http://127.0.0.1:{port}")
    page.launch = lambda: server.start_prefect(root, port, {})
    return page


def find_mlflow(root: Path) -> Page:
    """Return MLflow's server: the one that the environment names, else our own."""
    store = os.environ.get("MLFLOW_TRACKING_URI", "")
    if store.startswith(("http://", "https://")):
        return make_mlflow_page(store.rstrip("/"), is_ours=False)
    if not store:
        store = f"sqlite:///{(root / 'var/mlflow.db').resolve()}"
        create_store(root)
    port = server.find_free_port(MLFLOW_PORT)
    artifacts = (root / "var/mlartifacts").resolve().as_uri()
    settings = {  # what `mlflow server` sets for the application that it starts
        **LEAN,
        "_MLFLOW_SERVER_FILE_STORE": store,
        "_MLFLOW_SERVER_REGISTRY_STORE": store,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": artifacts,
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    page = make_mlflow_page(f"http://127.0.0.1:{port}")
    page.launch = lambda: server.start(
        root, [MLFLOW, MLFLOW_APPLICATION, "--port", str(port)], settings, root / MLFLOW_LOG
    )
    return page


def make_prefect_page(url: str, *, is_ours: bool = True) -> Page:
    """Describe a server of Prefect."""
    return Page("Prefect", "(runs, logs, artifacts)", server.PREFECT, url, "/api/health", server.LOG, is_ours)


def make_mlflow_page(url: str, *, is_ours: bool = True) -> Page:
    """Describe a server of MLflow."""
    return Page("MLflow", "(metrics, versions)", MLFLOW, url, "/health", MLFLOW_LOG, is_ours)


def create_store(root: Path) -> None:
    """Let the registry create its database, before the server opens it."""
    command = [sys.executable, "-m", "pipeline.registry", "list"]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if process.returncode:
        raise server.ServerError((process.stderr or process.stdout).strip().removeprefix("error: "))
