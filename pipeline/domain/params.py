"""Settings of `domain` in a task recipe's params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.frame.settings import ParamsSection

Template = Annotated[str, Field(min_length=1)]  # {field} is that field of an item; other braces are text


class Domain(ParamsSection):
    """How an item becomes a conversation: the user's message in one of several wordings, and the reply."""

    wordings: Annotated[list[Template], Field(min_length=1)]
    reply: Template
    system: str = ""  # a system prompt before each conversation
