"""A conversation about a collection: its questions are searched for, and what certainly answers is quoted with its exact place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from assistant.conversation.events import (
    Citation,
    ConversationCache,
    Done,
    Event,
    Message,
    ReplyOptions,
    Sampling,
    TextPiece,
    ToolCall,
)
from assistant.conversation.session import Session
from assistant.tools.toolbox import make_tools
from tests.assistant.knowledge.test_collection import LEAVE, TRAVEL, add


class LastChoice:
    """An engine that prefers the last candidate, which is the abstention, and small talk where it may."""

    is_chat = True

    def __init__(self) -> None:
        self.options: list[ReplyOptions] = []

    def reply(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        cache: ConversationCache | None = None,
        options: ReplyOptions | None = None,
    ) -> Iterator[Event]:
        assert options is not None
        self.options.append(options)
        if options.must_call:
            [(name, arguments)] = options.calls.items()
            yield ToolCall.of(name, arguments[-1], "call_1")
        else:
            yield TextPiece(options.answers[-1] if options.answers else "Hello!")
        yield Done(1, 1, 0.0, 0.0, "end")

    def continue_text(self, text: str, sampling: Sampling) -> Iterator[Event]:
        raise NotImplementedError


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setenv("MINIGPT_COLLECTIONS", str(tmp_path / "collections"))
    source = tmp_path / "handbook"
    source.mkdir()
    (source / "leave.md").write_text(LEAVE)
    (source / "travel.md").write_text(TRAVEL)
    add(source)
    return Session(LastChoice(), make_tools(None, None, ["handbook"]))


def ask(session: Session, text: str) -> tuple[str, list[Citation]]:
    events = list(session.send(text, Sampling()))
    return "".join(event.text for event in events if isinstance(event, TextPiece)), session.citations


def test_a_question_about_the_collection_is_searched_and_quoted_with_its_place(
    session: Session, tmp_path: Path
) -> None:
    text, [citation] = ask(session, "How many weeks of parental leave are paid?")
    assert text.endswith('"Forty weeks, half of them paid." [Leave: Parental leave]')
    assert citation.heading == ("Parental leave",)
    assert (citation.line_start, citation.url) == (7, str(tmp_path / "handbook/leave.md"))


def test_a_question_in_other_words_too(session: Session) -> None:
    text, _ = ask(session, "How much vacation do I get?")
    assert '"Everybody has thirty days of leave." [Leave]' in text


def test_where_no_section_certainly_answers_the_model_may_abstain(session: Session) -> None:
    text, citations = ask(session, "Do trains run at midnight on sunday between stations?")
    assert text.endswith("the documentation I found does not say.") or text == "Hello!"
    assert not citations


@pytest.mark.parametrize("text", ["hello", "thanks!", "Who are you?"])
def test_small_talk_is_not_searched_for(session: Session, text: str) -> None:
    assert ask(session, text)[0] == "Hello!"
    assert isinstance(session.engine, LastChoice)
    assert not session.engine.options[-1].must_call


def test_calculations_stay_calculations(session: Session) -> None:
    text, _ = ask(session, "What is 12 * 7?")
    assert "84" in text
