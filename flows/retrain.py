"""The flow: run every stage that has changed, then publish, gate and promote. `python -m flows retrain` starts it.

In: the repository in the current folder. Out: the outputs of the stages and the registry; in Prefect one task per stage (its
output as logs, unchanged ones `Cached`), a table of the run and the report as artifacts. A failing stage ends the flow with the
stage's own error message; a busy lock is retried; a refusal by the gate is not a failure: the flow ends as `Refused`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from logging import LoggerAdapter
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.processes import child, workspace
from flows.steps import console, graph, history

BUSY_CODE = 75
BUSY_WORDS = ("Unable to acquire lock", "is busy, it is being blocked by", "database is locked")
RETRY_SECONDS = [2.0, 5.0, 10.0, 20.0, 40.0, 60.0]
REFUSED_CODE = 3
STOPPED = "Stopped"  # the flow's state when a stage failed
OUTCOMES = Path("var/outcomes")
METRICS = Path("data/metrics")
TIMINGS = Path("var/timings")
REPORT = Path("var/report.md")
# The metrics of a stage that the table shows, if it has them.
SHOWN_METRICS = (
    *(
        "docs_in",
        "docs_out",
        "passages",
        "vocab_size",
        "bytes_per_token",
        "train_n_tokens",
        "val_n_tokens",
        "n_train",
        "n_heldout",
    ),
    *("n_params", "tokens", "tokens_per_second", "heldout_bpb", "heldout_loss_nats", "bpb", "bpb_se"),
)


@dataclass
class FlowRun:
    """The progress of one run: rows of the table, and the stages that ran, not cached."""

    root: Path
    lock: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    fresh: set[str] = field(default_factory=set)


def is_busy(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Return whether a failure is transient, hence retried: another process holds a lock."""
    return state.name == "Busy"


def run_step(name: str, work: Callable[[], State[Any]]) -> State[Any]:
    """Run `work` as a Prefect task of that name; return its final state, even if it failed."""

    @task(
        name=name,
        task_run_name=name,
        retries=len(RETRY_SECONDS),
        retry_delay_seconds=RETRY_SECONDS,
        retry_condition_fn=is_busy,
    )
    def run_work() -> State[Any]:
        return work()

    state: State[Any] = run_work(return_state=True)
    return state


@flow(name="retrain", validate_parameters=False)
def retrain(register: bool = True) -> State[Any]:
    """Run the stages that have changed, then (with `register`) publish, judge and promote the model."""
    root = Path.cwd()
    try:
        with workspace.hold(root) as lock:
            history.mark_killed(root)
            run = FlowRun(root, lock)
            ended = run_stages(run) or (run_registry(run) if register else write_report(run))
            publish_artifacts(run)
    except (workspace.WorkspaceBusyError, graph.GraphError) as error:
        return Failed(name=STOPPED, message=f"retrain: {error}")
    return ended or Completed(message="everything is up to date" + ("" if register else "; nothing was registered"))


def run_stages(run: FlowRun) -> State[Any] | None:
    """Run every stage in order; return the state that ends the flow if one fails, else None."""
    needs = graph.read_graph(run.root / "dvc.yaml")
    changed = list_changed_stages(run.root)
    for stage, needed in needs.items():
        is_unchanged = changed is not None and stage not in changed and not needed & run.fresh
        started = time.monotonic()
        state = run_step(stage, partial(skip, stage) if is_unchanged else partial(run_stage, run, stage))
        metrics = read_metrics(run.root / METRICS / f"{stage}.json")
        if state.name != "Cached":  # clock readings belong to a stage that has just run
            timings = read_metrics(run.root / TIMINGS / f"{stage}.json")
            metrics |= {name: timings[name] for name in SHOWN_METRICS if name in timings}
        run.rows.append(make_row(stage, state, time.monotonic() - started, metrics))
        if not state.is_completed():
            return Failed(name=STOPPED, message=f"{stage}: {state.message}")
        if state.name != "Cached":
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


def skip(stage: str) -> State[Any]:
    """Return the state of a stage whose outputs are up to date."""
    _logger(stage).info("Cached: nothing has changed")
    return Completed(name="Cached", message="nothing has changed")


def run_stage(run: FlowRun, stage: str) -> State[Any]:
    """Run `dvc repro` for one stage, logging its output; return its state."""
    _logger(stage).info("running")
    done = _run_command(run, stage, [sys.executable, "-m", "dvc", "repro", "--single-item", stage])
    if done.code:
        return _failure(stage, done)
    if not any(line.startswith("Running stage '") for line in done.lines):
        message = (
            "restored from DVC's cache" if any("is cached" in line for line in done.lines) else "nothing has changed"
        )
        _logger(stage).info("Cached: %s", message)
        return Completed(name="Cached", message=message)
    return Completed(message="done")


