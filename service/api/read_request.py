"""Read the wire formats of chat and completions into `AnswerRequest`: the same rules for every field, whatever the format.

Everything that OpenAI documents is honored or refused by name. A request with tools, a response format, log-probabilities, a logit
bias, penalties or min_tokens, or for NAME/direct, is answered by the model itself (`is_direct`).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from assistant.conversation.events import Message, Sampling, ToolCall
from service.access.caller import Caller
from service.answers.answer_request import AnswerRequest, Constraint, OfferedTool, TokenControls
from service.api.http.strict_json import parse_json
from service.api.wire.chat_wire import (
    AllowedToolsChoice,
    AssistantWire,
    ChatRequest,
    FunctionToolWire,
    JsonObjectFormat,
    JsonSchemaFormat,
    NamedToolChoice,
    RefusalPart,
    RegexFormat,
    ResponseFormat,
    SamplingWire,
    ToolChoice,
    ToolWire,
    WireMessage,
)
from service.api.wire.completion_wire import CompletionRequest
from service.api.wire.wire_model import refuse_known_fields
from service.errors import ServiceError
from service.service_parts import Service

DIRECT = "direct"  # NAME/direct: the model itself
USE_TOOLS = "offer functions in tools"
REFUSED_CHAT: dict[str, tuple[Any, str]] = {  # field: (neutral values, what to do)
    "audio": ((), "leave it out; answers are text"),
    "function_call": (("none",), f"use tool_choice, and {USE_TOOLS}"),
    "functions": (([],), USE_TOOLS),
    "modalities": ((["text"],), 'send ["text"]; answers are text'),
    "moderation": ((), "leave it out; the operator's policy checks every text"),
    "prediction": ((), "leave it out"),
    "prompt_cache_options": (({}, {"mode": "implicit"}), "leave it out; prefixes are cached by tenant"),
    "prompt_cache_retention": (("in_memory", "in-memory"), "send in_memory; prefixes are cached in memory"),
    "reasoning_effort": (("none",), "leave it out; this model does not reason apart from its answer"),
    "service_tier": (("auto", "default"), "send auto; there is one tier"),
    "store": ((False,), "send false, or use /v1/responses, which keeps answers for an hour"),
    "verbosity": (("medium",), "leave it out; say in the message how long the answer should be"),
    "web_search_options": ((), "leave it out; the server's own tools are chosen by the profile"),
    "add_generation_prompt": ((True,), "leave it out; an answer is always asked for"),
    "continue_final_message": ((False,), "end messages with a user message"),
    "structured_outputs": ((), 'use response_format, also {"type": "regex", "regex": …}'),
    "guided_json": ((), "use response_format"),
    "guided_regex": ((), 'use response_format {"type": "regex", "regex": …}'),
    "guided_choice": ((), "use response_format with an enum"),
    "repetition_penalty": ((1, 1.0), "use frequency_penalty"),
    "min_p": ((0, 0.0), "use top_p"),
}
REFUSED_COMPLETION: dict[str, tuple[Any, str]] = {
    "suffix": (("",), "leave it out; this model continues texts only at their end"),
    "prompt_logprobs": ((False, 0), "leave it out"),
    "repetition_penalty": ((1, 1.0), "use frequency_penalty"),
    "min_p": ((0, 0.0), "use top_p"),
}
REFUSED_MESSAGE: dict[str, tuple[Any, str]] = {
    "name": (("",), "leave it out; write the name into the text"),
    "audio": ((), "send text"),
    "function_call": ((), "use tool_calls"),
    "prefix": ((False,), "end messages with a user message"),
}


def read_chat(service: Service, caller: Caller, id: str, body: ChatRequest) -> AnswerRequest:
    """Return the request. Raises: ServiceError 400, 404."""
    refuse_known_fields(body, REFUSED_CHAT)
    if body.max_tokens is not None and body.max_completion_tokens not in (None, body.max_tokens):
        raise _refuse("max_tokens", "differs from max_completion_tokens", body.max_tokens, "send one of the two")
    if body.top_logprobs is not None and not body.logprobs:
        raise _refuse("top_logprobs", "needs logprobs", body.top_logprobs, "send logprobs: true as well")
    controls = read_controls(service, body, (body.top_logprobs or 0) if body.logprobs else None)
    metadata = dict(body.metadata or {})
    constraint = read_constraint(body.tools or [], body.tool_choice, body.response_format, body.parallel_tool_calls)
    profile, is_direct = read_model(service, body.model)
    return AnswerRequest(
        id=id,
        caller=name_user(caller, body.user or body.safety_identifier),
        api="chat.completions",
        model=body.model,
        profile=profile,
        messages=read_messages(body.messages),
        sampling=read_sampling(body, body.max_completion_tokens or body.max_tokens),
        controls=controls,
        constraint=constraint,
        n=body.n or 1,
        truncation=body.truncation or "disabled",
        conversation=read_conversation(metadata),
        metadata=metadata,
        is_direct=is_direct or bool(body.tools) or constraint is not None or needs_direct(controls),
    )


def read_completions(service: Service, caller: Caller, id: str, body: CompletionRequest) -> list[AnswerRequest]:
    """Return one request per prompt. Raises: ServiceError 400, 404."""
    refuse_known_fields(body, REFUSED_COMPLETION)
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise _refuse("best_of", "must equal n", body.best_of, "leave it out")
    if body.echo and body.logprobs is not None:
        raise _refuse("echo", "has no log-probabilities of the prompt", True, "leave out echo or logprobs")
    read_model(service, body.model)
    request = AnswerRequest(
        id=id,
        caller=name_user(caller, body.user),
        api="completions",
        model=body.model,
        sampling=read_sampling(body, 16 if body.max_tokens is None else body.max_tokens),
        controls=read_controls(service, body, body.logprobs),
        n=body.n or 1,
        is_direct=True,
    )
    return [replace(request, prompt=prompt) for prompt in _read_prompts(service, body)]


def _read_prompts(service: Service, body: CompletionRequest) -> list[str]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [detokenize_exactly(service, prompt, "prompt")]  # pyright: ignore[reportArgumentType]
    return [
        one if isinstance(one, str) else detokenize_exactly(service, one, f"prompt[{index}]")  # pyright: ignore[reportArgumentType]
        for index, one in enumerate(prompt)
    ]


def detokenize_exactly(service: Service, ids: Sequence[int], param: str) -> str:
    """Return the text of tokens. Raises: ServiceError 400 where that text would be read as other tokens."""
    try:
        text = service.inference.detokenize(ids)
    except ValueError as error:
        raise ServiceError(400, f"{param}: {str(error)[:200]}", code="invalid_value", param=param) from None
    if service.inference.tokenize(text) != list(ids):
        raise _refuse(param, "has tokens that no text encodes to", list(ids)[:8], "send the text itself", param)
    return text


def read_model(service: Service, model: str) -> tuple[str, bool]:
    """Return the profile and whether the model itself is asked for. Raises: ServiceError 404."""
    name, _, rest = model.partition("/")
    if name != service.settings.name or (not rest and "/" in model):
        message = (
            f"model: there is no such model; found {model[:60]!r}; use {service.settings.name!r}, or see /v1/models."
        )
        raise ServiceError(404, message, code="model_not_found", param="model")
    if rest in ("", DIRECT):
        return "", rest == DIRECT
    service.assistants.load_profile(rest)
    return rest, False


def name_user(caller: Caller, user: str | None) -> Caller:
    """Return the caller with the person whom an application names behind its key."""
    return replace(caller, user=f"{caller.user}:{user}") if user else caller


def read_conversation(metadata: dict[str, str]) -> str:
    """Return the conversation that a client names. Raises: ServiceError 400 for too long a name."""
    conversation = metadata.get("conversation", "")
    if len(conversation) > 64:
        raise _refuse("metadata.conversation", "is too long", conversation, "send at most 64 characters")
    return conversation


def read_sampling(body: SamplingWire, max_tokens: int | None) -> Sampling:
    """Return the sampling settings. Without a seed, sampling differs each time; with temperature 0, the default, never."""
    default = Sampling()
    return Sampling(
        max_tokens=max_tokens or default.max_tokens,
        temperature=body.temperature if body.temperature is not None else default.temperature,
        top_k=max(body.top_k or 0, 0),
        top_p=max(body.top_p, 1e-6) if body.top_p is not None else default.top_p,
        seed=body.seed % 2**63 if body.seed is not None else secrets.randbits(62),
    )


def read_controls(service: Service, body: SamplingWire, n_logprobs: int | None) -> TokenControls:
    """Return the settings of single tokens. Raises: ServiceError 400 for a token that the model does not have."""
    bias = {int(id): float(value) for id, value in (body.logit_bias or {}).items()}
    n_vocab = service.inference.description.vocab_size
    for id in bias:
        if id >= n_vocab:
            raise _refuse(f"logit_bias.{id}", "is no token", id, f"use ids below {n_vocab}")
    stop = () if body.stop is None else (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)
    return TokenControls(
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logit_bias=bias,
        n_logprobs=n_logprobs,
        stop=stop,
        min_tokens=body.min_tokens or 0,
    )


def needs_direct(controls: TokenControls) -> bool:
    """Return whether only the model itself can honor these settings."""
    return replace(controls, stop=()) != TokenControls()


def read_constraint(
    tools: Sequence[FunctionToolWire],
    choice: ToolChoice | None,
    format: ResponseFormat | None,
    is_parallel: bool | None,
) -> Constraint | None:
    """Return what the answer must match. Raises: ServiceError 400 for tools that are not offered, or both tools and a format."""
    calls = _read_tools(tools, choice, is_parallel)
    if format is None or format.type == "text":
        return calls
    if calls is not None:
        raise _refuse(
            "response_format", "can't be honored beside tools", format.type, "send tool_choice: none, or no tools"
        )
    if isinstance(format, JsonSchemaFormat):
        return Constraint("json_schema", schema=format.json_schema.json_schema)
    if isinstance(format, RegexFormat):
        return Constraint("regex", regex=format.regex)
    assert isinstance(format, JsonObjectFormat)
    return Constraint("json_object")


def _read_tools(
    tools: Sequence[FunctionToolWire], choice: ToolChoice | None, is_parallel: bool | None
) -> Constraint | None:
    offered = [
        OfferedTool(
            tool.function.name,
            tool.function.description or "",
            tool.function.parameters or {},
            bool(tool.function.strict),
        )
        for tool in tools
    ]
    names = [tool.name for tool in offered]
    if len(set(names)) < len(names):
        raise _refuse("tools", "has two functions of one name", len(names), "name each differently")
    if choice in (None, "none") or not offered:
        if choice not in (None, "none", "auto"):
            raise _refuse(
                "tool_choice", "needs tools", choice if isinstance(choice, str) else choice.type, "send tools"
            )
        return None if choice == "none" or not offered else _call_tools(offered, names, False, is_parallel)
    if isinstance(choice, NamedToolChoice):
        return _call_tools(offered, [choice.function.name], True, is_parallel)
    if isinstance(choice, AllowedToolsChoice):
        allowed = [tool.function.name for tool in choice.allowed_tools.tools]
        return _call_tools(offered, allowed, choice.allowed_tools.mode == "required", is_parallel)
    return _call_tools(offered, names, choice == "required", is_parallel)


def _call_tools(
    offered: Sequence[OfferedTool], names: Sequence[str], must_call: bool, is_parallel: bool | None
) -> Constraint:
    for name in names:
        if name not in [tool.name for tool in offered]:
            raise _refuse(
                "tool_choice", "names a function that tools does not offer", name, "offer it, or choose another"
            )
    chosen = tuple(tool for tool in offered if tool.name in names)
    return Constraint("tools", tools=chosen, must_call=must_call, allows_parallel=is_parallel is not False)


def read_messages(rows: Sequence[WireMessage]) -> tuple[Message, ...]:
    """Return the conversation. Raises: ServiceError 400, also for one that does not end with something to answer."""
    messages: list[Message] = []
    for index, row in enumerate(rows):
        refuse_known_fields(row, REFUSED_MESSAGE, f"messages[{index}].")
        messages += _read_message(row, f"messages[{index}]")
    if rows[-1].role not in ("user", "tool"):
        raise _refuse(
            "messages", "must end with a message to answer", f"role {rows[-1].role}", "end with a user message"
        )
    return tuple(messages)


def _read_message(row: WireMessage, param: str) -> list[Message]:
    if isinstance(row, ToolWire):
        return [Message.result(_join(row.content), row.tool_call_id)]
    if not isinstance(row, AssistantWire):
        return [Message.of("user" if row.role == "user" else "system", _join(row.content))]
    calls = [
        Message.calling(
            ToolCall(
                call.id, call.function.name, read_arguments(call.function.arguments, f"{param}.tool_calls[{index}]")
            )
        )
        for index, call in enumerate(row.tool_calls or [])
    ]
    text = _join(row.content or "") + (row.refusal or "")
    return [Message.of("assistant", text), *calls] if text or not calls else calls


def read_arguments(arguments: str, param: str) -> dict[str, Any]:
    """Return the arguments of a call in the history. Raises: ServiceError 400 for anything but a JSON object."""
    try:
        value = parse_json(arguments.encode("utf-8")) if arguments.strip() else {}
    except ServiceError as error:
        raise ServiceError(
            400,
            error.message.replace("body", f"{param}.function.arguments", 1),
            error.code,
            f"{param}.function.arguments",
        ) from None
    if not isinstance(value, dict):
        raise _refuse(
            f"{param}.function.arguments", "must be a JSON object", type(value).__name__, "send an object as text"
        )
    return value


def _join(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.refusal if isinstance(part, RefusalPart) else part.text for part in content)


def _refuse(param: str, what: str, found: Any, instead: str, name: str | None = None) -> ServiceError:
    message = f"{param}: {what}; found {str(found)[:60]!r}; {instead}."
    return ServiceError(400, message, code="invalid_value", param=name or param)
