"""The engine in this process: errors of OpenAI's shape, tenants apart, versions that are exchanged under load."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assistant.conversation.events import ConversationCache, Done, Event, Message, Sampling, TextPiece, ToolCall
from assistant.inference.local import ModelEngine
from assistant.inference.served_model import ServingSizes
from model.network.hashes import hash_files
from model.tokenizer.tokenizer import Tokenizer
from service.access.caller import Caller
from service.answers.answer_request import AnswerRequest, OfferedTool, OutputConstraint, TokenControls
from service.answers.interfaces import DirectPiece
from service.inference.local_inference import ChampionWatch, LocalInference
from service.service_error import ServiceError
from tests.assistant.conftest import SUM, save_random_model
from tests.assistant.inference.test_adapters import save_random_adapter

SIZES = ServingSizes(n_slots=4, n_waiting=4, n_threads=1)
QUESTION = (Message.of("user", "What is a norm?"),)


def save_version(root: Path, tokenizer: Tokenizer, number: int, phase: str = "sft") -> Path:
    """Write a version as `pull` does. Return its folder."""
    folder = root / "versions" / f"v{number}"
    save_random_model(folder / "model", tokenizer, phase=phase, seq_len=64 * number)
    (folder / "version.json").write_text(json.dumps({"name": "minigpt", "version": str(number), "alias": "champion"}))
    (folder / "files.json").write_text(json.dumps(hash_files(folder)))
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    root = tmp_path_factory.mktemp("served")
    for number in (1, 2, 3):
        save_version(root, tokenizer, number)
    save_random_adapter(root / "versions" / "v1" / "model", root / "adapters" / "first", 1)
    return root


def get_folder(root: Path, number: int) -> Path:
    return root / "versions" / f"v{number}" / "model"


@pytest.fixture
def inference(root: Path) -> Iterator[LocalInference]:
    inference = LocalInference.load(get_folder(root, 1), adapters=root / "adapters", sizes=SIZES)
    yield inference
    inference.close()


def make_request(**changes: Any) -> AnswerRequest:
    request = AnswerRequest("req_1", Caller(), "chat.completions", "minigpt/direct", messages=QUESTION)
    return replace(request, **{"sampling": Sampling(max_tokens=20), **changes})


async def collect(
    inference: LocalInference, request: AnswerRequest, choice: int = 0
) -> tuple[str, Done, list[DirectPiece | ToolCall]]:
    items = [item async for item in inference.generate(request, choice)]
    last = items[-1]
    assert isinstance(last, DirectPiece)
    assert last.done is not None
    return "".join(item.text for item in items if isinstance(item, DirectPiece)), last.done, items


def ask(inference: LocalInference, request: AnswerRequest, choice: int = 0) -> tuple[str, Done, Any]:
    return asyncio.run(collect(inference, request, choice))


def read(events: Iterator[Event]) -> tuple[str, int]:
    """Return the text of a session's reply and how many of its prompt's tokens were cached."""
    text, n_cached = "", 0
    for event in events:
        text += event.text if isinstance(event, TextPiece) else ""
        n_cached = event.n_cached_tokens if isinstance(event, Done) else n_cached
    return text, n_cached


def test_what_is_served_is_described_with_its_lineage(inference: LocalInference, root: Path) -> None:
    description = inference.description
    assert (description.name, description.version, description.phase, description.seq_len) == (
        "minigpt",
        "1",
        "sft",
        64,
    )
    files = json.loads((root / "versions/v1/files.json").read_text())
    assert description.lineage == {name: files[name] for name in files if name.startswith("model/")}
    assert inference.detokenize(inference.tokenize("naïve 😀")) == "naïve 😀"
    assert inference.count_tokens("word") == len(inference.tokenize("word"))
    with pytest.raises(ValueError, match="tokens must be from 0 to"):
        inference.detokenize([10**6])


def test_choices_have_seeds_of_their_own_and_repeat(inference: LocalInference) -> None:
    request = make_request(sampling=Sampling(max_tokens=20, temperature=1.0, seed=2**63 - 1))
    texts = [ask(inference, request, choice)[0] for choice in (0, 1, 0)]
    assert texts[0] == texts[2] != texts[1]


@pytest.mark.parametrize(
    ("changes", "status", "code", "found"),
    [
        ({"messages": (Message.of("user", "word " * 99),)}, 400, "context_length_exceeded", "found"),
        ({"messages": (), "prompt": "word " * 99}, 400, "context_length_exceeded", "prompt must leave room"),
        ({"constraint": OutputConstraint("json_schema", schema={"nosuch": 1})}, 400, "invalid_constraint", "nosuch"),
        ({"constraint": OutputConstraint("regex", regex="(")}, 400, "invalid_constraint", "regex"),
    ],
)
def test_a_request_that_can_not_be_answered_is_refused(
    inference: LocalInference, changes: dict[str, Any], status: int, code: str, found: str
) -> None:
    with pytest.raises(ServiceError, match=found) as caught:
        ask(inference, make_request(**changes))
    assert (caught.value.status, caught.value.code) == (status, code)
    assert ask(inference, make_request())[0]


def test_overload_is_429_and_503_with_retry_after(root: Path) -> None:
    small = LocalInference.load(get_folder(root, 3), sizes=ServingSizes(1, 1, 1))
    long = make_request(sampling=Sampling(max_tokens=150), controls=TokenControls(min_tokens=150))

    async def overload() -> list[Any]:
        requests = [long, replace(long, deadline_seconds=0.001), long, long]
        return await asyncio.gather(*(collect(small, request) for request in requests), return_exceptions=True)

    first, *errors = asyncio.run(overload())
    assert first[1].n_tokens == 150
    assert [(error.status, error.code) for error in errors] == [(503, "deadline"), *[(429, "queue_full")] * 2]
    assert all(error.retry_after for error in errors)
    small.close()


def test_tools_offered_come_back_as_calls(inference: LocalInference) -> None:
    tool = OfferedTool("add", parameters={"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]})
    constraint = OutputConstraint("tools", tools=(tool,), must_call=True)
    _, done, items = ask(inference, make_request(constraint=constraint, sampling=Sampling(max_tokens=50)))
    [call] = [item for item in items if isinstance(item, ToolCall)]
    assert (call.name, done.reason) == ("add", "tool_calls")
    assert call.arguments["a"] in (1, 2)


def test_log_probabilities_are_translated(inference: LocalInference) -> None:
    text, done, items = ask(inference, make_request(controls=TokenControls(n_logprobs=2)))
    tokens = [token for item in items if isinstance(item, DirectPiece) for token in item.tokens]
    assert len(tokens) == done.n_tokens
    assert bytes(byte for token in tokens for byte in token.bytes).decode("utf-8", "replace") == text
    assert all(len(token.alternatives) == 2 for token in tokens)


def test_tenants_never_share_what_is_cached(inference: LocalInference) -> None:
    """In sessions and in direct answers; timing is not measured, the counts are exact."""
    messages = [Message.of("user", "What is the norm of a vector?")]
    first, again = (read(inference.get_engine("a").reply(messages, Sampling(max_tokens=5))) for _ in range(2))
    other = read(inference.get_engine("b").reply(messages, Sampling(max_tokens=5)))
    assert first[0] == again[0] == other[0]
    assert first[1] == other[1] == 0 < again[1]
    mine, theirs = (make_request(caller=Caller(tenant=name), messages=tuple(messages)) for name in ("a", "c"))
    assert ask(inference, mine)[1].n_cached_tokens == again[1]
    assert ask(inference, theirs)[1].n_cached_tokens == 0
    inference.forget("a")
    assert ask(inference, mine)[1].n_cached_tokens == 0


def test_adapters_answer_by_name(inference: LocalInference, root: Path) -> None:
    alone = ModelEngine.load(get_folder(root, 1), device="cpu").adapt(root / "adapters" / "first")
    expected = read(alone.reply(list(QUESTION), Sampling(max_tokens=12)))[0]
    plain = read(inference.get_engine("a").reply(list(QUESTION), Sampling(max_tokens=12)))[0]
    assert read(inference.get_engine("a", "first").reply(list(QUESTION), Sampling(max_tokens=12)))[0] == expected
    assert expected != plain
    with pytest.raises(ServiceError, match="there is no adapter 'second'") as caught:
        inference.get_engine("a", "second")
    assert (caught.value.status, caught.value.code) == (400, "unknown_adapter")


def test_a_swap_under_load_loses_and_mixes_nothing(root: Path) -> None:
    """Streams and sessions go on while three versions follow one another; each answer is one version's."""
    folders = [get_folder(root, number) for number in (1, 2, 3)]
    request, sampling = make_request(sampling=Sampling(max_tokens=25)), Sampling(max_tokens=9)
    expected: list[tuple[str, str]] = []
    for folder in folders:
        alone = LocalInference.load(folder, sizes=SIZES)
        session = alone.get_engine("a").reply(list(QUESTION), sampling)
        expected.append((ask(alone, request)[0], read(session)[0]))
        alone.close()
    inference = LocalInference.load(folders[0], sizes=ServingSizes(8, 99, 1))
    is_over, replies = threading.Event(), list[str]()

    def talk() -> None:
        engine, cache = inference.get_engine("a"), ConversationCache()
        while not is_over.is_set():
            replies.append(read(engine.reply(list(QUESTION), sampling, cache))[0])

    async def load() -> list[str]:
        async def client() -> list[str]:
            return [(await collect(inference, request))[0] for _ in range(12)]

        clients = [asyncio.ensure_future(client()) for _ in range(6)]
        for folder in folders[1:]:
            await asyncio.sleep(0.02)
            await asyncio.to_thread(inference.swap, folder)
        return [text for texts in await asyncio.gather(*clients) for text in texts]

    talker = threading.Thread(target=talk)
    talker.start()
    texts = asyncio.run(load())
    is_over.set()
    talker.join()
    assert len(texts) == 72
    assert set(texts) <= {text for text, _ in expected}
    assert set(replies) <= {reply for _, reply in expected}
    assert texts[-1] == expected[2][0]
    assert inference.description.version == "3"
    inference.close()


