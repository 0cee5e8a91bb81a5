"""The whole text half, JSON lines in to token shards out: MB/s of one core, and how time and memory grow with the corpus.

`--sizes-mb 50,500,2000` sets the sizes of the generated corpora. The result is the speed on the largest corpus; its peer is our
own speed on the smallest one, so a ratio below 10/11 means that time grows faster than the text. Each stage runs in its own
process, as in `dvc repro`. Its processor time counts, over all processes and threads, from the start of the interpreter to its
end; memory is the peak over its processes, without what is backed by files. `--engine process` measures with worker processes,
and `--dedupe-memory-mb 64` with another limit for sorting and comparing. No peer does all of this work.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

import psutil
from ruamel.yaml import YAML

from benchmarks.measure import ROOT, Result, Row
from benchmarks.text.generated import write_corpus
from pipeline.frame.errors import UserError

STAGES = ("download", "dedupe", "filter", "train_tokenizer", "shard")
SOURCE = {"kind": "text", "name": "generated", "path": "data/raw/text.jsonl", "license": "CC0-1.0"}


class Run(NamedTuple):
    """Hold what one stage took: processor seconds and peak memory over all its processes."""

    cpu_seconds: float
    peak_bytes: int


def run(
    *, sizes_mb: tuple[int, ...] = (50, 500), engine: str = "serial", dedupe_memory_mb: int | None = None
) -> Result:
    """Return megabytes of raw text per second of processor time, for the largest corpus and the smallest."""
    runs = [run_stages(size, engine, dedupe_memory_mb) for size in sizes_mb]
    speeds = [
        size / sum(run.cpu_seconds for run in stages.values()) for size, stages in zip(sizes_mb, runs, strict=True)
    ]
    rows: list[Row] = [
        {
            "stage": stage,
            "MB": size,
            "processor s": stages[stage].cpu_seconds,
            "MB/s": size / stages[stage].cpu_seconds,
            "peak MB": stages[stage].peak_bytes / 1e6,
        }
        for stage in STAGES
        for size, stages in zip(sizes_mb, runs, strict=True)
    ]
    work = f"download to shard, {sizes_mb[-1]} MB of generated text, engine {engine}"
    return Result(work, "MB/s", speeds[-1], speeds[0], f"ours on {sizes_mb[0]} MB", details=rows)


def run_stages(size_mb: int, engine: str, dedupe_memory_mb: int | None) -> dict[str, Run]:
    """Generate a corpus and run the stages on it, in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_workspace(folder, dedupe_memory_mb)
        write_corpus(folder / "data" / "raw" / "text.jsonl", size_mb * 10**6)
        return {stage: run_stage(folder, stage, engine) for stage in STAGES}


def write_workspace(folder: Path, dedupe_memory_mb: int | None) -> None:
    """Write the default params, with a single file as the source, and the seed data."""
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["download"]["sources"] = [SOURCE]
    if dedupe_memory_mb is not None:
        params["dedupe"]["memory_mb"] = dedupe_memory_mb
    (folder / "data" / "raw").mkdir(parents=True)
    shutil.copytree(ROOT / "data" / "seed", folder / "data" / "seed")
    for file in (ROOT / "data").glob("*.jsonl"):
        shutil.copy(file, folder / "data")
    with (folder / "params.yaml").open("w", encoding="utf-8") as stream:
        yaml.dump(params, stream)


def run_stage(folder: Path, stage: str, engine: str) -> Run:
    """Run a stage's command from dvc.yaml. Raises: `UserError` with the end of its output when it fails."""
    command = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]["cmd"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MINIGPT_ENGINE": engine}
    before, log = os.times(), folder / f"{stage}.log"
    with log.open("w") as stream:
        child = subprocess.Popen(
            [sys.executable, *command.split()[1:]], cwd=folder, env=environment, stdout=stream, stderr=stream
        )
        peak = PeakMemory(child.pid)
        code = child.wait()
    peak_bytes, after = peak.stop(), os.times()
    if code:
        last = "\n".join(log.read_text().splitlines()[-5:])
        raise UserError(f"scale: {stage} failed with exit code {code}", last, "run the stage on its own")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(cpu, peak_bytes)


class PeakMemory:
    """Sample the memory of a process and its children, without what is backed by files, in a thread."""

    def __init__(self, pid: int, every_seconds: float = 0.05) -> None:
        self.n_bytes, self._every = 0, every_seconds
        self._process, self._is_done = psutil.Process(pid), threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def _sample(self) -> None:
        while not self._is_done.wait(self._every):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                used = sum(info.rss - info.shared for info in (process.memory_info() for process in family))
                self.n_bytes = max(self.n_bytes, used)
            except psutil.NoSuchProcess:
                continue

    def stop(self) -> int:
        """Return the peak in bytes."""
        self._is_done.set()
        self._thread.join()
        return self.n_bytes
