"""python -m flows worker: start the flow runs that Prefect's schedule or page orders, while `make ui` (or a team's server) runs.

In: prefect.yaml, and the server of `make ui` or of PREFECT_API_URL. Out: the work pool, the deployment, and a worker until Ctrl-C;
while the server is away it waits. What a run may ask for is in locked_worker.py.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

from flows.processes import child, server

POOL = "local"
AWAY_SECONDS = 10.0  # between two attempts to reach a server that is away


def start(root: Path) -> int:
    """Set up the pool and the deployment, and work until Ctrl-C."""
    url = server.configure_client(root)
    if not url:
        raise server.ServerError(
            "worker: there is no Prefect server\n  found: `make ui` does not run\n  to do: start it first"
        )
    for name in server.IMPATIENT:
        os.environ.pop(name, None)
    server.wait_until_healthy(f"{url}/health", None)
    warnings.filterwarnings(
        "ignore", "Type 'LockedWorker'"
    )  # it replaces Prefect's process worker in this process: so it shall
    create_pool(root)
    deploy(root)
    print(f"worker: waiting for runs from {url}; Ctrl-C stops it", flush=True)
    while True:
        reason = work()
        print(f"worker: {url} is away ({reason}); trying again every {AWAY_SECONDS:.0f} s", flush=True)
        time.sleep(AWAY_SECONDS)
        while not server.is_healthy(f"{url}/health"):
            time.sleep(AWAY_SECONDS)


def create_pool(root: Path) -> None:
    """Create the work pool, or replace its template: a run can't name a command, a folder or an environment."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    from flows.processes.locked_worker import make_template

    with get_client(sync_client=True) as client:
        pool = WorkPoolCreate(name=POOL, type="process", base_job_template=make_template(root))
        client.create_work_pool(pool, overwrite=True)


def deploy(root: Path) -> None:
    """Register the deployments of prefect.yaml."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    environment = {**child.make_environment(os.environ), "PWD": str(root.resolve())}  # which prefect.yaml reads
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        lines = "\n    ".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise server.ServerError(
            f"prefect.yaml: can't be deployed\n  found: {lines}\n  to do: correct it, then try again"
        )


def work() -> str:
    """Work until the server has been away for too long for Prefect's worker; return what that raised. Ctrl-C passes through."""
    from flows.processes.locked_worker import LockedWorker

    try:
        asyncio.run(LockedWorker(work_pool_name=POOL).start(printer=lambda *_: None))
    except Exception as error:
        return str(error).partition("\n")[0] or type(error).__name__
    return "it ended"
