"""Read the events of one choice into what every wire format renders: text, tool calls, and what OpenAI has no field for.

In: events of a session, or pieces of a direct answer. Out: `TextDelta`, `CallDelta` and `ExtraDelta`, in order; then the totals.
Stop strings of a session, which the model's loop does not know, are found here; a direct answer has been cut already.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from assistant.conversation.events import Citation, Done, Notice, Recalled, TextPiece, ToolCall, ToolResult
from service.answers.answer_request import AnswerRequest
from service.answers.answering import AnswerEvent
from service.answers.interfaces import ChosenToken, DirectPiece

MAX_RESULT = 20_000  # characters of a tool's result that a client is shown
FINISH = {  # reasons of the engine → OpenAI's
    "end": "stop",
    "stop": "stop",
    "length": "length",
    "window": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
}


@dataclass(frozen=True)
class TextDelta:
    """More text; of a direct answer with its tokens."""

    text: str
    tokens: tuple[ChosenToken, ...] = ()


@dataclass(frozen=True)
class CallDelta:
    """A call of a tool that the request offered, whole."""

    index: int
    id: str
    name: str
    arguments: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class ExtraDelta:
    """What OpenAI has no field for: an object with a `type` (citation, tool_call, tool_result, notice, recalled, done)."""

    value: dict[str, Any]


Delta = TextDelta | CallDelta | ExtraDelta


class StopCutter:
    """Cuts a text at the first stop string. Holds back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops, self._held, self.is_stopped = tuple(stops), "", False

    def add(self, text: str) -> str:
        """Return what may be shown after one more piece."""
        if not self._stops or self.is_stopped:
            return "" if self.is_stopped else text
        self._held += text
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.is_stopped = True
            shown, self._held = self._held[: min(places)], ""
            return shown
        n_held = max(_count_overlap(self._held, stop) for stop in self._stops)
        shown = self._held[: len(self._held) - n_held]
        self._held = self._held[len(shown) :]
        return shown

    def finish(self) -> str:
        """Return what was held back and is no stop string."""
        rest, self._held = self._held, ""
        return rest


def show_address(url: str) -> str:
    """Return the address of a document for those who use the service: of a file its name, not where it was on the server."""
    return url if re.match(r"https?://", url) else re.split(r"[/\\]", url)[-1]


