"""A user reaches any tool of the conversation by its name, under the same rules as the model."""

from __future__ import annotations

import pytest

from assistant.conversation.events import Message, Sampling, TextPiece, ToolCall, ToolResult
from assistant.conversation.session import Session
from assistant.tools.tool_requests import ToolRequests
from assistant.tools.toolbox import Tools
from tests.assistant.conversation.test_session import ScriptedEngine

TOOLS = Tools({"shout": str.upper})


@pytest.mark.parametrize(
    ("text", "argument", "result"),
    [
        ("tools run shout hey", "hey", "HEY"),
        ("  tools  run shout: hey\nyou ", "hey\nyou", "HEY\nYOU"),
        ('tools run shout {"a": 1}', '{"a": 1}', '{"A": 1}'),
        ("tools run shout", "", ""),
    ],
)
def test_a_named_tool_runs_and_its_result_is_the_answer(text: str, argument: str, result: str) -> None:
    call = ToolCall.of("shout", argument)
    events = ToolRequests(TOOLS).respond([Message.of("user", text)])
    assert events == [call, ToolResult(call, result), TextPiece(result)]


@pytest.mark.parametrize(
    "text", ["", "run shout hey", "please tools run shout hey", "tools", "tools run", "tools run 1+1"]
)
def test_other_messages_are_the_models(text: str) -> None:
    assert ToolRequests(TOOLS).respond([Message.of("user", text)]) is None


def test_what_is_no_tool_is_said_to_be_none() -> None:
    events = ToolRequests(TOOLS).respond([Message.of("user", "tools run rm -rf /")])
    assert events is not None
    assert events[-1] == TextPiece("error: there is no tool 'rm'; there are shout")


def test_a_session_answers_without_its_model() -> None:
    engine = ScriptedEngine("never")
    session = Session(engine, TOOLS, responders=[ToolRequests(TOOLS)])
    events = list(session.send("tools run shout hey", Sampling()))
    assert events[-1] == TextPiece("HEY")
    assert engine.received == []
    assert session.history[-1] == Message.of("assistant", "HEY")