def test_running_answers_end_on_the_old_version_whose_memory_is_then_freed(root: Path) -> None:
    inference = LocalInference.load(get_folder(root, 3), sizes=SIZES)
    expected = ask(inference, make_request(sampling=Sampling(max_tokens=100)))[0]

    async def swap_in_the_middle() -> tuple[str, list[weakref.ref[Any]]]:
        text, references = "", list[weakref.ref[Any]]()
        async for item in inference.generate(make_request(sampling=Sampling(max_tokens=100))):
            if not references:
                served = inference._version.served
                references = [weakref.ref(served), weakref.ref(served._thread._batcher._engine)]
                del served
                await asyncio.to_thread(inference.swap, get_folder(root, 1))
                assert inference.description.version == "1"
            text += item.text if isinstance(item, DirectPiece) else ""
        return text, references

    text, references = asyncio.run(swap_in_the_middle())
    assert text == expected
    end = time.monotonic() + 5
    while any(reference() is not None for reference in references) and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    assert [reference() for reference in references] == [None, None]
    inference.close()


def test_a_damaged_version_is_refused_and_the_old_one_stays(inference: LocalInference, root: Path) -> None:
    before = ask(inference, make_request())[0]
    damaged = root / "damaged"
    shutil.copytree(root / "versions" / "v2", damaged)
    (damaged / "model" / "model.safetensors").write_bytes(b"damaged")
    for folder, found in ((damaged / "model", "was changed"), (root / "nowhere", "there is no model folder")):
        with pytest.raises(ValueError, match=found):
            inference.swap(folder)
    assert inference.description.version == "1"
    assert ask(inference, make_request())[0] == before