def _count_overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that begins `stop`."""
    for n in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:n]):
            return n
    return 0


@dataclass
class ChoiceReader:
    """Collects one choice."""

    request: AnswerRequest
    text: list[str] = field(default_factory=list[str])
    tokens: list[ChosenToken] = field(default_factory=list[ChosenToken])
    calls: list[CallDelta] = field(default_factory=list[CallDelta])
    citations: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    tools: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    recalled: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    notices: list[str] = field(default_factory=list[str])
    n_prompt_tokens: int = 0
    n_tokens: int = 0
    n_cached_tokens: int = 0
    done: Done | None = None

    def __post_init__(self) -> None:
        self._passages: dict[str, dict[str, Any]] = {}
        self._stop = StopCutter(() if self.request.is_direct else self.request.controls.stop)

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string has ended the answer."""
        return self._stop.is_stopped

    @property
    def has_text(self) -> bool:
        """Whether there has been any text."""
        return bool(self.text)

    @property
    def reason(self) -> str:
        """Why the answer ended, in our words."""
        if self.is_stopped:
            return "stop"
        return "tool_calls" if self.calls else self.done.reason if self.done is not None else "end"

    @property
    def finish_reason(self) -> str:
        """Why the answer ended, in OpenAI's words."""
        return FINISH.get(self.reason, "stop")

    def take(self, event: AnswerEvent) -> list[Delta]:
        """Return what a client is shown of one event."""
        if isinstance(event, TextPiece):
            return self._add_text(event.text)
        if isinstance(event, DirectPiece):
            if event.done is not None:
                self._add_done(event.done)
            self.tokens += event.tokens
            return self._add_text(event.text, event.tokens)
        if isinstance(event, Done):
            self._add_done(event)
            return []
        if isinstance(event, ToolCall):
            return [self._add_call(event)]
        extra = self._describe(event)
        return [ExtraDelta(extra)] if extra is not None else []

    def finish(self) -> list[Delta]:
        """Return the rest of the text, and the end."""
        rest = self._stop.finish()
        deltas: list[Delta] = []
        if rest:
            self.text.append(rest)
            deltas.append(TextDelta(rest))
        last = self.done or Done(0, 0, 0.0, 0.0, "end")
        end = {"type": "done", "reason": FINISH.get(self.reason, self.reason) if self.reason != "window" else "window"}
        totals = {
            "n_prompt_tokens": self.n_prompt_tokens,
            "n_tokens": self.n_tokens,
            "n_cached_tokens": self.n_cached_tokens,
        }
        times = {"seconds": round(last.seconds, 6), "first_token_seconds": round(last.first_token_seconds, 6)}
        return [*deltas, ExtraDelta({**end, **totals, **times})]

    def get_evidence(self) -> dict[str, Any]:
        """Return what was found and done for this choice."""
        return {
            "citations": self.citations,
            "notices": self.notices,
            "tools": self.tools,
            "recalled": self.recalled,
            "reason": self.reason,
        }

    def _add_text(self, text: str, tokens: tuple[ChosenToken, ...] = ()) -> list[Delta]:
        shown = self._stop.add(text)
        if shown:
            self.text.append(shown)
        return [TextDelta(shown, tokens)] if shown or tokens else []

    def _add_done(self, done: Done) -> None:
        self.done = done
        self.n_prompt_tokens += done.n_prompt_tokens
        self.n_tokens += done.n_tokens
        self.n_cached_tokens += done.n_cached_tokens

    def _add_call(self, call: ToolCall) -> Delta:
        if self.request.is_direct:
            arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
            made = CallDelta(
                len(self.calls), call.id or f"call_{secrets.token_hex(12)}", call.name, arguments, call.arguments
            )
            self.calls.append(made)
            return made
        tool = {"number": len(self.tools) + 1, "name": call.name, "arguments": dict(call.arguments)}
        self.tools.append(tool)
        return ExtraDelta({"type": "tool_call", **tool})

    def _describe(self, event: AnswerEvent) -> dict[str, Any] | None:
        if isinstance(event, ToolResult):
            return self._add_result(event)
        if isinstance(event, Citation):
            row = {**asdict(event), "heading": list(event.heading), "number": len(self.citations) + 1}
            row["url"] = show_address(event.url)
            self.citations.append(row)
            return {"type": "citation", **row, "passage": self._passages.get(event.sha256)}
        if isinstance(event, Recalled):
            self.recalled.append(asdict(event))
            return {"type": "recalled", **asdict(event)}
        if isinstance(event, Notice):
            self.notices.append(event.text)
            return {"type": "notice", "text": event.text}
        return None

    def _add_result(self, event: ToolResult) -> dict[str, Any]:
        text = event.text[:MAX_RESULT]
        number = len(self.tools) or 1
        if self.tools:
            self.tools[-1]["result"] = text
        row: dict[str, Any] = {"type": "tool_result", "number": number, "name": event.call.name, "text": text}
        if event.decided_by:
            row["decided_by"] = list(event.decided_by)
            self.tools[-1:] = [{**tool, "decided_by": row["decided_by"]} for tool in self.tools[-1:]]
        if event.search is not None:
            for result in event.search.results:
                section = result.section
                self._passages[section.sha256] = {"text": section.text, "start": section.start}
            results = [
                {"title": one.section.title, "how": one.how, "score": float(one.score), "line": one.line}
                for one in event.search.results
            ]
            row["search"] = {"query": event.search.query, "notes": list(event.search.notes), "results": results}
        return row

    def make_annotations(self) -> list[dict[str, Any]]:
        """Return the citations with their places in the text, in OpenAI's form."""
        text, cursor = "".join(self.text), 0
        rows: list[dict[str, Any]] = []
        for citation in self.citations:
            start = text.find(citation["text"], cursor)
            start = start if start >= 0 else max(text.find(citation["title"], cursor), 0)
            end = min(start + len(citation["text"]), len(text))
            cursor = end if text[start:end] == citation["text"] else cursor
            address = citation["url"]
            url = address if "://" in address else f"urn:minigpt:document:{citation['doc_id']}"
            rows.append({"start_index": start, "end_index": end, "title": citation["title"], "url": url})
        return rows
