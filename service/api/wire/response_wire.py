"""The request of /v1/responses (OpenAI's Responses API, as Open Responses specifies it)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from service.api.wire.chat_wire import JsonObjectFormat, Penalty, RegexFormat, TextFormat
from service.api.wire.wire_model import Identifier, Label, Metadata, ModelName, Seed, Text, WireModel

CallId = Annotated[str, Field(min_length=1, max_length=128)]


class InputTextPart(WireModel):
    """A text that is given."""

    type: Literal["input_text"]
    text: Text


class OutputTextPart(WireModel):
    """A text that an earlier answer had."""

    type: Literal["output_text"]
    text: Text
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class RefusalItemPart(WireModel):
    """A refusal that an earlier answer had; it is read as text."""

    type: Literal["refusal"]
    refusal: Text


ItemPart = Annotated[InputTextPart | OutputTextPart | RefusalItemPart, Field(discriminator="type")]


class MessageItem(WireModel):
    """A message. `type` may be left out."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | Annotated[list[ItemPart], Field(min_length=1, max_length=1_000)]
    id: CallId | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallItem(WireModel):
    """A call in the history."""

    type: Literal["function_call"]
    call_id: CallId
    name: Identifier
    arguments: Text
    id: CallId | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class FunctionOutputItem(WireModel):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: CallId
    output: (
        Text
        | Annotated[list[Annotated[InputTextPart, Field(discriminator="type")]], Field(min_length=1, max_length=1_000)]
    )
    id: CallId | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


def _get_kind(item: Any) -> str:
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", "message")
    return kind if isinstance(kind, str) else "message"


ResponseItem = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")],
    Discriminator(_get_kind),
]


class FlatFunction(WireModel):
    """A function that the client offers."""

    type: Literal["function"]
    name: Identifier
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FlatChoice(WireModel):
    """The one function to call."""

    type: Literal["function"]
    name: Identifier


class FlatAllowedTools(WireModel):
    """Some of the offered functions."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[FlatChoice], Field(min_length=1, max_length=128)]


class FlatSchemaFormat(WireModel):
    """JSON that a schema describes."""

    type: Literal["json_schema"]
    name: Identifier
    description: Text | None = None
    json_schema: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class TextConfig(WireModel):
    """What the text of the answer must be."""

    format: (
        Annotated[TextFormat | JsonObjectFormat | FlatSchemaFormat | RegexFormat, Field(discriminator="type")] | None
    ) = None
    verbosity: Literal["medium"] | None = None


class ReasoningConfig(WireModel):
    """This model does not reason apart from its answer."""

    effort: Literal["none"] | None = None
    summary: None = None


class ResponseStreamOptions(WireModel):
    """Options of a stream."""

    include_obfuscation: Literal[False] | None = None


class ResponseRequest(WireModel):
    """A text or items to answer."""

    model: ModelName
    input: Text | Annotated[list[ResponseItem], Field(min_length=1, max_length=2_048)]
    instructions: Text | None = None
    previous_response_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: Annotated[list[Literal["message.output_text.logprobs"]], Field(max_length=10)] | None = None
    tools: Annotated[list[Annotated[FlatFunction, Field(discriminator="type")]], Field(max_length=128)] | None = None
    tool_choice: (
        Literal["none", "auto", "required"]
        | Annotated[FlatChoice | FlatAllowedTools, Field(discriminator="type")]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    metadata: Metadata | None = None
    truncation: Literal["disabled", "auto"] | None = None
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
