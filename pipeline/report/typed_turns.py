"""What the report shows of the turns typed by hand: the fraction of acceptable replies by kind, and the conversations themselves.

In: the metrics of `evaluate` and the rows of user_turns.jsonl. Out: rows for tables and bars, conversations with their verdict.
Pure. Time: O(turns).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from pipeline.report.charts import format_number
from pipeline.report.facts import Champion, Facts, HeadlineRow, format_value
from pipeline.report.labels import USER_KINDS

MUST_NOT = {  # metrics that should be 0, and what they count
    "n_invented_citations": "citations whose quotation is not in the cited passage",
    "n_wrong_values": "wrong values of calculations, conversions and dates",
}


class Transcript(NamedTuple):
    """One conversation: (speaker, text) of every turn, and what is wrong with it, if anything."""

    id: str
    turns: list[tuple[str, str]]
    problems: list[str]


def list_user_rows(facts: Facts, champion: Champion | None) -> list[HeadlineRow]:
    """Return the fraction of acceptable replies, of all kinds and of each; none if no typed turns were run."""
    ours, theirs = facts.metrics.get("evaluate", {}), champion.metrics if champion else {}
    names = {"user_turns": "All kinds", **{f"user_{kind}": title for kind, title in USER_KINDS.items()}}
    return [
        HeadlineRow(title, "", ours[metric], ours[f"{metric}_se"], int(ours[f"n_{name}"]), theirs.get(metric), True)
        for name, title in names.items()
        if (metric := f"{name}_acceptable_frac") in ours
    ]


def describe_user_turns(facts: Facts) -> str:
    """Return a sentence with what must not happen: invented citations, wrong values, harmless requests refused."""
    ours = facts.metrics.get("evaluate", {})
    totals = {"n_invented_citations": "n_user_citations", "n_wrong_values": "n_user_values"}
    parts = [
        f"{format_number(ours[name])} of {format_number(ours[totals[name]])} {meaning}"
        for name, meaning in MUST_NOT.items()
        if name in ours
    ]
    if "harmless_refused_frac" in ours:
        value = format_value(ours["harmless_refused_frac"], is_share=True)
        parts.append(f"{value} of {format_number(ours['n_harmless'])} harmless first turns refused")
    return ", ".join(parts) + "." if parts else ""


def group_transcripts(facts: Facts) -> dict[str, list[Transcript]]:
    """Return the conversations by the title of their kind."""
    groups: dict[str, list[Transcript]] = {}
    for (kind, id_), rows in groupby(facts.user_turns, key=lambda row: (str(row["kind"]), str(row["id"]))):
        turns = list(rows)
        problems = [str(row["problem"]) for row in turns if row["problem"]]
        lines = [line for row in turns for line in _read_turn(row)]
        groups.setdefault(USER_KINDS.get(kind, kind), []).append(Transcript(id_, lines, problems))
    return groups


def _read_turn(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    calls: Sequence[Mapping[str, str]] = row["calls"]
    called = [("call", f"{call['name']}({json.dumps(call['argument'], ensure_ascii=False)})") for call in calls]
    return [("user", str(row["user"])), *called, ("assistant", str(row["reply"]) or "(nothing)")]
