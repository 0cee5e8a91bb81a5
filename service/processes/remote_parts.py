"""What a gateway has elsewhere instead of in its own process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from assistant.tools.tool_registry import ToolRegistry
from service.answers.assistants import OpenDocuments


def find_none() -> dict[str, str]:
    """Return no problems."""
    return {}


@dataclass(frozen=True)
class RemoteParts:
    """Where documents and tools are, None: here. `find_problems` says by name which parts do not answer, for /ready."""

    open_documents: OpenDocuments | None = None
    registry: ToolRegistry | None = None
    find_problems: Callable[[], dict[str, str]] = find_none
