"""Calls of LiteLLM, which other programs and its proxy use."""

from __future__ import annotations

import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or importing it asks the network

import litellm

from tests.service.api.clients.check_list import Target, check

CLIENT = "LiteLLM"
HELLO = [{"role": "user", "content": "Hello"}]
FUNCTION = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def call(target: Target, messages: Any = HELLO, **settings: Any) -> Any:
    settings = {"max_tokens": 60, "temperature": 0, **settings}
    return litellm.completion(
        f"openai/{target.model}", messages, api_base=target.url, api_key=target.key, num_retries=0, **settings
    )


@check(CLIENT, "chat")
def completion(target: Target) -> None:
    reply = call(target)
    assert reply.choices[0].message.content
    assert reply.usage.total_tokens > 0


@check(CLIENT, "stream")
def stream(target: Target) -> None:
    chunks = list(call(target, stream=True, stream_options={"include_usage": True}))
    whole = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole == call(target).choices[0].message.content


@check(CLIENT, "choices")
def choices(target: Target) -> None:
    assert len(call(target, n=2).choices) == 2


@check(CLIENT, "sampling")
def stop(target: Target) -> None:
    assert "e" not in call(target, stop=["e"], seed=1, top_p=0.9).choices[0].message.content


@check(CLIENT, "tokens")
def logprobs(target: Target) -> None:
    assert call(target, logprobs=True, top_logprobs=1, max_tokens=4).choices[0].logprobs.content


@check(CLIENT, "json")
def json_object(target: Target) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    reply = call(target, response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})
    assert reply.choices[0].message.content.startswith("{")


@check(CLIENT, "tools")
def tools(target: Target) -> None:
    reply = call(target, tools=[{"type": "function", "function": FUNCTION}], tool_choice="required")
    assert reply.choices[0].message.tool_calls[0].function.name == "get_weather"


@check(CLIENT, "completions")
def text_completion(target: Target) -> None:
    reply = litellm.text_completion(
        model=f"text-completion-openai/{target.model}",
        prompt="The list of",
        api_base=target.url,
        api_key=target.key,
        max_tokens=8,
    )
    assert reply.choices[0].text


@check(CLIENT, "responses")
def responses(target: Target) -> None:
    reply = litellm.responses(
        model=f"openai/{target.model}", input="Hello", api_base=target.url, api_key=target.key, max_output_tokens=20
    )
    assert reply.output


@check(CLIENT, "embeddings")
def embedding(target: Target) -> None:
    reply = litellm.embedding(
        model=f"openai/{target.model}", input=["matrix", "river"], api_base=target.url, api_key=target.key
    )
    assert len(reply.data) == 2


@check(CLIENT, "rerank")
def rerank(target: Target) -> None:
    documents = ["the river bank", "a matrix of numbers"]
    reply = litellm.rerank(
        model=f"hosted_vllm/{target.model}",
        query="matrix",
        documents=documents,
        top_n=1,
        api_base=target.url,
        api_key=target.key,
    )
    assert [row["index"] for row in reply.results] == [1]


@check(CLIENT, "errors")
def wrong_model(target: Target) -> None:
    try:
        call(Target(target.url, "none", target.key))
    except litellm.NotFoundError:
        return
    raise AssertionError("no NotFoundError")
