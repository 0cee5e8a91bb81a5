"""A conversation: its history, and the loop in which the model calls a tool, reads the result and continues.

In: a user's text. Out: events, as they happen. Knows neither weights nor a terminal, so a fake engine is enough to test it.
An answer that is interrupted stays in the history as far as it was generated; if nothing was, the question is removed too, so
user and assistant always alternate in the history.
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

MAX_ROUNDS = 3  # tool calls per user message; a small model can get into a loop


class Session:
    """One conversation. Sessions may share an engine; `cache` belongs to this conversation alone."""

    def __init__(self, engine: Engine, tools: Tools, *, system: str = "", history: Sequence[Message] = ()) -> None:
        self.engine, self.tools, self.system = engine, tools, system
        self.history: list[Message] = list(history)
        self.cache = ConversationCache()

    @property
    def messages(self) -> list[Message]:
        """The messages that the model receives: the system prompt, if any, and the history."""
        prompt = [Message.of("system", self.system)] if self.system else []
        return [*prompt, *self.history]

    def reset(self) -> None:
        """Clear the history; the system prompt stays."""
        self.history.clear()
        self.cache = ConversationCache()

    def send(self, text: str, sampling: Sampling) -> Generator[Event, None, None]:
        """Add a user message and yield the events of the answer. Starts with the first `next`; close the generator to interrupt
        the answer."""
        if not self.engine.is_chat:
            yield from self.engine.continue_text(text, sampling)
            return
        n_before = len(self.history)
        self.history.append(Message.of("user", text))
        yield from self._answer(sampling, n_before)

    def respond(self, sampling: Sampling) -> Generator[Event, None, None]:
        """Yield the events of an answer to the current history."""
        if not self.engine.is_chat:
            text = "\n".join(message.text for message in self.messages)
            yield from self.engine.continue_text(text, sampling)
            return
        yield from self._answer(sampling, len(self.history))

    def _answer(self, sampling: Sampling, n_before: int) -> Generator[Event, None, None]:
        pieces: list[str] = []
        is_complete = False
        try:
            for _ in range(MAX_ROUNDS):
                call = yield from self._generate(sampling, pieces)
                if call is None:
                    is_complete = True
                    return
                yield self._run_tool(call)
            call = yield from self._generate(sampling, pieces)
            if call is not None:
                pieces.append(f"I stopped after {MAX_ROUNDS} tool calls.")
                yield TextPiece(pieces[-1])
            is_complete = True
        finally:
            text = "".join(pieces)
            if is_complete or text:
                self.history.append(Message.of("assistant", text))
            else:
                del self.history[n_before:]

    def _generate(self, sampling: Sampling, pieces: list[str]) -> Generator[Event, None, ToolCall | None]:
        """Run one turn of the model: append its text to `pieces`, return its tool call if there is one."""
        call: ToolCall | None = None
        for event in self.engine.reply(self.messages, sampling, self.cache):
            if isinstance(event, TextPiece):
                pieces.append(event.text)
            elif isinstance(event, ToolCall):
                call = event
            yield event
        return call

    def _run_tool(self, call: ToolCall) -> ToolResult:
        question = next((message.text for message in reversed(self.history) if message.role == "user"), "")
        output = self.tools.run(call.name, call.argument, question)
        self.history += [Message.calling(call), Message.result(output.text, call.id)]
        return ToolResult(call, output.text, output.search)
