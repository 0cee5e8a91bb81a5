"""Run the flow and print a short summary: what was made, where to look, what to run next.

In: the repository's root, while Prefect's server is starting. Out: the exit code, and the summary on standard output.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State

from flows.processes import server
from flows.retrain import METRICS, OUTCOMES, STOPPED, read_metrics, retrain

SKILL = "_frac"


def run_flow(root: Path, register: bool) -> int:
    """Run the flow to its end; return 0 unless a stage failed."""
    from prefect.settings import PREFECT_API_URL

    started = time.monotonic()
    server.wait_until_healthy(f"{PREFECT_API_URL.value()}/health", root / server.LOG)
    state: State[Any] = retrain(register=register, return_state=True)
    seconds = time.monotonic() - started
    if state.is_completed():
        lines = list_summary(root, state, seconds) if register else [f"Done in {format_seconds(seconds)}."]
        print("\n" + "\n".join(lines))
        return 0
    if state.name == STOPPED:
        stage, _, error = (state.message or "").partition(": ")
        print(f"\nerror: {stage} failed: {error}\n`make run` continues from there.", file=sys.stderr)
        return 1
    state.result()  # not a failure of a stage but a bug: it raises, with a traceback
    return 1


def list_summary(root: Path, state: State[Any], seconds: float) -> list[str]:
    """Return the lines of the summary: version, verdict, metrics, next steps."""
    version = read_metrics(root / OUTCOMES / "publish.json")
    metrics = read_metrics(root / METRICS / "evaluate.json")
    rate = version.get("metrics", {}).get("evaluate.tokens_per_second")
    is_refused = state.name == "Refused"
    role = "REFUSED BY THE GATE" if is_refused else "champion"
    lines = [f"Version {version['version']} of minigpt ({role}), after {format_seconds(seconds)}."]
    if "bpb" in metrics:
        lines.append(f"  {'bits per byte':<24}{metrics['bpb']:.3f}")
    lines += [
        f"  {name.removesuffix(SKILL).replace('_', ' '):<24}{value:.1%}"
        for name, value in metrics.items()
        if name.endswith(SKILL) and isinstance(value, float | int)
    ]
    if rate is not None:
        lines.append(f"  {'tokens per second':<24}{rate:,.0f}")
    if is_refused:
        lines += ["", "!" * 78, f"The champion stays: {state.message}", "!" * 78]
    lines += ["", "Report:  var/report.html; `make ui` shows every run and version", "Next:    make chat"]
    return lines


def format_seconds(seconds: float) -> str:
    """Format a duration: 185 becomes `3 min 5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
