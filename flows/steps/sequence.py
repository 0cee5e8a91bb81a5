"""Run every stage that has changed, then publish, gate and promote: the order, and what each step's end means.

In: the repository's root, with its lock held, and a `Journal`, which runs the steps and records them (Prefect's, or the terminal
alone). Out: the result that ends the run, and a row per step. A failing stage ends the run with the stage's own error message; a
busy lock is retried; a refusal by the gate is no failure. Needs no Prefect.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from flows.processes import child, server
from flows.steps import console, graph

BUSY_CODE = 75
BUSY_WORDS = ("Unable to acquire lock", "is busy, it is being blocked by", "database is locked")
RETRY_SECONDS = [2.0, 5.0, 10.0, 20.0, 40.0, 60.0]
REFUSED_CODE = 3
COMPLETED, CACHED, REFUSED, FAILED, BUSY = "Completed", "Cached", "Refused", "Failed", "Busy"
STOPPED = "Stopped"  # the run's result when a stage failed
COMMANDS = ("publish", "gate", "promote")
OUTCOMES = Path("var/outcomes")
METRICS = Path("data/metrics")
TIMINGS = Path("var/timings")
REPORT = Path("var/report.md")
# The metrics of a stage that the table shows, if it has them.
SHOWN_METRICS = (
    *("docs_in", "docs_out", "passages", "vocab_size", "bytes_per_token", "train_n_tokens", "val_n_tokens"),
    *(
        "n_train",
        "n_heldout",
        "n_params",
        "tokens",
        "tokens_per_second",
        "heldout_bpb",
        "heldout_loss_nats",
        "bpb",
        "bpb_se",
    ),
)


@dataclass(frozen=True)
class StepResult:
    """How a step, or the run, ended: one of the names above, and a message."""

    name: str
    message: str = ""

    @property
    def is_completed(self) -> bool:
        """Return whether the next step may follow."""
        return self.name in (COMPLETED, CACHED, REFUSED)


class Journal(Protocol):
    """Where a run is recorded."""

    def run_step(self, name: str, work: Callable[[], StepResult], needed: Set[str]) -> StepResult:
        """Run `work`, again while it is busy, and record it as a step that follows the steps `needed`; return its last result."""
        ...

    def log(self, name: str, text: str, level: int = logging.INFO) -> None:
        """Record a line of a step's output, and print it."""
        ...


class Terminal:
    """A journal that prints, and keeps nothing."""

    def run_step(self, name: str, work: Callable[[], StepResult], needed: Set[str]) -> StepResult:
        """Run `work`, again while it is busy; return its last result."""
        result = work()
        for seconds in RETRY_SECONDS:
            if result.name != BUSY:
                break
            time.sleep(seconds)
            result = work()
        return result

    def log(self, name: str, text: str, level: int = logging.INFO) -> None:
        """Print a line of a step's output."""
        print(console.format_line(name, text, level), flush=True)


@dataclass
class FlowRun:
    """The progress of one run: rows of the table, and the stages that ran, not cached."""

    root: Path
    lock: int
    journal: Journal
    changed: set[str] | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    fresh: set[str] = field(default_factory=set)


def run_all(run: FlowRun, register: bool) -> StepResult:
    """Run the stages that have changed, then (with `register`) publish, judge and promote; return the run's result."""
    try:
        ended = run_stages(run) or (run_registry(run) if register else write_report(run))
    except graph.GraphError as error:
        return StepResult(STOPPED, f"retrain: {error}")
    return ended or StepResult(COMPLETED, "everything is up to date" + ("" if register else "; nothing was registered"))


def run_stages(run: FlowRun) -> StepResult | None:
    """Run every stage in order; return the result that ends the run if one fails, else None."""
    for stage, needed in graph.read_graph(run.root / "dvc.yaml").items():
        is_unchanged = run.changed is not None and stage not in run.changed and not needed & run.fresh
        started = time.monotonic()
        work = partial(skip, run, stage) if is_unchanged else partial(run_stage, run, stage)
        result = run.journal.run_step(stage, work, needed)
        metrics = read_metrics(run.root / METRICS / f"{stage}.json")
        if result.name != CACHED:  # clock readings belong to a stage that has just run
            timings = read_metrics(run.root / TIMINGS / f"{stage}.json")
            metrics |= {name: timings[name] for name in SHOWN_METRICS if name in timings}
        run.rows.append(make_row(stage, result, time.monotonic() - started, metrics))
        if not result.is_completed:
            return StepResult(STOPPED, f"{stage}: {result.message}")
        if result.name != CACHED:
            run.fresh.add(stage)
    return None


