"""Render the report as Markdown, for terminals, pull requests and Prefect's page. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report.calibration import (
    CALIBRATION_HEAD,
    compute_calibration,
    describe_calibration,
    list_calibration_rows,
)
from pipeline.report.charts import format_number
from pipeline.report.facts import (
    Champion,
    Facts,
    Provenance,
    format_value,
    list_headline,
    list_losses,
    list_sizes,
    list_sources,
    read_transcript,
    summarize,
)
from pipeline.report.labels import SAMPLE_TITLES, describe_reason
from pipeline.report.typed_turns import describe_user_turns, group_transcripts, list_user_rows


def render_markdown(facts: Facts, provenance: Provenance, champion: Champion | None = None) -> str:
    """Return the report as one Markdown document."""
    lines = ["# MiniGPT: what this model can do", "", summarize(facts), "", _describe(provenance), ""]
    lines += _render_user_turns(facts, champion)
    lines += _render_headline(facts, champion)
    lines += _render_losses(facts)
    if calibration := compute_calibration(facts):
        lines += ["## What the quality score means", "", describe_calibration(calibration), ""]
        lines += _render_table(CALIBRATION_HEAD, list_calibration_rows(calibration))
    lines += ["## Bits per byte by source", ""]
    rows = [[row.name, f"{row.bpb:.3f}", f"{row.se:.3f}"] for row in list_sources(facts, champion)]
    lines += _render_table(["Source", "Bits per byte", "± SE"], rows)
    lines += ["## Speed and sizes", "", *_render_table(["Measure", "Value"], [list(row) for row in list_sizes(facts)])]
    lines += _render_samples(facts)
    if provenance.params:
        lines += ["## Settings", ""]
        lines += _render_table(["Param", "Value"], [[f"`{name}`", text] for name, text in provenance.params.items()])
    return "\n".join(lines)


def _describe(provenance: Provenance) -> str:
    parts = [f"Version {provenance.version}" if provenance.version else "Not registered yet"]
    if provenance.fingerprint:
        parts.append(f"fingerprint {provenance.fingerprint[:12]}")
    if provenance.commit:
        parts.append(f"commit {provenance.commit[:12]}{' with local changes' if provenance.is_dirty else ''}")
    return ", ".join([*parts, f"report of {provenance.written_at}"]) + "."


def _render_user_turns(facts: Facts, champion: Champion | None) -> list[str]:
    """Return the table by kind, and the first conversation of each kind; the page shows all of them."""
    rows = list_user_rows(facts, champion)
    if not rows:
        return []
    cells = [
        [row.name, *(format_value(value, is_share=True) for value in (row.value, row.se)), format_number(row.n)]
        for row in rows
    ]
    lines = ["## As users type", "", describe_user_turns(facts), ""]
    lines += _render_table(["Turns answered acceptably", "Value", "± SE", "n"], cells)
    for kind, group in group_transcripts(facts).items():
        verdict = "; ".join(group[0].problems) or "acceptable"
        lines += [
            f"**{kind}** ({verdict})",
            "",
            _quote("\n".join(f"{who}: {text}" for who, text in group[0].turns)),
            "",
        ]
    return lines


def _render_headline(facts: Facts, champion: Champion | None) -> list[str]:
    head = ["Measured on held-out items", "Value", "± SE", "n", *(["Champion", "Change"] if champion else [])]
    rows = [
        [
            f"{row.name} ({row.meaning})",
            format_value(row.value, is_share=row.is_share),
            format_value(row.se, is_share=row.is_share),
            format_number(row.n),
            *([format_value(row.champion, is_share=row.is_share)] if champion else []),
            *([format_value(row.change, is_share=row.is_share, is_signed=True)] if champion else []),
        ]
        for row in list_headline(facts, champion)
    ]
    return _render_table(head, rows)


def _render_losses(facts: Facts) -> list[str]:
    lines: list[str] = []
    for loss in list_losses(facts):
        counts = f"{format_number(loss.docs_in)} documents in, {format_number(loss.docs_out)} out"
        lines += [f"## {loss.stage}: {counts}", ""]
        rows = [[describe_reason(name), format_number(n)] for name, n in loss.reasons]
        lines += _render_table(["Reason for dropping", "Documents"], rows)
    return lines


def _render_samples(facts: Facts) -> list[str]:
    lines = ["## Samples", ""]
    for sample in facts.samples:
        title = SAMPLE_TITLES.get(str(sample["skill"]), str(sample["skill"]))
        verdict = "" if "is_right" not in sample else " (right)" if sample["is_right"] else " (wrong)"
        question, answer = read_transcript(sample)[-1][1], "→ " + str(sample["answer"]).removeprefix("→ ")
        lines += [f"**{title}**{verdict}", "", _quote(question), "", _quote(answer), ""]
    return lines


def _render_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return [*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows), ""]


def _quote(text: str) -> str:
    """Return `text` as a code block with a longer fence than any in it, so that no markup in it is interpreted."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
