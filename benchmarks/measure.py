"""What a benchmark gives back, and how it times: the best of alternating rounds, so that a busy moment hits both alike."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError


@dataclass(frozen=True)
class Result:
    """`ours` and `peer` in `unit` of the same `work`; more is better unless `is_cost`. No peer: only ours."""

    work: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    is_cost: bool = False

    @property
    def ratio(self) -> float | None:
        """How many times better ours is."""
        if self.peer is None:
            return None
        return self.peer / self.ours if self.is_cost else self.ours / self.peer


def rates(
    ours: Callable[[], object],
    peer: Callable[[], object],
    amount: float,
    rounds: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """`amount` of work per second for each, warmed up once, then in turn; the best round counts. For work on one core
    `time.process_time` is the better clock: what else the machine does does not show."""
    ours()
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for index, work in enumerate((ours, peer)):
            started = clock()
            work()
            best[index] = min(best[index], clock() - started)
    return amount / best[0], amount / best[1]


def python(arguments: Sequence[str], folder: Path, **environment: str) -> str:
    """What a Python program prints, run in a process of its own in `folder`. Raises: `UserError` with its last words."""
    command = [sys.executable, *arguments]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise UserError(f"{' '.join(arguments[:3])} failed in {folder}", last, "look at its message")
    return done.stdout
