"""A profile: shipped ones are valid, wrong ones are refused by dotted name, and what it says holds whatever the model is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from assistant.conversation.events import (
    Message,
    Sampling,
    TextPiece,
)
from assistant.conversation.session import Session
from assistant.conversation.style import Style
from assistant.profiles.handover import summarize_by_quoting, write_handover
from assistant.profiles.profile import Profile, list_profiles, load_profile
from assistant.profiles.profiled_chat import make_responders, make_style
from assistant.tools.toolbox import make_tools
from tests.assistant.conftest import ChoosingEngine
from tests.assistant.knowledge.test_collection import add

TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)
TALK = "I talk. I go on. And on. No end."
HANDED_OVER = 'asked: "x" [T]'


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_HANDOVERS", str(tmp_path / "handovers"))
    monkeypatch.setenv("MINIGPT_LEARNERS", str(tmp_path / "learners"))


def open_session(profile: Profile) -> Session:
    tools = make_tools(None, None, profile.collections).keep(profile.tools)
    responders = make_responders(profile, tools, "ada", lambda: TIME)
    return Session(
        ChoosingEngine(0, TALK), tools, grounded=profile.grounding, responders=responders, style=make_style(profile)
    )


def ask(session: Session, text: str) -> str:
    return "".join(event.text for event in session.send(text, Sampling()) if isinstance(event, TextPiece))


def test_shipped_profiles_are_valid_and_complete() -> None:
    assert list_profiles() == ["policy", "support", "tutor"]
    for name in list_profiles():
        profile = load_profile(name)
        assert profile.greeting
        assert "{" not in profile.render(profile.greeting)
        assert profile.collections
        assert not profile.documentation


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: A\ntone: {adress: x}\n", "tone.adress: there is no such setting"),
        ("greeting: hi\n", "name: missing"),
        ("name: A\ntools: [rm]\n", "tools.0"),
        ("name: A\ngreeting: 'hi {user}'\n", "greeting: has the placeholder {user}"),
        ('name: "A\\e[31m"\n', "name: has the control character"),
        ("name: A\npolicy: {forbidden: [{words: [], say: no}]}\n", "policy.forbidden.0.words"),
        ("name: 3\n", "name: "),
        ("[1", "not YAML"),
        ("", "the file"),
    ],
)
def test_a_wrong_file_is_refused_by_dotted_name(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"mine\.yaml") as error:
        load_profile(str(tmp_path / "mine.yaml"))
    assert expected in str(error.value)
    assert str(error.value).count("\x1b") == 0


def test_a_missing_profile_names_those_that_ship(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="policy, support, tutor"):
        load_profile(str(tmp_path / "nothing"))


def test_the_policy_assistant_quotes_its_handbook_and_nothing_else(handbook: Path) -> None:
    add(handbook)
    profile = load_profile("policy")
    session = open_session(profile)
    answer = ask(session, "How many weeks of parental leave are paid?")
    assert answer.startswith("The handbook says:\n")
    assert answer.endswith('"Forty weeks, half of them paid." [Leave: Parental leave]')
    assert "The handbook says:" not in session.history[-1].text
    assert "leave.md" in ask(session, "Where is that from?")
    for question in ("What is the capital of France?", "What is numpy.sum?", "What is 12 * 7?"):
        assert ask(session, question) == profile.policy.not_found
    for question in (
        "what is the SALARY of Maria?",
        "Can I sue them?",
        "parental leave, and a lawsuit",
        "ｌａｗ\u200bｓｕｉｔ?",
    ):
        assert ask(session, question) == "I don't answer that, colleague. Please ask the human resources department."
    assert ask(session, "Who are you?") == "I am Policy assistant."
    assert ask(session, "Hello!") == profile.render(profile.greeting)
    assert session.tools.names == ("search_docs",)


def test_text_of_the_model_is_cut_after_so_many_sentences_and_only_those(handbook: Path) -> None:
    add(handbook, name="course")
    session = open_session(load_profile("tutor").model_copy(update={"grounding": "prefer"}))
    session.style = Style(max_sentences=2)
    assert ask(session, "Sing!") == session.history[-1].text == "I talk. I go on. "


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_a_text_is_cut_at_the_same_place_in_pieces_of_any_size(size: int) -> None:
    text, shown = 'One "a. b. c" two. Three! Four.', ""
    for at in range(0, len(text), size):
        shown += Style(max_sentences=1).cut(shown, text[at : at + size])
    assert shown == 'One "a. b. c" two. '


def test_the_support_bot_hands_over_with_quotations_only(handbook: Path, tmp_path: Path) -> None:
    add(handbook, name="support")
    session = open_session(load_profile("support"))
    ask(session, "How many weeks of parental leave are paid?")
    ask(session, "Who built\x1b[31m the pyramids of Giza?")
    answer = ask(session, "I want to talk to a person")
    [path] = (tmp_path / "handovers").iterdir()
    assert str(path) in answer
    text = path.read_text()
    assert "“How many weeks of parental leave are paid?”" in text
    assert "“Forty weeks, half of them paid.” from Leave: Parental leave" in text
    assert text.index("Without an answer") < text.index("pyramids") < text.index("## Conversation")
    assert "\x1b" not in text
    assert "hand" in ask(session, "person")
    assert len(list((tmp_path / "handovers").iterdir())) == 2  # the same second: another file


def test_everything_in_a_handover_was_said(tmp_path: Path) -> None:
    messages = [Message.of("user", "Why?"), Message.of("assistant", HANDED_OVER), Message.of("user", "# So?")]
    text = summarize_by_quoting(messages, "Support", TIME)
    quoted = [part.partition("”")[0] for part in text.split("“")[1:]]
    assert quoted == ["# So?", "Why?", "x", "# So?", ""]
    assert write_handover(tmp_path, text, TIME).read_text() == text


def test_forbidden_topics_hold_without_grounding_too(handbook: Path) -> None:
    add(handbook)
    profile = load_profile("policy").model_copy(update={"grounding": "off"})
    assert ask(open_session(profile), "Are lawsuits fun?").startswith("I don't answer that")
