"""Sixty calls of OpenAI's Python client."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.service.api.clients.check_list import Target, check

HELLO: list[Any] = [{"role": "user", "content": "Hello, how are you?"}]
WEATHER: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "Get the weather of a city.", "parameters": PARAMETERS}
TOOLS: list[Any] = [{"type": "function", "function": FUNCTION}, {"type": "function", "function": {"name": "get_time"}}]
FLAT: list[Any] = [{"type": "function", **FUNCTION}]
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "size": {"enum": ["small", "large"]}},
    "required": ["ok", "size"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, "strict": True}}
FINISHES = ("stop", "length")


class Thing(BaseModel):
    ok: bool


def make(target: Target) -> OpenAI:
    return OpenAI(base_url=target.url, api_key=target.key, max_retries=0, timeout=60)


def chat(target: Target, messages: list[Any] = HELLO, **settings: Any) -> Any:
    settings = {"max_tokens": 12, **settings}
    reply = make(target).chat.completions.create(model=target.model, messages=messages, **settings)
    if not settings.get("stream"):
        assert reply.object == "chat.completion"
        assert reply.id.startswith("chatcmpl-")
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
        for choice in reply.choices:
            assert choice.message.role == "assistant"
            assert choice.finish_reason in (*FINISHES, "tool_calls")
            assert choice.message.refusal is None
    return reply


def read(stream: Any) -> tuple[str, list[Any]]:
    """Return the text of a stream's first choice, and its chunks."""
    chunks = list(stream)
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert finishes
    return "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices if c.index == 0), chunks


def text(reply: Any) -> str:
    content = reply.choices[0].message.content
    assert isinstance(content, str)
    return content


def expect(error: type[openai.APIStatusError], call: Callable[[], Any]) -> openai.APIStatusError:
    try:
        call()
    except error as caught:
        found = caught
    else:
        raise AssertionError(f"no {error.__name__}")
    assert isinstance(found.body, dict)
    assert {"message", "type", "param", "code"} <= found.body.keys()
    return found


# chat


@check("openai", "chat")
def plain(target: Target) -> None:
    reply = chat(target)
    assert text(reply)
    assert reply.model
    assert reply.created > 1_700_000_000


@check("openai", "chat")
def system(target: Target) -> None:
    assert text(chat(target, [{"role": "system", "content": "Be brief."}, *HELLO]))


@check("openai", "chat")
def developer(target: Target) -> None:
    assert text(chat(target, [{"role": "developer", "content": "Be brief."}, *HELLO]))


@check("openai", "chat")
def several_turns(target: Target) -> None:
    assert text(chat(target, [*HELLO, {"role": "assistant", "content": "Fine."}, {"role": "user", "content": "Good."}]))


@check("openai", "chat")
def content_parts(target: Target) -> None:
    parts = [{"type": "text", "text": "Hello, "}, {"type": "text", "text": "how are you?"}]
    assert text(chat(target, [{"role": "user", "content": parts}], temperature=0)) == text(chat(target, temperature=0))


@check("openai", "chat")
def empty_system(target: Target) -> None:
    assert text(chat(target, [{"role": "system", "content": ""}, *HELLO]))


@check("openai", "chat")
def metadata_and_user(target: Target) -> None:
    chat(target, metadata={"team": "docs"}, user="ann", safety_identifier="ann")


@check("openai", "chat")
def asynchronous(target: Target) -> None:
    async def call() -> None:
        async with AsyncOpenAI(base_url=target.url, api_key=target.key, max_retries=0) as client:
            calls = [client.chat.completions.create(model=target.model, messages=HELLO, max_tokens=4) for _ in range(4)]
            assert all(reply.choices for reply in await asyncio.gather(*calls))

    asyncio.run(call())


# streams


@check("openai", "stream")
def stream(target: Target) -> None:
    whole, _ = read(chat(target, stream=True, temperature=0))
    assert whole == text(chat(target, temperature=0))


@check("openai", "stream")
def stream_with_usage(target: Target) -> None:
    _, chunks = read(chat(target, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + chunks[-1].usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])


