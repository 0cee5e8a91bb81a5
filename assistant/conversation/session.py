"""A conversation: what was said, and the loop in which the model calls a tool, gets its result and goes on.

In: a person's text. Out: events, as they happen. Holds no model and no terminal, so a fake engine is enough to test it.
An answer that is broken off stays in the history as far as it came; if nothing came, the question is forgotten too, so the
history always alternates.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from assistant.conversation.events import (
    ConversationCache,
    Engine,
    Event,
    Message,
    Sampling,
    TextPiece,
    ToolCall,
    ToolResult,
)
from assistant.tools.toolbox import Tools

MAX_ROUNDS = 3  # tool calls for one message of a person; a small model can fall into a loop


class Session:
    """One conversation. The engine may be shared by many; `memory` is this conversation's own."""

    def __init__(self, engine: Engine, tools: Tools, *, system: str = "", history: Sequence[Message] = ()) -> None:
        self.engine, self.tools, self.system = engine, tools, system
        self.history: list[Message] = list(history)
        self.memory = ConversationCache()

    @property
    def messages(self) -> list[Message]:
        """What the model is shown: the system prompt, if any, and the history."""
        prompt = [Message.of("system", self.system)] if self.system else []
        return [*prompt, *self.history]

    def reset(self) -> None:
        """Forgets what was said; the system prompt stays."""
        self.history.clear()
        self.memory = ConversationCache()

    def send(self, text: str, sampling: Sampling) -> Generator[Event, None, None]:
        """Nothing happens before the first event is asked for; close the generator to break the answer off."""
        if not self.engine.is_chat:
            yield from self.engine.continuation(text, sampling)
            return
        n_before = len(self.history)
        self.history.append(Message.of("user", text))
        yield from self._answer(sampling, n_before)

    def respond(self, sampling: Sampling) -> Generator[Event, None, None]:
        """An answer to the history as it stands."""
        if not self.engine.is_chat:
            text = "\n".join(message.text for message in self.messages)
            yield from self.engine.continuation(text, sampling)
            return
        yield from self._answer(sampling, len(self.history))

    def _answer(self, sampling: Sampling, n_before: int) -> Generator[Event, None, None]:
        pieces: list[str] = []
        is_whole = False
        try:
            for _ in range(MAX_ROUNDS):
                call = yield from self._generate(sampling, pieces)
                if call is None:
                    is_whole = True
                    return
                yield self._use(call)
            call = yield from self._generate(sampling, pieces)
            if call is not None:
                pieces.append(f"I stopped after {MAX_ROUNDS} calls of tools.")
                yield TextPiece(pieces[-1])
            is_whole = True
        finally:
            text = "".join(pieces)
            if is_whole or text:
                self.history.append(Message.of("assistant", text))
            else:
                del self.history[n_before:]

    def _generate(self, sampling: Sampling, pieces: list[str]) -> Generator[Event, None, ToolCall | None]:
        """One turn of the model; its text is added to `pieces`, its call is returned."""
        call: ToolCall | None = None
        for event in self.engine.reply(self.messages, sampling, self.memory):
            if isinstance(event, TextPiece):
                pieces.append(event.text)
            elif isinstance(event, ToolCall):
                call = event
            yield event
        return call

    def _use(self, call: ToolCall) -> ToolResult:
        result = self.tools.run(call.name, call.argument)
        self.history += [Message.calling(call), Message.result(result, call.id)]
        return ToolResult(call, result)
