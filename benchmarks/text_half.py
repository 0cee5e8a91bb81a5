"""The whole text half on one core: JSON lines in, token shards out, and where the time goes. No peer does all of it.

Each stage runs in a process of its own, as `dvc repro` runs it, on the serial engine; its processor time counts, all threads
together, from the start of the interpreter to its end. `TEXT_HALF_MB` sets the size (default 200).
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
    """Bytes of raw text per second of one core."""
    with tempfile.TemporaryDirectory() as name:
        folder = workspace(Path(name))
        n_bytes = write_corpus(
            folder / "data" / "raw" / "text.jsonl", int(os.environ.get("TEXT_HALF_MB", "200")) * 10**6
        )
        runs = {stage: run_stage(folder, stage, MINIGPT_ENGINE="serial") for stage in TEXT_STAGES}
    Console().print(table(runs, n_bytes))
    seconds = sum(run.cpu_seconds for run in runs.values())
    return Result(f"{n_bytes / 1e6:.0f} MB of text, download to shard", "bytes/s", n_bytes / seconds)


def table(runs: dict[str, Run], n_bytes: int) -> Table:
    """A row a stage."""
    shown = Table("stage", *(("processor s", "MB/s", "share", "peak MB")))
    total = sum(run.cpu_seconds for run in runs.values())
    for stage, run in runs.items():
        seconds = run.cpu_seconds
        figures = (
            f"{seconds:.1f}",
            f"{n_bytes / seconds / 1e6:.1f}",
            f"{seconds / total:.0%}",
            f"{run.peak_bytes / 1e6:.0f}",
        )
        shown.add_row(stage, *figures)
    return shown
