"""Settings of `domain` in a task recipe's params.yaml."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, model_validator

from pipeline.frame.settings import ParamsSection

FIELD = re.compile(r"\{(\w+)\}")
Template = Annotated[str, Field(min_length=1)]  # {field} is that field of an item; other braces are text


class Domain(ParamsSection):
    """How an item becomes a conversation: the user's message in one of several wordings, and the reply."""

    wordings: Annotated[list[Template], Field(min_length=1)]
    reply: Template
    system: str = ""  # a system prompt before each conversation
    sentences_of: str | None = (
        None  # a field whose sentences the reply is one of; null: it is one of the replies in train
    )

    @model_validator(mode="after")
    def check_fields(self) -> Domain:
        if not all(FIELD.search(wording) for wording in self.wordings):
            raise ValueError("wordings: each one must contain a {field} of the items")
        if self.sentences_of is not None and not any(
            f"{{{self.sentences_of}}}" in wording for wording in self.wordings
        ):
            raise ValueError(f"sentences_of: no wording contains {{{self.sentences_of}}}")
        return self
