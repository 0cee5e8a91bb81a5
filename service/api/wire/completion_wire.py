"""The request of /v1/completions: a text to continue, by the model itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from service.api.wire.chat_wire import SamplingWire
from service.api.wire.wire_model import Text, TokenId

TokenIds = Annotated[list[TokenId], Field(min_length=1, max_length=100_000)]
Prompts = Annotated[list[Text], Field(min_length=1, max_length=64)]
TokenPrompts = Annotated[list[TokenIds], Field(min_length=1, max_length=64)]


class CompletionRequest(SamplingWire):
    """Texts to continue. Each prompt gets `n` choices."""

    prompt: Text | Prompts | TokenIds | TokenPrompts
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Annotated[int, Field(ge=1, le=20)] | None = None