@check("openai", "stream")
def stream_without_usage(target: Target) -> None:
    _, chunks = read(chat(target, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"


@check("openai", "stream")
def stream_helper(target: Target) -> None:
    with make(target).chat.completions.stream(model=target.model, messages=HELLO, max_tokens=12) as events:
        kinds = {event.type for event in events}
        assert {"chunk", "content.delta", "content.done"} <= kinds
        try:
            whole = events.get_final_completion()
        except openai.LengthFinishReasonError as error:  # the helper's way to say it
            whole = error.completion
        assert whole.choices[0].message.content


@check("openai", "stream")
def stream_closed_early(target: Target) -> None:
    reply = chat(target, stream=True, max_tokens=100)
    next(iter(reply))
    reply.close()
    assert text(chat(target))


@check("openai", "stream")
def stream_asynchronously(target: Target) -> None:
    async def call() -> str:
        async with AsyncOpenAI(base_url=target.url, api_key=target.key, max_retries=0) as client:
            reply = await client.chat.completions.create(
                model=target.model, messages=HELLO, max_tokens=12, temperature=0, stream=True
            )
            return "".join([c.delta.content or "" async for chunk in reply for c in chunk.choices])

    assert asyncio.run(call()) == text(chat(target, temperature=0))


# choices


@check("openai", "choices")
def two_choices(target: Target) -> None:
    reply = chat(target, n=2)
    assert [choice.index for choice in reply.choices] == [0, 1]


@check("openai", "choices")
def stream_two_choices(target: Target) -> None:
    _, chunks = read(chat(target, n=2, stream=True))
    ends = [c.index for chunk in chunks for c in chunk.choices if c.finish_reason]
    assert sorted(ends) == [0, 1]


# sampling


@check("openai", "sampling")
def max_tokens(target: Target) -> None:
    reply = chat(target, max_tokens=2)
    assert reply.usage.completion_tokens <= 2


@check("openai", "sampling")
def max_completion_tokens(target: Target) -> None:
    client = make(target).chat.completions
    reply = client.create(model=target.model, messages=HELLO, max_completion_tokens=2)
    assert reply.usage is not None
    assert reply.usage.completion_tokens <= 2


@check("openai", "sampling")
def same_seed(target: Target) -> None:
    settings: Any = {"seed": 7, "temperature": 1.0, "max_tokens": 8}
    assert text(chat(target, **settings)) == text(chat(target, **settings))


@check("openai", "sampling")
def greedy(target: Target) -> None:
    assert text(chat(target, temperature=0)) == text(chat(target, temperature=0))


@check("openai", "sampling")
def top_p(target: Target) -> None:
    assert text(chat(target, temperature=1, top_p=0)) == text(chat(target, temperature=0))


@check("openai", "sampling")
def stop_string(target: Target) -> None:
    word = text(chat(target, temperature=0)).split()[-1]
    assert word not in text(chat(target, temperature=0, stop=word))


@check("openai", "sampling")
def stop_strings(target: Target) -> None:
    reply = chat(target, stop=["a", "e", "i", "o"])
    assert not set("aeio") & set(text(reply))
    assert reply.choices[0].finish_reason in FINISHES


# tokens


@check("openai", "tokens")
def logprobs(target: Target) -> None:
    choice = chat(target, logprobs=True, temperature=0, max_tokens=4).choices[0]
    assert choice.logprobs.content
    assert all(token.logprob <= 0 for token in choice.logprobs.content)
    assert b"".join(bytes(token.bytes) for token in choice.logprobs.content).decode().startswith(choice.message.content)


@check("openai", "tokens")
def top_logprobs(target: Target) -> None:
    choice = chat(target, logprobs=True, top_logprobs=2, max_tokens=4).choices[0]
    for token in choice.logprobs.content:
        values = [other.logprob for other in token.top_logprobs]
        assert len(values) == 2
        assert values == sorted(values, reverse=True)


@check("openai", "tokens")
def stream_logprobs(target: Target) -> None:
    _, chunks = read(chat(target, logprobs=True, stream=True, max_tokens=4))
    assert any(c.logprobs and c.logprobs.content for chunk in chunks for c in chunk.choices)


@check("openai", "tokens")
def logit_bias(target: Target) -> None:
    assert text(chat(target, logit_bias={"40": 5, "41": -100}))


@check("openai", "tokens")
def penalties(target: Target) -> None:
    assert text(chat(target, frequency_penalty=0.5, presence_penalty=-0.5))


# JSON


@check("openai", "json")
def json_object(target: Target) -> None:
    reply = chat(target, response_format={"type": "json_object"}, max_tokens=200)
    if reply.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text(reply)), dict)


@check("openai", "json")
def json_schema(target: Target) -> None:
    value = json.loads(text(chat(target, response_format=FORMAT, max_tokens=100)))
    assert set(value) == {"ok", "size"}
    assert value["size"] in ("small", "large")


