"""Every error has OpenAI's shape, and says what is wrong by its dotted name, what was found, and what to do."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from service.access.caller import Caller
from service.service_error import ServiceError
from tests.service.api.scripted_service import RunningServer, make_service, run_server

CHAT = "/v1/chat/completions"
USER = [{"role": "user", "content": "hello"}]


def ask(server: RunningServer, body: Any, path: str = CHAT) -> httpx.Response:
    return httpx.post(server.url + path, json=body)


def check(response: httpx.Response, status: int) -> dict[str, Any]:
    """Return the error; its shape is the same everywhere."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    [(name, error)] = response.json().items()
    assert name == "error"
    assert list(error) == ["message", "type", "param", "code"]
    assert error["code"]
    assert error["type"].endswith("error")
    assert re.fullmatch(r"[^;]+; found [^;]*; .+", error["message"], re.DOTALL), error["message"]
    return error


@pytest.mark.parametrize(
    ("change", "param", "what"),
    [
        ({"messages": None}, "messages", "valid list"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "'robot'"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "is missing"),
        ({"messages": [*USER, {"role": "user", "content": 5}]}, "messages[1].content", "valid string"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text", "is missing"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
            "not supported yet",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0].type",
            "audio",
        ),
        ({"messages": [*USER, {"role": "assistant", "content": "x"}]}, "messages", "end with a user message"),
        ({"messages": [{**USER[0], "name": "Ann"}]}, "messages[0].name", "not supported"),
        ({"n": "2"}, "n", "valid integer"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"temperature": 2.5}, "temperature", "less than or equal to 2"),
        ({"top_logprobs": 3}, "top_logprobs", "needs logprobs"),
        ({"logit_bias": {"99999": 1}}, "logit_bias.99999", "no token"),
        ({"logit_bias": {"abc": 1}}, "logit_bias.abc", "pattern"),
        ({"stop": ["a"] * 5}, "stop", "at most 4 items"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens", "differs"),
        ({"tool_choice": "required"}, "tool_choice", "needs tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "pattern"),
        ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools[0].type", "found"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "is missing"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "'xml'"),
        ({"reasoning_effort": "high"}, "reasoning_effort", "not supported"),
        ({"functions": [{"name": "f"}]}, "functions", "offer functions in tools"),
        ({"modalities": ["text", "audio"]}, "modalities", "answers are text"),
        ({"store": True}, "store", "/v1/responses"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "needs a stream"),
        ({"metadata": {"conversation": "c" * 65}}, "metadata.conversation", "64 characters"),
        ({"metadata": {"k": 5}}, "metadata.k", "valid string"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_field_is_named(server: RunningServer, change: dict[str, Any], param: str, what: str) -> None:
    error = check(ask(server, {"model": "minigpt", "messages": USER, **change}), 400)
    assert error["param"] == param
    assert what in error["message"]


def test_fields_with_neutral_values_are_accepted(server: RunningServer) -> None:
    neutral = {
        "modalities": ["text"], "store": False, "service_tier": "auto", "verbosity": "medium", "reasoning_effort": None,
        "n": None, "tools": None, "stream_options": None, "functions": None, "prediction": None,
    }  # fmt: skip
    response = ask(server, {"model": "minigpt", "messages": USER, **neutral})
    assert response.status_code == 200, response.text
    assert "x-minigpt-ignored" not in response.headers


def test_unknown_fields_are_accepted_and_named(server: RunningServer) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]}]
    body = {"model": "minigpt", "messages": messages, "": 1, "a, b\r\nX-Bad: 1": 2, "naïve": 3}
    response = ask(server, body)
    assert response.status_code == 200
    assert response.headers["x-minigpt-ignored"] == (
        '"", a%2C%20b%0D%0AX-Bad%3A%201, na%C3%AFve, messages[0].content[0].cache_control'
    )
    many = ask(server, {"model": "minigpt", "messages": USER, **{f"field{i}": i for i in range(500)}})
    assert many.headers["x-minigpt-ignored"].endswith("and 480 more")


