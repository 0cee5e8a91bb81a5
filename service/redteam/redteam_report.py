"""Summarize the outcomes of a red-team run: rates with standard errors, as JSON for the gate, as Markdown and as a page.

In: attacks and their outcomes. Out: `redteam.json`, `redteam.md`, `redteam.html`. Rates are of the answers, without those that
ended in an error of the target; their standard error is that of a proportion (Agresti and Coull's: 0 of n has one too).
"""

from __future__ import annotations

import html
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.redteam.attacks import KINDS

HARM_KINDS = ("direct", "jailbreak", "encoding", "multi_turn", "file")
FILES = ("redteam.json", "redteam.md", "redteam.html")
SHOWN_FAILURES = 20
SHOWN_CHARS = 80


@dataclass(frozen=True)
class Judged:
    """One attack with its outcome."""

    id: str
    kind: str
    outcome: str
    is_failed: bool
    prompt: str
    answer: str


def measure_rate(n_failed: int, n: int) -> tuple[float, float]:
    """Return a rate and its standard error."""
    if n == 0:
        return 0.0, 0.0
    p = (n_failed + 2) / (n + 4)
    return n_failed / n, math.sqrt(p * (1 - p) / (n + 4))


def make_metrics(judged: Sequence[Judged]) -> dict[str, float]:
    """Return the metrics that a gate reads; all of them are better when lower."""
    metrics: dict[str, float] = {}
    groups = {kind: [each for each in judged if each.kind == kind] for kind in (*KINDS, "file")}
    groups["harmful"] = [each for each in judged if each.kind in HARM_KINDS]
    for name, members in groups.items():
        answered = [each for each in members if each.outcome != "error"]
        if answered:
            rate, se = measure_rate(sum(each.is_failed for each in answered), len(answered))
            metrics |= {f"redteam_{name}_failed_frac": round(rate, 4), f"redteam_{name}_failed_frac_se": round(se, 4)}
            metrics[f"n_redteam_{name}"] = len(answered)
    metrics["redteam_errors"] = sum(each.outcome == "error" for each in judged)
    return metrics


def write_redteam_report(folder: Path, judged: Sequence[Judged], about: Mapping[str, Any]) -> dict[str, float]:
    """Write the three files and return the metrics."""
    metrics = make_metrics(judged)
    rows = make_rows(judged)
    content = {"about": dict(about), "metrics": metrics, "outcomes": rows}
    texts = (
        json.dumps(content, indent=1, ensure_ascii=False) + "\n",
        render_markdown(rows, judged, about),
        render_page(rows, judged, about),
    )
    for name, text in zip(FILES, texts, strict=True):
        partial = folder / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / name)
    return metrics


def make_rows(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return one row per kind of attack."""
    rows: list[dict[str, Any]] = []
    for kind in dict.fromkeys(each.kind for each in judged):
        members = [each for each in judged if each.kind == kind]
        answered = [each for each in members if each.outcome != "error"]
        n_failed = sum(each.is_failed for each in answered)
        rate, se = measure_rate(n_failed, len(answered))
        counts = Counter(each.outcome for each in members)
        rows.append(
            {
                "kind": kind,
                "n": len(answered),
                "failed": n_failed,
                "rate": rate,
                "se": se,
                "outcomes": dict(sorted(counts.items())),
            }
        )
    return rows


def render_markdown(rows: Sequence[Mapping[str, Any]], judged: Sequence[Judged], about: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [
        f"# Red team: {about.get('target', '')}",
        "",
        "| attack | n | succeeded | rate | outcomes |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        outcomes = ", ".join(f"{name} {n}" for name, n in row["outcomes"].items())
        lines.append(f"| {row['kind']} | {row['n']} | {row['failed']} | {_format_rate(row)} | {outcomes} |")
    failures = [each for each in judged if each.is_failed][:SHOWN_FAILURES]
    if failures:
        lines += ["", "## What succeeded", ""]
        lines += [f"- {each.kind}: `{_shorten(each.prompt)}` → `{_shorten(each.answer)}`" for each in failures]
    return "\n".join(lines) + "\n"


def render_page(rows: Sequence[Mapping[str, Any]], judged: Sequence[Judged], about: Mapping[str, Any]) -> str:
    """Return the report as a page without scripts."""
    cells = "".join(
        f"<tr><td>{html.escape(str(row['kind']))}</td><td>{row['n']}</td><td>{row['failed']}</td>"
        f"<td>{_format_rate(row)}</td>"
        f"<td>{html.escape(', '.join(f'{name} {n}' for name, n in row['outcomes'].items()))}</td></tr>"
        for row in rows
    )
    failures = "".join(
        f"<li>{html.escape(each.kind)}: <code>{html.escape(_shorten(each.prompt))}</code> → "
        f"<code>{html.escape(_shorten(each.answer))}</code></li>"
        for each in [each for each in judged if each.is_failed][:SHOWN_FAILURES]
    )
    style = "body{font:15px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}td,th{padding:.3em .8em;text-align:left}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Red team</title><style>{style}</style>'
        f"<h1>Red team</h1><p>{html.escape(str(about.get('target', '')))}</p><table><tr><th>attack<th>n<th>succeeded<th>rate"
        f"<th>outcomes</tr>{cells}</table><h2>What succeeded</h2><ul>{failures or '<li>nothing</li>'}</ul></html>\n"
    )


def _format_rate(row: Mapping[str, Any]) -> str:
    return f"{row['rate']:.1%} ± {row['se']:.1%}" if row["n"] else "not known"


def _shorten(text: str) -> str:
    line = " ".join(text.split()).replace("`", "'")
    return line if len(line) <= SHOWN_CHARS else line[: SHOWN_CHARS - 1] + "…"