@check("openai", "json")
def stream_json_schema(target: Target) -> None:
    whole, _ = read(chat(target, response_format=FORMAT, max_tokens=100, stream=True))
    assert set(json.loads(whole)) == {"ok", "size"}


@check("openai", "json")
def parse_model(target: Target) -> None:
    client = make(target).chat.completions
    reply = client.parse(model=target.model, messages=HELLO, response_format=Thing, max_tokens=60)
    assert isinstance(reply.choices[0].message.parsed, Thing)


# tools


def check_call(choice: Any, name: str = "get_weather") -> Any:
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert (call.type, call.function.name) == ("function", name)
    assert call.id
    return json.loads(call.function.arguments)


@check("openai", "tools")
def tool_required(target: Target) -> None:
    choice = chat(target, WEATHER, tools=TOOLS[:1], tool_choice="required", max_tokens=100).choices[0]
    assert isinstance(check_call(choice)["city"], str)
    assert choice.message.content is None


@check("openai", "tools")
def tool_named(target: Target) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    check_call(chat(target, WEATHER, tools=TOOLS, tool_choice=named, max_tokens=100).choices[0])


@check("openai", "tools")
def tool_auto(target: Target) -> None:
    choice = chat(target, WEATHER, tools=TOOLS, max_tokens=100).choices[0]
    assert choice.message.tool_calls or choice.message.content is not None


@check("openai", "tools")
def tool_none(target: Target) -> None:
    choice = chat(target, WEATHER, tools=TOOLS, tool_choice="none").choices[0]
    assert not choice.message.tool_calls


@check("openai", "tools")
def tool_round(target: Target) -> None:
    message = chat(target, WEATHER, tools=TOOLS[:1], tool_choice="required", max_tokens=100).choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "18 degrees"}
    history = [*WEATHER, message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}), result]
    assert text(chat(target, history, tools=TOOLS[:1], tool_choice="none"))


@check("openai", "tools")
def stream_tool(target: Target) -> None:
    _, chunks = read(chat(target, WEATHER, tools=TOOLS[:1], tool_choice="required", max_tokens=100, stream=True))
    calls = [call for chunk in chunks for c in chunk.choices for call in c.delta.tool_calls or []]
    assert calls[0].id
    assert calls[0].function.name == "get_weather"
    json.loads("".join(call.function.arguments or "" for call in calls))