def test_the_champion_is_followed_and_a_bad_one_is_tried_once_and_told(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link, folders = tmp_path / "champion", list[Path]()
    link.symlink_to(root / "versions" / "v1")
    inference = LocalInference.load(link / "model", sizes=SIZES)
    inference.on_swap(folders.append)
    watch = ChampionWatch(inference, link / "model")
    assert not watch.check()
    damaged = tmp_path / "damaged"
    shutil.copytree(root / "versions" / "v2", damaged)
    (damaged / "model" / "config.json").write_text("{}")
    for target, is_swapped, version in ((damaged, False, "1"), ("v2", True, "2"), ("v1", True, "1")):
        link.unlink()
        assert not watch.check()  # between two links there is none
        link.symlink_to(target if isinstance(target, Path) else root / "versions" / target)
        assert watch.check() == is_swapped
        assert not watch.check()
        assert inference.description.version == version
        assert bool(watch.problem) != is_swapped
        assert [record.levelname for record in caplog.records] == ["ERROR"]  # once
        assert "is refused" in caplog.text
    assert folders == [get_folder(root, 2).resolve(), get_folder(root, 1).resolve()]
    watch.close()
    inference.close()


def test_draining_waits_for_what_is_running(inference: LocalInference) -> None:
    engine = inference.get_engine("a")
    reply = engine.reply(list(QUESTION), Sampling(max_tokens=5))
    next(reply)
    assert not inference.drain(0.01)
    assert len(list(reply)) > 0
    assert inference.drain(1)


def test_a_session_has_the_learned_answers(learned: Path) -> None:
    inference = LocalInference.load(learned, sizes=SIZES)
    assert read(inference.get_engine("a").reply(SUM[:3], Sampling()))[0] == SUM[3].text
    assert inference.description.version == ""
    assert inference.get_engine("a").is_chat
    inference.close()
    with pytest.raises(ValueError, match="the service is ending"):
        inference.swap(learned)
