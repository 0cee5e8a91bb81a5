"""The responses of chat and completions, as they are documented; they are rendered by hand, and a test compares the two."""

from __future__ import annotations

from typing import Any, Literal

from service.api.wire.wire_model import ReplyModel


class PromptDetails(ReplyModel):
    """How many of the prompt's tokens were cached."""

    cached_tokens: int


class CompletionDetails(ReplyModel):
    """This model does not reason apart from its answer."""

    reasoning_tokens: int


class UsageReply(ReplyModel):
    """Tokens of all choices; the prompt's count once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class UrlCitation(ReplyModel):
    """A source. A document without an address has `urn:minigpt:document:ID`."""

    start_index: int
    end_index: int
    title: str
    url: str


class AnnotationReply(ReplyModel):
    """Which part of the answer is quoted, and from where."""

    type: Literal["url_citation"]
    url_citation: UrlCitation


class FunctionReply(ReplyModel):
    """The function to call, with arguments as a JSON text."""

    name: str
    arguments: str


class ToolCallReply(ReplyModel):
    """A call of a tool that the request offered."""

    id: str
    type: Literal["function"]
    function: FunctionReply


class ChatReplyMessage(ReplyModel):
    """The answer."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    annotations: list[AnnotationReply]
    tool_calls: list[ToolCallReply] | None = None


class TopLogprob(ReplyModel):
    """A token that could have been chosen."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(ReplyModel):
    """A token that was chosen."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopLogprob]


class ChatLogprobs(ReplyModel):
    """Log-probabilities of the answer's tokens."""

    content: list[TokenLogprob] | None
    refusal: list[TokenLogprob] | None


FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class ChatChoice(ReplyModel):
    """One answer. `minigpt`: its citations, notices, and what tools of the server did."""

    index: int
    message: ChatReplyMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    minigpt: dict[str, Any]


class ChatReply(ReplyModel):
    """The response of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    service_tier: Literal["default"]
    choices: list[ChatChoice]
    usage: UsageReply
    metadata: dict[str, str] | None = None
    minigpt: dict[str, Any]


class CompletionLogprobs(ReplyModel):
    """Log-probabilities in the older form: parallel lists."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(ReplyModel):
    """One continuation."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter"]


class CompletionReply(ReplyModel):
    """The response of /v1/completions."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: UsageReply
    minigpt: dict[str, Any]
