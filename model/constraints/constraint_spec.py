"""What an answer must match, as the compiler of constraints reads it: protocols, so that any caller's own classes will do.

Imports nothing: the assistant and the service name these types without loading the compiler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

Kind = Literal["json_schema", "json_object", "regex", "tools"]


class ToolSpec(Protocol):
    """A tool that may be called: its name and the JSON schema of its arguments."""

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> Mapping[str, Any]: ...


class ConstraintSpec(Protocol):
    """A constraint. `must_call`: the answer must be a call of one of `tools`; else it is a call or text."""

    @property
    def kind(self) -> Kind: ...

    @property
    def schema(self) -> Mapping[str, Any]: ...

    @property
    def regex(self) -> str: ...

    @property
    def tools(self) -> Sequence[ToolSpec]: ...

    @property
    def must_call(self) -> bool: ...
