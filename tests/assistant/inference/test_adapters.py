"""Several adapters of one model: each answers as it does alone, whatever is asked in between; others are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from assistant.conversation.events import ConversationCache, Done, Message, Sampling, TextPiece
from assistant.inference.adapters import AdapterEngines, get_adapters_folder
from assistant.inference.local import ModelEngine
from model.network.adapter_folder import merge_adapter, save_adapter
from model.network.folder import load_model
from model.network.lora import AdaptedModel, LoraAdapter, LoraSettings
from model.tokenizer.tokenizer import Tokenizer
from tests.assistant.conftest import save_random_model

SAMPLING = Sampling(max_tokens=12)
QUESTIONS = ["What is a norm?", "And the sum?", "Thank you."]
NAMES = ["", "first", "second"]


def save_random_adapter(base: Path, folder: Path, seed: int) -> None:
    """Write an adapter that changes what the model says."""
    model, tokenizer, _ = load_model(base)
    adapter = LoraAdapter(model, LoraSettings(kind="rslora", rank=2, alpha=4.0), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if name.endswith(".b"):
                parameter.normal_(0.0, 0.5, generator=generator)
    save_adapter(folder, AdaptedModel(model, adapter), tokenizer)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    root = tmp_path_factory.mktemp("adapters")
    folder = save_random_model(root / "base", tokenizer, phase="sft", seq_len=96)
    for seed, name in enumerate(NAMES[1:], 1):
        save_random_adapter(folder, root / "all" / name, seed)
    return folder


@pytest.fixture(scope="module")
def engine(base: Path) -> ModelEngine:
    return ModelEngine.load(base, device="cpu")


@pytest.fixture
def engines(base: Path, engine: ModelEngine) -> AdapterEngines:
    return AdapterEngines(engine, base.parent / "all")


def answer(engine: ModelEngine, history: list[Message], cache: ConversationCache) -> str:
    """Return the reply to a history, which is appended to it."""
    events = list(engine.reply(history, SAMPLING, cache))
    text = "".join(event.text for event in events if isinstance(event, TextPiece))
    history.append(Message.of("assistant", text or "…"))
    return text


def hold_conversation(get_engine: Callable[[], ModelEngine]) -> list[str]:
    history: list[Message] = []
    cache, replies = ConversationCache(), []
    for question in QUESTIONS:
        history.append(Message.of("user", question))
        replies.append(answer(get_engine(), history, cache))
    return replies


def test_interleaved_requests_are_answered_as_each_alone(base: Path, engines: AdapterEngines) -> None:
    alone = {}
    for name in NAMES:
        folder = base.parent / "all" / name
        one = ModelEngine.load(base, device="cpu").adapt(folder) if name else ModelEngine.load(base, device="cpu")
        alone[name] = hold_conversation(lambda one=one: one)
    assert len({tuple(replies) for replies in alone.values()}) == 3, "adapters that change nothing would prove nothing"
    histories: dict[str, list[Message]] = {name: [] for name in NAMES}
    caches = {name: ConversationCache() for name in NAMES}
    mixed: dict[str, list[str]] = {name: [] for name in NAMES}
    for question in QUESTIONS:
        for name in NAMES:
            histories[name].append(Message.of("user", question))
            mixed[name].append(answer(engines.get(name), histories[name], caches[name]))
    assert mixed == alone


def test_a_conversation_that_changes_its_adapter_starts_its_cache_anew(base: Path, engines: AdapterEngines) -> None:
    cache, fresh = ConversationCache(), ConversationCache()
    history = [Message.of("user", QUESTIONS[0])]
    list(engines.get("first").reply(history, SAMPLING, cache))
    switched = list(engines.get("second").reply(history, SAMPLING, cache))
    expected = list(engines.get("second").reply(history, SAMPLING, fresh))
    assert [event for event in switched if isinstance(event, TextPiece)] == [
        event for event in expected if isinstance(event, TextPiece)
    ]
    assert isinstance(switched[-1], Done)
    assert switched[-1].n_cached_tokens == 0
    again = list(engines.get("second").reply(history, SAMPLING, cache))
    assert isinstance(again[-1], Done)
    assert again[-1].n_cached_tokens > 0, "the cache is used within an adapter"


def test_an_adapted_engine_answers_as_the_merged_model(base: Path, engines: AdapterEngines, tmp_path: Path) -> None:
    merge_adapter(base, base.parent / "all" / "first", tmp_path / "merged")
    merged = ModelEngine.load(tmp_path / "merged", device="cpu")
    assert hold_conversation(lambda: merged) == hold_conversation(lambda: engines.get("first"))
    assert engines.get("first").info.adapter.endswith("first")
    assert engines.get("first") is engines.get("first")


@pytest.mark.parametrize("name", ["third", "../all/first", "/", "first/"])
def test_an_unknown_adapter_is_refused_with_those_that_there_are(name: str, engines: AdapterEngines) -> None:
    with pytest.raises(ValueError, match="there is no adapter") as caught:
        engines.get(name)
    assert "found first, second" in str(caught.value)


def test_an_adapter_of_another_model_is_refused(base: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    other = ModelEngine.load(save_random_model(tmp_path, tokenizer, phase="sft", seq_len=64), device="cpu")
    with pytest.raises(ValueError, match="trained on another base"):
        AdapterEngines(other, base.parent / "all").get("first")


def test_without_a_folder_there_is_no_adapter(engine: ModelEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_ADAPTERS", "var/nowhere")
    engines = AdapterEngines(engine, get_adapters_folder())
    assert engines.get("") is engine
    with pytest.raises(ValueError, match="found none in var/nowhere"):
        engines.get("first")
