"""Find an answer in the journal, and go from it to everything behind it: documents, decisions, the model and its data.

In: the id of a request or of its answer. Out: plain values (JSON), and the same as readable text, without control characters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from assistant.terminal.plain_text import strip_control_characters
from service.journal.journal_tables import JOURNAL
from service.journal.kept_policies import find_policy

ID = re.compile(r"(?:[a-z]{2,10}[-_])?(?P<number>[a-z2-7]{6,60})")
JSON_COLUMNS = ("lineage", "messages", "passages", "citations", "tools", "decisions")
MAX_SHOWN_CHARS = 2_000  # of one text on a terminal
_RULE = re.compile(r"guard\.(?P<place>\w+)\.(?P<category>\w+)\.(?P<strength>\w+)>=(?P<threshold>[\d.e-]+)")


def find_answer(connection: Connection, answer_id: str, tenant: str | None = None) -> dict[str, Any]:
    """Return the row of a request. `tenant`: only if it is this tenant's. Raises: ValueError if there is none."""
    match = ID.fullmatch(answer_id)
    found = answer_id[:80]
    if match is None:
        raise ValueError(f"id: not the id of an answer; found {found!r}; give one such as ans_… or req_….")
    where = JOURNAL.c.id.in_([answer_id, f"req_{match['number']}"])
    if tenant is not None:
        where &= JOURNAL.c.tenant == tenant
    row = connection.execute(select(JOURNAL).where(where).limit(1)).mappings().first()
    if row is None:
        raise ValueError(f"id: no such answer in the journal; found {found!r}; it may have been erased or swept.")
    return read_row(row)


def read_row(row: RowMapping) -> dict[str, Any]:
    """Return a row of the journal with its JSON read."""
    values = {name: json.loads(value) if name in JSON_COLUMNS and value else value for name, value in row.items()}
    values |= {name: {} if name == "lineage" else [] for name in JSON_COLUMNS if not values[name]}
    return {**values, "time": row["time"].isoformat(timespec="milliseconds")}


