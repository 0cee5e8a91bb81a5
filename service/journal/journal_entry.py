"""Collect what happened in one answer, and make of it a row of the journal and the events of the audit log.

In: a request, the events of its answer, its outcome, and the tenant's rules of storage. Out: a `JournalEntry`. Texts are stored as
the rules say: not at all, with personal data masked, or in full; passages always as document, place and SHA-256, never as text.
Bounds: MAX_EVENTS of each kind, MAX_CHARS of a text; what is more is counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from assistant.conversation.events import Citation, Event, Message, ToolCall, ToolResult
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import AnswerOutcome, Decision, DirectPiece, ModelDescription
from service.journal.audit_log import AuditEvent
from service.journal.persons import clean_text, name_user
from service.tooling.guarded_tools import UNKNOWN_RULE, ToolUse

MAX_EVENTS = 200  # of one kind in one answer
MAX_CHARS = 200_000  # of one text
Mask = Callable[[str], str]


@dataclass(frozen=True)
class JournalEntry:
    """What is stored together: perhaps a row of the journal, and events of the audit log. `began` is when its person began;
    `write` stores what else belongs to it, in the same transaction."""

    began: datetime
    events: tuple[AuditEvent, ...]
    row: Mapping[str, Any] | None = None
    write: Callable[[Connection], None] | None = None


@dataclass(frozen=True)
class Storage:
    """How messages are stored, by which policy. `mask` removes personal data and secrets."""

    messages: str
    policy_hash: str
    mask: Mask

    def prepare(self, text: str) -> str:
        """Return a text as it may be stored."""
        if self.messages == "off":
            return ""
        text = text[:MAX_CHARS] + ("…" if len(text) > MAX_CHARS else "")
        return self.mask(text) if self.messages == "masked" else text


@dataclass
class EntryDraft:
    """What is known of an answer in progress."""

    request: AnswerRequest
    began: datetime
    decisions: list[Decision] = field(default_factory=list[Decision])
    searches: list[ToolResult] = field(default_factory=list[ToolResult])
    tools: list[ToolCall | ToolUse] = field(default_factory=list[ToolCall | ToolUse])
    citations: list[Citation] = field(default_factory=list[Citation])
    n_same: dict[int, int] = field(default_factory=dict[int, int])  # by place in `decisions`: how often more
    n_left_out: int = 0

    def add(self, event: Event | DirectPiece | Decision | ToolUse) -> None:
        """Keep an event that belongs in the journal; a decision that was made before (about another sentence) is counted."""
        if isinstance(event, Decision) and event in self.decisions:
            at = self.decisions.index(event)
            self.n_same[at] = self.n_same.get(at, 0) + 1
            return
        kinds: list[tuple[type, list[Any]]] = [
            (Decision, self.decisions),
            (ToolResult, self.searches),
            (ToolCall, self.tools),
            (ToolUse, self.tools),
            (Citation, self.citations),
        ]
        for kind, events in kinds:
            if isinstance(event, kind):
                if len(events) < MAX_EVENTS:
                    events.append(event)
                else:
                    self.n_left_out += 1

    def finish(
        self, outcome: AnswerOutcome, model: ModelDescription, profile_hash: str, storage: Storage
    ) -> JournalEntry:
        """Return what is stored of the answer."""
        request, caller = self.request, self.request.caller
        row = {
            "tenant": caller.tenant,
            "id": request.id[:64],
            "time": self.began,
            "user": name_user(caller.user),
            "key_id": caller.key_id[:64],
            "role": caller.role,
            "api": request.api,
            "model": request.model[:256],
            "profile": request.profile[:256],
            "profile_hash": profile_hash,
            "policy_hash": storage.policy_hash,
            "mode": "direct" if request.is_direct else "assistant",
            "version": model.version[:256],
            "lineage": dump(dict(outcome.lineage or model.lineage)),
            "conversation": request.conversation[:256],
            "storage": storage.messages,
            "messages": dump(self._list_messages(storage)),
            "answer": storage.prepare(outcome.text),
            "passages": dump(_list_passages(self.searches)),
            "citations": dump([_describe_citation(citation, storage) for citation in self.citations]),
            "tools": dump([_describe_tool(tool, storage) for tool in self._list_tools()]),
            "decisions": dump([describe_decision(each, self._count(at)) for at, each in enumerate(self.decisions)]),
            "n_prompt_tokens": outcome.n_prompt_tokens,
            "n_tokens": outcome.n_tokens,
            "seconds": round(outcome.seconds, 6),
            "first_token_seconds": round(outcome.first_token_seconds, 6),
            "reason": outcome.reason[:64],
            "error": outcome.error[:256],
        }
        row = {name: clean_text(value) if isinstance(value, str) else value for name, value in row.items()}
        return JournalEntry(self.began, tuple(self._list_events(outcome, row)), row)

    def _count(self, at: int) -> int:
        return 1 + self.n_same.get(at, 0)

    def _list_tools(self) -> list[ToolCall | ToolUse]:
        """Return what the server's tools did; calls alone where the client runs them."""
        uses = [tool for tool in self.tools if isinstance(tool, ToolUse)]
        return [*uses] if uses else self.tools

    def _list_messages(self, storage: Storage) -> list[dict[str, str]]:
        if storage.messages == "off":
            return []
        request = self.request
        prompt = [{"role": "prompt", "text": storage.prepare(request.prompt)}] if request.prompt is not None else []
        return [*prompt, *(_describe_message(each, storage) for each in request.messages)]

    def _list_events(self, outcome: AnswerOutcome, row: Mapping[str, Any]) -> list[AuditEvent]:
        """Return the events: the request with the MAC of its texts, each decision, and the end with the MAC of the answer."""
        request = self.request
        about: dict[str, Any] = {
            "tenant": request.caller.tenant,
            "user": row["user"],
            "key_id": row["key_id"],
            "subject": row["id"],
        }
        asked = dump([request.prompt, [_list_texts(message) for message in request.messages]])
        begin = {"api": request.api, "mode": row["mode"]}  # the name of the model may be any text
        end: dict[str, Any] = {
            "reason": row["reason"],
            "error": row["error"],
            "tokens": row["n_tokens"],
            "version": row["version"],
            "policy": row["policy_hash"],
            "left_out": self.n_left_out,
        }
        return [
            AuditEvent(**about, what="answer.begin", text=asked, details=begin),
            *(
                AuditEvent(**about, what="answer.decision", details=_audit_decision(each, self._count(at)))
                for at, each in enumerate(self.decisions)
            ),
            *(
                AuditEvent(
                    **about,
                    what="tool.call",
                    text=tool.argument,
                    details={"tool": _name_tool(tool), "verdict": tool.verdict, "rules": list(tool.decided_by)},
                )
                for tool in self.tools
                if isinstance(tool, ToolUse)
            ),
            AuditEvent(**about, what="answer.end", text=outcome.text, details=end),
        ]


