"""The engine on real, tiny models: what it says, what it refuses, and a window that never overflows."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, zip_longest
from pathlib import Path
from threading import Event as Signal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import assistant.inference.local
from assistant.conversation.events import ConversationCache, Done, Event, Message, Notice, Sampling, TextPiece, ToolCall
from assistant.conversation.session import Session
from assistant.inference.local import ModelEngine
from assistant.tools.toolbox import make_tools
from model.inference.generate import generate
from model.network.folder import load_model
from model.tokenizer.chat import encode_prompt
from model.tokenizer.tokenizer import Tokenizer
from tests.assistant.conftest import LOOK_UP, SUM, random_model, read_config


@pytest.fixture(scope="module")
def chat(learned: Path) -> ModelEngine:
    return ModelEngine.load(learned, device="cpu")


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> ModelEngine:
    folder = random_model(tmp_path_factory.mktemp("wild"), tokenizer, phase="sft", seq_len=48)
    return ModelEngine.load(folder, device="cpu")


def done(events: list[Event]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextPiece))


@pytest.mark.parametrize("conversation", [SUM, LOOK_UP])
def test_it_calls_its_tools_and_answers(chat: ModelEngine, learned: Path, conversation: list[Message]) -> None:
    session = Session(chat, make_tools(learned.parent / "index"))
    events = list(session.send(conversation[0].text, Sampling()))
    assert conversation[1].call in events
    assert session.history == conversation
    assert done(events).reason == "end"
    assert chat.is_chat
    assert chat.info.phase == "sft"


def test_pieces_are_whole_characters(chat: ModelEngine) -> None:
    events = list(chat.reply(SUM[:3], Sampling()))
    assert text(events) == SUM[3].text
    assert not any("\ufffd" in event.text for event in events if isinstance(event, TextPiece))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_kernel_writes_what_torch_writes(wild: ModelEngine, temperature: float) -> None:
    model, tokenizer, _ = load_model(wild.info.folder)
    sampling = Sampling(max_tokens=20, temperature=temperature, top_k=50, top_p=0.9, seed=3)
    for question in ("What is 12 * 7?", "word", "naïve café 😀"):
        messages = [Message.of("user", question)]
        ids = generate(model, encode_prompt(messages, tokenizer), sampling, stop_ids=wild._stops)
        assert text(list(wild.reply(messages, sampling))) == tokenizer.decode(ids)
        assert len(ids) > 1


def test_answers_of_several_threads_do_not_meet(wild: ModelEngine) -> None:
    sampling = Sampling(max_tokens=12)
    questions = [[Message.of("user", word)] for word in ("one", "two", "three", "four")]
    alone = [text(list(wild.reply(question, sampling))) for question in questions]
    streams = [wild.reply(question, sampling) for question in questions]
    in_turn = [event for events in zip_longest(*streams) for event in events if isinstance(event, TextPiece)]
    assert sum(len(event.text) for event in in_turn) == sum(map(len, alone))
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda question: text(list(wild.reply(question, sampling))), questions)) == alone


def test_weights_in_int8_answer_too(learned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_WEIGHTS", "int8")
    engine = ModelEngine.load(learned, device="cpu")
    assert engine.info.weights == "int8"
    assert text(list(engine.reply(SUM[:3], Sampling()))) == SUM[3].text
    assert ModelEngine.load(learned, device="cpu", weights="float32").info.weights == "float32"
    with pytest.raises(ValueError, match=r"int8 on a CPU; found 'int4' on cpu"):
        ModelEngine.load(learned, device="cpu", weights="int4")
    with pytest.raises(ValueError, match=r"found 'int8' on cuda"):
        ModelEngine.load(learned, device="cuda")


def test_whoever_waits_for_the_kernel_is_told(learned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = Signal()
    ready = assistant.engine._writer

    def slow(*given: Any) -> assistant.engine.Writer:
        assert go.wait(60)
        return ready(*given)

    monkeypatch.setattr(assistant.engine, "_writer", slow)
    monkeypatch.setattr(assistant.engine, "PATIENCE_SECONDS", 0.0)
    engine = ModelEngine.load(learned, device="cpu")
    answer = engine.reply(SUM[:3], Sampling())
    first = next(answer)
    assert isinstance(first, Notice)
    assert "compiled" in first.text
    go.set()
    assert text(list(answer)) == SUM[3].text


def test_max_tokens_cuts_and_is_said(chat: ModelEngine) -> None:
    events = list(chat.reply(SUM[:3], Sampling(max_tokens=2)))
    assert (done(events).n_tokens, done(events).reason) == (2, "length")


def test_a_call_cut_short_is_a_text(chat: ModelEngine) -> None:
    events = list(chat.reply(SUM[:1], Sampling(max_tokens=3)))
    assert not any(isinstance(event, ToolCall) for event in events)


def test_the_same_seed_says_the_same(wild: ModelEngine) -> None:
    def say(seed: int) -> str:
        return text(list(wild.reply(SUM[:1], Sampling(temperature=1.0, top_k=50, top_p=0.9, seed=seed, max_tokens=12))))

    assert say(1) == say(1)
    assert say(1) != say(2)


ROUND = st.tuples(st.text(max_size=300), st.text(max_size=300) | st.text("word ", min_size=2_000, max_size=9_000))


@settings(deadline=None, max_examples=30)
@given(st.text(max_size=200), st.lists(ROUND, max_size=12), st.text(max_size=400), st.integers(1, 60))
def test_the_window_never_overflows(
    wild: ModelEngine, system: str, rounds: list[tuple[str, str]], question: str, max_tokens: int
) -> None:
    messages = [Message.of("system", system)]
    for asked, answered in rounds:
        messages += [Message.of("user", asked), Message.of("assistant", answered)]
    events = list(wild.reply([*messages, Message.of("user", question)], Sampling(max_tokens=max_tokens)))
    assert done(events).n_prompt_tokens + done(events).n_tokens <= wild.info.seq_len
    assert done(events).n_tokens == min(max_tokens, wild.info.seq_len - done(events).n_prompt_tokens)
    assert done(events).n_tokens >= min(max_tokens, wild.info.seq_len // 4)


def test_what_is_left_out_is_said(wild: ModelEngine) -> None:
    rounds = [Message.of(role, "something") for _ in range(40) for role in ("user", "assistant")]
    first, *_ = wild.reply([*rounds, *SUM[:1]], Sampling())
    assert isinstance(first, Notice)
    assert "oldest" in first.text
    first, *_ = wild.reply([Message.of("user", "long " * 10**6)], Sampling())
    assert isinstance(first, Notice)
    assert "middle" in first.text
    assert not any(isinstance(event, Notice) for event in wild.reply(SUM[:1], Sampling()))


def test_long_histories_cost_no_more_than_the_window(wild: ModelEngine) -> None:
    """Every round costs the same once the window is full: 3,000 of them would take minutes if `fit` saw them all."""
    rounds = [Message.of(role, "something " * 5) for _ in range(3_000) for role in ("user", "assistant")]
    assert done(list(wild.reply([*rounds, *SUM[:1]], Sampling(max_tokens=1)))).n_tokens == 1


def test_a_base_model_only_continues(base: Path) -> None:
    engine = ModelEngine.load(base, device="cpu")
    assert not engine.is_chat
    events = list(engine.continuation("Once \ud800 upon", Sampling(max_tokens=5)))
    assert text(events)
    assert done(events).n_tokens == 5
    first, *rest = engine.continuation("upon a time " * 1_000, Sampling(max_tokens=500))
    assert isinstance(first, Notice)
    assert done(rest).n_prompt_tokens + done(rest).n_tokens == engine.info.seq_len
    assert done(rest).reason == "window"


def test_counts_add_up(wild: ModelEngine) -> None:
    counts = done(list(wild.reply(SUM[:1], Sampling(max_tokens=9))))
    assert counts.n_tokens == 9
    assert 0 < counts.first_token_seconds < counts.seconds
    assert counts.tokens_per_second == pytest.approx(8 / (counts.seconds - counts.first_token_seconds))


def broken(folder: Path, tmp_path: Path, name: str, content: bytes | None) -> Path:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_bytes(content)
    return copy


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff\xfe", b"{}"])
def test_a_missing_or_broken_part_is_named(base: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        ModelEngine.load(broken(base, tmp_path, name, content))
    assert str(tmp_path / "copy") in str(caught.value) or name in str(caught.value) or "model" in str(caught.value)


def test_a_folder_that_is_none_and_one_of_another_kind(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no model folder.*make run"):
        ModelEngine.load(tmp_path / "nothing")
    other = json.dumps({**read_config(base), "kind": "other"}).encode()
    with pytest.raises(ValueError, match="kind 'other'"):
        ModelEngine.load(broken(base, tmp_path, "config.json", other))


def test_the_oldest_go_first(chat: ModelEngine) -> None:
    """With one more round in the history, an old one leaves: the last question is still answered as learned."""
    filler = [Message.of(role, "word") for _ in range(30) for role in ("user", "assistant")]
    kept = chat._recent([*filler, *SUM[:1]], chat._encoder(ConversationCache()))
    assert kept[-1] == SUM[0]
    assert len(kept) < len(filler)
    assert all(first != second for first, second in pairwise(message.role for message in kept))
