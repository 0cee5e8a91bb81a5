"""The flow: every stage that has changed, then publish, gate and promote. `python -m flows retrain` starts it.

In: the repository in the current folder. Out: what the stages and the registry make; in Prefect one task per stage (its
lines as logs, unchanged ones `Cached`), a table of the run and the report as artifacts. A stage's own error ends the flow
with that stage's words; a busy lock is waited for; a refusal by the gate is no failure: the flow ends `Refused`.
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
CHAMPION = Path("var/champion/version.json")
# What the table shows of a stage, where it has it.
TELLING = (
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
    """What one run has done so far: rows of the table, stages that really ran."""

    root: Path
    lock: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    fresh: set[str] = field(default_factory=set)


def is_busy(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Only what passes by itself is tried again: a lock that somebody else holds."""
    return state.name == "Busy"


def step(name: str, work: Callable[[], State[Any]]) -> State[Any]:
    """`work` as a Prefect task of that name; its state, however it ended."""

    @task(
        name=name,
        task_run_name=name,
        retries=len(RETRY_SECONDS),
        retry_delay_seconds=RETRY_SECONDS,
        retry_condition_fn=is_busy,
    )
    def run_step() -> State[Any]:
        return work()

    state: State[Any] = run_step(return_state=True)
    return state


@flow(name="retrain", validate_parameters=False)
def retrain(register: bool = True) -> State[Any]:
    """Runs what has changed, then (with `register`) publishes, judges and promotes it."""
    root = Path.cwd()
    try:
        with workspace.hold(root) as lock:
            history.mark_killed(root)
            run = FlowRun(root, lock)
            ended = run_stages(run) or (run_registry(run) if register else write_report(run))
            publish_artifacts(run)
    except (workspace.WorkspaceBusyError, graph.GraphError) as error:
        return Failed(name=STOPPED, message=f"retrain: {error}")
    return ended or Completed(message="everything is made" + ("" if register else ", nothing is registered"))


def run_stages(run: FlowRun) -> State[Any] | None:
    """Every stage in order; the state that ends the flow, if one fails."""
    needs = graph.read_graph(run.root / "dvc.yaml")
    changed = changed_stages(run.root)
    for stage, needed in needs.items():
        is_unchanged = changed is not None and stage not in changed and not needed & run.fresh
        started = time.monotonic()
        state = step(stage, partial(unchanged, stage) if is_unchanged else partial(reproduce, run, stage))
        metrics = read_metrics(run.root / METRICS / f"{stage}.json")
        if state.name != "Cached":  # what a clock said is of a stage that ran just now
            timings = read_metrics(run.root / TIMINGS / f"{stage}.json")
            metrics |= {name: timings[name] for name in TELLING if name in timings}
        run.rows.append(row(stage, state, time.monotonic() - started, metrics))
        if not state.is_completed():
            return Failed(name=STOPPED, message=f"{stage}: {state.message}")
        if state.name != "Cached":
            run.fresh.add(stage)
    return None


