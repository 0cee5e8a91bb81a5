"""The requests and responses that need no generation: embeddings, rerank, tokenize, detokenize, models, health."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from service.api.wire.completion_wire import TokenIds
from service.api.wire.wire_model import Label, ModelName, ReplyModel, Text, WireModel

InputText = Annotated[str, Field(min_length=1, max_length=100_000)]


class EmbeddingRequest(WireModel):
    """Texts to embed. `dimensions` must be the model's own: its vectors can't be cut."""

    model: ModelName
    input: (
        InputText
        | Annotated[list[InputText], Field(min_length=1, max_length=2_048)]
        | TokenIds
        | Annotated[list[TokenIds], Field(min_length=1, max_length=2_048)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=65_536)] | None = None
    user: Label | None = None


class TextUsage(ReplyModel):
    """How many tokens the texts have."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingItem(ReplyModel):
    """One vector: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingReply(ReplyModel):
    """Vectors in the order of the texts."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: TextUsage


class RerankDocument(WireModel):
    """A document of a request."""

    text: InputText


class RerankRequest(WireModel):
    """Documents to order by a query, in the shape of Cohere and Jina."""

    model: ModelName
    query: InputText
    documents: Annotated[list[InputText | RerankDocument], Field(min_length=1, max_length=1_000)]
    top_n: Annotated[int, Field(ge=1, le=1_000)] | None = None
    return_documents: bool | None = None


class RerankedText(ReplyModel):
    """The text of a result."""

    text: str


class RerankResult(ReplyModel):
    """One document: its index in the request and its score from 0 to 1."""

    index: int
    relevance_score: float
    document: RerankedText | None = None


class RerankReply(ReplyModel):
    """Results, best first."""

    id: str
    model: str
    results: list[RerankResult]
    usage: TextUsage
    meta: dict[str, Any]


class TokenizeRequest(WireModel):
    """A text to encode, in vLLM's shape. No special tokens are added, and none are read from the text."""

    model: ModelName | None = None
    prompt: Text
    add_special_tokens: Literal[False] | None = None
    return_token_strs: bool | None = None


class TokenizeReply(ReplyModel):
    """The tokens of a text."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeRequest(WireModel):
    """Tokens to decode."""

    model: ModelName | None = None
    tokens: Annotated[list[Annotated[int, Field(ge=0, le=2**31 - 1)]], Field(max_length=100_000)]


class DetokenizeReply(ReplyModel):
    """The text of tokens."""

    prompt: str


class ProfileReply(ReplyModel):
    """What a profile is."""

    name: str
    greeting: str
    examples: list[str]
    grounding: str
    documentation: bool
    collections: list[str]
    tools: list[str]


class ModelReply(ReplyModel):
    """One model: the assistant, a profile of it, or the model itself (`/direct`)."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    minigpt: ProfileReply | None


class ModelsReply(ReplyModel):
    """All models of a service."""

    object: Literal["list"]
    data: list[ModelReply]


class HealthReply(ReplyModel):
    """That the process answers."""

    status: Literal["ok"]


class ReadyReply(ReplyModel):
    """Whether requests are taken. `problems`: part → what is wrong; `notices`: part → what is off or worth knowing, though requests
    are taken."""

    status: Literal["ready", "not_ready"]
    problems: dict[str, str]
    notices: dict[str, str]


class VersionReply(ReplyModel):
    """What is served."""

    name: str
    version: str
    phase: str
    n_parameters: int
    seq_len: int
    vocab_size: int
    weights: str
    fingerprint: str
    lineage: dict[str, str]
