"""A conversation with a cache gives the same answers as one without, and computes only what is new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from assistant.conversation.events import ConversationCache, Done, Event, Message, Notice, Sampling, TextPiece, ToolCall
from assistant.conversation.session import Session
from assistant.inference.local import ModelEngine
from assistant.tools.toolbox import Tools, make_tools
from model.inference.generate import TorchPrefix
from model.network.folder import load_model
from model.tokenizer.tokenizer import Tokenizer
from tests.assistant.conftest import LOOK_UP, SUM, save_random_model

BACKENDS = ("kernel", "int8", "torch")


def load(folder: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> ModelEngine:
    if backend == "torch":
        model, _, _ = load_model(folder)
        monkeypatch.setattr("assistant.inference.local._prepare", lambda *arguments: lambda: TorchPrefix(model))
    return ModelEngine.load(folder, device="cpu", weights="int8" if backend == "int8" else "float32")


class UncachedEngine:
    """The same engine, which never gets a cache."""

    is_chat = True

    def __init__(self, engine: ModelEngine) -> None:
        self.engine = engine

    def reply(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        cache: ConversationCache | None = None,
        options: ReplyOptions | None = None,
    ) -> Iterator[Event]:
        return self.engine.reply(messages, sampling, None, options)

    def continue_text(self, text: str, sampling: Sampling) -> Iterator[Event]:
        return self.engine.continue_text(text, sampling)


def comparable(events: list[Event]) -> list[object]:
    """Return the events without timings, cached tokens and notices, which depend on the cache."""
    return [
        (event.n_prompt_tokens, event.n_tokens, event.reason) if isinstance(event, Done) else event
        for event in events
        if not isinstance(event, Notice)
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_cached_equals_uncached_over_a_conversation_with_tools(
    learned: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tools, an interrupted answer, /system, /reset, and a window that overflows."""
    engine = load(learned, backend, monkeypatch)
    cached, uncached = (Session(one, make_tools(learned.parent / "index")) for one in (engine, UncachedEngine(engine)))
    n_calls = n_notices = 0
    first = [SUM[0].text, LOOK_UP[0].text, "stop", SUM[0].text, "system", SUM[0].text, "system"]
    script = [*first, "reset", LOOK_UP[0].text, *[SUM[0].text] * 3]
    for step in script:
        for session in (cached, uncached):
            if step == "reset":
                session.reset()
            elif step == "system":
                session.system = "" if session.system else "be brief"
            elif step == "stop":
                events = session.send("word", Sampling(temperature=3.0, seed=20, max_tokens=20))
                pieces = (event for event in events if isinstance(event, TextPiece))
                for _ in range(3):
                    next(pieces)
                events.close()
        if step not in ("reset", "system", "stop"):
            ours, theirs = (list(session.send(step, Sampling())) for session in (cached, uncached))
            assert comparable(ours) == comparable(theirs)
            n_calls += sum(isinstance(event, ToolCall) for event in ours)
            n_notices += sum(isinstance(event, Notice) for event in ours)
        assert cached.history == uncached.history
    assert n_calls >= 2
    assert n_notices >= 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_cached_equals_uncached_when_the_window_overflows(
    tmp_path: Path, tokenizer: Tokenizer, backend: str, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(save_random_model(tmp_path, tokenizer, phase="sft", seq_len=48), backend, monkeypatch)
    cached, uncached = (Session(one, Tools({}), system="be") for one in (engine, UncachedEngine(engine)))
    n_notices = 0
    for number in range(12):
        sampling = Sampling(max_tokens=5, temperature=temperature, seed=number)
        ours, theirs = (list(session.send(f"word {number}", sampling)) for session in (cached, uncached))
        assert comparable(ours) == comparable(theirs)
        n_notices += isinstance(ours[0], Notice)
    assert n_notices >= 3


def test_a_turn_computes_and_tokenizes_only_what_is_new(learned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ModelEngine.load(learned, device="cpu")
    encoded: list[str] = []
    encode = Tokenizer.encode

    def count(self: Tokenizer, text: str) -> list[int]:
        encoded.append(text)
        return encode(self, text)

    monkeypatch.setattr(Tokenizer, "encode", count)
    session = Session(engine, make_tools(learned.parent / "index"), grounded="off")
    first, second = [event for event in session.send(SUM[0].text, Sampling()) if isinstance(event, Done)]
    n_asked, n_result, n_word = (
        2 + len(encode(engine._tokenizer, text)) for text in (SUM[0].text, SUM[2].text, "word")
    )
    assert (first.n_cached_tokens, first.n_prompt_tokens) == (0, 1 + n_asked + 1)
    # The model wrote the call and closed its turn: its <|end|>, the result's turn and <|assistant|> are new.
    assert second.n_cached_tokens == first.n_prompt_tokens + first.n_tokens
    assert second.n_prompt_tokens - second.n_cached_tokens == 1 + n_result + 1
    third = next(event for event in session.send("word", Sampling(max_tokens=3)) if isinstance(event, Done))
    assert third.n_cached_tokens == second.n_prompt_tokens + second.n_tokens
    assert third.n_prompt_tokens - third.n_cached_tokens == 1 + n_word + 1
    assert max(Counter(encoded).values()) == 1
    assert encoded[0] == SUM[0].text
    assert set(session.cache.turns) == set(session.history[:-1])


def test_sessions_share_nothing_but_the_engine(learned: Path, base: Path) -> None:
    engine, other = ModelEngine.load(learned, device="cpu"), ModelEngine.load(learned, device="cpu")
    sessions = [Session(engine, make_tools(learned.parent / "index"), grounded="off") for _ in range(2)]
    turns = [SUM[0].text, LOOK_UP[0].text]
    streams = [session.send(text, Sampling()) for session, text in zip(sessions, turns, strict=True)]
    answers = ["", ""]
    for _ in range(200):
        for number, stream in enumerate(streams):
            event = next(stream, None)
            answers[number] += event.text if isinstance(event, TextPiece) else ""
    assert answers == [SUM[3].text, LOOK_UP[3].text]
    cache, prefix = sessions[0].cache, sessions[0].cache.prefix
    assert list(other.reply(SUM[:3], Sampling(), cache))
    assert cache.prefix is not prefix
    sessions[1].reset()
    assert sessions[1].cache.prefix is None


@pytest.mark.parametrize("max_tokens", [1, 6])
def test_a_full_window_recomputes_the_prompt_seldom_and_is_reported_once_per_overflow(
    tmp_path: Path, tokenizer: Tokenizer, max_tokens: int
) -> None:
    """Dropping one round per turn would recompute nearly the whole prompt each time, about 80 tokens of the window's 128."""
    folder = save_random_model(tmp_path, tokenizer, phase="sft", seq_len=128)
    session = Session(ModelEngine.load(folder, device="cpu"), Tools({}))
    n_prompt = n_computed = n_overflows = n_notices = n_left_out = 0
    for number in range(60):
        events = list(session.send(f"word {number % 10}", Sampling(max_tokens=max_tokens)))
        n_notices += sum(isinstance(event, Notice) for event in events)
        n_overflows += session.cache.n_left_out > n_left_out
        n_left_out = session.cache.n_left_out
        done = events[-1]
        assert isinstance(done, Done)
        if n_left_out:
            n_prompt += done.n_prompt_tokens
            n_computed += done.n_prompt_tokens - done.n_cached_tokens
    assert n_notices == n_overflows
    assert 3 <= n_overflows <= 20
    assert n_computed < n_prompt / 2
