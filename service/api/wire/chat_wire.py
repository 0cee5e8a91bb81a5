"""The request of /v1/chat/completions. Its limits are in the schema, so that /openapi.json states them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from service.api.wire.wire_model import Identifier, Label, Metadata, ModelName, Seed, Text, WireModel


class TextPart(WireModel):
    """A text of a message."""

    type: Literal["text"]
    text: Text


class RefusalPart(WireModel):
    """A refusal that an assistant gave; it is read as text."""

    type: Literal["refusal"]
    refusal: Text


class CalledFunction(WireModel):
    """Which function was called, with arguments as a JSON text."""

    name: Identifier
    arguments: Text


class WireToolCall(WireModel):
    """A call in the history."""

    id: Annotated[str, Field(min_length=1, max_length=128)]
    type: Literal["function"] = "function"
    function: CalledFunction


TextParts = Annotated[list[TextPart], Field(min_length=1, max_length=1_000)]


class SystemWire(WireModel):
    """Instructions."""

    role: Literal["system"]
    content: Text | TextParts


class DeveloperWire(WireModel):
    """Instructions, by OpenAI's newer name of the role."""

    role: Literal["developer"]
    content: Text | TextParts


class UserWire(WireModel):
    """What the user says."""

    role: Literal["user"]
    content: (
        Text | Annotated[list[Annotated[TextPart, Field(discriminator="type")]], Field(min_length=1, max_length=1_000)]
    )


AssistantPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]


class AssistantWire(WireModel):
    """What the assistant said, or which tools it called."""

    role: Literal["assistant"]
    content: Text | Annotated[list[AssistantPart], Field(min_length=1, max_length=1_000)] | None = None
    refusal: Text | None = None
    tool_calls: Annotated[list[WireToolCall], Field(min_length=1, max_length=128)] | None = None


class ToolWire(WireModel):
    """The result of a call."""

    role: Literal["tool"]
    content: Text | TextParts
    tool_call_id: Annotated[str, Field(min_length=1, max_length=128)]


WireMessage = Annotated[SystemWire | DeveloperWire | UserWire | AssistantWire | ToolWire, Field(discriminator="role")]


class FunctionWire(WireModel):
    """A function that the client offers."""

    name: Identifier
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionToolWire(WireModel):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: FunctionWire


class NamedFunction(WireModel):
    """A function by its name."""

    name: Identifier


class NamedToolChoice(WireModel):
    """The one function to call."""

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(WireModel):
    """Some of the offered functions."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedToolChoice], Field(min_length=1, max_length=128)]


class AllowedToolsChoice(WireModel):
    """A choice among some of the offered functions."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoice = (
    Literal["none", "auto", "required"] | Annotated[NamedToolChoice | AllowedToolsChoice, Field(discriminator="type")]
)


class TextFormat(WireModel):
    """Any text."""

    type: Literal["text"]


class JsonObjectFormat(WireModel):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(WireModel):
    """A JSON schema. The model is always constrained by it, strict or not."""

    name: Identifier
    description: Text | None = None
    json_schema: dict[str, Any] = Field(default={}, alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(WireModel):
    """JSON that a schema describes."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class RegexFormat(WireModel):
    """Text that matches a regular expression as a whole (an addition of ours)."""

    type: Literal["regex"]
    regex: Annotated[str, Field(min_length=1, max_length=4_096)]


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat | RegexFormat, Field(discriminator="type")]


class StreamOptions(WireModel):
    """What a stream has besides the text."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


Penalty = Annotated[float, Field(ge=-2, le=2)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
LogitBias = Annotated[
    dict[Annotated[str, Field(pattern=r"^[0-9]{1,7}$")], Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=1_024),
]


class SamplingWire(WireModel):
    """How tokens are chosen: the fields that chat and completions share. `top_k` and `min_tokens` are vLLM's additions."""

    model: ModelName
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1_000_000)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    seed: Seed | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    user: Label | None = None


class ChatRequest(SamplingWire):
    """A conversation to answer. `truncation: "auto"` leaves out the oldest rounds of one that is too long, and says so."""

    messages: Annotated[list[WireMessage], Field(min_length=1, max_length=2_048)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[FunctionToolWire], Field(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    metadata: Metadata | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    truncation: Literal["disabled", "auto"] | None = None
