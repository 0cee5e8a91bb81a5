"""A conversation about a collection: its questions are searched for, and what certainly answers is quoted with its exact place."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.conversation.events import (
    Citation,
    Sampling,
    TextPiece,
)
from assistant.conversation.session import Session
from assistant.tools.toolbox import make_tools
from tests.assistant.conftest import ChoosingEngine
from tests.assistant.knowledge.test_collection import add


@pytest.fixture
def session(handbook: Path) -> Session:
    """Return a conversation with an engine that prefers the last candidate, the abstention, and small talk where it may."""
    add(handbook)
    return Session(ChoosingEngine(-1, "Hello!"), make_tools(None, None, ["handbook"]))


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
    assert isinstance(session.engine, ChoosingEngine)
    assert not session.engine.options[-1].must_call


def test_calculations_stay_calculations(session: Session) -> None:
    text, _ = ask(session, "What is 12 * 7?")
    assert "84" in text