@check("openai", "tools")
def tool_allowed(target: Target) -> None:
    names = [{"type": "function", "function": {"name": "get_weather"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": names}}
    check_call(chat(target, WEATHER, tools=TOOLS, tool_choice=choice, max_tokens=100).choices[0])


@check("openai", "tools")
def tool_alone(target: Target) -> None:
    choice = chat(
        target, WEATHER, tools=TOOLS[:1], tool_choice="required", parallel_tool_calls=False, max_tokens=100
    ).choices[0]
    check_call(choice)
    assert len(choice.message.tool_calls) == 1


# text completions


def complete(target: Target, prompt: Any = "The list of", **settings: Any) -> Any:
    settings = {"max_tokens": 8, **settings}
    reply = make(target).completions.create(model=target.model, prompt=prompt, **settings)
    assert settings.get("stream") or reply.object == "text_completion"
    return reply


@check("openai", "completions")
def completion(target: Target) -> None:
    reply = complete(target)
    assert reply.choices[0].text
    assert reply.choices[0].finish_reason in FINISHES
    assert reply.usage.completion_tokens <= 8


@check("openai", "completions")
def completion_of_several_prompts(target: Target) -> None:
    reply = complete(target, ["one", "two", "three"], n=2)
    assert [choice.index for choice in reply.choices] == list(range(6))


@check("openai", "completions")
def stream_completion(target: Target) -> None:
    chunks = list(complete(target, stream=True, temperature=0))
    assert "".join(chunk.choices[0].text for chunk in chunks) == complete(target, temperature=0).choices[0].text


@check("openai", "completions")
def echo(target: Target) -> None:
    assert complete(target, echo=True).choices[0].text.startswith("The list of")


@check("openai", "completions")
def completion_logprobs(target: Target) -> None:
    found = complete(target, logprobs=2, max_tokens=3).choices[0].logprobs
    assert len(found.tokens) == len(found.token_logprobs) == len(found.top_logprobs) == len(found.text_offset)
    assert found.tokens


# responses


def respond(target: Target, input: Any = "Hello", **settings: Any) -> Any:
    settings = {"max_output_tokens": 16, **settings}
    return make(target).responses.create(model=target.model, input=input, **settings)


@check("openai", "responses")
def response(target: Target) -> None:
    reply = respond(target, instructions="Be brief.", metadata={"a": "b"})
    assert reply.object == "response"
    assert reply.status in ("completed", "incomplete")
    assert reply.output_text
    assert (reply.instructions, reply.metadata) == ("Be brief.", {"a": "b"})


@check("openai", "responses")
def response_of_items(target: Target) -> None:
    items = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
    ]
    assert respond(target, items).output_text


@check("openai", "responses")
def stream_response(target: Target) -> None:
    events = list(respond(target, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [events[0].type, events[1].type] == ["response.created", "response.in_progress"]
    whole = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert whole == events[-1].response.output_text


@check("openai", "responses")
def response_continued(target: Target) -> None:
    first = respond(target)
    second = respond(target, "Again", previous_response_id=first.id)
    assert second.previous_response_id == first.id


@check("openai", "responses")
def response_retrieved_and_deleted(target: Target) -> None:
    client, first = make(target).responses, respond(target)
    assert client.retrieve(first.id).output_text == first.output_text
    assert len(client.input_items.list(first.id).data) == 1
    client.delete(first.id)
    expect(openai.NotFoundError, lambda: client.retrieve(first.id))


@check("openai", "responses")
def response_with_tool(target: Target) -> None:
    [call] = respond(target, "Weather?", tools=FLAT, tool_choice="required", max_output_tokens=100).output
    assert (call.type, call.name) == ("function_call", "get_weather")
    items = [
        {"role": "user", "content": "Weather?"},
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"},
    ]
    assert respond(target, items, tools=FLAT, tool_choice="none").output_text


@check("openai", "responses")
def response_parsed(target: Target) -> None:
    client = make(target).responses
    reply = client.parse(model=target.model, input="Hello", text_format=Thing, max_output_tokens=60)
    assert isinstance(reply.output_parsed, Thing)


# embeddings


@check("openai", "embeddings")
def embedding(target: Target) -> None:
    client = make(target).embeddings
    reply = client.create(model=target.model, input=["matrix", "river"])
    raw = client.create(model=target.model, input=["matrix", "river"], encoding_format="float")
    assert [row.index for row in reply.data] == [0, 1]
    assert reply.data[0].embedding == raw.data[0].embedding
    width = len(reply.data[0].embedding)
    assert len(client.create(model=target.model, input="matrix", dimensions=width).data[0].embedding) == width


@check("openai", "embeddings")
def embedding_in_base64(target: Target) -> None:
    reply = make(target).embeddings.create(model=target.model, input="matrix", encoding_format="base64")
    data: Any = reply.data[0].embedding
    assert len(base64.b64decode(data)) % 4 == 0


# models


@check("openai", "models")
def list_models(target: Target) -> None:
    names = [model.id for model in make(target).models.list()]
    assert target.model in names
    assert make(target).models.retrieve(target.model).object == "model"


# errors


@check("openai", "errors")
def unknown_model(target: Target) -> None:
    client = make(target).chat.completions
    error = expect(openai.NotFoundError, lambda: client.create(model="no-such-model", messages=HELLO))
    assert error.code == "model_not_found"


@check("openai", "errors")
def too_long(target: Target) -> None:
    error = expect(openai.BadRequestError, lambda: chat(target, [{"role": "user", "content": "long " * 30_000}]))
    assert error.code == "context_length_exceeded"


@check("openai", "errors")
def wrong_value(target: Target) -> None:
    error = expect(openai.BadRequestError, lambda: chat(target, temperature=5))
    assert error.param == "temperature"


# headers


@check("openai", "headers")
def raw_response(target: Target) -> None:
    client = make(target).chat.completions
    raw = client.with_raw_response.create(model=target.model, messages=HELLO, max_tokens=4)
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse()._request_id == raw.headers["x-request-id"]


@check("openai", "headers")
def unknown_field(target: Target) -> None:
    client = make(target).chat.completions
    raw = client.with_raw_response.create(model=target.model, messages=HELLO, max_tokens=4, extra_body={"my_field": 1})
    assert raw.parse().choices
    assert "my_field" in raw.headers.get("x-minigpt-ignored", "my_field")
