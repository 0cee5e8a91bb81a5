"""Apply a guard to a conversation without a server: what the user asks, what tools return, what the model says.

In: a guard, and the thresholds of each place. Out: a responder that answers harmful requests before the model is asked, tools
whose results lose the passages and sentences that give orders, and an engine whose text is shown by checked sentences. A service
decides by policies instead (service/policy).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from assistant.conversation.events import (
    ConversationCache,
    Engine,
    Event,
    Message,
    Notice,
    ReplyOptions,
    Sampling,
    TextPiece,
)
from assistant.conversation.responder import Responder
from assistant.guard.harm_guard import DEFAULT_THRESHOLDS, HARM, Guard, Place, find_exceeded
from assistant.guard.sentence_screen import SentenceScreen
from assistant.tools.toolbox import ToolOutput, Tools

REFUSAL = "I can't help with that, because it could do harm."
CRISIS = (
    "I can't help with that, because it could do harm. If you think of hurting yourself, please call your local emergency "
    "number or a crisis line, or talk to somebody you trust."
)
WITHHELD = "[The rest is withheld.]"
REMOVED = "[removed: text that gives orders to the assistant]"
MIN_JOINED = 0.95  # of several messages together: what is read into them must be clear
MIN_CRISIS = 0.5
N_EARLIER = 2  # messages of the user that are read together with the last one: a request may be spread over several
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")

Thresholds = Mapping[Place, Mapping[str, float]]


class GuardResponder(Responder):
    """Answers what the guard does not let through; the first responder of a session."""

    def __init__(self, guard: Guard, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> None:
        self._guard, self._limits = guard, thresholds["input"]

    def respond(self, messages: Sequence[Message]) -> Sequence[Event] | None:
        """Return a refusal if the last message asks for harm, by itself or as the end of a request that was spread over several.

        Messages that were refused before don't count again: who changes the topic is answered."""
        asked = [message.text for message in messages if message.role == "user"][-1 - N_EARLIER :]
        if not asked:
            return None
        scores = self._score(asked)
        if find_exceeded(scores[-1], self._limits):
            return self._refuse(scores[-1])
        earlier = [text for text, own in zip(asked, scores[:-1], strict=False) if not find_exceeded(own, self._limits)]
        if earlier:
            (joined,) = self._score(["\n".join([*earlier, asked[-1]])])
            if joined.get(HARM, 0.0) >= MIN_JOINED:
                return self._refuse(joined)
        return None

    def _score(self, texts: Sequence[str]) -> list[dict[str, float]]:
        columns = self._guard.score(texts)
        return [{name: float(values[row]) for name, values in columns.items()} for row in range(len(texts))]

    def _refuse(self, scores: Mapping[str, float]) -> list[Event]:
        return [TextPiece(CRISIS if scores.get("self_harm", 0.0) >= MIN_CRISIS else REFUSAL)]


class ScreenedTools(Tools):
    """Tools whose results lose what gives orders to the assistant, before the model reads them."""

    def __init__(self, tools: Tools, guard: Guard, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> None:
        super().__init__({}, tools.documents)
        self._tools, self._guard, self._all_limits = tools, guard, thresholds

    @property
    def names(self) -> tuple[str, ...]:
        return self._tools.names

    def keep(self, names: Collection[str]) -> Tools:
        """Return the screened tools that have one of these names."""
        return ScreenedTools(self._tools.keep(names), self._guard, self._all_limits)

    def run(self, name: str, argument: str, question: str = "") -> ToolOutput:
        """Return the tool's output without passages or sentences that reach a threshold. Never raises."""
        output = self._tools.run(name, argument, question)
        if output.search is None:
            return replace(output, text=self._remove_orders(output.text))
        lines = [result.line for result in output.search.results]
        flagged = self._flag(lines, "passage")
        kept = tuple(result for result, is_order in zip(output.search.results, flagged, strict=True) if not is_order)
        if len(kept) == len(lines):
            return output
        search = replace(output.search, results=kept)
        return ToolOutput(search.text, search)

    def _flag(self, texts: Sequence[str], place: Place) -> list[bool]:
        """Return for each text whether it reaches a threshold of the place."""
        if not texts:
            return []
        columns = self._guard.score(texts)
        limits = self._all_limits[place]
        return [
            bool(find_exceeded({name: float(values[row]) for name, values in columns.items()}, limits))
            for row in range(len(texts))
        ]

    def _remove_orders(self, text: str) -> str:
        """Return a result without the sentences that reach a threshold; all of it is removed if no single one does."""
        if not text.strip() or not self._flag([text], "tool_result")[0]:
            return text
        parts = _SENTENCE.split(text)
        flagged = self._flag(parts, "tool_result")
        if not any(flagged):
            return REMOVED
        return " ".join(REMOVED if is_order else part for part, is_order in zip(parts, flagged, strict=True))


class ScreenedEngine:
    """An engine whose text passes a sentence at a time, when the guard has read it."""

    def __init__(self, engine: Engine, guard: Guard, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> None:
        self._engine, self._guard, self._limits = engine, guard, thresholds["output"]
        self.is_chat = engine.is_chat

    def reply(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        cache: ConversationCache | None = None,
        options: ReplyOptions | None = None,
    ) -> Iterator[Event]:
        """Yield the events of a reply; candidates among which the engine chooses were made by code and pass unchanged."""
        events = self._engine.reply(messages, sampling, cache, options)
        yield from events if options is not None and options.answers else self._screen(events)

    def continue_text(self, text: str, sampling: Sampling) -> Iterator[Event]:
        """Yield the events of a continued text."""
        yield from self._screen(self._engine.continue_text(text, sampling))

    def _screen(self, events: Iterator[Event]) -> Iterator[Event]:
        """Yield the events with checked text. While a sentence is held, empty pieces allow interruption."""
        screen = SentenceScreen(self._replace)
        is_noticed = False
        for event in events:
            if isinstance(event, TextPiece):
                yield TextPiece(screen.pass_on(event.text))
                continue
            if rest := screen.finish():
                yield TextPiece(rest)
            if screen.is_withheld and not is_noticed:
                is_noticed = True
                yield Notice("the guard withheld a part of the answer")
            yield event
        if rest := screen.finish():
            yield TextPiece(rest)

    def _replace(self, sentence: str) -> str | None:
        return WITHHELD if find_exceeded(self._guard.score_text(sentence), self._limits) else None
