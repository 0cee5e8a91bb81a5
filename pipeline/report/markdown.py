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
from pipeline.report.decision import DECISION_HEAD, DecisionRow, count_verdicts, summarize_decision
from pipeline.report.facts import (
    Champion,
    Facts,
    HeadlineRow,
    Provenance,
    format_value,
    group_headline,
    list_headline,
    list_losses,
    list_sizes,
    list_sources,
    read_transcript,
    summarize,
)
from pipeline.report.labels import SAMPLE_TITLES, describe_reason, describe_task
from pipeline.report.model_card import (
    DATA_HEAD,
    list_chat_sources,
    list_commands,
    list_data_sources,
    list_licenses,
    list_limits,
    list_time,
    list_uses,
)
from pipeline.report.typed_turns import describe_user_turns, group_transcripts, list_user_rows


def render_markdown(facts: Facts, provenance: Provenance, champion: Champion | None = None) -> str:
    """Return the report and model card as one Markdown document."""
    lines = ["# MiniGPT: what this model can do", "", summarize(facts), "", _describe(provenance), ""]
    lines += _render_user_turns(facts, champion)
    lines += render_decision(champion.decision, champion.reason) if champion else []
    lines += [
        "## What it is for",
        "",
        *_list_items(list_uses(facts)),
        "## Limits",
        "",
        *_list_items(list_limits(facts)),
    ]
    lines += _render_evaluation(facts, champion)
    lines += ["## Bits per byte by source", ""]
    rows = [[row.name, f"{row.bpb:.3f}", f"{row.se:.3f}"] for row in list_sources(facts, champion)]
    lines += make_table(["Source", "Bits per byte", "± SE"], rows)
    lines += _render_losses(facts)
    if calibration := compute_calibration(facts):
        lines += ["## What the quality score means", "", describe_calibration(calibration), ""]
        lines += make_table(CALIBRATION_HEAD, list_calibration_rows(calibration))
    lines += _render_data(facts)
    lines += ["## Speed and sizes", "", *make_table(["Measure", "Value"], [list(row) for row in list_sizes(facts)])]
    lines += _render_making(facts, provenance)
    lines += _render_samples(facts)
    if provenance.params:
        lines += ["## Settings", ""]
        lines += make_table(["Param", "Value"], [[f"`{name}`", text] for name, text in provenance.params.items()])
    return "\n".join(lines)


def render_decision(rows: Sequence[DecisionRow], reason: str, head: Sequence[str] = DECISION_HEAD) -> list[str]:
    """Return the gate's decision table as Markdown."""
    lines = ["## Against the champion", "", summarize_decision(rows, reason), "", f"{count_verdicts(rows)}.", ""]
    return [*lines, *make_table(head, [row.cells for row in rows])]


def _list_items(texts: Sequence[str]) -> list[str]:
    return [*(f"- {text}" for text in texts), ""]


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
    lines += make_table(["Turns answered acceptably", "Value", "± SE", "n"], cells)
    for kind, group in group_transcripts(facts).items():
        verdict = "; ".join(group[0].problems) or "acceptable"
        lines += [
            f"**{kind}** ({verdict})",
            "",
            make_code_block("\n".join(f"{who}: {text}" for who, text in group[0].turns)),
            "",
        ]
    return lines


def _render_evaluation(facts: Facts, champion: Champion | None) -> list[str]:
    """Return a table for each task, with what simple methods reach beside each metric."""
    lines = ["## Evaluation", ""]
    head = [
        "Measured on held-out items",
        "Value",
        "± SE",
        "n",
        "Beside it",
        *(["Champion", "Change"] if champion else []),
    ]
    for task, rows in group_headline(list_headline(facts, champion)).items():
        lines += [f"### {describe_task(task)}", "", *make_table(head, [_list_cells(row, champion) for row in rows])]
    return lines


def _list_cells(row: HeadlineRow, champion: Champion | None) -> list[str]:
    def show(value: float | None, *, is_signed: bool = False) -> str:
        return format_value(value, is_share=row.is_share, is_signed=is_signed)

    baselines = ", ".join(f"{name} {show(value)}" for name, value in row.baselines)
    cells = [f"{row.name} ({row.meaning})", show(row.value), show(row.se), format_number(row.n), baselines]
    return [*cells, *([show(row.champion), show(row.change, is_signed=True)] if champion else [])]


def _render_data(facts: Facts) -> list[str]:
    if not facts.composition:
        return []
    lines = ["## Training data", "", *make_table(["License", *DATA_HEAD[1:]], list_licenses(facts))]
    lines += make_table(["Source", *DATA_HEAD[1:]], list_data_sources(facts))
    return [*lines, *make_table(["Conversations from", "License", "Number"], list_chat_sources(facts))]


def _render_making(facts: Facts, provenance: Provenance) -> list[str]:
    lines: list[str] = []
    if time := list_time(facts, provenance):
        lines += ["## Time and energy", "", *make_table(["Stage", "Time"], time)]
    commands = [[f"`{command}`", meaning] for command, meaning in list_commands(provenance)]
    lines += ["## Make it again", "", *make_table(["Command", ""], commands)]
    stages = [[stage, f"`{command}`", f"`{md5[:12]}`"] for stage, command, md5 in facts.lineage]
    return [*lines, *make_table(["Stage", "Command", "md5"], stages)]


def _render_losses(facts: Facts) -> list[str]:
    lines: list[str] = []
    for loss in list_losses(facts):
        counts = f"{format_number(loss.docs_in)} documents in, {format_number(loss.docs_out)} out"
        lines += [f"## {loss.stage}: {counts}", ""]
        rows = [[describe_reason(name), format_number(n)] for name, n in loss.reasons]
        lines += make_table(["Reason for dropping", "Documents"], rows)
    return lines


def _render_samples(facts: Facts) -> list[str]:
    lines = ["## Samples", ""]
    for sample in facts.samples:
        title = SAMPLE_TITLES.get(str(sample["skill"]), str(sample["skill"]))
        verdict = "" if "is_right" not in sample else " (right)" if sample["is_right"] else " (wrong)"
        question, answer = read_transcript(sample)[-1][1], "→ " + str(sample["answer"]).removeprefix("→ ")
        lines += [f"**{title}**{verdict}", "", make_code_block(question), "", make_code_block(answer), ""]
    return lines


def make_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; none without rows."""
    if not rows:
        return []
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return [*lines, *("| " + " | ".join(map(_escape_cell, row)) + " |" for row in rows), ""]


def _escape_cell(text: str) -> str:
    """Return a text as one cell of a table, without tags of HTML."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def make_code_block(text: str) -> str:
    """Return `text` as a code block with a longer fence than any in it, so that no markup in it is interpreted."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
