"""Render the comparison of two versions as one page: verdicts, items that changed, settings and data that differ.

In: `TwoVersions`, which the registry fills. Out: compare.html and compare.md. Pure but for `write_comparison_page`; the same facts
give the same bytes. Texts of items are shown as they are, escaped; prompts that are JSON messages as conversations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.report.decision import DECISION_HEAD, DecisionRow, count_verdicts, summarize_decision
from pipeline.report.labels import SPEAKERS
from pipeline.report.markdown import make_code_block, make_table
from pipeline.report.render import load_environment

COMPARISON_FILES = ("compare.html", "compare.md")
MAX_CHANGED = 40  # items shown in each direction
SETTINGS_HEAD = ("Setting", "Before", "After")
DATA_HEAD = ("Data", "Before", "After")


class ChangedItem(NamedTuple):
    """An item that one version got right and the other wrong; `metrics`: titles of those in which it changed."""

    id: str
    metrics: Sequence[str]
    prompt: str
    before: str
    after: str
    expected: str


class TwoVersions(NamedTuple):
    """Two versions by name, and how `after` differs from `before`. Settings and data: (name, before, after) where they differ."""

    before: str
    after: str
    decision: Sequence[DecisionRow]
    reason: str
    settings: Sequence[tuple[str, str, str]]
    data: Sequence[tuple[str, str, str]]
    lost: Sequence[ChangedItem]  # right before, wrong after
    gained: Sequence[ChangedItem]


def write_comparison_page(out: Path, facts: TwoVersions) -> None:
    """Write compare.html and compare.md to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in zip(COMPARISON_FILES, (render_page(facts), render_text(facts)), strict=True):
        (out / name).write_text(text, encoding="utf-8")


def render_page(facts: TwoVersions) -> str:
    """Return the page."""
    changes = (("Right before, wrong now", "wrong", facts.lost), ("Wrong before, right now", "right", facts.gained))
    return (
        load_environment()
        .get_template("compare.html")
        .render(
            style=files("pipeline.report").joinpath("templates/page.css").read_text(encoding="utf-8"),
            facts=facts,
            verdict=summarize_decision(facts.decision, facts.reason),
            summary=count_verdicts(facts.decision),
            changes=[
                (title, len(items), [_make_talk(item, verdict) for item in items[:MAX_CHANGED]])
                for title, verdict, items in changes
            ],
            settings_head=SETTINGS_HEAD,
            data_head=DATA_HEAD,
        )
    )


def render_text(facts: TwoVersions) -> str:
    """Return the same as Markdown."""
    lines = [f"# {facts.before} → {facts.after}", "", summarize_decision(facts.decision, facts.reason), ""]
    lines += [f"{count_verdicts(facts.decision)}.", ""]
    lines += make_table(["Metric", "Before", "After", *DECISION_HEAD[3:]], [row.cells for row in facts.decision])
    for title, items in (("Right before, wrong now", facts.lost), ("Wrong before, right now", facts.gained)):
        lines += [f"## {title}: {len(items)} items", ""]
        for item in items[:MAX_CHANGED]:
            talk = "\n".join(f"{SPEAKERS.get(who, who)}: {text}" for who, text in read_prompt(item.prompt))
            answers = f"before:   {item.before}\nafter:    {item.after}\nexpected: {item.expected}"
            lines += [f"**{', '.join(item.metrics)}** ({item.id})", "", make_code_block(f"{talk}\n{answers}"), ""]
    for title, head, rows in (("Settings", SETTINGS_HEAD, facts.settings), ("Data", DATA_HEAD, facts.data)):
        lines += [f"## {title} that differ", "", *(make_table(head, rows) or ["None.", ""])]
    return "\n".join(lines)


def read_prompt(prompt: str) -> list[tuple[str, str]]:
    """Return (speaker, text) of each message of a prompt; a prompt that is no conversation is one text."""
    try:
        messages: Any = json.loads(prompt)
    except ValueError:
        return [("user", prompt)]
    if not isinstance(messages, list) or not all(isinstance(each, Mapping) and "role" in each for each in messages):
        return [("user", prompt)]
    turns: list[tuple[str, str]] = []
    for message in messages:
        call = message.get("call")
        if call:
            turns.append(("call", f"{call['name']}({json.dumps(call['argument'], ensure_ascii=False)})"))
        else:
            turns.append((str(message["role"]), str(message.get("content") or "")))
    return turns


def _make_talk(item: ChangedItem, verdict: str) -> dict[str, Any]:
    turns = [(style, SPEAKERS.get(style, style), text) for style, text in read_prompt(item.prompt)]
    answers = [("answer", "Before", item.before), ("answer", "Now", item.after), ("tool", "Expected", item.expected)]
    shown = [*turns, *((style, who, text or "(nothing)") for style, who, text in answers)]
    return {"title": f"{', '.join(item.metrics)} · {item.id}", "verdict": verdict, "turns": shown}
