"""The response of /v1/responses, as it is documented."""

from __future__ import annotations

from typing import Any, Literal

from service.api.wire.wire_model import ReplyModel


class ResponseAnnotation(ReplyModel):
    """Which part of the answer is quoted, and from where. A document without an address has `urn:minigpt:document:ID`."""

    type: Literal["url_citation"]
    start_index: int
    end_index: int
    title: str
    url: str


class ResponseText(ReplyModel):
    """The text of the answer."""

    type: Literal["output_text"]
    text: str
    annotations: list[ResponseAnnotation]
    logprobs: list[dict[str, Any]]


class ResponseMessage(ReplyModel):
    """The answer."""

    type: Literal["message"]
    id: str
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"]
    content: list[ResponseText]


class ResponseCall(ReplyModel):
    """A call of a tool that the request offered."""

    type: Literal["function_call"]
    id: str
    call_id: str
    name: str
    arguments: str
    status: Literal["in_progress", "completed", "incomplete"]


class CachedTokens(ReplyModel):
    """How many of the input's tokens were cached."""

    cached_tokens: int
    cache_write_tokens: int


class ReasoningTokens(ReplyModel):
    """This model does not reason apart from its answer."""

    reasoning_tokens: int


class ResponseUsage(ReplyModel):
    """Tokens."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class IncompleteReason(ReplyModel):
    """Why the answer was cut."""

    reason: Literal["max_output_tokens", "content_filter"]


class ResponseReply(ReplyModel):
    """A response, with the settings that it was made by."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    incomplete_details: IncompleteReason | None
    model: str
    previous_response_id: str | None
    instructions: str | None
    output: list[ResponseMessage | ResponseCall]
    error: dict[str, Any] | None
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    truncation: Literal["disabled", "auto"]
    parallel_tool_calls: bool
    text: dict[str, Any]
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    temperature: float
    reasoning: dict[str, Any] | None
    usage: ResponseUsage | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    store: bool
    background: bool
    service_tier: Literal["default"]
    metadata: dict[str, str]
    safety_identifier: str | None
    prompt_cache_key: str | None
    user: str | None
    minigpt: dict[str, Any]


class DeletedReply(ReplyModel):
    """What was deleted."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItemsReply(ReplyModel):
    """The items that a response was given, oldest first."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
