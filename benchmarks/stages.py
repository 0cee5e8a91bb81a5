"""Stages run as `dvc repro` runs them, one process each, with what each took of processor and memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
TEXT_STAGES = ("download", "dedupe", "filter", "train_tokenizer", "shard")
SOURCE = {"kind": "text", "name": "generated", "path": "data/raw/text.jsonl", "licence": "CC0-1.0"}


class Run(NamedTuple):
    """Seconds by the clock and of all processors, and the most memory that was not backed by a file, over all processes."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def workspace(folder: Path) -> Path:
    """A folder with the default params on a source of one file, data/raw/text.jsonl."""
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["download"]["sources"] = [SOURCE]
    (folder / "data" / "raw").mkdir(parents=True)
    shutil.copytree(ROOT / "data" / "seed", folder / "data" / "seed")
    for file in (ROOT / "data").glob("*.jsonl"):
        shutil.copy(file, folder / "data")
    with (folder / "params.yaml").open("w", encoding="utf-8") as stream:
        yaml.dump(params, stream)
    return folder


def run_stage(folder: Path, stage: str, **environment: str) -> Run:
    """Raises `CalledProcessError` when the stage fails."""
    command = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]["cmd"]
    words = [sys.executable, *command.split()[1:]]
    settings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    before, started = os.times(), time.monotonic()
    with (folder / f"{stage}.log").open("w") as log:
        child = subprocess.Popen(words, cwd=folder, env=settings, stdout=log, stderr=log)
        peak = Peak(child.pid)
        code = child.wait()
    if code:
        sys.stderr.write((folder / f"{stage}.log").read_text())
        raise subprocess.CalledProcessError(code, words)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(time.monotonic() - started, cpu, peak.stop())


class Peak:
    """Looks again and again at a process and its children: their memory together without what a file backs."""

    def __init__(self, pid: int, every_seconds: float = 0.1) -> None:
        self.most, self._every = 0, every_seconds
        self._process, self._done = psutil.Process(pid), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(self._every):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                self.most = max(self.most, sum(info.rss - info.shared for info in (p.memory_info() for p in family)))
            except psutil.NoSuchProcess:
                continue

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        return self.most
