"""A conversation with a guard: refusals before the model is asked, results without orders, answers by checked sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.conversation.events import ConversationCache, Done, Event, ReplyOptions, Sampling, TextPiece
from assistant.conversation.session import Session
from assistant.guard.guarded_chat import (
    CRISIS,
    REFUSAL,
    REMOVED,
    WITHHELD,
    GuardResponder,
    ScreenedEngine,
    ScreenedTools,
)
from assistant.guard.harm_guard import Guard
from assistant.guard.sentence_screen import MAX_HELD_CHARS, SentenceScreen
from assistant.tools.toolbox import Tools
from model.guard.categories import OUTPUTS
from model.guard.harm_classifier import HarmClassifier
from model.guard.word_features import N_BUCKETS, make_features
from model.tokenizer.chat import Message, ToolCall

DONE = Done(1, 1, 0.1, 0.1, "end")


def make_guard(words: dict[str, str]) -> Guard:
    """Return a guard that flags single words: word → category."""
    weights = np.zeros((N_BUCKETS, len(OUTPUTS)), np.float32)
    for word, category in words.items():
        buckets = np.setdiff1d(make_features([word]).buckets, make_features(["other"]).buckets)  # not its length
        names = (category,) if category == "injection" else (category, "harm")
        for name in names:
            weights[buckets, OUTPUTS.index(name)] = 20
    ones = np.ones(len(OUTPUTS), np.float32)
    return Guard(HarmClassifier(OUTPUTS, weights, -8 * ones, ones, 0 * ones))


@pytest.fixture
def guard() -> Guard:
    return make_guard({"zzbomb": "weapons", "zzsuicide": "self_harm", "zzignore": "injection"})


class Talker:
    """An engine that says given pieces, and remembers that it was asked."""

    is_chat = True

    def __init__(self, *pieces: str, call: ToolCall | None = None) -> None:
        self.pieces, self.call, self.n_asked = pieces, call, 0

    def reply(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        cache: ConversationCache | None = None,
        options: ReplyOptions | None = None,
    ) -> Iterator[Event]:
        self.n_asked += 1
        if self.call is not None and messages[-1].role == "user":
            yield self.call
        else:
            yield from (TextPiece(piece) for piece in self.pieces)
        yield DONE

    def continue_text(self, text: str, sampling: Sampling) -> Iterator[Event]:
        yield from (TextPiece(piece) for piece in self.pieces)


def talk(session: Session, text: str) -> str:
    return "".join(event.text for event in session.send(text, Sampling()) if isinstance(event, TextPiece))


def test_harm_is_refused_before_the_model_is_asked_and_another_topic_is_answered(guard: Guard) -> None:
    engine = Talker("Hello.")
    session = Session(engine, Tools({}), responders=[GuardResponder(guard)], grounded="off")
    assert talk(session, "make a zzbomb") == REFUSAL
    assert talk(session, "zzsuicide") == CRISIS
    assert engine.n_asked == 0
    assert talk(session, "hi") == "Hello."


def test_answers_pass_by_checked_sentences(guard: Guard) -> None:
    pieces = ("First. Sec", "ond one. A zz", "bomb is easy. And mo", "re of it. ")
    session = Session(ScreenedEngine(Talker(*pieces), guard), Tools({}), grounded="off")
    assert talk(session, "hi") == f"First. Second one. {WITHHELD}"
    harmless = ("One. ", "Two", "", "\nThree.")
    session = Session(ScreenedEngine(Talker(*harmless), guard), Tools({}), grounded="off")
    assert talk(session, "hi") == "".join(harmless)


@given(st.lists(st.text(st.sampled_from("ab .!\n\"'x"), max_size=30), max_size=20))
def test_a_harmless_answer_passes_unchanged_in_any_pieces(pieces: list[str]) -> None:
    seen: list[str] = []
    screen = SentenceScreen(lambda sentence: seen.append(sentence))
    assert "".join([screen.pass_on(piece) for piece in pieces] + [screen.finish()]) == "".join(pieces)
    assert all(len(sentence) <= 2 * MAX_HELD_CHARS for sentence in seen)


@given(st.lists(st.text(max_size=8), max_size=10), st.integers(0, 9))
def test_nothing_of_a_flagged_sentence_is_shown_however_it_is_cut(pieces: list[str], at: int) -> None:
    text = "Fine so far. Here is the SECRET part. And more."
    cut = min(at * 5, len(text))
    screen = SentenceScreen(lambda sentence: "[no]" if "SECRET" in sentence else None)
    shown = "".join(
        [screen.pass_on(text[:cut]), screen.pass_on(text[cut:]), screen.finish(), *map(screen.pass_on, pieces)]
    )
    assert shown == "Fine so far. [no]"


def test_orders_in_results_do_not_reach_the_model(guard: Guard) -> None:
    results = {"fine": "All is well. 3 items.", "bad": "First line. zzignore. Last line.", "worse": "zz"}
    tools = ScreenedTools(Tools({name: lambda _, text=text: text for name, text in results.items()}), guard)
    assert tools.names == ("bad", "fine", "worse")
    assert tools.run("fine", "").text == results["fine"]
    assert tools.run("bad", "").text == f"First line. {REMOVED} Last line."
    assert tools.keep(["bad"]).run("bad", "").text == f"First line. {REMOVED} Last line."
    engine = Talker("ok", call=ToolCall.of("bad", "x", "call_1"))
    session = Session(engine, tools, grounded="off")
    talk(session, "go")
    assert all("zzignore" not in message.text for message in session.messages)
