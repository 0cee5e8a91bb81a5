"""What is rendered is what is documented, and a stream says what the whole answer says."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from service.api.wire.chat_reply_wire import ChatReply, CompletionReply
from service.api.wire.response_reply_wire import ResponseReply
from tests.service.api.scripted_service import QUOTE, RunningServer

TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"properties": {"city": {}}}}}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
CHATS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cited": {"messages": [{"role": "user", "content": "cite"}]},
    "direct": {"model": "minigpt/direct"},
    "choices": {"n": 3, "model": "minigpt/direct"},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "length": {"max_tokens": 1},
    "stop": {"stop": ["said"]},
    "tools": {"tools": TOOLS, "tool_choice": "required"},
    "json": {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}},
    "regex": {"response_format": {"type": "regex", "regex": "[0-9-]+"}},
    "profile": {"model": "minigpt/tutor"},
    "metadata": {"metadata": {"a": "b"}},
}


def post(server: RunningServer, path: str, body: dict[str, Any]) -> httpx.Response:
    response = httpx.post(server.url + path, json=body)
    assert response.status_code == 200, response.text
    return response


def read_events(response: httpx.Response) -> list[dict[str, Any]]:
    """Return the data of a stream's events; the last one says that it is over."""
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.partition("data: ")[2]) for event in events]


def check(reply: type[BaseModel], body: dict[str, Any]) -> None:
    """Validate strictly: no field is missing and none is undocumented."""
    reply.model_validate_json(json.dumps(body), strict=True)


@pytest.mark.parametrize("name", CHATS)
def test_a_stream_of_chat_is_the_whole_answer(server: RunningServer, name: str) -> None:
    body = {"model": "minigpt", "messages": [{"role": "user", "content": "hello there"}], **CHATS[name]}
    response = post(server, "/v1/chat/completions", body)
    whole = response.json()
    check(ChatReply, whole)
    assert response.headers["x-minigpt-mode"] == whole["minigpt"]["mode"]
    streamed = post(server, "/v1/chat/completions", {**body, "stream": True, "stream_options": {"include_usage": True}})
    *chunks, usage = read_events(streamed)
    assert usage["usage"] == whole["usage"]
    assert usage["choices"] == []
    for choice in whole["choices"]:
        mine = [(chunk, one) for chunk in chunks for one in chunk["choices"] if one["index"] == choice["index"]]
        texts = [one["delta"]["content"] for _, one in mine if one["delta"].get("content")]
        assert "".join(texts) == (choice["message"]["content"] or "")
        assert [one["finish_reason"] for _, one in mine][-1] == choice["finish_reason"]
        assert mine[-1][1]["delta"].get("annotations", []) == choice["message"]["annotations"]
        calls = [call for _, one in mine for call in one["delta"].get("tool_calls", [])]
        assert [call["function"] for call in calls] == [
            call["function"] for call in choice["message"].get("tool_calls", [])
        ]
        tokens = [token for _, one in mine if one["logprobs"] for token in one["logprobs"]["content"]]
        assert tokens == (choice["logprobs"] or {"content": []})["content"]
        kinds = [chunk["minigpt"]["type"] for chunk, _ in mine if "minigpt" in chunk]
        assert (kinds[0], kinds[-1]) == ("start", "done")


def test_a_citation_comes_before_its_text_and_a_result_before_its_citation(server: RunningServer) -> None:
    body = {"model": "minigpt", "messages": [{"role": "user", "content": "cite"}], "stream": True}
    chunks = read_events(post(server, "/v1/chat/completions", body))
    kinds = [chunk["minigpt"]["type"] if "minigpt" in chunk else "text" for chunk in chunks]
    assert kinds == ["start", "tool_call", "tool_result", "notice", "citation", "text", "done", "text"]
    citation = chunks[4]["minigpt"]
    assert (citation["text"], citation["number"], citation["passage"]) == (QUOTE, 1, None)
    assert {"doc_id", "title", "heading", "start", "end", "line_start", "url", "license", "sha256"} <= citation.keys()
    assert not any("tool_calls" in one["delta"] for chunk in chunks for one in chunk["choices"])
    start = chunks[0]["minigpt"]
    assert start["answer"][4:] == start["request"][4:] == chunks[0]["id"].removeprefix("chatcmpl-")


