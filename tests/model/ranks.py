"""Run a program in several real processes that form one process group over gloo, without torchrun."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_ranks(program: str, n_ranks: int, *arguments: object, **environment: str) -> None:
    """Run the program in `n_ranks` processes; all must exit with 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "PYTHONPATH": str(ROOT),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(n_ranks),
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    children = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=ROOT,
        )
        for rank in range(n_ranks)
    ]
    try:
        assert [child.wait(timeout=240) for child in children] == [0] * n_ranks
    finally:
        for child in children:
            child.kill()  # no effect on a process that has ended
