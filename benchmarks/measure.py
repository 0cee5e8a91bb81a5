"""Run our implementation and its peer alternately on the same work, check that their results agree, and return speeds and ratio.

In: two callables and the amount of work in one call. Out: a `Result`. The best of several alternating rounds counts, so that
other programs on the machine affect both sides alike. On one core processor time is measured, on all cores wall-clock time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from pipeline.frame.errors import UserError

ROOT = Path(__file__).parent.parent
Row = Mapping[str, float | str | None]


@dataclass(frozen=True)
class Result:
    """Hold `ours` and `peer` in `unit` for the same `work`. More is better unless `is_cost`; without a peer only ours is known."""

    work: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    is_cost: bool = False
    details: Sequence[Row] = field(default=())  # rows of a table: further measurements of the same run

    @property
    def ratio(self) -> float | None:
        """Return how many times better ours is."""
        if self.peer is None:
            return None
        return self.peer / self.ours if self.is_cost else self.ours / self.peer


@dataclass(frozen=True)
class Work:
    """Describe what one call does: `amount` of it, in the numerator of `unit` (500 for documents/s, 12.3 for MB/s)."""

    description: str
    unit: str
    amount: float
    peer_name: str
    is_one_core: bool = True


def are_equal(ours: Any, peer: Any) -> bool:
    """Return whether two results are equal, arrays included."""
    return np.array_equal(ours, peer) if isinstance(ours, np.ndarray) else bool(ours == peer)


def compare(
    work: Work,
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    *,
    is_same: Callable[[Any, Any], bool] = are_equal,
    rounds: int = 3,
    details: Callable[[], Sequence[Row]] = tuple,
) -> Result:
    """Run both once to compare their results, then time them in alternating rounds. Raises: `UserError` if the results differ."""
    with use_one_core() if work.is_one_core else nullcontext():
        if not is_same(ours(), peer()):
            raise UserError(
                f"benchmark: {work.description}",
                f"ours and {work.peer_name} differ",
                "compare the two results; one is wrong",
            )
        best = [float("inf"), float("inf")]
        for _ in range(rounds):
            for index, call in enumerate((ours, peer)):
                best[index] = min(best[index], measure_seconds(call, work.is_one_core))
        rows = details()
    return Result(
        work.description, work.unit, work.amount / best[0], work.amount / best[1], work.peer_name, details=rows
    )


def measure_seconds(call: Callable[[], object], is_one_core: bool = True) -> float:
    """Return the processor time of one call, or its wall-clock time when it uses all cores."""
    clock = time.process_time if is_one_core else time.perf_counter
    started = clock()
    call()
    return clock() - started


def measure_rate(call: Callable[[], object], amount: float, rounds: int = 3) -> float:
    """Return `amount` per second of processor time on one core, for the best of several rounds."""
    with use_one_core():
        return amount / min(measure_seconds(call) for _ in range(rounds))


@contextmanager
def use_one_core() -> Generator[None]:
    """Run stages without worker processes, and Arrow on one thread."""
    n_threads = pa.cpu_count()
    with patch.dict(os.environ, {"MINIGPT_ENGINE": "serial"}):
        pa.set_cpu_count(1)
        try:
            yield
        finally:
            pa.set_cpu_count(n_threads)


def require_checkout(benchmark: str, peer: str, path: Path | None) -> Path:
    """Return the peer's folder. Raises: `UserError` if it was not given or does not exist."""
    if path is None or not path.is_dir():
        found = f"no --{peer}" if path is None else f"no folder {path}"
        raise UserError(f"{benchmark}: a checkout of {peer} is needed", found, f"clone {peer} and pass --{peer} PATH")
    return path


def run_python(arguments: Sequence[str], folder: Path, **environment: str) -> str:
    """Run a Python program in `folder`, with the folder's own .venv if it has one; return its output and error output.

    Raises: `UserError` if the folder does not exist, or with the last lines if the program fails.
    """
    if not folder.is_dir():
        raise UserError("benchmark: a checkout is missing", f"no folder {folder}", "clone it, or omit its option")
    own = folder / ".venv" / "bin" / "python"
    command = [str(own) if own.is_file() else sys.executable, *arguments]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, text=True, check=False, **streams)
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-5:])
        raise UserError(f"benchmark: {folder.name} failed with exit code {done.returncode}", last, "read its message")
    return done.stdout


def print_rows(rows: Sequence[Row]) -> None:
    """Print rows as a table, numbers right-aligned."""
    table = Table()
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(format_value(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)


def format_value(value: float | str | None) -> str:
    """Format a number with three significant digits, large ones without a fraction."""
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,.0f}" if abs(value) >= 100 or isinstance(value, int) else f"{value:.3g}"
