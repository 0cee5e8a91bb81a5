"""Runs the flow and says in a few lines what it made, where to look and what to type next.

In: the repository's root, with Prefect's server on its way up. Out: the exit code, the summary on standard output.
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


def run(root: Path, register: bool) -> int:
    """The flow to its end; 0 unless a stage failed."""
    from prefect.settings import PREFECT_API_URL

    started = time.monotonic()
    server.wait(f"{PREFECT_API_URL.value()}/health", root / server.LOG)
    state: State[Any] = retrain(register=register, return_state=True)
    seconds = time.monotonic() - started
    if state.is_completed():
        print("\n" + "\n".join(good_news(root, state, seconds) if register else [f"Done in {console_time(seconds)}."]))
        return 0
    if state.name == STOPPED:
        stage, _, said = (state.message or "").partition(": ")
        print(f"\nerror: {stage} failed: {said}\n`make run` goes on from there.", file=sys.stderr)
        return 1
    state.result()  # no failure of a stage: our own mistake, and its traceback
    return 1


def good_news(root: Path, state: State[Any], seconds: float) -> list[str]:
    """The summary's lines."""
    version = read_metrics(root / OUTCOMES / "publish.json")
    figures = read_metrics(root / METRICS / "evaluate.json")
    rate = version.get("metrics", {}).get("evaluate.tokens_per_second")
    is_refused = state.name == "Refused"
    role = "REFUSED BY THE GATE" if is_refused else "champion"
    lines = [f"Version {version['version']} of minigpt ({role}), after {console_time(seconds)}."]
    if "bpb" in figures:
        lines.append(f"  {'bits per byte':<24}{figures['bpb']:.3f}")
    lines += [
        f"  {name.removesuffix(SKILL).replace('_', ' '):<24}{value:.1%}"
        for name, value in figures.items()
        if name.endswith(SKILL) and isinstance(value, float | int)
    ]
    if rate is not None:
        lines.append(f"  {'tokens per second':<24}{rate:,.0f}")
    if is_refused:
        lines += ["", "!" * 78, f"The champion stays as it is: {state.message}", "!" * 78]
    lines += ["", "Look:  var/report.html, or `make ui` for every run and version", "Next:  make chat"]
    return lines


def console_time(seconds: float) -> str:
    """185 → '3 min 5 s'."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