@pytest.mark.parametrize("model", ["gpt-4o", "minigpt/", "minigpt/nobody", "minigpt/tutor/x", "MINIGPT", "x" * 150])
def test_an_unknown_model_or_profile(server: RunningServer, model: str) -> None:
    error = check(ask(server, {"model": model, "messages": USER}), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert len(error["message"]) < 300


def test_unknown_paths_and_methods(server: RunningServer) -> None:
    assert check(httpx.get(server.url + "/nope"), 404)["code"] == "unknown_path"
    response = httpx.get(server.url + CHAT)
    assert check(response, 405)["code"] == "method_not_allowed"
    assert response.headers["allow"] == "POST"
    assert httpx.put(server.url + "/v1/responses/resp_x").headers["allow"] == "DELETE, GET"


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "multipart/form-data; boundary=x", "application/json; charset=latin-1"]
)
def test_another_content_type(server: RunningServer, kind: str) -> None:
    response = httpx.post(server.url + CHAT, content=b"{}", headers={"content-type": kind})
    check(response, 415)


def test_a_compressed_body(server: RunningServer) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    check(httpx.post(server.url + CHAT, content=b"{}", headers=headers), 415)


def test_an_unexpected_error_is_hidden_behind_the_id_of_the_request(server: RunningServer) -> None:
    response = ask(server, {"model": "minigpt", "messages": [{"role": "user", "content": "crash"}]})
    error = check(response, 500)
    assert response.headers["x-request-id"] in error["message"]
    assert not {"secret", "Runtime"} & set(response.text.replace("Error", " ").split())
    assert "secret" not in response.text


def test_an_error_after_the_first_byte_is_an_event(server: RunningServer) -> None:
    body = {"model": "minigpt", "messages": [{"role": "user", "content": "crash"}], "stream": True}
    response = ask(server, body)
    assert response.status_code == 200
    *_, text, error, done = [line for line in response.text.split("\n\n") if line]
    assert json.loads(text.removeprefix("data: "))["choices"][0]["delta"]["content"] == "first "
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "internal_error"
    assert done == "data: [DONE]"


def test_an_error_before_the_first_byte_of_a_stream_is_a_response(server: RunningServer) -> None:
    body = {"model": "minigpt/direct", "messages": [{"role": "user", "content": "x" * 600}], "stream": True}
    assert check(ask(server, body), 400)["code"] == "context_length_exceeded"


def test_nothing_long_of_a_caller_is_repeated(server: RunningServer) -> None:
    long = "secret" * 1_000
    for body in (
        {"model": long[:200], "messages": USER},
        {"model": "minigpt", "messages": [{"role": long, "content": "x"}]},
        {"model": "minigpt", "messages": USER, "tool_choice": long},
        {"model": "minigpt", "messages": USER, "metadata": {long: "x"}},
        {"model": "minigpt", "messages": USER, "verbosity": long},
    ):
        assert long[:90] not in ask(server, body).text


def test_requests_that_are_no_http(server: RunningServer) -> None:
    head, _, body = server.raw(b"GARBAGE\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    too_long = server.raw(b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000)
    assert too_long.startswith(b"HTTP/1.1 431")


def test_a_request_with_two_ends_is_refused_and_nothing_after_it_is_read(server: RunningServer) -> None:
    head = b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    ends = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    answer = server.raw(head + ends + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_without_a_valid_key_nothing_is_parsed() -> None:
    async def refuse(request: object) -> Caller:
        raise ServiceError(401, "authorization: a key is needed; found none; ask for one.", code="missing_api_key")

    with run_server(make_service(authenticate=refuse)) as own:
        for path in (CHAT, "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank", "/tokenize"):
            for body in (b"{", b'{"model": 5}', json.dumps({"model": "minigpt", "messages": USER}).encode()):
                response = httpx.post(own.url + path, content=body, headers={"content-type": "application/json"})
                assert check(response, 401)["code"] == "missing_api_key"
                assert response.headers["www-authenticate"] == "Bearer"


def test_a_service_that_drains(server: RunningServer) -> None:
    with run_server(make_service()) as own:
        ready = httpx.get(own.url + "/ready").json()
        assert (ready["status"], ready["problems"]) == ("ready", {})
        own.service.answering.is_draining = True
        assert httpx.get(own.url + "/ready").status_code == 503
        assert httpx.get(own.url + "/health").status_code == 200
        response = ask(own, {"model": "minigpt", "messages": USER})
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
