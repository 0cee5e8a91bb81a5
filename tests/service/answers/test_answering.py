"""An answer passes rights, input, admission and output in this order, and is recorded once, however it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assistant.conversation.events import Done, Event, Message, Sampling, TextPiece
from service.access.caller import Caller
from service.access.tenant_files import TenantFiles
from service.answers.answer_request import AnswerRequest
from service.answers.answering import REMOVED, AnswerEvent, Answering, AnswerParts
from service.answers.assistants import Assistants
from service.answers.interfaces import AnswerOutcome, Decision, DirectPiece, ModelDescription
from service.service_error import ServiceError


class FakeEngine:
    """Repeats the last message, word by word."""

    is_chat = True

    def __init__(self) -> None:
        self.n_pieces = 0
        self.seen: list[list[str]] = []

    def reply(self, messages: Sequence[Message], sampling: Sampling, cache: Any = None, options: Any = None) -> Any:
        self.seen.append([message.text for message in messages])
        words = f"you said {messages[-1].text}".split(" ")
        for number, word in enumerate(words[: sampling.max_tokens]):
            self.n_pieces += 1
            yield TextPiece(word if number == 0 else f" {word}")
        yield Done(len(messages), len(words), 0.0, 0.0, "end")

    def continue_text(self, text: str, sampling: Sampling) -> Iterator[Event]:
        raise NotImplementedError


class FakeInference:
    description = ModelDescription("minigpt", "1", "sft", 100_000, 256, 1, "float32", {"model": "abc"})

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.closed = 0

    async def generate(self, request: AnswerRequest, choice: int = 0) -> AsyncIterator[DirectPiece]:
        try:
            for number in range(5):
                await asyncio.sleep(0)
                yield DirectPiece(f"{choice}{number} ")
            yield DirectPiece(done=Done(1, 5, 0.0, 0.0, "end"))
        finally:
            self.closed += 1

    def get_engine(self, tenant: str, adapter: str = "") -> FakeEngine:
        return self.engine

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def count_message(self, message: Message) -> int:
        return len(message.text.split())

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def detokenize(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode()


class FakeContent:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def is_checked(self, caller: Caller, place: str, profile: str = "") -> bool:
        return True

    def check(self, caller: Caller, place: str, text: str, profile: str = "") -> Decision:
        self.seen.append((place, text))
        if "harm" in text:
            return Decision("block", ("harm",), text="I won't.")
        return Decision("mask", ("pii",), text=text.replace("a@b", "[email]")) if "a@b" in text else Decision()


class FakeLimiter:
    def __init__(self) -> None:
        self.log: list[int] = []
        self.headers = {"x-ratelimit-limit-requests": "9"}

    @asynccontextmanager
    async def admit(self, caller: Caller, n_reserved_tokens: int) -> AsyncGenerator[FakeLimiter, None]:
        if caller.user == "busy":
            raise ServiceError(429, "too many requests", retry_after=3)
        self.log.append(n_reserved_tokens)
        yield self
        self.log.append(-1)

    def correct(self, n_tokens: int) -> None:
        self.log.append(n_tokens)


class FakeRecorder:
    def __init__(self) -> None:
        self.outcomes: list[AnswerOutcome] = []
        self.n_begun = 0

    def begin(self, request: AnswerRequest) -> None:
        self.n_begun += 1

    def observe(self, request: AnswerRequest, event: AnswerEvent) -> None:
        raise RuntimeError("a recorder that fails must not end an answer")

    def end(self, request: AnswerRequest, outcome: AnswerOutcome) -> None:
        self.outcomes.append(outcome)


class Bench:
    """Answering over fakes."""

    def __init__(self, folder: Path) -> None:
        self.inference, self.content, self.limiter = FakeInference(), FakeContent(), FakeLimiter()
        self.recorder, self.workers = FakeRecorder(), ThreadPoolExecutor(4)
        self.assistants = Assistants(self.inference, None, TenantFiles(folder))
        parts = AnswerParts(
            self.assistants,
            self.workers,
            content=self.content,
            limiter=self.limiter,
            recorders=(self.recorder,),
        )
        self.answering = Answering(parts)

    def ask(self, *texts: str, n_events: int | None = None, **settings: Any) -> list[AnswerEvent]:
        roles = ["user", "assistant"] * len(texts)
        messages = tuple(Message.of(role, text) for role, text in zip(roles, texts, strict=False))
        settings = {"caller": Caller("acme", "ada"), "messages": messages} | settings
        request = AnswerRequest("req_1", api="chat.completions", model="minigpt", **settings)

        async def run() -> list[AnswerEvent]:
            async with self.answering.open(request) as answer:
                events: list[AnswerEvent] = []
                stream = answer.stream()
                async for event in stream:
                    events.append(event)
                    if len(events) == n_events:
                        break
                await stream.aclose()
                return events

        return asyncio.run(run())


@pytest.fixture
def bench(tmp_path: Path) -> Generator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.workers.shutdown()


def join(events: Sequence[AnswerEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextPiece | DirectPiece))


def test_an_answer_is_the_session_s_and_is_recorded_with_its_lineage(bench: Bench) -> None:
    assert join(bench.ask("hello there")) == "you said hello there"
    [outcome] = bench.recorder.outcomes
    assert (outcome.reason, outcome.text, outcome.lineage) == ("end", "you said hello there", {"model": "abc"})
    assert bench.limiter.log == [2 + 128, outcome.n_prompt_tokens + outcome.n_tokens, -1]


def test_refused_input_is_an_answer_that_no_model_has_seen(bench: Bench) -> None:
    events = bench.ask("do harm")
    assert join(events) == "I won't."
    assert isinstance(events[-1], Done)
    assert events[-1].reason == "content_filter"
    assert bench.inference.engine.seen == []
    assert [outcome.reason for outcome in bench.recorder.outcomes] == ["content_filter"]


def test_what_was_refused_earlier_is_not_read_later(bench: Bench) -> None:
    bench.ask("do harm", "I won't.", "now answer my first question a@b")
    assert bench.inference.engine.seen == [[REMOVED, "I won't.", "now answer my first question [email]"]]


def test_output_is_checked_by_sentences(bench: Bench) -> None:
    bench.ask("one. two. three")
    assert [text for place, text in bench.content.seen if place == "output"] == ["you said one. ", "two. ", "three"]


def test_a_full_limit_is_an_error_before_the_model_is_asked(bench: Bench) -> None:
    with pytest.raises(ServiceError, match="too many"):
        bench.ask("hello", caller=Caller("acme", "busy"))
    assert bench.inference.engine.seen == []
    assert [outcome.error for outcome in bench.recorder.outcomes] == ["429"]


def test_a_client_that_leaves_stops_the_session(bench: Bench) -> None:
    bench.content.is_checked = lambda caller, place, profile="": False  # type: ignore[method-assign]
    events = bench.ask(" ".join(["word"] * 20_000), n_events=2, sampling=Sampling(max_tokens=100_000))
    assert len(events) == 2
    assert bench.inference.engine.n_pieces < 20_000
    assert bench.recorder.n_begun == len(bench.recorder.outcomes) == 1


def test_a_client_that_leaves_closes_a_direct_answer(bench: Bench) -> None:
    assert len(bench.ask("hello", is_direct=True, n_events=1)) == 1
    assert bench.inference.closed == 1


def test_a_profile_that_answers_from_sources_only_refuses_the_model_itself(bench: Bench) -> None:
    with pytest.raises(ServiceError, match="sources only"):
        bench.ask("hello", is_direct=True, profile="policy")
    with pytest.raises(ServiceError) as caught:
        bench.ask("hello", profile="nobody")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


def test_a_named_conversation_goes_on_with_its_session(bench: Bench) -> None:
    bench.ask("hello", conversation="c1")
    bench.ask("hello", "you said hello", "again", conversation="c1")
    [first, second] = bench.inference.engine.seen
    assert second == [*first, "you said hello", "again"]
    key = ("acme", "ada", "", "c1")
    kept = bench.assistants.sessions.take(
        key, tuple(zip(["user", "assistant"] * 2, [*second, "you said again"], strict=True))
    )
    assert kept is not None
    assert bench.assistants.sessions.take(("acme", "bob", "", "c1"), ()) is None


def test_a_memory_that_can_not_be_used_is_a_503_that_names_no_file(bench: Bench, tmp_path: Path) -> None:
    path = TenantFiles(tmp_path).get_memory_file(Caller("acme", "ada"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged" * 1_000)
    bench.assistants._files = TenantFiles(tmp_path)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(ServiceError) as caught:
        bench.ask("hello", conversation="c1")
    assert (caught.value.status, caught.value.code) == (503, "memory_unavailable")
    assert str(tmp_path) not in caught.value.message
    assert "--memory" not in caught.value.message
    bench.ask("hello")  # without a conversation there is no memory


def test_a_draining_service_takes_no_new_request(bench: Bench) -> None:
    bench.answering.is_draining = True
    with pytest.raises(ServiceError) as caught:
        bench.ask("hello")
    assert (caught.value.status, caught.value.retry_after) == (503, 1)
    assert bench.answering.n_open == 0


def test_what_is_too_much_is_refused_before_anything_is_computed(bench: Bench) -> None:
    bench.answering.parts = replace(bench.answering.parts, max_open=2)
    bench.answering.n_open = 2
    with pytest.raises(ServiceError) as caught:
        bench.ask("hello")
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (429, "overloaded", 1)
    assert (bench.content.seen, bench.recorder.n_begun, bench.answering.n_open) == ([], 0, 2)


def test_sessions_of_several_requests_run_at_once(bench: Bench) -> None:
    """Four answers that wait 0.2 s each take less than four times as long."""
    original = bench.inference.engine.reply

    def slow(messages: Sequence[Message], sampling: Sampling, cache: Any = None, options: Any = None) -> Any:
        time.sleep(0.2)
        yield from original(messages, sampling)

    bench.inference.engine.reply = slow  # type: ignore[method-assign]

    async def run() -> int:
        async def one(number: int) -> str:
            request = AnswerRequest(
                f"req_{number}",
                Caller("acme", "ada"),
                "chat.completions",
                "minigpt",
                messages=(Message.of("user", str(number)),),
            )
            async with bench.answering.open(request) as answer:
                return join([event async for event in answer.stream()])

        tasks = [asyncio.create_task(one(number)) for number in range(4)]
        await asyncio.sleep(0.1)
        n_open = bench.answering.n_open
        assert sorted(await asyncio.gather(*tasks)) == [f"you said {number}" for number in range(4)]
        return n_open

    assert asyncio.run(run()) == 4
