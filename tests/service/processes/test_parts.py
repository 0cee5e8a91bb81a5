"""Parts in other processes answer as those in this one; whichever dies, an answer is whole or an error, never shorter."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

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
from assistant.inference.model_choice import ModelChoice
from assistant.tools.tool_declaration import declare_tool
from assistant.tools.tool_registry import ToolRegistry, describe_builtins
from assistant.tools.toolbox import AnswerAbortedError, Tools
from model.tokenizer.tokenizer import Tokenizer, train_bpe
from service.access.caller import LOCAL_TENANT, Caller
from service.access.tenant_files import TenantFiles
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import ChosenToken, DirectPiece, ModelDescription
from service.inference.part_client import PartClient, PartUnavailableError
from service.inference.remote_engine import PartInference
from service.processes import part_protocol, part_server
from service.processes.inference_part import InferencePart
from service.processes.part_protocol import SearchCall, read_token
from service.processes.part_server import PartState, make_part_app
from service.processes.retrieval_part import RetrievalPart, open_remote_documents, open_tenant_documents
from service.processes.tools_part import ToolsPart, open_remote_tools
from service.service_error import ServiceError
from tests.assistant.conftest import write_index
from tests.service.processes.running_app import run_app, run_raw

TOKEN = "a-secret-of-the-tests"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n"
PIECE = b'{"item":{"text":"half"},"kind":"TextPiece"}\n'
HELLO = (
    Message.of("user", "hello 😀 <|end|>"),
    Message.calling(ToolCall.of("calculator", "1", "c1")),
    Message.result("1"),
)


class TalkingEngine:
    """Says everything that an engine can say, and how far it came."""

    is_chat = True

    def __init__(self) -> None:
        self.n_pieces, self.is_closed, self.pause = 0, threading.Event(), 0.0
        self.caches: list[ConversationCache] = []

    def reply(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        cache: ConversationCache | None = None,
        options: ReplyOptions | None = None,
    ) -> Iterator[Event]:
        assert cache is not None
        self.caches.append(cache)
        if messages[-1].text == "wrong":
            raise ValueError("messages[0] must be right; found wrong; correct it.")
        if messages[-1].text == "broken":
            raise ZeroDivisionError("a secret")
        try:
            yield Notice("a notice")
            for number in range(sampling.max_tokens):
                self.n_pieces += 1
                time.sleep(self.pause)
                yield TextPiece(f"{number}é\n")
            yield ToolCall("call_1", "get", {"a": [1.5, None, {"b": "\u2028"}]})
            yield Done(3, 4, 0.1 + 0.2, 1e-17, repr(options)[:200], 2)
        finally:
            self.is_closed.set()

    def continue_text(self, text: str, sampling: Sampling) -> Iterator[Event]:
        yield TextPiece(text + "…")


class TalkingInference:
    """An inference in this process around such an engine."""

    description = ModelDescription("minigpt", "7", "sft", 384, 4096, 12, "float32", {"model/config.json": "ab"})

    def __init__(self) -> None:
        self.engine = TalkingEngine()

    async def generate(self, request: AnswerRequest, choice: int = 0) -> AsyncGenerator[DirectPiece | ToolCall, None]:
        if request.id == "req_refused":
            raise ServiceError(429, "the queue is full; found 64; wait.", "queue_full", None, 1.0)
        yield DirectPiece("é", (ChosenToken(5, "é", (195, 169), -0.1, (("x", (120,), -1.5),)),))
        yield ToolCall("call_1", "get", {"choice": choice, "max_tokens": request.sampling.max_tokens})
        yield DirectPiece(done=Done(1, 2, 0.5, 0.25, "tool_calls"))

    def get_engine(self, tenant: str, adapter: str = "") -> TalkingEngine:
        if adapter:
            raise ServiceError(
                400, f"there is no adapter {adapter!r}; found none; add one.", "unknown_adapter", "model"
            )
        return self.engine

    def count_tokens(self, text: str) -> int:
        return 0

    def count_message(self, message: Message) -> int:
        return 0

    def tokenize(self, text: str) -> list[int]:
        return []

    def detokenize(self, ids: Sequence[int]) -> str:
        return ""


@pytest.fixture(scope="module")
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


class Connect(Protocol):
    def __call__(self, urls: Sequence[str], token: str = TOKEN, silence_seconds: float = 10.0) -> PartClient: ...


@pytest.fixture
def connect_to() -> Iterator[Connect]:
    """Return what makes clients, which are closed at the end."""
    clients: list[PartClient] = []

    def connect(urls: Sequence[str], token: str = TOKEN, silence_seconds: float = 10.0) -> PartClient:
        clients.append(PartClient("part", urls, token, silence_seconds))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(["naïve café and more text of any kind"], 300)


@pytest.fixture
def inference() -> TalkingInference:
    return TalkingInference()


@pytest.fixture
def part(inference: TalkingInference, workers: ThreadPoolExecutor, tokenizer: Tokenizer) -> Iterator[str]:
    routes = InferencePart(inference, lambda: tokenizer.text, workers).make_routes()
    with run_app(make_part_app(routes, TOKEN, PartState())) as url:
        yield url


def make_request(**fields: Any) -> AnswerRequest:
    values: dict[str, Any] = {
        "id": "req_1",
        "caller": Caller(),
        "api": "chat.completions",
        "model": "minigpt",
        "messages": HELLO,
        **fields,
    }
    return AnswerRequest(**values)


async def collect(items: AsyncGenerator[Any, None]) -> list[Any]:
    return [item async for item in items]


async def collect_and_close(client: PartClient) -> list[Any]:
    try:
        return await collect(client.stream_async("reply", "anything"))
    finally:
        await client.close_async()


def test_a_session_s_engine_says_the_same_from_another_process(
    connect_to: Connect, part: str, inference: TalkingInference
) -> None:
    remote = PartInference.connect(connect_to([part]), 5)
    assert remote.description == inference.description
    engine, options = (
        remote.get_engine("acme"),
        ReplyOptions(("a", "b"), (0.1, -0.2), {"x": ("y",)}, False, True, ("n",)),
    )
    ours = list(engine.reply(HELLO, Sampling(max_tokens=3, seed=2**62), ConversationCache(), options))
    assert ours == list(inference.engine.reply(HELLO, Sampling(max_tokens=3), ConversationCache(), options))
    assert list(engine.continue_text("a", Sampling())) == [TextPiece("a…")]


def test_a_direct_answer_is_the_same_from_another_process(
    connect_to: Connect, part: str, inference: TalkingInference
) -> None:
    async def run() -> None:
        client = connect_to([part])
        remote = PartInference.connect(client, 5)
        request = make_request(metadata={"a": "b"})
        assert await collect(remote.generate(request, 3)) == await collect(inference.generate(request, 3))
        with pytest.raises(ServiceError, match="queue is full") as error:
            await collect(remote.generate(make_request(id="req_refused")))
        assert (error.value.status, error.value.code, error.value.retry_after) == (429, "queue_full", 1.0)
        await client.close_async()

    asyncio.run(run())


def test_tokens_are_counted_here_by_the_model_s_own_tokenizer(
    connect_to: Connect, part: str, tokenizer: Tokenizer
) -> None:
    remote = PartInference.connect(connect_to([part]), 5)
    assert remote.tokenize("naïve <|end|>") == tokenizer.encode("naïve <|end|>")
    assert remote.detokenize(remote.tokenize("naïve")) == "naïve"
    assert remote.count_message(Message.of("user", "a")) == len(tokenizer.encode("a")) + 2


def test_a_conversation_has_one_cache_where_its_model_is(
    connect_to: Connect, part: str, inference: TalkingInference
) -> None:
    remote = PartInference.connect(connect_to([part]), 5)
    cache, other = ConversationCache(), ConversationCache()
    for each, tenant in ((cache, "a"), (cache, "a"), (other, "a")):
        list(remote.get_engine(tenant).reply(HELLO, Sampling(max_tokens=1), each))
    first, second, third = inference.engine.caches
    assert first is second
    assert third is not first


@pytest.mark.parametrize(("text", "status"), [("wrong", 400), ("broken", 500)])
def test_errors_arrive_as_they_are_and_secrets_do_not(connect_to: Connect, part: str, text: str, status: int) -> None:
    engine = PartInference.connect(connect_to([part]), 5).get_engine("acme")
    with pytest.raises(ServiceError) as error:
        list(engine.reply([Message.of("user", text)], Sampling()))
    assert error.value.status == status
    assert "secret" not in error.value.message


def test_an_unknown_adapter_is_the_error_of_its_first_reply(connect_to: Connect, part: str) -> None:
    engine = PartInference.connect(connect_to([part]), 5).get_engine("acme", "nope")
    with pytest.raises(ServiceError, match="no adapter 'nope'"):
        list(engine.reply(HELLO, Sampling()))


def test_whoever_leaves_stops_the_engine(connect_to: Connect, part: str, inference: TalkingInference) -> None:
    inference.engine.pause = 0.01
    events = (
        PartInference.connect(connect_to([part]), 5)
        .get_engine("acme")
        .reply(HELLO, Sampling(max_tokens=100_000), ConversationCache())
    )
    for _ in range(3):
        next(iter(events))
    events.close()  # type: ignore[attr-defined]
    assert inference.engine.is_closed.wait(10)
    assert inference.engine.n_pieces < 5_000


def test_a_slow_engine_shows_signs_of_life(
    connect_to: Connect, part: str, inference: TalkingInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_server, "LIFE_SECONDS", 0.05)
    client = connect_to([part], silence_seconds=0.7)
    inference.engine.pause = 1.2
    events = PartInference.connect(client, 5).get_engine("acme").reply(HELLO, Sampling(max_tokens=1))
    assert isinstance(list(events)[-1], Done)


def test_a_wrong_token_is_refused_and_never_shown(connect_to: Connect, part: str) -> None:
    for token in ("", "another-secret-of-tests"):
        with pytest.raises(ServiceError) as error:
            PartInference.connect(connect_to([part], token), 0)
        assert error.value.status == 401
        assert TOKEN not in error.value.message


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "parts.example.com", "128.0.0.1"])
def test_beyond_this_machine_nothing_runs_without_a_token(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(part_protocol.TOKEN_VARIABLE, raising=False)
    with pytest.raises(ValueError, match="MINIGPT_INTERNAL_TOKEN"):
        read_token(host, "--host")
    monkeypatch.setenv(part_protocol.TOKEN_VARIABLE, "short")
    with pytest.raises(ValueError, match="16 printable"):
        read_token("127.0.0.1", "--host")
    monkeypatch.setenv(part_protocol.TOKEN_VARIABLE, TOKEN)
    assert read_token(host, "--host") == TOKEN


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]"])
def test_on_this_machine_a_token_is_not_needed(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(part_protocol.TOKEN_VARIABLE, raising=False)
    assert read_token(host, "--host") == ""


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"host": "evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"x-forwarded-for": "203.0.113.9"},
    ],
)
def test_without_a_token_no_web_page_calls_a_part(workers: ThreadPoolExecutor, headers: dict[str, str]) -> None:
    calls: list[str] = []

    def note(text: str) -> str:
        """Note a text."""
        calls.append(text)
        return text

    routes = ToolsPart(ToolRegistry([declare_tool(note, effects=("runs",))]), workers).make_routes()
    with run_app(make_part_app(routes, "", PartState())) as url:
        body = b'{"name":"note","arguments":{"text":"x"},"max_seconds":1}'
        refused = httpx.post(f"{url}/part/run", content=body, headers={"content-type": "text/plain", **headers})
        assert refused.status_code in (401, 403)
        assert httpx.get(f"{url}/part/about", headers=headers).status_code in (401, 403)
        assert calls == []
        assert httpx.post(f"{url}/part/run", content=body).status_code == 200
        assert calls == ["x"]


def test_a_dead_instance_is_routed_around(connect_to: Connect, part: str) -> None:
    with run_raw([b""]) as closing, run_raw([b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}"]) as draining:
        client = connect_to(["http://127.0.0.1:9", closing, draining, part])
        engine = PartInference.connect(client, 5).get_engine("acme")
        for _ in range(8):
            assert isinstance(list(engine.reply(HELLO, Sampling(max_tokens=1)))[-1], Done)
        assert client.pool.n_working >= 1


@pytest.mark.parametrize("rest", [b"", PIECE, PIECE + b'{"item":{"te', PIECE + b"{}\n"])
def test_a_stream_without_its_end_is_an_error(connect_to: Connect, rest: bytes) -> None:
    with run_raw([HEAD + rest]) as url:
        client, items = connect_to([url]), list[Any]()
        with pytest.raises(PartUnavailableError) as error:
            items.extend(client.stream("reply", "anything"))
        assert error.value.status == 503
        assert items == [TextPiece("half")] * rest.startswith(PIECE)
        with pytest.raises(PartUnavailableError):
            asyncio.run(collect_and_close(client))


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"[]\n", b'{"item":1,"kind":"os"}\n', b'{"error":3}\n', b'{"error":{"status":"x"}}\n']
)
def test_what_is_no_answer_is_an_error(connect_to: Connect, line: bytes) -> None:
    with run_raw([HEAD + line]) as url, pytest.raises(ServiceError) as error:
        list(connect_to([url]).stream("reply", "anything"))
    assert error.value.status in (502, 503)


def test_nobody_there_is_an_error_at_once(connect_to: Connect) -> None:
    started = time.monotonic()
    with pytest.raises(PartUnavailableError):
        list(connect_to(["http://127.0.0.1:9"]).stream("reply", "anything"))
    assert time.monotonic() - started < 1.0


@pytest.fixture
def choice(tmp_path: Path) -> ModelChoice:
    return ModelChoice(tmp_path, write_index(tmp_path / "index"), "of the test")


def test_documents_are_searched_the_same_from_another_process(
    connect_to: Connect, choice: ModelChoice, tmp_path: Path, workers: ThreadPoolExecutor
) -> None:
    open_here = open_tenant_documents(lambda: choice, TenantFiles(tmp_path / "state"))
    routes = RetrievalPart(open_here, workers).make_routes()
    with run_app(make_part_app(routes, TOKEN, PartState())) as url:
        open_there = open_remote_documents(connect_to([url]))
        here, there = open_here(LOCAL_TENANT, (), True), open_there(LOCAL_TENANT, (), True)
        assert here is not None
        assert there is not None
        assert len(there) == len(here)
        for query in ("linalg.inv", "read a csv file", "nothing like that", ""):
            assert there.search(query, 3, "a question") == here.search(query, 3, "a question")
            assert Tools({}, there).look_up(query) == Tools({}, here).look_up(query)
        assert open_there(LOCAL_TENANT, (), False) is None


def test_documents_of_another_version_are_opened_anew(tmp_path: Path, workers: ThreadPoolExecutor) -> None:
    for name, title in (("one", "pandas.read_csv"), ("two", "pandas.read_json")):
        write_index(tmp_path / name / "index", [(title, "(path)", "Read a file into a frame.")])
    link = tmp_path / "champion"
    link.symlink_to(tmp_path / "one")

    def choose() -> ModelChoice:
        return ModelChoice(link.resolve(), link.resolve() / "index", "of the test")

    part = RetrievalPart(open_tenant_documents(choose, TenantFiles(tmp_path / "state")), workers, link.resolve)
    question = SearchCall(LOCAL_TENANT, query="read file")
    assert [each.section.title for each in part.search(question).results] == ["pandas.read_csv"]
    link.unlink()
    link.symlink_to(tmp_path / "two")
    assert [each.section.title for each in part.search(question).results] == ["pandas.read_json"]


def test_documents_that_are_gone_end_the_answer(connect_to: Connect) -> None:
    with run_raw([b""]) as url:
        documents = open_remote_documents(connect_to([url]))
        with pytest.raises(AnswerAbortedError):
            documents(LOCAL_TENANT, (), True)


def declare_tools() -> ToolRegistry:
    def fail(kind: str) -> str:
        """Fail."""
        if kind == "value":
            raise ValueError("kind must be right; found value; correct it.")
        raise ZeroDivisionError("a secret")

    return ToolRegistry([*describe_builtins(), declare_tool(fail, effects=("writes",))])


def test_tools_run_the_same_in_another_process(connect_to: Connect, workers: ThreadPoolExecutor) -> None:
    here = declare_tools()
    with run_app(make_part_app(ToolsPart(here, workers).make_routes(), TOKEN, PartState())) as url:
        there = open_remote_tools(connect_to([url]))
        assert [each.to_json() for each in there] == [each.to_json() for each in here]
        for name, argument in (
            ("calculator", "12 * 7"),
            ("calculator", "1 /"),
            ("fail", "value"),
            ("count_text", "é 😀"),
        ):
            texts = [registry.make_tools().run(name, argument).text for registry in (here, there)]
            assert texts[0] == texts[1]
        assert "secret" not in there.make_tools().run("fail", "other").text


def test_a_tool_is_never_called_twice(connect_to: Connect) -> None:
    calls: list[bytes] = []
    with run_raw([b""]) as dying, run_raw([b""]) as other:
        client = connect_to([dying, other])
        client.pool.list_candidates = lambda: calls.append(b"") or [dying, other]  # type: ignore[method-assign]
        with pytest.raises(PartUnavailableError):
            client.call("run", "anything", str, is_repeatable=False)
        assert client.pool.n_working == 1  # the second one was never asked
