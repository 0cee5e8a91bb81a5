"""The report: everything the stages measured, for people. One Markdown file and one HTML page that needs nothing else.

In: the metrics and timings of all stages, the curves of both phases, samples, optionally the champion's metrics for comparison.
Out: report.md and report.html; `python -m pipeline.report` writes them to var/. Rendering is pure: the same facts give the same
bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.frame.timings import TIMINGS, read_timings
from pipeline.params import STAGES
from pipeline.report.charts import number
from pipeline.report.facts import (
    CALIBRATION_HEAD,
    Facts,
    Figures,
    HeadlineRow,
    calibration,
    calibration_rows,
    calibration_sentence,
    funnel,
    headline,
    mark,
    measured,
    sentence,
    shown,
    sources,
    transcript,
)
from pipeline.report.page import render_html

FILES = ("report.html", "report.md")


def read_facts(root: Path) -> Facts:
    """Read the facts of the finished pipeline below `root`; what is missing is left out of the report."""
    data = root / "data"
    paths = {stage: data / "metrics" / f"{stage}.json" for stage in STAGES}
    metrics = {stage: _read_json(path) for stage, path in paths.items() if path.exists()}
    timings = {stage: read_timings(root / TIMINGS / f"{stage}.json", path) for stage, path in paths.items()}
    curves = {phase: _read_lines(data / phase / "history.jsonl") for phase in ("pretrain", "sft")}
    samples = _read_lines(data / "evaluate" / "samples.jsonl")
    return Facts(metrics, timings, curves, samples, _read_json(data / "sft" / "config.json"))


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_lines(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.strip()]


def write(out: Path, facts: Facts, champion: Figures | None = None) -> None:
    """Write report.md and report.html to `out`."""
    (out / "report.md").write_text(render_markdown(facts, champion), encoding="utf-8")
    (out / "report.html").write_text(render_html(facts, champion), encoding="utf-8")


def render_markdown(facts: Facts, champion: Figures | None = None) -> str:
    rows = headline(facts, champion)
    lines = ["# MiniGPT: what this model can do", "", sentence(facts), ""]
    lines += _table(["Measured on held-out items", "Value", "± se", "n", *(["Champion", "Change"] if champion else [])], [
        [
            f"{row.name} ({row.meaning})",
            shown(row.value, is_share=row.is_share),
            shown(row.se, is_share=row.is_share),
            number(row.n),
            *([_or_dash(row.champion, row), _or_dash(row.change, row, is_signed=True)] if champion else []),
        ]
        for row in rows
    ])  # fmt: skip
    for loss in funnel(facts):
        lines += [f"## {loss.stage}: {number(loss.docs_in)} documents in, {number(loss.docs_out)} out", ""]
        lines += _table(
            ["Dropped because of", "Documents"], [[name.replace("_", " "), number(n)] for name, n in loss.reasons]
        )
    if found := calibration(facts):
        lines += ["## What the quality score means", "", calibration_sentence(found), ""]
        lines += _table(CALIBRATION_HEAD, calibration_rows(found))
    lines += ["## Bits per byte by source", ""]
    lines += _table(
        ["Source", "Bits per byte", "± se"],
        [[row.name, f"{row.bpb:.3f}", f"{row.se:.3f}"] for row in sources(facts, champion)],
    )
    lines += ["## Speed, sizes, settings", ""]
    lines += _table(["What", "How much"], [list(row) for row in measured(facts)])
    lines += ["## Samples", ""]
    for sample in facts.samples:
        asked = transcript(sample)[-1][1]
        lines += [
            f"**{sample['skill']}**{mark(sample)}",
            "",
            _quoted(asked),
            "",
            _quoted("→ " + sample["answer"].removeprefix("→ ")),
            "",
        ]
    return "\n".join(lines)


def _or_dash(value: float | None, row: HeadlineRow, *, is_signed: bool = False) -> str:
    return "–" if value is None else shown(value, is_share=row.is_share, is_signed=is_signed)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return [*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows), ""]


def _quoted(text: str) -> str:
    """As a code block, so that no mark-up in it means anything; longer fences than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
