"""The part `tools`: declared tools run in a process of their own; and those tools as a gateway sees them.

In: calls that the gateway has decided about (rights, taint, limits: service/tooling). Out: their texts. A call is sent once: what a
tool does may not be done twice, so one that fails on its way is an error of the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from assistant.tools.tool_declaration import Effect, ToolDeclaration, ToolLimits
from assistant.tools.tool_registry import ToolRegistry
from service.inference.part_client import PartClient
from service.processes.part_protocol import decode
from service.processes.part_server import PartRoutes
from service.service_error import ServiceError


@dataclass(frozen=True)
class ToolAbout:
    """A declaration without its function."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    effects: frozenset[Effect]
    limits: ToolLimits
    is_trusted: bool
    origin: str


@dataclass(frozen=True)
class ToolsAbout:
    """What the part says about itself: its tools."""

    tools: tuple[ToolAbout, ...]


@dataclass(frozen=True)
class ToolRun:
    """One call of a tool, with the seconds that it may take."""

    name: str
    arguments: Mapping[str, Any]
    max_seconds: float


@dataclass(frozen=True)
class ToolOutcome:
    """What a tool returned, or how it failed."""

    text: str = ""
    failure: str = ""


class ToolsPart:
    """The calls of the part, over the registry of this process."""

    def __init__(self, registry: ToolRegistry, workers: Executor) -> None:
        self._registry, self._workers = registry, workers

    def make_routes(self) -> PartRoutes:
        """Return the calls by name."""
        return PartRoutes("tools", self.describe, {}, {"run": self.run})

    def describe(self) -> ToolsAbout:
        """Return the declarations."""
        return ToolsAbout(
            tuple(
                ToolAbout(
                    each.name,
                    each.description,
                    each.parameters,
                    each.effects,
                    each.limits,
                    each.is_trusted,
                    each.origin,
                )
                for each in self._registry
            )
        )

    async def run(self, body: bytes) -> ToolOutcome:
        """Run a tool. Whatever it does wrong is its outcome: the conversation continues."""
        call = decode(ToolRun, body)
        declaration = self._registry.get(call.name)
        if declaration is None:
            known = ", ".join(self._registry.names) or "none"
            return ToolOutcome(failure=f"there is no tool {call.name[:80]!r}; there are {known}")
        seconds = min(call.max_seconds, declaration.limits.max_seconds)
        loop = asyncio.get_running_loop()
        try:
            text = await loop.run_in_executor(self._workers, declaration.call, call.arguments, seconds)
        except (ValueError, ServiceError) as error:
            return ToolOutcome(failure=str(error))
        except Exception as error:  # its message may hold secrets
            return ToolOutcome(failure=f"{call.name} failed ({type(error).__name__})")
        return ToolOutcome(text)


def open_remote_tools(client: PartClient, patience_seconds: float = 0.0) -> ToolRegistry:
    """Return the tools of the part. Raises: ServiceError, PartUnavailableError if it does not answer for so long."""
    return ToolRegistry(_declare(client, about) for about in client.wait(ToolsAbout, patience_seconds).tools)


def _declare(client: PartClient, about: ToolAbout) -> ToolDeclaration:
    def call(arguments: Mapping[str, Any], max_seconds: float) -> str:
        outcome = client.call("run", ToolRun(about.name, arguments, max_seconds), ToolOutcome, is_repeatable=False)
        if outcome.failure:
            raise ValueError(outcome.failure)
        return outcome.text

    return ToolDeclaration(
        about.name,
        about.description,
        about.parameters,
        call,
        about.effects,
        about.limits,
        about.is_trusted,
        about.origin,
    )