def list_changed_stages(root: Path) -> set[str] | None:
    """Return the stages that `dvc status` lists as changed; None if it fails: then every stage is run, and DVC decides."""
    command = [sys.executable, "-m", "dvc", "status", "--json", "dvc.yaml"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    try:
        return set(json.loads(done.stdout)) if done.returncode == 0 else None
    except ValueError:
        return None


def skip(run: FlowRun, name: str) -> StepResult:
    """Return the result of a step whose outputs are up to date."""
    run.journal.log(name, "Cached: nothing has changed")
    return StepResult(CACHED, "nothing has changed")


def run_stage(run: FlowRun, stage: str) -> StepResult:
    """Run `dvc repro` for one stage, logging its output; return its result."""
    run.journal.log(stage, "running")
    done = _run_command(run, stage, [sys.executable, "-m", "dvc", "repro", "--single-item", stage])
    if done.code:
        return _fail(run, stage, done)
    if not any(line.startswith("Running stage '") for line in done.lines):
        is_restored = any("is cached" in line for line in done.lines)
        message = "restored from DVC's cache" if is_restored else "nothing has changed"
        run.journal.log(stage, f"Cached: {message}")
        return StepResult(CACHED, message)
    return StepResult(COMPLETED, "done")


def run_registry(run: FlowRun) -> StepResult | None:
    """Publish, gate and promote; return the result that ends the run if one fails or the gate refuses, else None."""
    arguments = {"publish": ["publish"]}
    previous = {list(graph.read_graph(run.root / "dvc.yaml"))[-1]}
    for command in COMMANDS:
        started = time.monotonic()
        is_needed = command in arguments
        work = partial(run_registry_command, run, arguments[command]) if is_needed else partial(skip, run, command)
        result = run.journal.run_step(command, work, previous)
        previous = {command}
        run.rows.append(make_row(command, result, time.monotonic() - started, {}))
        if result.name == REFUSED:
            return result
        if not result.is_completed:
            return StepResult(STOPPED, f"{command}: {result.message}")
        if command == "publish" and not is_in_use(run.root):
            version = str(read_metrics(run.root / OUTCOMES / "publish.json")["version"])
            arguments |= {name: [name, "--version", version] for name in ("gate", "promote")}
    return None


def is_in_use(root: Path) -> bool:
    """Return whether the published version is the champion already, its folder is installed and its report is written."""
    return read_metrics(root / OUTCOMES / "publish.json")["is_installed"] and (root / REPORT).exists()


def run_registry_command(run: FlowRun, arguments: list[str]) -> StepResult:
    """Run one command of the registry, which writes its outcome as JSON to var/outcomes; return its result."""
    name = arguments[0]
    outcome = run.root / OUTCOMES / f"{name}.json"
    outcome.unlink(missing_ok=True)
    done = _run_command(run, name, [sys.executable, "-m", "pipeline.registry", *arguments, "--json", str(outcome)])
    if done.code == REFUSED_CODE and outcome.exists():
        reason = str(json.loads(outcome.read_text())["reason"])
        run.journal.log(name, f"the champion stays: {reason}", logging.WARNING)
        return StepResult(REFUSED, reason)
    return _finish(run, name, done)


def write_report(run: FlowRun) -> StepResult | None:
    """Write the report without a champion for comparison; return the result that ends the run if that fails, else None."""
    started = time.monotonic()
    command = [sys.executable, "-m", "pipeline.report"]
    previous = {list(graph.read_graph(run.root / "dvc.yaml"))[-1]}
    result = run.journal.run_step(
        "report", lambda: _finish(run, "report", _run_command(run, "report", command)), previous
    )
    run.rows.append(make_row("report", result, time.monotonic() - started, {}))
    return None if result.is_completed else StepResult(STOPPED, f"report: {result.message}")


def _run_command(run: FlowRun, name: str, command: list[str]) -> child.Finished:
    def log_line(text: str) -> None:
        if not console.is_noise(text):
            run.journal.log(name, console.strip_stage(name, text))

    environment = child.make_environment(server.make_environment_of_stages(run.root, os.environ))
    return child.run(command, cwd=run.root, environment=environment, on_line=log_line, keep=[run.lock])


def _finish(run: FlowRun, name: str, done: child.Finished) -> StepResult:
    """Return the result of a finished command, with its last line or its error as the message."""
    if done.code:
        return _fail(run, name, done)
    return StepResult(COMPLETED, done.lines[-1] if done.lines else "done")


def _fail(run: FlowRun, name: str, done: child.Finished) -> StepResult:
    """Return `Busy`, which is retried, or `Failed`, which ends the run, with the stage's own error message."""
    is_transient = done.code == BUSY_CODE or any(words in line for line in done.lines for words in BUSY_WORDS)
    if is_transient:
        run.journal.log(name, "another process holds the lock; trying again in a moment", logging.WARNING)
    return StepResult(BUSY if is_transient else FAILED, extract_error(name, done))


def extract_error(stage: str, done: child.Finished) -> str:
    """Return a stage's error message in a few lines: from its last `error:` on, else its last lines."""
    lines = [console.strip_stage(stage, line) for line in done.lines if not console.is_noise(line)]
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    message = lines[starts[-1] :][:6] if starts else lines[-6:]
    return "\n".join(message).removeprefix("error: ") or f"exit code {done.code}, without any output"


def make_row(name: str, result: StepResult, seconds: float, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row of the run's table."""
    shown = {key: metrics[key] for key in SHOWN_METRICS if key in metrics} or dict(list(metrics.items())[:4])
    values = [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value:,}" for key, value in shown.items()]
    text = ", ".join(values) or result.message
    return {"stage": name, "state": result.name, "seconds": round(seconds, 1), "metrics": text}


def read_metrics(path: Path) -> dict[str, Any]:
    """Return the values of a JSON file, such as a stage's metrics; empty if there is no such file."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return values