@pytest.mark.parametrize(
    "more", [{}, {"n": 2}, {"echo": True}, {"logprobs": 2}, {"prompt": ["a", "b"], "n": 2}, {"stop": "w2"}]
)
def test_a_stream_of_completions_is_the_whole_answer(server: RunningServer, more: dict[str, Any]) -> None:
    body = {"model": "minigpt", "prompt": "The list", **more}
    whole = post(server, "/v1/completions", body).json()
    check(CompletionReply, whole)
    chunks = read_events(post(server, "/v1/completions", {**body, "stream": True}))
    for choice in whole["choices"]:
        mine = [one for chunk in chunks for one in chunk["choices"] if one["index"] == choice["index"]]
        assert "".join(one["text"] for one in mine) == choice["text"]
        assert mine[-1]["finish_reason"] == choice["finish_reason"]


def test_tokens_of_a_prompt_are_its_text(server: RunningServer) -> None:
    ids = list(b"The list")
    replies = [
        post(server, "/v1/completions", {"model": "minigpt", "prompt": prompt}).json() for prompt in ("The list", ids)
    ]
    assert replies[0]["choices"] == replies[1]["choices"]
    refused = httpx.post(server.url + "/v1/completions", json={"model": "minigpt", "prompt": [300, 301]})
    assert refused.status_code == 400
    assert "no text encodes to" in refused.json()["error"]["message"]


RESPONSES: dict[str, dict[str, Any]] = {
    "plain": {},
    "cited": {"input": "cite"},
    "settings": {"instructions": "Be kind.", "metadata": {"a": "b"}, "temperature": 0.5, "top_p": 0.5, "store": False},
    "length": {"max_output_tokens": 1},
    "tools": {"tools": [{"type": "function", "name": "f"}], "tool_choice": {"type": "function", "name": "f"}},
    "json": {"text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}},
    "logprobs": {"include": ["message.output_text.logprobs"], "top_logprobs": 1},
}


@pytest.mark.parametrize("name", RESPONSES)
def test_a_stream_of_a_response_is_the_whole_response(server: RunningServer, name: str) -> None:
    body = {"model": "minigpt", "input": "hello there", **RESPONSES[name]}
    whole = post(server, "/v1/responses", body).json()
    check(ResponseReply, whole)
    events = read_events(post(server, "/v1/responses", {**body, "stream": True}))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    last = events[-1]["response"]
    check(ResponseReply, last)
    assert events[-1]["type"] == f"response.{whole['status']}"
    same = ("status", "incomplete_details", "usage", "instructions", "metadata", "text", "tools", "tool_choice")
    assert {key: last[key] for key in same} == {key: whole[key] for key in same}
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == last["output"]
    for event in events:
        if event["type"] == "response.output_text.done":
            deltas = [one["delta"] for one in events if one["type"] == "response.output_text.delta"]
            assert "".join(deltas) == event["text"] == whole["output"][0]["content"][0]["text"]


def test_a_response_continues_another(server: RunningServer) -> None:
    first = post(server, "/v1/responses", {"model": "minigpt", "input": "one", "instructions": "Be kind."}).json()
    second = {"model": "minigpt", "input": "two", "previous_response_id": first["id"]}
    assert post(server, "/v1/responses", second).json()["output"][0]["content"][0]["text"] == "you said: two"
    lost = httpx.post(server.url + "/v1/responses", json={**second, "previous_response_id": "resp_none"})
    assert (lost.status_code, lost.json()["error"]["code"]) == (400, "previous_response_not_found")
    kept = post(server, "/v1/responses", {"model": "minigpt", "input": "x", "store": False}).json()
    assert httpx.get(f"{server.url}/v1/responses/{kept['id']}").status_code == 404
    assert httpx.get(f"{server.url}/v1/responses/{first['id']}").json() == first


def test_a_stream_of_a_response_that_fails_says_so(server: RunningServer) -> None:
    text = post(server, "/v1/responses", {"model": "minigpt", "input": "crash", "stream": True}).text
    *_, error, failed, done, _ = text.split("\n\n")
    assert error.startswith("event: error\n")
    assert json.loads(failed.partition("data: ")[2])["response"]["error"]["code"] == "internal_error"
    assert done == "data: [DONE]"
    assert "secret" not in text
