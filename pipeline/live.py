"""What can be watched while a run goes on: each step as a line of JSON, curves in MLflow, and on demand a profile of a few steps.

In: the records of the training loop, on the main process. Out: `steps.jsonl` in the run's scratch folder, with clocks, one line a
step as it ends (`tail -f scratch/pretrain/*/steps.jsonl`); where MLFLOW_TRACKING_URI names a server (http…), a process that brings
these lines there (pipeline/curves.py); with MINIGPT_PROFILE=1 a trace in var/profile/. None of them is an artifact. A run that goes
on after a kill repeats the steps since its last checkpoint: the last line of a step counts. Time: 25 µs a step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from model.train import StepRecord

PROFILES = Path("var") / "profile"
CURVES_SECONDS = 20.0  # at most, to bring the last points home after the last step
STEPS_BEFORE, STEPS_PROFILED = 3, 3  # the first steps allocate and compile


class Live:
    """`with Live(stage, scratch) as live: live.on_step(record)`; nothing is opened before the first step."""

    def __init__(self, stage: str, scratch: Path) -> None:
        self.stage, self.path = stage, scratch / "steps.jsonl"
        self._file: IO[str] | None = None
        self._curves: subprocess.Popen[bytes] | None = None
        self._profiler: Any = None
        self._steps_left = STEPS_BEFORE - 1 if os.environ.get("MINIGPT_PROFILE") == "1" else -1

    def __enter__(self) -> Live:
        return self

    def on_step(self, record: StepRecord) -> None:
        if self._file is None:
            self._file = self.path.open("a", encoding="utf-8", buffering=1)  # a line at a time
            self._start_curves()
        self._file.write(json.dumps(record.to_dict()) + "\n")
        if self._steps_left >= 0:
            self._steps_left -= 1
            if self._steps_left < 0:
                self._turn_profile()

    def _start_curves(self) -> None:
        if not os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
            return
        command = [sys.executable, "-m", "pipeline.curves", self.stage, self.path.parent.name]
        with self.path.open("rb") as lines:  # open already: the folder goes when the stage is done
            self._curves = subprocess.Popen(command, stdin=lines, stdout=subprocess.DEVNULL)

    def _turn_profile(self) -> None:
        """Starts the profile, or ends it and writes the trace."""
        if self._profiler is None:
            from torch.profiler import profile

            self._profiler = profile(profile_memory=True)
            self._profiler.start()
            self._steps_left = STEPS_PROFILED - 1
            return
        self._profiler.stop()
        PROFILES.mkdir(parents=True, exist_ok=True)
        path = PROFILES / f"{self.stage}.json.gz"
        self._profiler.export_chrome_trace(str(path))
        print(f"{self.stage}: a profile of {STEPS_PROFILED} steps is in {path}", flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            if kind is None:
                self._file.write(json.dumps({"end": True}) + "\n")
            self._file.close()
        if self._curves is not None:
            self._end_curves(is_whole=kind is None)
        if self._profiler is not None and self._steps_left >= 0:
            self._profiler.stop()  # the run was shorter than the profile

    def _end_curves(self, *, is_whole: bool) -> None:
        """Gives it a moment after a run that ended well; one that hangs is left behind."""
        assert self._curves is not None
        try:
            self._curves.wait(CURVES_SECONDS if is_whole else 0.0)
        except subprocess.TimeoutExpired:
            if is_whole:
                print(f"{self.stage}: MLflow does not take the last points of the curves", flush=True)
                self._curves.kill()
                self._curves.wait()
