"""Ten times the text in at most eleven times the time and the same memory: the text half on growing corpora.

`SCALE_MB` names the sizes (default 50,500; the claim is about 50,500,2000). The ratio is how much faster per byte the
largest run is than the smallest: 1 is linear, below 10/11 is a stage that grows faster than its input.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.generated import write_corpus
from benchmarks.measure import Result
from benchmarks.stages import TEXT_STAGES, Run, run_stage, workspace


def run() -> Result:
    """Bytes per second of processor time of the largest corpus beside the smallest."""
    sizes = [int(size) for size in os.environ.get("SCALE_MB", "50,500").split(",")]
    shown = Table("stage", *(f"{size} MB: s / peak MB" for size in sizes))
    runs = [measured(size * 10**6) for size in sizes]
    for stage in TEXT_STAGES:
        shown.add_row(
            stage, *(f"{found[stage].cpu_seconds:.1f} / {found[stage].peak_bytes / 1e6:.0f}" for found in runs)
        )
    Console().print(shown)
    rates = [
        size * 10**6 / sum(run.cpu_seconds for run in found.values()) for size, found in zip(sizes, runs, strict=True)
    ]
    return Result(f"text half, {sizes[-1]} MB beside {sizes[0]} MB", "bytes/s", rates[-1], rates[0], f"{sizes[0]} MB")


def measured(n_bytes: int) -> dict[str, Run]:
    with tempfile.TemporaryDirectory() as name:
        folder = workspace(Path(name))
        write_corpus(folder / "data" / "raw" / "text.jsonl", n_bytes)
        return {stage: run_stage(folder, stage) for stage in TEXT_STAGES}
