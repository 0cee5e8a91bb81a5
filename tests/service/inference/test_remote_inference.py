"""Engines by address: what they answer arrives as ours; slow, broken and hostile ones are errors, in time."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from assistant.conversation.events import Done, Message, Sampling, ToolCall
from service.access.caller import Caller
from service.answers.answer_request import AnswerRequest, OfferedTool, OutputConstraint, TokenControls
from service.answers.interfaces import DirectPiece
from service.inference.address_pool import AddressPool, check_address
from service.inference.openai_wire import ChunkReader, make_body
from service.inference.remote_inference import RemoteInference
from service.service_error import ServiceError
from tests.service.processes.running_app import read_request, run_raw

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
MODELS = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    + json.dumps({"object": "list", "data": [{"id": "peer", "object": "model", "max_model_len": 2048}]}).encode()
)
WEATHER = OfferedTool("get_weather", "…", {"type": "object", "properties": {"city": {"type": "string"}}})


def make_request(**fields: Any) -> AnswerRequest:
    values: dict[str, Any] = {"messages": (Message.of("user", "hello"),), "is_direct": True, **fields}
    return AnswerRequest("req_1", Caller(), "chat.completions", "minigpt/direct", **values)


def make_stream(*chunks: Any, is_done: bool = True) -> bytes:
    lines = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    return HEAD + b"".join(lines) + (b"data: [DONE]\n\n" if is_done else b"")


def make_chunk(text: str = "", reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text, **delta}, "finish_reason": reason}]}


def make_call(name: str, arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "id": "call_9", "function": {"name": name, "arguments": arguments}}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 3}}
GOOD = make_stream(make_chunk("Hel"), make_chunk("lo é"), make_chunk("", "stop"), USAGE)


async def collect(inference: RemoteInference, request: AnswerRequest) -> list[Any]:
    try:
        return [item async for item in inference.generate(request)]
    finally:
        await inference.close_async()


def ask(urls: list[str], **fields: Any) -> list[Any]:
    return asyncio.run(collect(RemoteInference([f"{url}/v1" for url in urls], "peer", 0), make_request(**fields)))


def join(items: list[Any]) -> str:
    return "".join(item.text for item in items if isinstance(item, DirectPiece))


def get_done(items: list[Any]) -> Done:
    assert items[-1].done is not None
    return items[-1].done


def test_an_answer_arrives_with_its_counts() -> None:
    with run_raw([GOOD]) as url:
        items = ask([url])
    assert join(items) == "Hello é"
    done = get_done(items)
    assert (done.n_prompt_tokens, done.n_tokens, done.reason) == (11, 3, "end")


def test_a_call_arrives_with_its_arguments() -> None:
    stream = make_stream(
        make_chunk(**make_call("get_weather", '{"ci')),
        make_chunk(**make_call("", 'ty": "Paris"}')),
        make_chunk("", "tool_calls"),
    )
    with run_raw([stream]) as url:
        items = ask([url], constraint=OutputConstraint("tools", tools=(WEATHER,), must_call=True))
    assert items[-2] == ToolCall("call_9", "get_weather", {"city": "Paris"})
    assert get_done(items).reason == "tool_calls"


HOSTILE: list[tuple[bytes, Mapping[str, Any]]] = [
    (HEAD, {}),
    (HEAD + b"data: nonsense\n\n", {}),
    (HEAD + b"data: [1]\n\n", {}),
    (HEAD + b'data: {"error": {"message": "no"}}\n\n', {}),
    (HEAD + b"data: [DONE]\n\n", {}),
    (HEAD + b'data: {"choices": [{"index": 0, "delta": {"content": 5}}]}\n\n', {}),
    (HEAD + b'data: {"choices": [{"index": 0, "delta": []}]}\n\n', {}),
    (HEAD + b'data: {"choices": [{"index": 7, "delta": {}}]}\n\n', {}),
    (HEAD + b"data: " + b"x" * 200_000, {}),
    (make_stream(make_chunk("half"), is_done=False), {}),
    (make_stream(make_chunk("a", "because")), {}),
    (b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>", {}),
    (b"HTTP/1.1 200 OK\r\n", {}),
    (b"nonsense\r\n\r\n", {}),
    (b"", {}),
    (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", {}),
    (b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n", {}),
    (make_stream(make_chunk("{not json"), make_chunk("", "stop")), {"constraint": OutputConstraint("json_object")}),
    (
        make_stream(make_chunk(**make_call("rm", "{}")), make_chunk("", "tool_calls")),
        {"constraint": OutputConstraint("tools", tools=(WEATHER,))},
    ),
    (
        make_stream(make_chunk(**make_call("get_weather", "[1")), make_chunk("", "tool_calls")),
        {"constraint": OutputConstraint("tools", tools=(WEATHER,))},
    ),
]


@pytest.mark.parametrize(("answer", "fields"), HOSTILE)
def test_what_is_no_whole_answer_is_an_error(answer: bytes, fields: Mapping[str, Any]) -> None:
    started = time.monotonic()
    with run_raw([answer]) as url, pytest.raises(ServiceError) as error:
        ask([url], **fields)
    assert error.value.status in (502, 503)
    assert len(error.value.message) < 300
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(("status", "ours"), [(400, 400), (413, 400), (422, 400), (429, 429), (404, 502), (403, 502)])
def test_errors_of_engines_become_ours(status: int, ours: int) -> None:
    body = json.dumps({"error": {"message": "too long\n" + "x" * 500}}).encode()
    answer = (
        b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body
    )
    with run_raw([answer]) as url, pytest.raises(ServiceError) as error:
        ask([url])
    assert error.value.status == ours
    assert len(error.value.message) < 250


def test_engines_that_fail_are_routed_around_before_the_first_byte() -> None:
    with (
        run_raw([b""]) as closing,
        run_raw([b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n"]) as full,
        run_raw([GOOD]) as good,
    ):
        for _ in range(4):
            assert join(ask(["http://127.0.0.1:9", closing, full, good])) == "Hello é"


def test_after_the_first_byte_nothing_is_sent_again() -> None:
    half = make_stream(make_chunk("half"), is_done=False)
    with run_raw([half]) as first, run_raw([half]) as second, pytest.raises(ServiceError):
        ask([first, second])


def test_a_silent_engine_is_left_at_the_deadline() -> None:
    with run_silent() as (url, _), pytest.raises(ServiceError) as error:
        ask([url], deadline_seconds=0.3)
    assert error.value.status == 504


def test_whoever_leaves_closes_the_connection_to_the_engine() -> None:
    async def leave(url: str) -> None:
        inference = RemoteInference([f"{url}/v1"], "peer", 0)
        items = inference.generate(make_request())
        assert await anext(items) == DirectPiece("Hel")
        await items.aclose()
        await inference.close_async()

    with run_silent(make_stream(make_chunk("Hel"), is_done=False)) as (url, is_closed):
        asyncio.run(leave(url))
        assert is_closed.wait(10)


@contextmanager
def run_silent(opening: bytes = b"") -> Generator[tuple[str, threading.Event]]:
    """Answer with an opening, then with nothing. Yield the address, and what is set when the caller has closed the connection."""
    listener, is_closed = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            read_request(connection)
            connection.sendall(opening)
            while connection.recv(1024):
                pass
            is_closed.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", is_closed
    thread.join(10)
    listener.close()


def test_the_model_is_asked_for_until_an_engine_answers() -> None:
    with run_raw([b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n", MODELS]) as url:
        inference = RemoteInference.connect([url], patience_seconds=10)
        inference.close()
    assert (inference.description.name, inference.description.seq_len) == ("peer", 2048)
    with pytest.raises(ValueError, match="no engine answers"):
        RemoteInference.connect(["http://127.0.0.1:9"], patience_seconds=0)


def test_sessions_are_refused_with_what_to_do() -> None:
    with pytest.raises(ServiceError, match="NAME/direct"):
        RemoteInference(["http://127.0.0.1:9/v1"], "peer", 0).get_engine("acme")


@pytest.mark.parametrize(
    "fields",
    [
        {"constraint": OutputConstraint("regex", regex="a")},
        {"controls": TokenControls(min_tokens=3)},
        {"prompt": "a", "constraint": OutputConstraint("json_object")},
    ],
)
def test_what_the_wire_does_not_carry_is_refused_not_left_out(fields: dict[str, Any]) -> None:
    with pytest.raises(ServiceError) as error:
        make_body(make_request(**fields), 0, "peer")
    assert error.value.status == 400


def test_everything_else_is_passed_on() -> None:
    controls = TokenControls(0.5, -0.5, {7: 1.5}, 3, ("end",))
    history = (
        Message.of("system", "s"),
        Message.calling(ToolCall("c1", "get_weather", {"city": "é"})),
        Message.result("sunny", "c1"),
    )
    request = make_request(
        messages=history,
        controls=controls,
        sampling=Sampling(max_tokens=9, temperature=0.5, top_k=4, top_p=0.9, seed=5),
        constraint=OutputConstraint("tools", tools=(WEATHER,), must_call=True),
    )
    path, body = make_body(request, 2, "peer")
    assert path == "/chat/completions"
    assert (body["seed"], body["max_tokens"], body["top_k"], body["stop"]) == (7, 9, 4, ["end"])
    assert (body["logit_bias"], body["top_logprobs"], body["tool_choice"]) == ({"7": 1.5}, 3, "required")
    assert json.loads(body["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"city": "é"}
    assert body["messages"][2] == {"role": "tool", "tool_call_id": "c1", "content": "sunny"}


def test_log_probabilities_arrive() -> None:
    row = {"token": "é", "logprob": -0.5, "top_logprobs": [{"token": "a", "logprob": -1}, {"nonsense": 1}]}
    chunk = make_chunk("é")
    chunk["choices"][0]["logprobs"] = {"content": [row, "nonsense"]}
    [piece] = ChunkReader().read(chunk)
    assert (piece.tokens[0].text, piece.tokens[0].logprob, piece.tokens[0].alternatives) == (
        "é",
        -0.5,
        (("a", (97,), -1.0),),
    )


def test_addresses_are_tried_again_within_two_seconds() -> None:
    now = 0.0
    pool = AddressPool(["a", "b"], clock=lambda: now)
    pool.report("a", works=False)
    assert pool.list_candidates() == ["b", "a"]
    assert pool.n_working == 1
    now = 0.6
    assert pool.n_working == 2
    for _ in range(9):
        pool.report("a", works=False)
    now += 2.1
    assert pool.n_working == 2
    with pool.occupy("a"):
        assert {pool.list_candidates()[0] for _ in range(4)} == {"b"}
    assert {pool.list_candidates()[0] for _ in range(4)} == {"a", "b"}


@pytest.mark.parametrize(
    "url", ["", "host:80", "ftp://x", "http://", "http://a:b@c", "http://x?y=1", "http://x:99999", "http://[::1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="--inference must be an address") as error:
        check_address(url, "--inference")
    assert "a:b" not in str(error.value)
