"""Calls of LangChain's OpenAI package."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

from tests.service.api.clients.check_list import Target, check

CLIENT = "LangChain"


class Verdict(BaseModel):
    """A verdict."""

    ok: bool = Field(description="whether all is well")


@tool
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"18 degrees in {city}"


def make(target: Target, **settings: Any) -> ChatOpenAI:
    settings = {"max_tokens": 60, "temperature": 0, **settings}
    return ChatOpenAI(model=target.model, base_url=target.url, api_key=target.key, max_retries=0, **settings)


@check(CLIENT, "chat")
def invoke(target: Target) -> None:
    reply = make(target).invoke([SystemMessage("Be brief."), HumanMessage("Hello")])
    assert reply.content
    assert reply.usage_metadata["total_tokens"] > 0


@check(CLIENT, "chat")
def batch_asynchronously(target: Target) -> None:
    replies = asyncio.run(make(target).abatch(["Hello", "Good day"]))
    assert all(reply.content for reply in replies)


@check(CLIENT, "stream")
def stream(target: Target) -> None:
    model = make(target, stream_usage=True)
    chunks = list(model.stream("Hello"))
    assert "".join(chunk.content for chunk in chunks) == make(target).invoke("Hello").content
    assert sum(chunk.usage_metadata["total_tokens"] for chunk in chunks if chunk.usage_metadata) > 0


@check(CLIENT, "sampling")
def stop(target: Target) -> None:
    assert "e" not in make(target).invoke("Hello there", stop=["e"]).content


@check(CLIENT, "tokens")
def logprobs(target: Target) -> None:
    reply = make(target, logprobs=True, top_logprobs=2, max_tokens=4).invoke("Hello")
    assert reply.response_metadata["logprobs"]["content"]


@check(CLIENT, "json")
def structured_output(target: Target) -> None:
    for method in ("json_schema", "function_calling"):
        value = make(target).with_structured_output(Verdict, method=method).invoke("Is it well?")
        assert isinstance(value, Verdict)


@check(CLIENT, "tools")
def tool_round(target: Target) -> None:
    model = make(target)
    question = HumanMessage("What is the weather in Paris?")
    reply = model.bind_tools([get_weather], tool_choice="required").invoke([question])
    [call] = reply.tool_calls
    assert call["name"] == "get_weather"
    result = ToolMessage("18 degrees", tool_call_id=call["id"])
    assert model.bind_tools([get_weather], tool_choice="none").invoke([question, reply, result]).content


@check(CLIENT, "completions")
def completion(target: Target) -> None:
    model = OpenAI(model=target.model, base_url=target.url, api_key=target.key, max_tokens=8, temperature=0)
    assert model.invoke("The list of")


@check(CLIENT, "responses")
def responses_api(target: Target) -> None:
    model = make(target, use_responses_api=True)
    assert model.invoke("Hello").text
    assert "".join(chunk.text for chunk in model.stream("Hello"))


@check(CLIENT, "embeddings")
def embeddings(target: Target) -> None:
    model = OpenAIEmbeddings(
        model=target.model, base_url=target.url, api_key=target.key, check_embedding_ctx_length=False
    )
    rows = model.embed_documents(["matrix", "river"])
    assert len(rows) == 2
    assert model.embed_query("matrix") == rows[0]


@check(CLIENT, "errors")
def wrong_model(target: Target) -> None:
    try:
        ChatOpenAI(model="none", base_url=target.url, api_key=target.key, max_retries=0).invoke("Hello")
    except openai.NotFoundError:
        return
    raise AssertionError("no NotFoundError")
