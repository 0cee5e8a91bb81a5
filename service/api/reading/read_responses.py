"""Read /v1/responses into `AnswerRequest`, by the rules of chat."""

from __future__ import annotations

from typing import Any

from assistant.conversation.events import Message, Sampling, ToolCall
from service.access.caller import Caller
from service.answers.answer_request import AnswerRequest, TokenControls
from service.api.reading.read_messages import read_arguments
from service.api.reading.read_request import (
    name_user,
    needs_direct,
    read_conversation,
    read_model,
    read_sampling,
)
from service.api.reading.read_tools import read_constraint
from service.api.response_store import StoredResponse
from service.api.wire.chat_wire import (
    AllowedTools,
    AllowedToolsChoice,
    FunctionToolWire,
    FunctionWire,
    JsonSchemaFormat,
    NamedFunction,
    NamedSchema,
    NamedToolChoice,
    ResponseFormat,
    SamplingWire,
    ToolChoice,
)
from service.api.wire.response_wire import (
    FlatAllowedTools,
    FlatChoice,
    FlatFunction,
    FlatSchemaFormat,
    FunctionCallItem,
    FunctionOutputItem,
    RefusalItemPart,
    ResponseItem,
    ResponseRequest,
    TextConfig,
)
from service.api.wire.wire_model import refuse_known_fields
from service.service_error import ServiceError
from service.service_parts import Service

REFUSED_RESPONSE: dict[str, tuple[Any, str]] = {
    "background": ((False,), "send false, or stream"),
    "context_management": (([],), "send truncation: auto"),
    "conversation": ((), "use previous_response_id, or metadata.conversation"),
    "max_tool_calls": ((), "leave it out; the profile limits the server's tools"),
    "moderation": ((), "leave it out; the operator's policy checks every text"),
    "prompt": ((), "send instructions and input"),
    "prompt_cache_options": (({}, {"mode": "implicit"}), "leave it out; prefixes are cached by tenant"),
    "prompt_cache_retention": (("in_memory", "in-memory"), "send in_memory; prefixes are cached in memory"),
    "service_tier": (("auto", "default"), "send auto; there is one tier"),
}


def read_response(
    service: Service, caller: Caller, id: str, body: ResponseRequest, previous: StoredResponse | None
) -> AnswerRequest:
    """Return the request. Raises: ServiceError 400, 404."""
    refuse_known_fields(body, REFUSED_RESPONSE)
    controls = TokenControls(
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        n_logprobs=_count_logprobs(body),
    )
    format = _read_format(body.text)
    tools = [_read_tool(tool) for tool in body.tools or []]
    constraint = read_constraint(tools, _read_choice(body), format, body.parallel_tool_calls)
    profile, is_direct = read_model(service, body.model)
    metadata = dict(body.metadata or {})
    return AnswerRequest(
        id=id,
        caller=name_user(caller, body.user or body.safety_identifier),
        api="responses",
        model=body.model,
        profile=profile,
        messages=_read_conversation(body, previous),
        sampling=_read_sampling(body),
        controls=controls,
        constraint=constraint,
        truncation=body.truncation or "disabled",
        conversation=read_conversation(metadata),
        metadata=metadata,
        is_direct=is_direct or bool(tools) or constraint is not None or needs_direct(controls),
    )


def _count_logprobs(body: ResponseRequest) -> int | None:
    if body.top_logprobs:
        return body.top_logprobs
    return 0 if body.include else None


def _read_sampling(body: ResponseRequest) -> Sampling:
    wire = SamplingWire(model=body.model, temperature=body.temperature, top_p=body.top_p, seed=body.seed)
    return read_sampling(wire, body.max_output_tokens)


def _read_conversation(body: ResponseRequest, previous: StoredResponse | None) -> tuple[Message, ...]:
    messages: list[Message] = [Message.of("system", body.instructions)] if body.instructions else []
    messages += previous.messages if previous is not None else ()
    messages += read_items(body)
    if messages[-1].role not in ("user", "tool"):
        message = (
            f"input: must end with a message to answer; found role {messages[-1].role}; end it with a user message."
        )
        raise ServiceError(400, message, code="invalid_value", param="input")
    return tuple(messages)


def read_items(body: ResponseRequest) -> list[Message]:
    """Return the messages of the input. Raises: ServiceError 400."""
    if isinstance(body.input, str):
        return [Message.of("user", body.input)]
    return [_read_item(item, f"input[{index}]") for index, item in enumerate(body.input)]


def _read_item(item: ResponseItem, param: str) -> Message:
    if isinstance(item, FunctionCallItem):
        return Message.calling(ToolCall(item.call_id, item.name, read_arguments(item.arguments, param)))
    if isinstance(item, FunctionOutputItem):
        return Message.result(_join(item.output), item.call_id)
    role = "system" if item.role == "developer" else item.role
    return Message.of(role, _join(item.content))


def _join(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.refusal if isinstance(part, RefusalItemPart) else part.text for part in content)


def _read_tool(tool: FlatFunction) -> FunctionToolWire:
    function = FunctionWire(
        name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict
    )
    return FunctionToolWire(type="function", function=function)


def _read_choice(body: ResponseRequest) -> ToolChoice | None:
    choice = body.tool_choice
    if isinstance(choice, FlatChoice):
        return NamedToolChoice(type="function", function=NamedFunction(name=choice.name))
    if isinstance(choice, FlatAllowedTools):
        tools = [NamedToolChoice(type="function", function=NamedFunction(name=tool.name)) for tool in choice.tools]
        return AllowedToolsChoice(type="allowed_tools", allowed_tools=AllowedTools(mode=choice.mode, tools=tools))
    return choice


def _read_format(text: TextConfig | None) -> ResponseFormat | None:
    format = text.format if text is not None else None
    if isinstance(format, FlatSchemaFormat):
        named = NamedSchema(name=format.name, schema=format.json_schema)  # pyright: ignore[reportCallIssue] # the alias
        return JsonSchemaFormat(type="json_schema", json_schema=named)
    return format
