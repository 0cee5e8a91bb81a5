"""The memory's part of a conversation: remember, correct, and answer from what is remembered, by quoting it.

`remember that …` stores a sentence with its source. A correction replaces the sentence about the same subject; where it is unclear
which, it asks. A question about what was told is answered with quotations, `my name: "my name is Ada" [memory 1]`. For other
messages, sentences that have to do with them are recalled, shown as events, and given to the model as system messages, the first
to be left out of a full window.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime

from assistant.conversation.events import Event, Message, Notice, Recalled, TextPiece
from assistant.conversation.responder import Responder
from assistant.memory.memory_requests import Request, find_name, find_subject, read_request
from assistant.memory.memory_store import Memory, MemoryStore
from assistant.memory.similarity import Measure

SAME = 0.75  # a correction replaces the one sentence that is so similar
SIMILAR = 0.34  # and asks about one that is at least so similar
RELEVANT = 0.5  # a sentence is recalled for a question that it has so much to do with
MAX_RECALLED = 3
MAX_QUOTED = 10
NOTHING = "I remember nothing about that. Say: remember that …"
_YES = re.compile(r"\W*(?:yes|y|yeah|yep|right|correct|sure|ok(?:ay)?)(?:\s+please)?\W*", re.IGNORECASE)
_NO = re.compile(r"\W*(?:no|n|nope)(?:\s+thanks)?\W*", re.IGNORECASE)


class Remembering(Responder):
    """The memory of one conversation. `conversation` is its id; `clock` returns the time of what is stored."""

    def __init__(self, store: MemoryStore, measure: Measure, conversation: str, clock: Callable[[], datetime]) -> None:
        self.store, self._measure, self._conversation, self._clock = store, measure, conversation, clock
        self._turn = 0
        self._asked: tuple[str, Memory] | None = None  # a correction, and what it may replace
        self._recalled: list[Memory] = []

    def forget(self) -> None:
        """Forget the open question; what is remembered stays."""
        self._asked, self._recalled = None, []

    def recall(self, messages: Sequence[Message]) -> Sequence[Event]:
        """Return what has to do with the last message, and keep it for the model."""
        self._turn += 1
        self._recalled = []
        now, text = self._clock(), messages[-1].text if messages and messages[-1].role == "user" else ""
        try:
            memories = self.store.list_memories(now)
            if not text or not memories or read_request(text, now) is not None:
                return []
        except ValueError as error:
            return [Notice(str(error))]
        relevant = self._rank(text, memories)[:MAX_RECALLED]
        named = [memory for memory in memories if find_name(memory.text) and memory not in relevant]
        self._recalled = [*named[-1:], *relevant]
        return [Recalled(memory.number, memory.text, memory.source) for memory in relevant]

    def list_context(self) -> Sequence[Message]:
        """Return the recalled sentences for the model."""
        return [Message.of("system", _tell(memory)) for memory in self._recalled]

    def respond(self, messages: Sequence[Message]) -> Sequence[Event] | None:
        """Do what the last message wants of the memory; None if that is nothing."""
        text, asked = messages[-1].text, self._asked
        self._asked = None
        try:
            if asked is not None and _YES.fullmatch(text):
                return self._store(asked[0], None, [asked[1]])
            if asked is not None and _NO.fullmatch(text):
                return self._store(asked[0], None, [])
            request = read_request(text, self._clock())
            return None if request is None else self._run(request)
        except ValueError as error:
            return [TextPiece(f"I can't do that: {error}")]

    def remember(self, text: str) -> str:
        """Store a sentence that was typed behind /remember. Return what to say."""
        request = read_request(f"remember {text}", self._clock())
        events = self._run(request or Request("remember", text))
        return "".join(event.text for event in events or [] if isinstance(event, TextPiece))

    def _run(self, request: Request) -> list[Event] | None:
        memories = self.store.list_memories(self._clock())
        if request.kind == "recall":
            return self._answer(request, memories)
        subject = find_subject(request.text)
        same = [memory for memory in memories if subject and find_subject(memory.text) == subject]
        if request.kind == "remember" or same:
            return self._store(request.text, request, same)
        scores = self._measure(request.text, [memory.text for memory in memories])
        similar = sorted(zip(scores, memories, strict=True), key=lambda each: (-each[0], each[1].number))
        if not similar or similar[0][0] < SIMILAR:
            return None  # nothing that it could correct
        (best, memory), others = similar[0], similar[1:]
        if best >= SAME and all(score < SAME for score, _ in others):
            return self._store(request.text, None, [memory])
        self._asked = (request.text, memory)
        return [TextPiece(f'Does that replace "{memory.text}" [memory {memory.number}]? (yes or no)')]

    def _store(self, text: str, request: Request | None, replaced: Sequence[Memory]) -> list[Event]:
        memory = self.store.add(
            text,
            self._conversation,
            max(self._turn, 1),
            self._clock(),
            request.expires if request else None,
            [each.number for each in replaced],
        )
        said = f'I remember: "{memory.text}" [memory {memory.number}]'
        until = f", until {memory.expires}" if memory.expires else ""
        instead = "".join(f', instead of "{each.text}"' for each in replaced)
        return [TextPiece(said + until + instead)]

    def _answer(self, request: Request, memories: Sequence[Memory]) -> list[Event] | None:
        chosen = list(memories) if not request.text else self._choose_about(request.text, memories)
        if not chosen:
            return [TextPiece(NOTHING)] if request.is_sure else None
        asked = request.text or "what I remember"
        lines = [f'{asked}: "{memory.text}" [memory {memory.number}]' for memory in chosen[-MAX_QUOTED:]]
        recalled = [Recalled(memory.number, memory.text, memory.source) for memory in chosen[-MAX_QUOTED:]]
        return [*recalled, TextPiece("\n".join(lines))]

    def _choose_about(self, topic: str, memories: Sequence[Memory]) -> list[Memory]:
        """Return the memory whose subject is the topic; else those with most to do with it."""
        subject = " ".join(topic.casefold().split())
        same = [memory for memory in memories if find_subject(memory.text) == subject]
        return same or self._rank(topic, memories)[:MAX_RECALLED]

    def _rank(self, text: str, memories: Sequence[Memory]) -> list[Memory]:
        scores = self._measure(text, [memory.text for memory in memories])
        ranked = sorted(zip(scores, memories, strict=True), key=lambda each: (-each[0], -each[1].number))
        return [memory for score, memory in ranked if score >= RELEVANT]


def _tell(memory: Memory) -> str:
    """Return a sentence for the model; the user's name in the form that system prompts of its training have."""
    name = find_name(memory.text)
    return f"The user is called {name}." if name else f"The user said: {memory.text}"