def run_registry(run: FlowRun) -> State[Any] | None:
    """Publish, gate and promote; return the state that ends the flow if one fails or the gate refuses, else None."""
    arguments = {"publish": ["publish"]}
    for command in ("publish", "gate", "promote"):
        started = time.monotonic()
        work = (
            partial(run_registry_command, run, arguments[command]) if command in arguments else partial(skip, command)
        )
        state = run_step(command, work)
        run.rows.append(make_row(command, state, time.monotonic() - started, {}))
        if state.name == "Refused":
            return Completed(name="Refused", message=state.message)
        if not state.is_completed():
            return Failed(name=STOPPED, message=f"{command}: {state.message}")
        if command == "publish" and not is_in_use(run.root):
            version = str(read_metrics(run.root / OUTCOMES / "publish.json")["version"])
            arguments |= {name: [name, "--version", version] for name in ("gate", "promote")}
    return None


def is_in_use(root: Path) -> bool:
    """Return whether the published version is the champion already, its folder is installed and its report is written."""
    return read_metrics(root / OUTCOMES / "publish.json")["is_installed"] and (root / REPORT).exists()


def run_registry_command(run: FlowRun, arguments: list[str]) -> State[Any]:
    """Run one command of the registry, which writes its outcome as JSON to var/outcomes; return its state."""
    outcome = run.root / OUTCOMES / f"{arguments[0]}.json"
    outcome.unlink(missing_ok=True)
    done = _run_command(
        run, arguments[0], [sys.executable, "-m", "pipeline.registry", *arguments, "--json", str(outcome)]
    )
    if done.code == REFUSED_CODE and outcome.exists():
        reason = str(json.loads(outcome.read_text())["reason"])
        _logger(arguments[0]).warning("the champion stays: %s", reason)
        return Completed(name="Refused", message=reason)
    return _finish(arguments[0], done)


def write_report(run: FlowRun) -> State[Any] | None:
    """Write the report without a champion for comparison; return the state that ends the flow if that fails, else None."""
    started = time.monotonic()
    command = [sys.executable, "-m", "pipeline.report"]
    state = run_step("report", lambda: _finish("report", _run_command(run, "report", command)))
    run.rows.append(make_row("report", state, time.monotonic() - started, {}))
    return None if state.is_completed() else Failed(name=STOPPED, message=f"report: {state.message}")


def _run_command(run: FlowRun, stage: str, command: list[str]) -> child.Finished:
    logger = _logger(stage)

    def log_line(text: str) -> None:
        if not console.is_noise(text):
            logger.info("%s", console.strip_stage(stage, text))

    return child.run(
        command, cwd=run.root, environment=child.make_environment(os.environ), on_line=log_line, keep=[run.lock]
    )


def _finish(name: str, done: child.Finished) -> State[Any]:
    """Return the state of a finished command, with its last line or its error as the message."""
    if done.code:
        return _failure(name, done)
    return Completed(message=done.lines[-1] if done.lines else "done")


def _failure(stage: str, done: child.Finished) -> State[Any]:
    """Return `Busy`, which is retried, or `Failed`, which ends the flow, with the stage's own error message."""
    is_transient = done.code == BUSY_CODE or any(words in line for line in done.lines for words in BUSY_WORDS)
    message = extract_error(stage, done)
    if is_transient:
        _logger(stage).warning("another process holds the lock; trying again in a moment")
    return Failed(name="Busy" if is_transient else "Failed", message=message)


def extract_error(stage: str, done: child.Finished) -> str:
    """Return a stage's error message in a few lines: from its last `error:` on, else its last lines."""
    lines = [console.strip_stage(stage, line) for line in done.lines if not console.is_noise(line)]
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    message = lines[starts[-1] :][:6] if starts else lines[-6:]
    return "\n".join(message).removeprefix("error: ") or f"exit code {done.code}, without any output"


def make_row(name: str, state: State[Any], seconds: float, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row of the run's table."""
    shown = {key: metrics[key] for key in SHOWN_METRICS if key in metrics} or dict(list(metrics.items())[:4])
    values = [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value:,}" for key, value in shown.items()]
    text = ", ".join(values) or state.message or ""
    return {"stage": name, "state": state.name or "", "seconds": round(seconds, 1), "metrics": text}


def publish_artifacts(run: FlowRun) -> None:
    """Publish the table and the report to Prefect's UI."""
    create_table_artifact(table=run.rows, key="retrain", description="Every step of the run")
    if (path := run.root / REPORT).exists():
        create_markdown_artifact(markdown=path.read_text(encoding="utf-8"), key="report", description=str(path))


def read_metrics(path: Path) -> dict[str, Any]:
    """Return the values of a JSON file, such as a stage's metrics; empty if there is no such file."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return values


def _logger(stage: str) -> LoggerAdapter[Any]:
    """Return the run's logger, whose records have the attribute `stage`: these are shown in the console."""
    logger: Any = get_run_logger()
    return type(logger)(logger.logger, {**(logger.extra or {}), "stage": stage})
