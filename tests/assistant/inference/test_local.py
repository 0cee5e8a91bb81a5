"""The engine with real, tiny models: its answers, its errors, and a window that never overflows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from threading import Event as Signal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.conversation.events import (
    ConversationCache,
    Done,
    Event,
    Message,
    Notice,
    ReplyOptions,
    Sampling,
    TextPiece,
    ToolCall,
)
from assistant.conversation.session import Session
from assistant.inference import local
from assistant.inference.local import ModelEngine
from assistant.tools.toolbox import make_tools
from model.inference.generate import generate
from model.network.folder import load_model
from model.tokenizer.chat import encode_prompt
from model.tokenizer.tokenizer import Tokenizer
from tests.assistant.conftest import LOOK_UP, SUM, read_config, save_random_model


@pytest.fixture(scope="module")
def chat(learned: Path) -> ModelEngine:
    return ModelEngine.load(learned, device="cpu")


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> ModelEngine:
    folder = save_random_model(tmp_path_factory.mktemp("wild"), tokenizer, phase="sft", seq_len=48)
    return ModelEngine.load(folder, device="cpu")


def get_metrics(events: list[Event]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


def join_text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextPiece))


@pytest.mark.parametrize("conversation", [SUM, LOOK_UP])
def test_the_model_calls_tools_and_answers(chat: ModelEngine, learned: Path, conversation: list[Message]) -> None:
    session = Session(chat, make_tools(learned.parent / "index"), grounded="off")
    events = list(session.send(conversation[0].text, Sampling()))
    assert conversation[1].call in events
    assert session.history == conversation
    assert get_metrics(events).reason == "end"
    assert chat.is_chat
    assert chat.info.phase == "sft"


def test_pieces_are_whole_characters(chat: ModelEngine) -> None:
    events = list(chat.reply(SUM[:3], Sampling()))
    assert join_text(events) == SUM[3].text
    assert not any("\ufffd" in event.text for event in events if isinstance(event, TextPiece))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_kernel_generates_what_torch_generates(wild: ModelEngine, temperature: float) -> None:
    model, tokenizer, _ = load_model(wild.info.folder)
    sampling = Sampling(max_tokens=20, temperature=temperature, top_k=50, top_p=0.9, seed=3)
    for question in ("What is 12 * 7?", "word", "naïve café 😀"):
        messages = [Message.of("user", question)]
        ids = generate(model, encode_prompt(messages, tokenizer), sampling, stop_ids=wild._stops)
        assert join_text(list(wild.reply(messages, sampling))) == tokenizer.decode(ids)
        assert len(ids) > 1


def test_answers_in_several_threads_are_independent(wild: ModelEngine) -> None:
    sampling = Sampling(max_tokens=12)
    questions = [[Message.of("user", word)] for word in ("one", "two", "three", "four")]
    alone = [join_text(list(wild.reply(question, sampling))) for question in questions]
    streams = [wild.reply(question, sampling) for question in questions]
    in_turn = [event for events in zip_longest(*streams) for event in events if isinstance(event, TextPiece)]
    assert sum(len(event.text) for event in in_turn) == sum(map(len, alone))
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda question: join_text(list(wild.reply(question, sampling))), questions)) == alone


def test_int8_weights_give_the_learned_answer(learned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_WEIGHTS", "int8")
    engine = ModelEngine.load(learned, device="cpu")
    assert engine.info.weights == "int8"
    assert join_text(list(engine.reply(SUM[:3], Sampling()))) == SUM[3].text
    assert ModelEngine.load(learned, device="cpu", weights="float32").info.weights == "float32"
    with pytest.raises(ValueError, match=r"on a CPU bfloat16, int8, int4; found 'int2' on cpu"):
        ModelEngine.load(learned, device="cpu", weights="int2")
    with pytest.raises(ValueError, match=r"found 'int8' on cuda"):
        ModelEngine.load(learned, device="cuda")


def test_a_notice_explains_the_wait_for_the_kernel(learned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = Signal()
    prepare = local._prepare

    def prepare_slowly(*arguments: Any) -> local.NewPrefix:
        assert go.wait(60)
        return prepare(*arguments)

    monkeypatch.setattr(local, "_prepare", prepare_slowly)
    monkeypatch.setattr(local, "PATIENCE_SECONDS", 0.0)
    engine = ModelEngine.load(learned, device="cpu")
    answer = engine.reply(SUM[:3], Sampling())
    first = next(answer)
    assert isinstance(first, Notice)
    assert "compiling" in first.text
    go.set()
    assert join_text(list(answer)) == SUM[3].text


def test_an_answer_cut_at_max_tokens_has_the_reason_length(chat: ModelEngine) -> None:
    events = list(chat.reply(SUM[:3], Sampling(max_tokens=2)))
    assert (get_metrics(events).n_tokens, get_metrics(events).reason) == (2, "length")


def test_a_truncated_call_is_a_text(chat: ModelEngine) -> None:
    events = list(chat.reply(SUM[:1], Sampling(max_tokens=3)))
    assert not any(isinstance(event, ToolCall) for event in events)


def test_the_seed_determines_the_answer(wild: ModelEngine) -> None:
    def answer(seed: int) -> str:
        return join_text(
            list(wild.reply(SUM[:1], Sampling(temperature=1.0, top_k=50, top_p=0.9, seed=seed, max_tokens=12)))
        )

    assert answer(1) == answer(1)
    assert answer(1) != answer(2)


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
    assert get_metrics(events).n_prompt_tokens + get_metrics(events).n_tokens <= wild.info.seq_len
    assert get_metrics(events).n_tokens == min(max_tokens, wild.info.seq_len - get_metrics(events).n_prompt_tokens)
    assert get_metrics(events).n_tokens >= min(max_tokens, wild.info.seq_len // 4)


def test_a_notice_reports_what_is_left_out(wild: ModelEngine) -> None:
    rounds = [Message.of(role, "something") for _ in range(40) for role in ("user", "assistant")]
    first, *_ = wild.reply([*rounds, *SUM[:1]], Sampling())
    assert isinstance(first, Notice)
    assert "oldest" in first.text
    first, *_ = wild.reply([Message.of("user", "long " * 10**6)], Sampling())
    assert isinstance(first, Notice)
    assert "middle" in first.text
    assert not any(isinstance(event, Notice) for event in wild.reply(SUM[:1], Sampling()))


def test_a_long_history_takes_linear_time(wild: ModelEngine) -> None:
    """Each message is tokenized once and summed once: 3,000 rounds take a second, which a quadratic search would not."""
    rounds = [Message.of(role, "something " * 5) for _ in range(3_000) for role in ("user", "assistant")]
    assert get_metrics(list(wild.reply([*rounds, *SUM[:1]], Sampling(max_tokens=1)))).n_tokens == 1


def test_a_base_model_continues_text(base: Path) -> None:
    engine = ModelEngine.load(base, device="cpu")
    assert not engine.is_chat
    events = list(engine.continue_text("Once \ud800 upon", Sampling(max_tokens=5)))
    assert join_text(events)
    assert get_metrics(events).n_tokens == 5
    first, *rest = engine.continue_text("upon a time " * 1_000, Sampling(max_tokens=500))
    assert isinstance(first, Notice)
    assert get_metrics(rest).n_prompt_tokens + get_metrics(rest).n_tokens == engine.info.seq_len
    assert get_metrics(rest).reason == "window"


def test_metrics_are_consistent(wild: ModelEngine) -> None:
    counts = get_metrics(list(wild.reply(SUM[:1], Sampling(max_tokens=9))))
    assert counts.n_tokens == 9
    assert 0 < counts.first_token_seconds < counts.seconds
    assert counts.tokens_per_second == pytest.approx(8 / (counts.seconds - counts.first_token_seconds))


def copy_damaged(folder: Path, tmp_path: Path, name: str, content: bytes | None) -> Path:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_bytes(content)
    return copy


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff\xfe", b"{}"])
def test_a_missing_or_damaged_file_is_named(base: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        ModelEngine.load(copy_damaged(base, tmp_path, name, content))
    assert str(tmp_path / "copy") in str(caught.value) or name in str(caught.value) or "model" in str(caught.value)


def test_a_missing_folder_and_another_kind_of_model_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no model folder.*make run"):
        ModelEngine.load(tmp_path / "nothing")
    other = json.dumps({**read_config(base), "kind": "other"}).encode()
    with pytest.raises(ValueError, match="kind 'other'"):
        ModelEngine.load(copy_damaged(base, tmp_path, "config.json", other))


def test_a_configuration_larger_than_its_weights_is_refused_before_memory_is_allocated(
    base: Path, tmp_path: Path
) -> None:
    large = json.dumps({**read_config(base), "n_layer": 10**9}).encode()
    with pytest.raises(ValueError, match=r"model\.safetensors belongs to another model: it has [\d,]+ weights"):
        ModelEngine.load(copy_damaged(base, tmp_path, "config.json", large))


def test_the_oldest_rounds_are_dropped_first(chat: ModelEngine) -> None:
    """The prompt has the last question and, before it, whole rounds; a quarter of the window stays free."""
    filler = [Message.of(role, "word") for _ in range(30) for role in ("user", "assistant")]
    cache = ConversationCache()
    prompt_tokens = get_metrics(list(chat.reply([*filler, SUM[0]], Sampling(), cache))).n_prompt_tokens
    kept = [*filler, SUM[0]][cache.n_left_out :]
    assert prompt_tokens == len(encode_prompt(kept, chat._tokenizer)) <= chat.info.seq_len * 3 // 4
    assert 0 < cache.n_left_out < len(filler)
    assert cache.n_left_out % 2 == 0  # whole rounds


REFUSAL, HONEST, SEARCH = (
    "I can't help with that, because …",
    "I don't know.",
    ToolCall.of("search_docs", "copy", "call_1"),
)


@pytest.fixture
def write(wild: ModelEngine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Event]]:
    """Return a function that replies as if the model wrote a text by itself; what is weighed against it is scored by the model."""

    def reply(text: str, margin_nats: float, **options: Any) -> list[Event]:
        class Run(Iterator[int]):
            ids = iter(wild._tokenizer.encode(text))

            def __next__(self) -> int:
                return next(self.ids)

            def close(self) -> None: ...

            def summarize(self) -> Done:
                return Done(1, 1, 0.0, 0.0, "end")

        monkeypatch.setattr(wild, "_start", lambda *_: Run())
        monkeypatch.setattr(local, "MIN_REFUSAL_NATS", margin_nats)
        return list(wild.reply([Message.of("user", "hi")], Sampling(), None, ReplyOptions(**options)))

    return reply


def test_a_refusal_must_be_clearly_more_probable_than_what_is_honest(write: Callable[..., list[Event]]) -> None:
    weighed: dict[str, Any] = {"calls": {"search_docs": ("copy",)}, "instead_of_refusal": (HONEST,)}
    assert join_text(write(REFUSAL, -1e6, **weighed)) == REFUSAL
    others = write(REFUSAL, 1e6, **weighed)
    assert SEARCH in others or join_text(others) == HONEST
    assert join_text(write(REFUSAL, 1e6)) == REFUSAL  # nothing to weigh it against
    assert isinstance(others[-1], Done)


@pytest.mark.parametrize("text", ["I can't help with ties.", "I can", "I am MiniGPT.", ""])
def test_other_texts_are_streamed_as_they_are(write: Callable[..., list[Event]], text: str) -> None:
    assert join_text(write(text, 1e6, instead_of_refusal=(HONEST,))) == text
