"""Run the pipeline and print a short summary: what was made, where to look, what to run next.

In: the repository's root, with its lock held. Out: the exit code, and the summary on standard output. Prefect's server is started
if there is something to run; a run in which nothing has changed, or whose server does not start, goes without.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from flows.processes import server
from flows.steps import graph, stamp
from flows.steps.sequence import (
    COMMANDS,
    METRICS,
    OUTCOMES,
    REFUSED,
    STOPPED,
    FlowRun,
    StepResult,
    Terminal,
    list_changed_stages,
    read_metrics,
    run_all,
    skip,
)

SKILL = "_frac"


def run_everything(root: Path, lock: int, register: bool) -> int:
    """Run what has changed to its end; return 0 unless a stage failed."""
    started = time.monotonic()

    def finish(result: StepResult) -> int:
        if register and result.is_completed:
            with contextlib.suppress(OSError):  # a full disk: the next run asks the registry
                stamp.write(root, result)
        return print_result(root, result, time.monotonic() - started, register)

    run = FlowRun(root, lock, Terminal(), list_changed_stages(root))
    if register and run.changed == set() and (result := repeat_last(run)) is not None:
        return finish(result)
    run.journal.log("retrain", "starting")
    return finish(run_with_prefect(run, register, lambda result: server.leave(finish(result))))


def print_result(root: Path, result: StepResult, seconds: float, register: bool) -> int:
    """Print the summary or the error; return the exit code."""
    if result.name == STOPPED:
        stage, _, error = result.message.partition(": ")
        print(f"\nerror: {stage} failed: {error}\n`make run` continues from there.", file=sys.stderr)
        return 1
    lines = list_summary(root, result, seconds) if register else [f"Done in {format_seconds(seconds)}."]
    print("\n" + "\n".join(lines))
    return 0


def repeat_last(run: FlowRun) -> StepResult | None:
    """Return the result of the last run if nothing has changed since, with the lines of its steps; else None."""
    if (result := stamp.read_last(run.root)) is None:
        return None
    for name in (*graph.read_graph(run.root / "dvc.yaml"), *COMMANDS[: 2 if result.name == REFUSED else None]):
        skip(run, name)
    return result


def run_with_prefect(run: FlowRun, register: bool, leave: Callable[[StepResult], NoReturn]) -> StepResult:
    """Run the steps as a flow, or without Prefect if its server does not start in time. `leave`: see `retrain_here`."""
    process: subprocess.Popen[str] | None = None
    try:
        if not server.configure_client(run.root):
            process = server.start_temporary(run.root)
        from prefect.settings import PREFECT_API_URL  # Prefect reads its settings when it is imported

        url = f"{PREFECT_API_URL.value()}/health"
        log = run.root / server.LOG if process is not None else None
        server.wait_until_healthy(url, log, process, lambda text: run.journal.log("retrain", text))
    except server.ServerError as error:
        for line in ("going on without Prefect, whose history will not have this run", *str(error).splitlines()):
            run.journal.log("retrain", line, logging.WARNING)
        return run_all(run, register)
    from flows.retrain import PrefectJournal, retrain_here

    run.journal = journal = PrefectJournal(lambda: server.find_loss(process, url))
    return retrain_here(run, journal, register, leave)


def list_summary(root: Path, result: StepResult, seconds: float) -> list[str]:
    """Return the lines of the summary: version, verdict, metrics, next steps."""
    version = read_metrics(root / OUTCOMES / "publish.json")
    metrics = read_metrics(root / METRICS / "evaluate.json")
    rate = version.get("metrics", {}).get("evaluate.tokens_per_second")
    is_refused = result.name == REFUSED
    is_equal = is_refused and result.message.startswith("equal")
    role = "equal to the champion" if is_equal else "REFUSED BY THE GATE" if is_refused else "champion"
    lines = [f"Version {version['version']} of minigpt ({role}), after {format_seconds(seconds)}."]
    rows = {"bits per byte": f"{metrics['bpb']:.3f}"} if "bpb" in metrics else {}
    rows |= {
        name.removesuffix(SKILL).replace("_", " "): f"{value:.1%}"
        for name, value in sorted(metrics.items(), key=lambda item: not item[0].startswith("user_"))
        if name.endswith(SKILL) and isinstance(value, float | int) and not _is_part(name)
    }
    if rate is not None:
        rows["tokens per second"] = f"{rate:,.0f}"
    width = max(map(len, rows), default=0) + 2
    lines += [f"  {name:<{width}}{value}" for name, value in rows.items()]
    if is_equal:
        lines += ["", f"The champion stays: {result.message}"]
    elif is_refused:
        lines += ["", "!" * 78, f"The champion stays: {result.message}", "!" * 78]
    lines += ["", "Report:  var/report.html; `make ui` shows every run and version", "Next:    make chat"]
    return lines


def _is_part(name: str) -> bool:
    """Return whether a metric is of one kind of typed turns, or of one half of them; the report has these."""
    return name.startswith("user_") and name != f"user_turns_acceptable{SKILL}"


def format_seconds(seconds: float) -> str:
    """Format a duration: 185 becomes `3 min 5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
