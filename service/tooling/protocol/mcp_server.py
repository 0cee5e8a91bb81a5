"""Offer our tools by the Model Context Protocol: over HTTP to whoever has a key, over standard input to whoever starts it.

In: a function that returns the guarded tools of a request. Out: the server of the MCP library, which lists those tools with their
schemas and effects and runs calls, each decided about and reported like one of the model. An error is a result with `isError`.

Covers: tools of a caller's tenant, search over its documents. Does not cover: resources, prompts, sampling; what the client's
window holds: its host has to ask its user before it calls a tool that is not read-only (the annotations say which).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent, Tool, ToolAnnotations

from assistant.tools.tool_declaration import ToolDeclaration
from assistant.tools.tool_registry import declare_search
from assistant.tools.toolbox import AnswerAbortedError
from service.tooling.guarded_tools import GuardedTools

GetTools = Callable[[Any], GuardedTools]  # the HTTP request, None on standard input


def make_mcp_server(version: str, get_tools: GetTools) -> Server[Any]:
    """Return the server. `get_tools` is called in a worker thread."""

    async def list_tools(context: Any, params: Any) -> ListToolsResult:
        tools = await asyncio.to_thread(get_tools, context.request)
        return ListToolsResult(tools=[describe_tool(each) for each in list_declarations(tools)])

    async def call_tool(context: Any, params: CallToolRequestParams) -> CallToolResult:
        def call() -> str:
            return get_tools(context.request).call(params.name, params.arguments or {}).text

        try:
            text = await asyncio.to_thread(call)
        except AnswerAbortedError as error:
            text = f"error: {error}"
        return CallToolResult(content=[TextContent(text=text)], is_error=text.startswith("error: "))

    return Server("minigpt", version=version, on_list_tools=list_tools, on_call_tool=call_tool)


def list_declarations(tools: GuardedTools) -> list[ToolDeclaration]:
    """Return the declarations of a caller's tools, search_docs included where there are documents."""
    found = {each.name: each for each in tools.registry}
    if tools.documents is not None:
        found.setdefault("search_docs", declare_search(tools.documents))
    return [found[name] for name in tools.names]


def describe_tool(declaration: ToolDeclaration) -> Tool:
    """Return a tool as the protocol describes it."""
    effects = declaration.effects
    annotations = ToolAnnotations(
        read_only_hint=not effects & {"writes", "runs"},
        destructive_hint="writes" in effects,
        open_world_hint="leaves" in effects,
    )
    return Tool(
        name=declaration.name,
        description=declaration.description,
        input_schema={"type": "object", **declaration.parameters},
        annotations=annotations,
    )


async def serve_stdio(server: Server[Any]) -> None:
    """Serve standard input until it ends."""
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())
