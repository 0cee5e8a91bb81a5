"""The setting of one MCP server whose tools a service uses."""

from __future__ import annotations

import re
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from assistant.tools.tool_declaration import Effect


class McpSetting(BaseModel):
    """An MCP server: a command that is started, or an address. `environment`: variables of this process that it gets; `token`: the
    variable with the bearer token of an address. `effects`: what its tools do; by default the worst. `tools`: those that may be
    called (none: all that are approved)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: list[str] = Field(default=[], max_length=100)
    url: str = ""
    environment: list[str] = Field(default=[], max_length=50)
    token: str = ""
    effects: list[Effect] = Field(default=["leaves", "writes"], max_length=4)
    tools: list[str] = Field(default=[], max_length=200)
    max_seconds: float = Field(default=20.0, gt=0, le=300)

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("needs a command or a url, and not both")
        if self.url and not re.match(r"https?://[^/\s]+", self.url):
            raise ValueError("url must begin with http:// or https://")
        return self
