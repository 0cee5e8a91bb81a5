"""Fixtures: tiny model folders, one overfitted to two conversations, one that never ends its turn, and a base model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from assistant.conversation.events import ConversationCache, Done, Event, ReplyOptions, Sampling, TextPiece
from model.network.config import ModelConfig
from model.network.folder import save_model
from model.network.transformer import Transformer
from model.retrieval.cutting.source_texts import SourceText, cut_documents
from model.retrieval.segment import write_segment
from model.tokenizer.chat import Message, ToolCall, messages_to_json, render
from model.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer, train_bpe

NORM = '[numpy.linalg.norm] "Matrix or vector norm." — norm(x, ord=None)'
SYMBOLS = [  # title, signature, docstring
    ("numpy.linalg.norm", "(x, ord=None)", "Matrix or vector norm."),
    ("scipy.linalg.norm", "(a)", "Matrix or vector norm, with checks."),
    ("numpy.linalg.inv", "(a)", "Compute the inverse of a matrix."),
    ("torch.nn.Linear", "(in_features)", "Applies a linear\ntransformation."),
    ("pandas.read_csv", "(path)", "Read a csv file into a frame.\n\nArgs:\n    path: Where it is."),
]
LEAVE = "# Leave\n\nEverybody has thirty days of leave.\n\n## Parental leave\n\nForty weeks, half of them paid.\n"
TRAVEL = "# Travel\n\nTrains come before planes.\n"
SUM = [
    Message.of("user", "What is 12 * 7?"),
    Message.calling(ToolCall.of("calculator", "12 * 7", "call_1")),
    Message.result("84", "call_1"),
    Message.of("assistant", "84, naïve café 😀"),
]
LOOK_UP = [
    Message.of("user", "linalg.inv?"),
    Message.calling(ToolCall.of("search_docs", "linalg.inv", "call_1")),
    Message.result('[numpy.linalg.inv] "Compute the inverse of a matrix." — inv(a)', "call_1"),
    Message.of("assistant", 'linalg.inv: "Compute the inverse of a matrix." [numpy.linalg.inv]'),
]


@pytest.fixture
def handbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write two documents of a person's own; collections are stored beside them."""
    monkeypatch.setenv("MINIGPT_COLLECTIONS", str(tmp_path / "collections"))
    source = tmp_path / "handbook"
    source.mkdir()
    (source / "leave.md").write_text(LEAVE)
    (source / "travel.md").write_text(TRAVEL)
    return source


class ChoosingEngine:
    """An engine that takes the candidate at an index, and says `talk` where there are none. It remembers its options."""

    is_chat = True

    def __init__(self, index: int, talk: str) -> None:
        self._index, self._talk = index, talk
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
            yield ToolCall.of(name, arguments[self._index], "call_1")
        else:
            yield TextPiece(options.answers[self._index] if options.answers else self._talk)
        yield Done(1, 1, 0.0, 0.0, "end")

    def continue_text(self, text: str, sampling: Sampling) -> Iterator[Event]:
        raise NotImplementedError


def write_index(folder: Path, symbols: Iterable[tuple[str, str, str]] = SYMBOLS) -> Path:
    """Write an index folder of documented symbols."""
    folder.mkdir(parents=True, exist_ok=True)
    docs = [
        SourceText(f"{n}", f"{title}{signature}\n\n{doc}", "test", title, "", "MIT", "function", signature)
        for n, (title, signature, doc) in enumerate(symbols)
    ]
    write_segment(folder, [section for sections in cut_documents(docs, 1_000) for section in sections])
    return folder


def make_config(vocab_size: int, seq_len: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=vocab_size, seq_len=seq_len, n_layer=2, n_head=2, n_kv_head=1, d_model=32, d_head=16, d_ff=64
    )


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    texts = [json.dumps(messages_to_json(conversation), ensure_ascii=False) for conversation in (SUM, LOOK_UP)]
    return train_bpe(texts * 3, 400)


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A chat model (phase sft) overfitted to SUM and LOOK_UP, with an index next to it."""
    folder = tmp_path_factory.mktemp("learned") / "model"
    index = folder.parent / "index"
    folder.mkdir()
    model = Transformer(make_config(tokenizer.vocab_size + 3, 128), seed=1)
    overfit(model, [render(conversation, tokenizer) for conversation in (SUM, LOOK_UP)])
    save_model(folder, model, tokenizer, phase="sft")
    write_index(index)
    return folder


def overfit(model: Transformer, examples: list[tuple[list[int], list[bool]]]) -> None:
    longest = max(len(ids) for ids, _ in examples)
    ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in examples])
    mask = torch.tensor([mask + [False] * (longest - len(mask)) for _, mask in examples])
    targets = torch.where(mask, ids, -100)[:, 1:]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    torch.set_num_threads(1)  # a second thread costs more than it saves at this size
    for _ in range(150):
        logits = model.compute_logits(model(ids[:, :-1]))
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02, "the fixture's model has not learned its conversations"


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A chat model with random weights that never ends its turn, with a long window and no index."""
    return save_random_model(tmp_path_factory.mktemp("endless"), tokenizer, phase="sft", seq_len=30_000)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A base model (phase pretrain) with random weights."""
    return save_random_model(tmp_path_factory.mktemp("base"), tokenizer, phase="pretrain", seq_len=64)


def save_random_model(folder: Path, tokenizer: Tokenizer, *, phase: str, seq_len: int) -> Path:
    model = Transformer(make_config(tokenizer.vocab_size, seq_len), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2, generator=generator)
        model.embedding.weight[: len(SPECIAL_TOKENS)] *= 0.01  # tiny logits: some other token is always more likely
    save_model(folder, model, tokenizer, phase=phase)
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))
