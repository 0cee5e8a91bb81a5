"""Run one trial: the pretrain stage in its own process and folder, with its own params.

In: params; the shards and the tokenizer of the workspace, read-only. Out, in the trial's folder: params.yaml, log.txt,
metrics.json, var/timings/pretrain.json, history.jsonl; the weights are deleted. A killed trial resumes from its checkpoint
(pipeline/run.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from pipeline.frame.timings import TIMINGS, read_timings

ROOT = Path(__file__).resolve().parent.parent.parent
STOP_SECONDS = 20.0


class Outcome(NamedTuple):
    """The result of a trial. `metrics` is None if it failed, and `why` then has the reason. `timings` has its clock readings."""

    metrics: Mapping[str, float] | None
    why: str = ""
    timings: Mapping[str, float] = {}


class Trial:
    """A trial: its folder and, while it runs, its process group."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, params: Mapping[str, Any], shards: Path, tokenizer: Path, n_workers: int) -> None:
        """Start the stage; it resumes if the folder has the same params. Do nothing if the trial is finished."""
        yaml, path = YAML(typ="safe", pure=True), self.folder / "params.yaml"
        if not path.exists() or yaml.load(path.read_text(encoding="utf-8")) != dict(params):
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._read_metrics() is not None:
            return
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(dict(params), file)
        inputs = ["--shards", str(shards), "--tokenizer", str(tokenizer)]
        environment = {
            **os.environ,
            "MINIGPT_WORKERS": str(n_workers),
            # Sets PDEATHSIG in the trial instead of in a preexec_fn (fork safety): it does not outlive the sweep.
            "MINIGPT_PARENT": str(os.getpid()),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        # Block signals until the new process is known and can be terminated; it unblocks them itself (follow_parent).
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            with (self.folder / "log.txt").open("ab") as log:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "pipeline",
                        "pretrain",
                        *inputs,
                        "--out",
                        "model",
                        "--metrics",
                        "metrics.json",
                    ],
                    cwd=self.folder,
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C reaches only the sweep, which then stops the trial
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def is_running(self) -> bool:
        """Return whether the process of the trial is running."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Terminate the process and all its children, with SIGKILL after `STOP_SECONDS`."""
        if self._process is None:
            return
        for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)

    def read_curve(self) -> list[tuple[int, float]]:
        """Return step and held-out bits per byte of all points so far."""
        live = sorted(self.folder.glob("scratch/pretrain/*/steps.jsonl"))  # deleted at the end of the stage
        whole = [self.folder / "model" / "history.jsonl", self.folder / "history.jsonl"]
        rows = [json.loads(line) for path in [*live, *whole] for line in _read_whole_lines(path)]
        return sorted({row["step"]: float(row["bpb"]) for row in rows if "bpb" in row}.items())

    def collect_outcome(self) -> Outcome:
        """Return the result of a trial that has ended. Delete weights and checkpoints, keep the curve."""
        history = self.folder / "model" / "history.jsonl"
        if history.exists():
            shutil.copy(history, self.folder / "history.jsonl")
        for name in ("model", "scratch"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        metrics = self._read_metrics()
        if metrics is None:
            return Outcome(None, self._find_reason())
        timings = read_timings(self.folder / TIMINGS / "pretrain.json", self.folder / "metrics.json")
        return Outcome(metrics, timings=timings)

    def _read_metrics(self) -> dict[str, float] | None:
        path = self.folder / "metrics.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def _find_reason(self) -> str:
        """Return the error of the stage as one line, or the signal or exit code that ended it."""
        path = self.folder / "log.txt"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        at = next((number for number in reversed(range(len(lines))) if lines[number].startswith("error: ")), None)
        if at is not None:
            rest = [line.strip() for line in lines[at + 1 : at + 3] if line.startswith("  ")]
            return "; ".join([lines[at].removeprefix("error: "), *rest])
        code = self._process.returncode if self._process else 1
        return f"killed by signal {-code}" if code and code < 0 else f"exit code {code}; see {path}"


def _read_whole_lines(path: Path) -> list[str]:
    """Return the complete lines of a file that may still be growing, none if it does not exist."""
    try:
        return [line for line in path.read_text(encoding="utf-8").split("\n")[:-1] if line]
    except FileNotFoundError:
        return []
