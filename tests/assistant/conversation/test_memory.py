"""A conversation with a memory says what one without says, and computes only what is new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import model.tokenizer.tokenizer
from assistant.conversation.events import ConversationCache, Done, Event, Message, Notice, Sampling, TextPiece, ToolCall
from assistant.conversation.session import Session
from assistant.inference.local import ModelEngine
from assistant.tools.toolbox import Tools, make_tools
from model.inference.generate import TorchPrefix
from model.tokenizer.tokenizer import Tokenizer
from tests.assistant.conftest import LOOK_UP, SUM, random_model

WRITERS = ("kernel", "int8", "torch")


def load(folder: Path, writer: str, monkeypatch: pytest.MonkeyPatch) -> ModelEngine:
    if writer == "torch":
        monkeypatch.setattr("assistant.inference.local._writer", lambda model, weights: lambda: TorchPrefix(model))
    return ModelEngine.load(folder, device="cpu", weights="int8" if writer == "int8" else "float32")


class Forgetful:
    """The same engine, which never sees a memory."""

    is_chat = True

    def __init__(self, engine: ModelEngine) -> None:
        self.engine = engine

    def reply(
        self, messages: Sequence[Message], sampling: Sampling, memory: ConversationCache | None = None
    ) -> Iterator[Event]:
        return self.engine.reply(messages, sampling)

    def continuation(self, text: str, sampling: Sampling) -> Iterator[Event]:
        return self.engine.continuation(text, sampling)


def shown(events: list[Event]) -> list[object]:
    """Everything but clocks and what was cached."""
    return [
        (event.n_prompt_tokens, event.n_tokens, event.reason) if isinstance(event, Done) else event for event in events
    ]


@pytest.mark.parametrize("writer", WRITERS)
def test_cached_is_full_over_a_conversation_with_tools(
    learned: Path, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tools, an interrupted answer, /system, /reset, and a window that overflows."""
    engine = load(learned, writer, monkeypatch)
    cached, full = (Session(one, make_tools(learned)) for one in (engine, Forgetful(engine)))
    n_calls = n_notices = 0
    first = [SUM[0].text, LOOK_UP[0].text, "stop", SUM[0].text, "system", SUM[0].text, "system"]
    script = [*first, "reset", LOOK_UP[0].text, *[SUM[0].text] * 3]
    for step in script:
        for session in (cached, full):
            if step == "reset":
                session.reset()
            elif step == "system":
                session.system = "" if session.system else "be brief"
            elif step == "stop":
                events = session.send("word", Sampling(temperature=1.0, seed=3, max_tokens=20))
                for _ in range(4):
                    next(events)
                events.close()
        if step not in ("reset", "system", "stop"):
            ours, theirs = (list(session.send(step, Sampling())) for session in (cached, full))
            assert shown(ours) == shown(theirs)
            n_calls += sum(isinstance(event, ToolCall) for event in ours)
            n_notices += sum(isinstance(event, Notice) for event in ours)
        assert cached.history == full.history
    assert n_calls >= 2
    assert n_notices >= 1


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_cached_is_full_when_every_turn_drops_a_round(
    tmp_path: Path, tokenizer: Tokenizer, writer: str, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(random_model(tmp_path, tokenizer, phase="sft", seq_len=48), writer, monkeypatch)
    cached, full = (Session(one, Tools({}), system="be") for one in (engine, Forgetful(engine)))
    n_notices = 0
    for number in range(8):
        sampling = Sampling(max_tokens=5, temperature=temperature, seed=number)
        ours, theirs = (list(session.send(f"word {number}", sampling)) for session in (cached, full))
        assert shown(ours) == shown(theirs)
        n_notices += isinstance(ours[0], Notice)
    assert n_notices >= 3


def test_a_turn_computes_and_tokenizes_what_is_new_only(learned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ModelEngine.load(learned, device="cpu")
    encoded: list[str] = []
    encode = model.tokenizer.Tokenizer.encode

    def counted(self: Tokenizer, text: str) -> list[int]:
        encoded.append(text)
        return encode(self, text)

    monkeypatch.setattr(model.tokenizer.Tokenizer, "encode", counted)
    session = Session(engine, make_tools(learned))
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
    assert set(session.memory.turns) == set(session.history[:-1])


def test_sessions_share_an_engine_and_nothing_else(learned: Path, base: Path) -> None:
    engine, other = ModelEngine.load(learned, device="cpu"), ModelEngine.load(learned, device="cpu")
    sessions = [Session(engine, make_tools(learned)) for _ in range(2)]
    turns = [SUM[0].text, LOOK_UP[0].text]
    streams = [session.send(text, Sampling()) for session, text in zip(sessions, turns, strict=True)]
    said = ["", ""]
    for _ in range(200):
        for number, stream in enumerate(streams):
            event = next(stream, None)
            said[number] += event.text if isinstance(event, TextPiece) else ""
    assert said == [SUM[3].text, LOOK_UP[3].text]
    memory, prefix = sessions[0].memory, sessions[0].memory.prefix
    assert list(other.reply(SUM[:3], Sampling(), memory))
    assert memory.prefix is not prefix
    sessions[1].reset()
    assert sessions[1].memory.prefix is None
