"""Hand a conversation over to a person, with a summary that is made of quotations only.

    var/handovers/2026-11-30T12-00-00-1.md

In: the messages so far. Out: a file with every question of the user, verbatim, what was quoted as an answer and from where, and
which questions had no answer; nothing is paraphrased, so nothing can be wrong in it. Written completely or not at all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from assistant.conversation.events import Event, Message, TextPiece
from assistant.conversation.responder import Responder
from assistant.terminal.plain_text import strip_control_characters
from model.grounding.answers import parse_quotes

MAX_QUOTED_CHARS = 1_000  # of one message
MAX_TURNS = 50  # the last ones
_WANTED = re.compile(
    r"\W*(?:person|human|agent|(?:(?:can|may|could)\s+i\s+|i\s+(?:want|would\s+like|need)\s+to\s+|let\s+me\s+|please\s+)*"
    r"(?:talk|speak|chat|connect\s+me|hand\s+me\s+over)\s+(?:to|with)\s+(?:a|an|some)?\s*(?:real\s+)?(?:person|human|agent|somebody|someone))"
    r"(?:\s+please)?\W*",
    re.IGNORECASE,
)


def get_handover_folder() -> Path:
    """Return where handovers are written (MINIGPT_HANDOVERS, by default var/handovers)."""
    return Path(os.environ.get("MINIGPT_HANDOVERS") or "var/handovers")


class Handover(Responder):
    """Writes the file when the user asks for a person. `clock` returns its time; `shows_path`: whether the user may know
    where it is, which is nobody's business where the assistant runs on another machine."""

    def __init__(self, folder: Path, name: str, clock: Callable[[], datetime], *, shows_path: bool = True) -> None:
        self._folder, self._name, self._clock, self._shows_path = folder, name, clock, shows_path

    def respond(self, messages: Sequence[Message]) -> Sequence[Event] | None:
        """Hand over if the last message asks for it."""
        if not _WANTED.fullmatch(messages[-1].text):
            return None
        time = self._clock()
        try:
            path = write_handover(self._folder, summarize_by_quoting(messages[:-1], self._name, time), time)
        except OSError as error:
            where = f": {error.strerror} ({self._folder})" if self._shows_path else " right now"
            return [TextPiece(f"I can't hand over{where}. Please write to us directly.")]
        if not self._shows_path:
            return [TextPiece("I hand over to a person, who gets a summary of our conversation.")]
        return [TextPiece(f"I hand over to a person. The summary of our conversation is in {path}.")]


def summarize_by_quoting(messages: Sequence[Message], name: str, time: datetime) -> str:
    """Return the summary of a conversation: questions and quotations."""
    turns = _list_turns(messages)[-MAX_TURNS:]
    lines = [f"# Handover from {name}, {time.isoformat(timespec='seconds')}", ""]
    unanswered = [question for question, answer in turns if not parse_quotes(answer)]
    if unanswered:
        lines += ["## Without an answer", "", *(f"- {_quote(question)}" for question in unanswered), ""]
    lines += ["## Conversation", ""]
    for question, answer in turns:
        lines.append(f"- asked: {_quote(question)}")
        quotes = parse_quotes(answer)
        lines += [f"  - quoted: {_quote(quote.text)} from {_clean(quote.title)}" for quote in quotes]
        if not quotes:
            lines.append(f"  - answered: {_quote(answer)}")
    return "\n".join(lines if turns else [*lines, "nothing was asked before"]) + "\n"


def write_handover(folder: Path, text: str, time: datetime) -> Path:
    """Write a summary to a new file of the folder, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = folder / f"{time.strftime('%Y-%m-%dT%H-%M-%S')}-{number}.md"
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(text, encoding="utf-8", errors="replace")
        try:
            os.link(partial, path)  # fails where the file exists, so another process keeps its own
            return path
        except FileExistsError:
            number += 1
        finally:
            partial.unlink()


def _list_turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Return questions with the text that answered each."""
    turns: list[tuple[str, str]] = []
    for message in messages:
        if message.role == "user":
            turns.append((message.text, ""))
        elif message.role == "assistant" and message.call is None and turns:
            turns[-1] = (turns[-1][0], message.text)
    return turns


def _quote(text: str) -> str:
    """Return a text on one line in quotation marks, so that nothing in it is read as Markdown's structure."""
    return f"“{_clean(text)}”"


def _clean(text: str) -> str:
    text = " ".join(strip_control_characters(text).split())
    return text if len(text) <= MAX_QUOTED_CHARS else text[: MAX_QUOTED_CHARS - 1] + "…"
