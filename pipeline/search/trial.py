"""One trial: the pretrain stage in a process and a folder of its own, with params of its own.

In: params, the shards and the tokenizer of the workspace, which are only read. Out, in the trial's folder: params.yaml, log.txt,
metrics.json, history.jsonl; the weights are not kept. A trial that was killed goes on from its checkpoint (pipeline/stage.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent.parent
HELD = (signal.SIGINT, signal.SIGTERM)
STOP_SECONDS = 20.0
FIGURE = "heldout_bpb"


class Outcome(NamedTuple):
    """`metrics` is None for a trial that failed; then `why` says so in a line."""

    metrics: Mapping[str, float] | None
    why: str = ""


class Trial:
    """A folder and, while it runs, a process group."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, params: Mapping[str, Any], shards: Path, tokenizer: Path, n_workers: int) -> None:
        """Goes on with what the folder holds if it is of the same params. A trial that is finished starts nothing."""
        if self._written_params() != dict(params):
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._metrics() is not None:
            return
        with (self.folder / "params.yaml").open("w", encoding="utf-8") as file:
            YAML(typ="safe", pure=True).dump(dict(params), file)
        inputs = ["--shards", str(shards), "--tokenizer", str(tokenizer)]
        outputs = ["--out", "model", "--metrics", "metrics.json"]
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "MINIGPT_WORKERS": str(n_workers),
            "MINIGPT_PARENT": str(
                os.getpid()
            ),  # the trial does not outlive the search (pipeline.frame.lifetime.follow_parent)
            "PYTHONPATH": os.pathsep.join(paths),
        }
        with (self.folder / "log.txt").open("ab") as log, _signals_held():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.launch", "pretrain", *inputs, *outputs],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us, who then end the trial
            )

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Ends the process and all its children."""
        if self._process is None:
            return
        for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue

    def curve(self) -> list[tuple[int, float]]:
        """Step and held-out bits per byte, as far as it has come."""
        live = sorted(self.folder.glob("scratch/pretrain/*/steps.jsonl"))  # gone once the stage is done
        whole = [self.folder / "model" / "history.jsonl", self.folder / "history.jsonl"]
        lines = [line for path in [*live, *whole] for line in _lines(path)]
        points = {row["step"]: float(row["bpb"]) for row in lines if "bpb" in row}
        return sorted(points.items())

    def outcome(self) -> Outcome:
        """Of a trial that runs no more; weights and checkpoints go, the curve stays."""
        history = self.folder / "model" / "history.jsonl"
        if history.exists():
            shutil.copy(history, self.folder / "history.jsonl")
        for name in ("model", "scratch"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        metrics = self._metrics()
        return Outcome(metrics) if metrics is not None else Outcome(None, self._why())

    def _metrics(self) -> dict[str, float] | None:
        path = self.folder / "metrics.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def _written_params(self) -> Any:
        path = self.folder / "params.yaml"
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")) if path.exists() else None

    def _why(self) -> str:
        """The error of the stage as one line, or the signal that ended it."""
        path = self.folder / "log.txt"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        at = next((number for number in reversed(range(len(lines))) if lines[number].startswith("error: ")), None)
        if at is not None:
            rest = [line.strip() for line in lines[at + 1 : at + 3] if line.startswith("  ")]
            return "; ".join([lines[at].removeprefix("error: "), *rest])
        code = self._process.returncode if self._process else 1
        return f"killed by signal {-code}" if code and code < 0 else f"exit code {code}; see {path}"


@contextlib.contextmanager
def _signals_held() -> Generator[None]:
    """A Ctrl-C waits until the process that is being started is known, and can be ended. It lets signals in by itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that may still be growing, or be gone."""
    try:
        *whole, _ = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in whole if line]