def dump(value: Any) -> str:
    """Return JSON for a column: texts as they are, empty for nothing."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str) if value else ""


def describe_decision(decision: Decision, count: int = 1) -> dict[str, Any]:
    """Return a decision as the journal has it, and how often it was made. `text` is left out: it is in the answer, or masked."""
    scores = {name: round(float(score), 4) for name, score in decision.scores.items()}
    return {
        "action": decision.action,
        "rules": list(decision.rules),
        "reason": decision.reason,
        "scores": scores,
        "policy": decision.policy_hash,
        "n": count,
    }


def _audit_decision(decision: Decision, count: int) -> dict[str, Any]:
    """Return a decision without its reason, which may quote a caller, and with the scores that matter."""
    scores = {name: round(float(score), 2) for name, score in decision.scores.items() if score >= 0.3}
    made = {"action": decision.action, "rules": list(decision.rules), "scores": scores, "policy": decision.policy_hash}
    return made if count == 1 else {**made, "n": count}


def _list_passages(searches: Sequence[ToolResult]) -> list[dict[str, Any]]:
    return [
        {
            "document": result.section.doc_id,
            "title": result.section.title,
            "heading": list(result.section.heading),
            "start": result.section.start,
            "end": result.section.end,
            "collection": result.collection,
            "sha256": result.section.sha256,
            "how": result.how,
            "score": round(float(result.score), 4),
        }
        for search in searches
        if search.search is not None
        for result in search.search.results
    ]


def _name_tool(tool: ToolUse) -> str:
    """Return the name of a tool; none for one that does not exist, whose name the model has made up of any text."""
    return "" if UNKNOWN_RULE in tool.decided_by else tool.tool


def _describe_citation(citation: Citation, storage: Storage) -> dict[str, Any]:
    return {
        "document": citation.doc_id,
        "title": citation.title,
        "start": citation.start,
        "end": citation.end,
        "sha256": citation.sha256,
        "url": citation.url,
        "text": storage.prepare(citation.text),
    }


def _describe_message(message: Message, storage: Storage) -> dict[str, str]:
    described = {"role": message.role, "text": storage.prepare(message.text)}
    if message.call is not None:
        described |= {"call": message.call.name, "argument": storage.prepare(_format_arguments(message.call))}
    return described


def _list_texts(message: Message) -> list[str]:
    call = message.call
    return [message.role, message.text] if call is None else [message.role, call.name, _format_arguments(call)]


def _format_arguments(call: ToolCall) -> str:
    """Return the arguments of a call: its one string, or JSON for those of a client's tool."""
    values = list(call.arguments.values())
    return values[0] if len(values) == 1 and isinstance(values[0], str) else dump(dict(call.arguments))


def _describe_tool(tool: ToolCall | ToolUse, storage: Storage) -> dict[str, Any]:
    if isinstance(tool, ToolCall):
        return {"tool": tool.name, "argument": storage.prepare(_format_arguments(tool))}
    return {
        "tool": tool.tool,
        "argument": storage.prepare(tool.argument),
        "verdict": tool.verdict,
        "rules": list(tool.decided_by),
        "tainted_by": list(tool.tainted_by),
        "seconds": round(tool.seconds, 4),
    }
