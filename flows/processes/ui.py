"""python -m flows ui: serve Prefect's and MLflow's pages for this workspace until Ctrl-C.

In: var/prefect and the MLflow store. Out: two URLs, on the default ports (4200, 5000) or on free ones. Both servers run under
guards: neither can outlive this process. Meanwhile, `python -m flows retrain` uses this Prefect server instead of a temporary
one. If PREFECT_API_URL or MLFLOW_TRACKING_URI name a server, its URL is printed instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from flows.processes import child, server

PREFECT_PORT, MLFLOW_PORT = 4200, 5000
MLFLOW_LOG = Path("var/mlflow-server.log")
# One worker and no job runner: two processes and 560 MB instead of ten and 2.7 GB.
LEAN = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "DO_NOT_TRACK": "1",
}


def serve(root: Path) -> int:
    """Start the servers that are missing, print their URLs and wait for Ctrl-C; return the exit code."""
    if server.find_running_url(root):
        print("the servers are running already:")
        print_urls(**json.loads((root / server.RUNNING).read_text()))
        return 0
    started: list[subprocess.Popen[str]] = []
    try:
        print("starting Prefect's and MLflow's servers …", flush=True)
        prefect, mlflow = start_prefect(root, started), start_mlflow(root, started)
        if started:
            server.wait_until_healthy(f"{prefect}/api/health", root / server.LOG)
            server.wait_until_healthy(f"{mlflow}/health", root / MLFLOW_LOG)
        print_urls(prefect, mlflow)
        if not os.environ.get("PREFECT_API_URL"):
            (root / server.RUNNING).write_text(json.dumps({"prefect": prefect, "mlflow": mlflow}))
        print("Ctrl-C stops both.", flush=True)
        while all(process.poll() is None for process in started):
            time.sleep(0.5)
        print(
            f"error: a server stopped\n  found: its process exited\n  to do: read {server.LOG} and {MLFLOW_LOG}, then try again",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nstopping both", flush=True)
        return 0
    finally:
        (root / server.RUNNING).unlink(missing_ok=True)
        for process in started:
            child.stop(process)


def print_urls(prefect: str, mlflow: str) -> None:
    """Print where the pages are."""
    print(f"Prefect (runs, logs, artifacts):   {prefect}\nMLflow (metrics, versions):        {mlflow}", flush=True)


def start_prefect(root: Path, started: list[subprocess.Popen[str]]) -> str:
    """Return the server's URL; start it and add it to `started` unless the environment names another one."""
    if api_url := os.environ.get("PREFECT_API_URL"):
        return api_url.removesuffix("/api")
    port = server.find_free_port(PREFECT_PORT)
    settings = {
        **server.get_settings(root),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
    }
    command = [sys.executable, "-m", *server.UVICORN, "--port", str(port)]
    (root / server.HOME).mkdir(parents=True, exist_ok=True)
    started.append(server.start(root, command, settings, root / server.LOG))
    return f"http://127.0.0.1:{port}"


def start_mlflow(root: Path, started: list[subprocess.Popen[str]]) -> str:
    """Return the server's URL; start it and add it to `started` unless the environment names another one."""
    store = os.environ.get("MLFLOW_TRACKING_URI", "")
    if store.startswith(("http://", "https://")):
        return store
    if not store:
        store = f"sqlite:///{(root / 'var/mlflow.db').resolve()}"
        create_store(root)
    port = server.find_free_port(MLFLOW_PORT)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--default-artifact-root", (root / "var/mlartifacts").resolve().as_uri()]
    started.append(server.start(root, command, LEAN, root / MLFLOW_LOG))
    return f"http://127.0.0.1:{port}"


def create_store(root: Path) -> None:
    """Let the registry create its database, before several workers open it at once."""
    command = [sys.executable, "-m", "pipeline.registry", "list"]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if process.returncode:
        raise server.ServerError((process.stderr or process.stdout).strip().removeprefix("error: "))
