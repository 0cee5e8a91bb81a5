"""Read the wire formats of chat and completions into `AnswerRequest`: the same rules for every field, whatever the format.

Everything that OpenAI documents is honored or refused by name. A request with tools, a response format, log-probabilities, a logit
bias, penalties or min_tokens, or for NAME/direct, is answered by the model itself (`is_direct`).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from assistant.conversation.events import Sampling
from service.access.caller import Caller
from service.answers.answer_request import AnswerRequest, TokenControls
from service.api.reading.read_messages import read_messages
from service.api.reading.read_tools import read_constraint
from service.api.wire.chat_wire import (
    ChatRequest,
    SamplingWire,
)
from service.api.wire.completion_wire import CompletionRequest
from service.api.wire.refuse_field import refuse
from service.api.wire.wire_model import refuse_known_fields
from service.service_error import ServiceError
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


def read_chat(service: Service, caller: Caller, id: str, body: ChatRequest) -> AnswerRequest:
    """Return the request. Raises: ServiceError 400, 404."""
    refuse_known_fields(body, REFUSED_CHAT)
    if body.max_tokens is not None and body.max_completion_tokens not in (None, body.max_tokens):
        raise refuse("max_tokens", "differs from max_completion_tokens", body.max_tokens, "send one of the two")
    if body.top_logprobs is not None and not body.logprobs:
        raise refuse("top_logprobs", "needs logprobs", body.top_logprobs, "send logprobs: true as well")
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
        raise refuse("best_of", "must equal n", body.best_of, "leave it out")
    if body.echo and body.logprobs is not None:
        raise refuse("echo", "has no log-probabilities of the prompt", True, "leave out echo or logprobs")
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
        raise refuse(param, "has tokens that no text encodes to", list(ids)[:8], "send the text itself", param)
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
        raise refuse("metadata.conversation", "is too long", conversation, "send at most 64 characters")
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
        if 0 < n_vocab <= id:  # 0: an engine that does not say
            raise refuse(f"logit_bias.{id}", "is no token", id, f"use ids below {n_vocab}")
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