def changed_stages(root: Path) -> set[str] | None:
    """What `dvc status` calls changed; None if it can't say, and every stage must be asked for itself."""
    command = [sys.executable, "-m", "dvc", "status", "--json", "dvc.yaml"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    try:
        return set(json.loads(done.stdout)) if done.returncode == 0 else None
    except ValueError:
        return None


def unchanged(stage: str) -> State[Any]:
    """What is there already."""
    _logger(stage).info("Cached: nothing has changed")
    return Completed(name="Cached", message="nothing has changed")


def reproduce(run: FlowRun, stage: str) -> State[Any]:
    """`dvc repro` of one stage, its lines passed on."""
    _logger(stage).info("running")
    done = _run_command(run, stage, [sys.executable, "-m", "dvc", "repro", "--single-item", stage])
    if done.code:
        return _failure(stage, done)
    if not any(line.startswith("Running stage '") for line in done.lines):
        said = "restored from DVC's cache" if any("is cached" in line for line in done.lines) else "nothing has changed"
        _logger(stage).info("Cached: %s", said)
        return Completed(name="Cached", message=said)
    return Completed(message="done")


def run_registry(run: FlowRun) -> State[Any] | None:
    """publish, gate, promote; the state that ends the flow, if it ends here."""
    arguments = {"publish": ["publish"]}
    for command in ("publish", "gate", "promote"):
        started = time.monotonic()
        work = partial(registry, run, arguments[command]) if command in arguments else partial(unchanged, command)
        state = step(command, work)
        run.rows.append(row(command, state, time.monotonic() - started, {}))
        if state.name == "Refused":
            return Completed(name="Refused", message=state.message)
        if not state.is_completed():
            return Failed(name=STOPPED, message=f"{command}: {state.message}")
        if command == "publish" and not is_in_use(run.root):
            version = str(read_metrics(run.root / OUTCOMES / "publish.json")["version"])
            arguments |= {name: [name, "--version", version] for name in ("gate", "promote")}
    return None


def is_in_use(root: Path) -> bool:
    """Whether the published version is the champion already, with its folder and its report where they belong."""
    published, used = read_metrics(root / OUTCOMES / "publish.json"), read_metrics(root / CHAMPION)
    is_pulled = published["version"] == published["champion"] == used.get("version") and used.get("alias") == "champion"
    return is_pulled and (root / REPORT).exists()


def registry(run: FlowRun, arguments: list[str]) -> State[Any]:
    """One command of the registry; its outcome is left as JSON in var/outcomes."""
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
    """Write the report without a champion for comparison; the state that ends the flow, if it fails."""
    started = time.monotonic()
    command = [sys.executable, "-m", "pipeline.report"]
    state = step("report", lambda: _finish("report", _run_command(run, "report", command)))
    run.rows.append(row("report", state, time.monotonic() - started, {}))
    return None if state.is_completed() else Failed(name=STOPPED, message=f"report: {state.message}")


def _run_command(run: FlowRun, stage: str, command: list[str]) -> child.Finished:
    logger = _logger(stage)

    def say(text: str) -> None:
        if not console.is_noise(text):
            logger.info("%s", console.without_stage(stage, text))

    return child.run(command, cwd=run.root, environment=child.environment_of(os.environ), say=say, keep=[run.lock])


def _finish(name: str, done: child.Finished) -> State[Any]:
    """The state of a finished command: its last line, or why it failed."""
    if done.code:
        return _failure(name, done)
    return Completed(message=done.lines[-1] if done.lines else "done")


def _failure(stage: str, done: child.Finished) -> State[Any]:
    """`Busy` is tried again; anything else ends the flow with the stage's own words."""
    is_transient = done.code == BUSY_CODE or any(words in line for line in done.lines for words in BUSY_WORDS)
    message = own_words(stage, done)
    if is_transient:
        _logger(stage).warning("somebody holds the lock; trying again in a moment")
    return Failed(name="Busy" if is_transient else "Failed", message=message)


def own_words(stage: str, done: child.Finished) -> str:
    """The stage's error in a few lines: from its last `error:` on, else what it said last."""
    lines = [console.without_stage(stage, line) for line in done.lines if not console.is_noise(line)]
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    said = lines[starts[-1] :][:6] if starts else lines[-6:]
    return "\n".join(said).removeprefix("error: ") or f"ended with exit code {done.code} and said nothing"


def row(name: str, state: State[Any], seconds: float, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """One line of the run's table."""
    shown = {key: metrics[key] for key in TELLING if key in metrics} or dict(list(metrics.items())[:4])
    figures = [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value:,}" for key, value in shown.items()]
    said = ", ".join(figures) or state.message or ""
    return {"stage": name, "state": state.name or "", "seconds": round(seconds, 1), "figures": said}


def publish_artifacts(run: FlowRun) -> None:
    """The table and the report, for Prefect's UI."""
    create_table_artifact(table=run.rows, key="retrain", description="Every step of the run")
    if (path := run.root / REPORT).exists():
        create_markdown_artifact(markdown=path.read_text(encoding="utf-8"), key="report", description=str(path))


def read_metrics(path: Path) -> dict[str, Any]:
    """A stage's figures; none if it left none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return found


def _logger(stage: str) -> LoggerAdapter[Any]:
    """The run's logger; every record carries the stage, which is what the console shows."""
    logger: Any = get_run_logger()
    return type(logger)(logger.logger, {**(logger.extra or {}), "stage": stage})
