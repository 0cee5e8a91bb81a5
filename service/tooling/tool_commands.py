"""python -m service tools [list | run | check | approve | mcp]: the tools of a service; without an action, the part `tools` of it.

    list      every tool with its effects and limits
    run       call one: run NAME ARGUMENT, an argument as the model writes it, or a JSON object
    check     what is off and why; exit code 1 if something is that the settings want
    approve   accept the present definitions of an MCP server: approve SERVER
    mcp       serve the tools to an MCP client on standard input

What you run here is decided by you: no policy is asked, but limits and jails hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.tools.tool_declaration import ToolDeclaration
from service.access.caller import LOCAL_TENANT, Caller
from service.answers.interfaces import Decision
from service.service_settings import ServiceSettings
from service.tooling.jail.cpython_jail import JailError
from service.tooling.tool_settings import choose_tools_file, load_tool_settings
from service.tooling.tooling import Tooling, ToolState

if TYPE_CHECKING:
    from service.tooling.protocol.mcp_client import McpConnection

MAX_SHOWN = 200  # characters of a description


def add_commands(subparsers: Any) -> None:
    """Add the actions to the command `tools`."""
    parser = subparsers.choices.get("tools")
    if parser is None:
        parser = subparsers.add_parser("tools", help="tools of a service")
    parser.description = __doc__
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=False)
    for name, run, about in (
        ("list", run_list, "every tool with its effects and limits"),
        ("run", run_tool, "call one tool"),
        ("check", run_check, "what is off and why"),
        ("approve", run_approve, "accept the present definitions of an MCP server"),
        ("mcp", run_mcp, "serve the tools to an MCP client on standard input"),
    ):
        action = actions.add_parser(name, help=about, description=about)
        action.add_argument("--tool-settings", type=Path, metavar="FILE", help="file of tool settings (docs/tools.md)")
        action.add_argument("--state", type=Path, default=Path("var/service"), help="state folder of the service")
        action.add_argument("--tenant", default=LOCAL_TENANT, help="whose tools (default: those for everybody)")
        action.set_defaults(run=run)
        if name in ("list", "check"):
            action.add_argument("--json", action="store_true", help="as JSON")
        if name == "run":
            action.add_argument("name", help="name of the tool")
            action.add_argument("argument", nargs="?", default="", help="its argument")
        if name == "approve":
            action.add_argument("server", help="name of the MCP server")


def run_list(args: argparse.Namespace) -> int:
    """Run the command. Return the exit code."""
    with closing(_open_tooling(args)) as tooling:
        registry = tooling.get_registry(args.tenant)
        declarations = sorted(registry, key=lambda each: each.name)
        if args.json:
            print(json.dumps([each.to_json() | {"origin": each.origin} for each in declarations], ensure_ascii=False))
            return 0
        for each in declarations:
            print(_describe(each))
        return 0


def run_tool(args: argparse.Namespace) -> int:
    """Run the command. Return the exit code: 1 if the tool fails."""
    with closing(_open_tooling(args)) as tooling:
        registry = tooling.get_registry(args.tenant)
        declaration = registry.get(args.name)
        if declaration is None:
            known = ", ".join(registry.names)
            raise ValueError(f"tools run: there is no tool {args.name[:80]!r}; found {known}; name one of them.")
        try:
            text = declaration.call_with_text(args.argument)
        except JailError as error:
            raise ValueError(f"tools run: {args.name} can't run; found {error}.") from error
        print(text)
        return 1 if text.startswith("error: ") else 0


def run_check(args: argparse.Namespace) -> int:
    """Run the command. Return the exit code: 1 if a tool is off that should be on."""
    with closing(_open_tooling(args)) as tooling:
        for connection in tooling.connections:
            _try_server(connection)
        states = tooling.describe()
        if args.json:
            print(json.dumps([_state_to_json(state) for state in states], ensure_ascii=False))
        else:
            for state in states:
                whose = f" ({state.tenant})" if state.tenant else ""
                print(f"{'off' if state.problem else 'ok ':3} {state.name}{whose}: {state.problem or state.about}")
        return 1 if any(state.problem for state in states) else 0


def run_approve(args: argparse.Namespace) -> int:
    """Run the command. Return the exit code."""
    with closing(_open_tooling(args)) as tooling:
        named = [each for each in tooling.connections if each.name == args.server]
        if not named:
            known = ", ".join(sorted({each.name for each in tooling.connections})) or "none"
            raise ValueError(f"tools approve: there is no MCP server {args.server[:80]!r}; found {known}; name one.")
        for connection in named:
            for tool in connection.approve():
                words = " ".join(tool.description.split())[:MAX_SHOWN]
                shown = "".join(each if each.isprintable() else "?" for each in f"{tool.name}: {words}")
                print(f"approved {shown}")
        return 0


def run_mcp(args: argparse.Namespace) -> int:
    """Run the command until the client ends. Return the exit code."""
    from service.tooling.protocol.mcp_server import make_mcp_server, serve_stdio

    caller = Caller(tenant=args.tenant)
    with closing(_open_tooling(args)) as tooling:
        tools = tooling.make_exposed_tools(None, caller, _OwnMachine())
        asyncio.run(serve_stdio(make_mcp_server("1", lambda request: tools.renew())))
    return 0


class _OwnMachine:
    """Allows what the person at this machine asks for; what a tool may do is in its settings."""

    def authorize(self, caller: Caller, action: str, resource: str, context: Any = None) -> Decision:
        return Decision(rules=("own-machine",))


def _open_tooling(args: argparse.Namespace) -> Tooling:
    settings = ServiceSettings(state=args.state, tool_settings=args.tool_settings)
    return Tooling(load_tool_settings(choose_tools_file(settings)), settings.state)


def _describe(declaration: ToolDeclaration) -> str:
    limits = declaration.limits
    effects = ", ".join(sorted(declaration.effects)) or "only computes"
    trust = "trusted" if declaration.is_trusted else "untrusted"
    bounds = f"{limits.max_seconds:g} s, {limits.max_memory_mb} MB"
    arguments = ", ".join(declaration.parameters.get("properties", {}))
    about = declaration.description[:MAX_SHOWN]
    return f"{declaration.name}({arguments}): {effects}; {bounds}; {trust} results; {declaration.origin}\n    {about}"


def _state_to_json(state: ToolState) -> dict[str, str]:
    return {"name": state.name, "about": state.about, "problem": state.problem, "tenant": state.tenant}


def _try_server(connection: McpConnection) -> None:
    try:
        connection.check()
    except ValueError as error:
        connection.problem = str(error)
