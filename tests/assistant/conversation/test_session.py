"""The conversation and its tool loop, with an engine that plays a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.conversation.events import (
    ConversationCache,
    Done,
    Event,
    Message,
    ReplyOptions,
    Sampling,
    TextPiece,
    ToolCall,
    ToolResult,
)
from assistant.conversation.session import MAX_ROUNDS, Session
from assistant.tools.toolbox import Tools

DONE = Done(1, 1, 0.1, 0.1, "end")


class ScriptedEngine:
    """An engine whose answers are given: each is a text, sent character by character, or a tool call; then they are empty."""

    def __init__(self, *answers: str | ToolCall, is_chat: bool = True) -> None:
        self.answers, self.is_chat = list(answers), is_chat
        self.received: list[list[Message]] = []

    def reply(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        cache: ConversationCache | None = None,
        options: ReplyOptions | None = None,
    ) -> Iterator[Event]:
        self.received.append(list(messages))
        answer = self.answers.pop(0) if self.answers else ""
        yield from [answer] if isinstance(answer, ToolCall) else map(TextPiece, answer)
        yield DONE

    def continue_text(self, text: str, sampling: Sampling) -> Iterator[Event]:
        yield TextPiece(f"{text} and so on")
        yield DONE


def make_session(*answers: str | ToolCall, system: str = "") -> Session:
    return Session(ScriptedEngine(*answers), Tools({"shout": str.upper}), system=system)


CALL = ToolCall.of("shout", "hey", "call_1")


def test_a_tool_call_is_executed_and_the_model_continues() -> None:
    session = make_session(CALL, "so")
    assert list(session.send("hi", Sampling())) == [
        CALL,
        DONE,
        ToolResult(CALL, "HEY"),
        TextPiece("s"),
        TextPiece("o"),
        DONE,
    ]
    assert session.history == [
        Message.of("user", "hi"),
        Message.calling(CALL),
        Message.result("HEY", "call_1"),
        Message.of("assistant", "so"),
    ]
    assert session.engine.received == [session.history[:1], session.history[:3]]  # type: ignore[attr-defined]


def test_the_engine_receives_the_system_prompt_and_the_history() -> None:
    session = make_session("a", "b", system="be brief")
    for text in ("one", "two"):
        list(session.send(text, Sampling()))
    received = session.engine.received[1]  # type: ignore[attr-defined]
    assert [message.text for message in received] == ["be brief", "one", "a", "two"]
    session.reset()
    assert session.messages == [Message.of("system", "be brief")]


def test_the_tool_loop_is_bounded() -> None:
    session = make_session(*[CALL] * 99)
    events = list(session.send("hi", Sampling()))
    assert sum(isinstance(event, ToolResult) for event in events) == MAX_ROUNDS
    assert len(session.engine.received) == MAX_ROUNDS + 1  # type: ignore[attr-defined]
    assert session.history[-1] == Message.of("assistant", "I stopped after 3 tool calls.")


@given(st.lists(st.sampled_from(["text", "", CALL]), max_size=8), st.integers(1, 12))
def test_the_history_alternates_wherever_an_answer_is_interrupted(answers: list[str | ToolCall], n_events: int) -> None:
    session = make_session(*answers)
    events = session.send("hi", Sampling())
    for _, _ in zip(range(n_events), events, strict=False):
        pass
    events.close()
    roles = [(message.role, message.call is not None) for message in session.history]
    round_ = [("user", False), *[("assistant", True), ("tool", False)] * (len(roles) // 2 - 1), ("assistant", False)]
    assert roles in ([], round_)


def test_an_error_of_the_engine_leaves_the_history_unchanged() -> None:
    class BrokenEngine(ScriptedEngine):
        def reply(
            self,
            messages: Sequence[Message],
            sampling: Sampling,
            cache: ConversationCache | None = None,
            options: ReplyOptions | None = None,
        ) -> Iterator[Event]:
            yield from ()
            raise ValueError("no room")

    session = Session(BrokenEngine(), Tools({}))
    with pytest.raises(ValueError, match="no room"):
        list(session.send("hi", Sampling()))
    assert session.history == []


def test_a_base_model_continues_the_text_and_keeps_no_history() -> None:
    session = Session(ScriptedEngine(is_chat=False), Tools({}))
    assert list(session.send("Once", Sampling())) == [TextPiece("Once and so on"), DONE]
    assert session.history == []
    session = Session(ScriptedEngine(is_chat=False), Tools({}), history=[Message.of("user", "Once")])
    assert next(session.respond(Sampling())) == TextPiece("Once and so on")


@pytest.mark.parametrize(
    "wrong",
    [{"max_tokens": 0}, {"temperature": -1}, {"temperature": "1"}, {"top_p": 0}, {"top_k": 1.5}, {"seed": True}],
)
def test_settings_out_of_range_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]