def summarize_answer(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as a list of answers shows it."""
    actions = [decision["action"] for decision in row["decisions"]]
    strongest = next((action for action in ("block", "mask", "flag") if action in actions), "allow")
    names = ("time", "tenant", "user", "api", "model", "profile", "mode", "version", "seconds", "n_tokens", "error")
    return {
        "request": row["id"],
        "answer": f"ans_{row['id'].partition('_')[2]}",
        **{name: row[name] for name in names},
        "outcome": row["reason"],
        "decision": strongest,
    }


def trace_answer(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with the commands that lead on from it."""
    documents = dict.fromkeys(
        each["document"] for each in (*row["citations"], *row["passages"]) if each.get("document")
    )
    commands = [f"python -m pipeline.ledger why {document}" for document in documents]
    if row["version"]:
        commands.append("python -m pipeline.registry list")
    return {**row, "answer_id": f"ans_{row['id'].partition('_')[2]}", "commands": commands}


def format_trail(trail: Mapping[str, Any]) -> str:
    """Return what is behind an answer as text."""
    facts = [
        ("answer", f"{trail['answer_id']} of request {trail['id']}"),
        (
            "asked",
            f"{trail['time']} by {trail['user'] or 'an erased person'} ({trail['role']}, tenant {trail['tenant']})",
        ),
        ("by", f"{trail['api']}, model {trail['model']}, {trail['mode']} mode"),
        ("profile", f"{trail['profile'] or 'default'} {trail['profile_hash']}".strip()),
        ("version", f"{trail['version'] or 'unregistered'} in the registry"),
        ("policy", trail["policy_hash"]),
        ("outcome", " ".join(part for part in (trail["reason"], trail["error"]) if part)),
        ("took", f"{trail['seconds']:.3f} s, first token {trail['first_token_seconds']:.3f} s"),
        ("tokens", f"{trail['n_prompt_tokens']} read, {trail['n_tokens']} written"),
        (
            "stored",
            {"off": "no messages", "masked": "messages without personal data"}.get(
                trail["storage"], "messages in full"
            ),
        ),
    ]
    parts = [_format_pairs(facts)]
    parts += _section("what the version is made of", _format_pairs(sorted(trail["lineage"].items())))
    parts += _section("messages", "\n".join(f"{each['role']}: {_shorten(each['text'])}" for each in trail["messages"]))
    parts += _section("answer", _shorten(trail["answer"]))
    parts += _section("quoted", "\n".join(map(_format_citation, trail["citations"])))
    parts += _section("passages that were read", "\n".join(map(_format_passage, trail["passages"])))
    parts += _section("tools", "\n".join(map(_format_tool, trail["tools"])))
    parts += _section("decisions", "\n".join(_format_decision(each) for each in trail["decisions"]))
    parts += _section("to go on", "\n".join(trail["commands"]))
    return strip_control_characters("\n".join(parts))


def explain_answer(connection: Connection, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each decision about a request, with the rules that decided: their text, and threshold and score if they have them."""
    policies: dict[str, Mapping[str, Any] | None] = {}
    explained: list[dict[str, Any]] = []
    for decision in row["decisions"]:
        policy_hash = decision["policy"]
        if policy_hash not in policies:
            policies[policy_hash] = find_policy(connection, policy_hash)
        rules = [_explain_rule(rule, decision, policies[policy_hash]) for rule in decision["rules"]]
        explained.append({**decision, "rules": rules})
    return explained


def format_explanation(row: Mapping[str, Any], explained: Sequence[Mapping[str, Any]]) -> str:
    """Return the explanation as text."""
    lines = [f"request {row['id']}, {row['time']}, ended with {row['reason']} {row['error']}".rstrip()]
    for number, decision in enumerate(explained, 1):
        reason = f": {decision['reason']}" if decision["reason"] else ""
        lines += ["", f"{number}. {_format_action(decision)}{reason} (policy {decision['policy'] or 'none'})"]
        for rule in decision["rules"]:
            score = f"  score {rule['score']:.4f}, threshold {rule['threshold']:g}" if "threshold" in rule else ""
            lines += [f"   rule {rule['rule']}{score}", *(f"     {line}" for line in rule.get("text", "").splitlines())]
        if decision["scores"]:
            ranked = sorted(decision["scores"].items(), key=lambda item: -item[1])
            lines.append("   scores " + ", ".join(f"{name} {score:.4f}" for name, score in ranked[:6]))
    return strip_control_characters("\n".join(lines if explained else [*lines, "", "no decision was recorded"]))


def _explain_rule(rule: str, decision: Mapping[str, Any], policy: Mapping[str, Any] | None) -> dict[str, Any]:
    if rule.startswith("cedar."):
        text = (policy or {}).get("cedar", {}).get(rule.removeprefix("cedar."), "")
        return {"rule": rule} | ({"text": text} if text else {})
    if (match := _RULE.fullmatch(rule)) is not None:
        return {
            "rule": rule,
            "threshold": float(match["threshold"]),
            "score": float(decision["scores"].get(match["category"], 0.0)),
        }
    return {"rule": rule}


def _section(title: str, text: str) -> list[str]:
    return ["", f"# {title}", text] if text else []


def _format_pairs(pairs: Sequence[tuple[str, Any]]) -> str:
    width = max((len(name) for name, _ in pairs), default=0)
    return "\n".join(f"{name:{width}}  {value}" for name, value in pairs)


def _format_citation(citation: Mapping[str, Any]) -> str:
    place = f"{citation['title']}, characters {citation['start']}–{citation['end']}"
    text = f": “{_shorten(citation['text'])}”" if citation["text"] else ""
    return f"{place}, document {citation['document']}, sha256 {citation['sha256']}{text}"


def _format_passage(passage: Mapping[str, Any]) -> str:
    name = " › ".join(dict.fromkeys([passage["title"], *passage["heading"]]))
    found = f"{passage['collection'] or 'documentation'}, found by {passage['how']}, score {passage['score']:g}"
    return f"{name} ({found}), document {passage['document']}, sha256 {passage['sha256']}"


def _format_tool(tool: Mapping[str, Any]) -> str:
    rules = f" by {', '.join(tool['rules'])}" if tool.get("rules") else ""
    tainted = f", window tainted by {', '.join(tool['tainted_by'])}" if tool.get("tainted_by") else ""
    verdict = f" {tool['verdict']}{rules}{tainted}" if "verdict" in tool else " called"
    return f"{tool['tool']}({_shorten(tool['argument'])}){verdict}"


def _format_decision(decision: Mapping[str, Any]) -> str:
    reason = f": {decision['reason']}" if decision["reason"] else ""
    return f"{_format_action(decision)} by {', '.join(decision['rules']) or 'no rule'}{reason}"


def _format_action(decision: Mapping[str, Any]) -> str:
    return decision["action"] if decision["n"] == 1 else f"{decision['action']} ({decision['n']} times)"


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "…"
