"""The service from its start to its first answer, and its memory when it is idle."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.measure import ROOT, Result
from benchmarks.serving.http_throughput import make_prompts
from benchmarks.serving.running_servers import run_service, send_load


def run(*, model: Path | None = None, rounds: int = 3) -> Result:
    """Return seconds to the first answer, the best of the rounds, and the memory after it."""
    folder, best, rows = model or ROOT / "var" / "champion" / "model", float("inf"), list[dict[str, float]]()
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            started = time.monotonic()
            with run_service(folder, Path(name)) as server:
                idle = server.measure_memory()
                send_load(server, make_prompts(1, number), 1, 16)
                seconds, cpu = time.monotonic() - started, server.measure_cpu()
                best = min(best, seconds)
                after = server.measure_memory()
        rows.append({"seconds": seconds, "CPU-seconds": cpu, "idle MB": idle, "MB after an answer": after})
    return Result("start to first answer", "s", best, is_cost=True, details=rows)
