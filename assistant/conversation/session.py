"""A conversation: its history, and the loop in which the model calls a tool, reads the result and continues.

In: a user's text. Out: events, as they happen. Knows neither weights nor a terminal, so a fake engine is enough to test it.
Unless `grounded` is off, search arguments and answers after a search are chosen among candidates that the conversation allows,
tools' results are reported by code, and a quotation is shown only if it is verbatim in what it cites: with an exact citation.
An answer that is interrupted stays in the history as far as it was generated; if nothing was, the question is removed too, so
user and assistant always alternate in the history.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from enum import StrEnum
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

from assistant.conversation.events import (
    Citation,
    ConversationCache,
    Done,
    Engine,
    Event,
    Message,
    Notice,
    ReplyOptions,
    Sampling,
    TextPiece,
    ToolCall,
    ToolResult,
)
from assistant.conversation.evidence import Evidence, QuotationScreen, makes_claims
from assistant.conversation.options import SEARCH_TOOL, list_options, report_result
from assistant.conversation.responder import Responder
from assistant.conversation.style import Style
from model.grounding.answers import parse_passages
from model.grounding.arguments import asks_for_source, extract_content_words
from model.grounding.certain import list_certain_calls
from model.grounding.citations import format_place
from model.grounding.text_tasks import read_text_task

if TYPE_CHECKING:
    from assistant.tools.toolbox import Tools

NO_SOURCE = "I found no source for an answer to that, so I give none."
MAX_ROUNDS = 3  # tool calls per user message; a small model can get into a loop


class Grounding(StrEnum):
    """What may be answered without a source. `only`: small talk, but nothing with names, numbers or quotations that the user has
    not typed; `prefer`: text of the model where it searches for nothing; `off`: all that the model writes, unchecked."""

    ONLY = "only"
    PREFER = "prefer"
    OFF = "off"


class Session:
    """One conversation. Sessions may share an engine; `cache` belongs to this conversation alone. `citations` are those of the last
    answer that had some. Raises: ValueError for an unknown kind of grounding."""

    def __init__(
        self,
        engine: Engine,
        tools: Tools,
        *,
        system: str = "",
        history: Sequence[Message] = (),
        grounded: str = Grounding.PREFER,
        responders: Sequence[Responder] = (),
        style: Style | None = None,
    ) -> None:
        self.engine, self.tools, self.system = engine, tools, system
        self.responders, self.style = tuple(responders), style or Style()
        self.history: list[Message] = list(history)
        self.grounded = _read_grounding(grounded)
        self._forget()

    def _forget(self) -> None:
        self.cache, self.evidence = ConversationCache(), Evidence()
        # Titles of the last search that certainly answer, and those that say nothing about the question.
        self._answering: tuple[str, ...] = ()
        self._off_topic: frozenset[str] = frozenset()
        self.citations: list[Citation] = []

    @property
    def messages(self) -> list[Message]:
        """The messages that the model receives: the system prompt, if any, what is remembered, and the history."""
        prompt = [Message.of("system", self.system)] if self.system else []
        context = [message for responder in self.responders for message in responder.list_context()]
        return [*prompt, *context, *self.history]

    def reset(self) -> None:
        """Clear the history; the system prompt stays."""
        self.history.clear()
        for responder in self.responders:
            responder.forget()
        self._forget()

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

    def reply_once(self, sampling: Sampling) -> Message:
        """Return the next message, as it would be served: a tool call, which is not executed, or a text. The history stays."""
        pieces: list[str] = []
        events, call = self._generate(sampling, pieces), None
        while True:
            try:
                next(events)
            except StopIteration as end:
                call = end.value
                break
        return Message.of("assistant", "".join(pieces)) if call is None else Message.calling(call)

    def _answer(self, sampling: Sampling, n_before: int) -> Generator[Event, None, None]:
        pieces: list[str] = []
        is_complete = False
        try:
            for responder in self.responders:
                yield from responder.recall(self.history)
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
                for responder in self.responders:
                    responder.observe(self.history)
            else:
                del self.history[n_before:]

    def _generate(self, sampling: Sampling, pieces: list[str]) -> Generator[Event, None, ToolCall | None]:
        """Run one turn: append its text to `pieces`, return its tool call if there is one."""
        if self.history and self.history[-1].role == "user" and (events := self._respond()) is not None:
            pieces += [event.text for event in events if isinstance(event, TextPiece)]
            yield from events
            return None
        if self.grounded is Grounding.OFF:
            return (yield from self._run_model(sampling, pieces, ReplyOptions()))
        text = self._answer_by_code()
        if text is not None:
            pieces.append(text)
            yield TextPiece(text)
            return None
        options = list_options(
            self.messages,
            self.tools.names,
            self.evidence.sections,
            self._list_certain_calls(),
            self._answering,
            self._off_topic,
        )
        return (yield from self._run_checked(sampling, pieces, options))

    def _respond(self) -> Sequence[Event] | None:
        """Return the answer of the first responder that has one; None if the model has to answer."""
        for responder in self.responders:
            if (events := responder.respond(self.history)) is not None:
                return events
        return None

    def _list_certain_calls(self) -> list[ToolCall]:
        """Return calls one of which the last message certainly asks for."""
        if not self.history or self.history[-1].role != "user":
            return []
        calls = list_certain_calls(self.messages, cache(self.tools.look_up))  # it asks for a name several times
        calls = [call for call in calls if call.name in self.tools.names]
        question = self.history[-1].text
        if not calls and read_text_task(question) is None and self.tools.covers(question):
            return [
                ToolCall.of(SEARCH_TOOL, extract_content_words(question) or question, "")
            ]  # about the user's own documents
        return calls

    def _run_model(
        self, sampling: Sampling, pieces: list[str], options: ReplyOptions
    ) -> Generator[Event, None, ToolCall | None]:
        call: ToolCall | None = None
        for event in self.engine.reply(self.messages, sampling, self.cache, options):
            if isinstance(event, TextPiece):
                event = TextPiece(self.style.cut("".join(pieces), event.text))
                pieces.append(event.text)
            elif isinstance(event, ToolCall):
                call = event
            yield event
        return call

    def _run_checked(
        self, sampling: Sampling, pieces: list[str], options: ReplyOptions
    ) -> Generator[Event, None, ToolCall | None]:
        """Run one turn of the model and withhold what has no source. While text is held, empty pieces allow interruption."""
        messages = list(self.messages)
        screen, call, citations = QuotationScreen(self.evidence, messages), None, list[Citation]()
        is_chosen = bool(options.answers) and not options.may_call
        is_held = is_chosen or self.grounded is Grounding.ONLY
        held: list[str] = []
        done: list[Done] = []
        for event in self.engine.reply(messages, sampling, self.cache, options):
            if isinstance(event, TextPiece):
                held += [event.text] if is_held else []
                shown = [] if is_held else list(screen.pass_on(event.text))
                yield from self._show(shown, pieces, citations, self.style) if shown else [TextPiece("")]
            elif isinstance(event, Done):
                done.append(event)
            else:
                call = event if isinstance(event, ToolCall) else call
                yield event
        text = "".join(held)
        if is_chosen and text not in options.answers:
            screen.n_withheld, text = 1, options.answers[-1]
        elif is_held and not is_chosen and call is None and makes_claims(text, messages[-1].text):
            screen.n_withheld, text = 1, NO_SOURCE
        rest = list(chain(screen.pass_on(text), screen.finish()))
        if is_chosen and self.style.opening and any(isinstance(each, Citation) for each in rest):
            yield TextPiece(f"{self.style.opening}\n")
        yield from self._show(rest, pieces, citations, self.style if not is_chosen else Style())
        self.citations = citations or self.citations
        if screen.n_withheld:
            yield Notice("an answer without a source was withheld")
        yield from done
        return call

    def _show(
        self, shown: Iterable[str | Citation], pieces: list[str], citations: list[Citation], style: Style
    ) -> Iterator[TextPiece | Citation]:
        for each in shown:
            if isinstance(each, Citation):
                citations.append(each)
                yield each
            elif text := style.cut("".join(pieces), each):
                pieces.append(text)
                yield TextPiece(text)

    def _answer_by_code(self) -> str | None:
        """Return the answer that needs no model: the result of a tool, or where the last quotation comes from."""
        last = self.history[-1] if self.history else None
        if last is not None and last.role == "user" and self.citations and asks_for_source(last.text):
            return "\n".join(f"It is from {format_place(citation)}." for citation in self.citations)
        return report_result(self.history)

    def _run_tool(self, call: ToolCall) -> ToolResult:
        question = next((message.text for message in reversed(self.history) if message.role == "user"), "")
        output = self.tools.run(call.name, call.argument, question)
        if output.search is not None:
            self._answering = self.tools.list_answering(question, output.search)
            self._off_topic = frozenset(each.section.title for each in output.search.results if each.is_off_topic)
            found = [(parse_passages(result.line), result.section) for result in output.search.results]
            self.evidence.add((shown.title, section) for passages, section in found for shown in passages)
        self.history += [Message.calling(call), Message.result(output.text, call.id)]
        return ToolResult(call, output.text, output.search, output.decided_by)


def _read_grounding(name: str) -> Grounding:
    if name not in list(Grounding):
        raise ValueError(f"grounded must be one of {', '.join(Grounding)}; found {name!r}; set one of them.")
    return Grounding(name)
