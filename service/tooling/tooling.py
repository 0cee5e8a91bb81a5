"""All tools of a service: opened from settings, described, given to conversations, closed.

In: `ToolSettings`, the state folder. Out: `Tooling`: a registry for everybody and one for each tenant that has tools of its own,
guarded tools for an answer, and what is wrong with them. A tool whose setting can't work is an error when the service starts; one
whose machine can't (no jail here, an MCP server that does not answer) is off, with the reason in `describe`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.profiles.profile import Profile
from assistant.tools.tool_declaration import ToolDeclaration
from assistant.tools.tool_files import ToolFiles, get_tools_folder
from assistant.tools.tool_registry import ToolRegistry, check_tool_names, describe_builtins
from assistant.tools.toolbox import SEARCH_TOOL, TOOLS, Documents, Tools
from service.access.caller import Caller
from service.answers.interfaces import Authorizer, ContentPolicy
from service.service_error import ServiceError
from service.tooling.guarded_tools import GuardedTools, ToolBudget, ToolGuard, ToolUse, ignore_use
from service.tooling.jail.code_tool import CodeTool, open_code_tool
from service.tooling.protocol.approved_tools import ApprovedTools
from service.tooling.protocol.mcp_setting import McpSetting
from service.tooling.sources.fetch_page import declare_fetch
from service.tooling.sources.sql_tool import SqlTool
from service.tooling.taint import KnownAnswers
from service.tooling.tool_settings import TenantTools, ToolSettings

if TYPE_CHECKING:
    from service.tooling.protocol.mcp_client import LoopThread, McpConnection

APPROVED_FILE = "approved_tools.json"


@dataclass(frozen=True)
class ToolState:
    """One tool or source of tools as people see it: what it is, and why it is off (empty: it is on)."""

    name: str
    about: str
    problem: str = ""
    tenant: str = ""


class Tooling:
    """The tools of a service. Thread-safe. Close it to end their processes. `state` is the folder where the approved definitions of
    MCP servers are kept; `registry`: where all tools are in another process."""

    def __init__(
        self, settings: ToolSettings | None = None, state: Path | None = None, registry: ToolRegistry | None = None
    ) -> None:
        self.settings = settings or ToolSettings()
        self._stack = ExitStack()
        self._states: list[ToolState] = []
        self.connections: list[McpConnection] = []
        self._approved = ApprovedTools(state / APPROVED_FILE if state is not None else None)
        self._loop: LoopThread | None = None
        self._known_answers = KnownAnswers()
        self._tenants: dict[str, ToolRegistry] = {}
        try:
            self.registry = registry or self._open_shared()
            for tenant, own in self.settings.tenants.items():
                self._tenants[tenant] = self._open_tenant(own, tenant)
            check_tool_names(self.settings.expose, self.names, "tools.expose")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the processes and connections."""
        self._stack.close()

    def get_registry(self, tenant: str = "") -> ToolRegistry:
        """Return the tools of a tenant: its own and those for everybody."""
        return self._tenants.get(tenant, self.registry)

    def describe(self) -> list[ToolState]:
        """Return the state of each tool and each source of tools."""
        servers = [
            ToolState(f"mcp.{each.name}", f"the MCP server {each.name}", each.problem, each.tenant)
            for each in self.connections
        ]
        return [*self._states, *servers]

    def find_problems(self) -> dict[str, str]:
        """Return what is off although the settings want it, by name."""
        return {state.name: state.problem for state in self.describe() if state.problem}

    def make_tools(
        self,
        tools: Tools,
        caller: Caller,
        authorizer: Authorizer,
        *,
        profile: Profile | None = None,
        profile_name: str = "",
        content: ContentPolicy | None = None,
        report: Callable[[ToolUse], None] = ignore_use,
        previous: Tools | None = None,
    ) -> GuardedTools:
        """Return the tools of one answer, guarded: those that the profile lists, or without one what the model was trained to call.

        `tools` brings the documents; `previous` are those of the conversation's last answer, whose taint stays.
        """
        registry = self.get_registry(caller.tenant)
        names = profile.tools if profile is not None else tools.names
        try:
            check_tool_names(names, {*registry.names, SEARCH_TOOL}, f"profile {profile_name}: tools")
        except ValueError as error:
            raise ServiceError(500, str(error), code="invalid_profile", param="model") from error
        settings = self.settings
        guard = ToolGuard(
            caller,
            authorizer,
            profile_name,
            content,
            ToolBudget(settings.max_calls, settings.max_seconds),
            frozenset(settings.trusted_collections),
            report,
            self._known_answers,
        )
        kept = ToolRegistry([each for each in registry if each.name in names])
        documents = tools.documents if SEARCH_TOOL in names else None
        return GuardedTools(kept, documents, guard, previous.taint if isinstance(previous, GuardedTools) else None)

    def make_exposed_tools(
        self,
        documents: Documents | None,
        caller: Caller,
        authorizer: Authorizer,
        content: ContentPolicy | None = None,
        report: Callable[[ToolUse], None] = ignore_use,
    ) -> GuardedTools:
        """Return what an MCP client of a caller may call: what the model was trained to call, search, and the setting `expose`."""
        offered = {*TOOLS, *self.settings.expose}
        kept = ToolRegistry([each for each in self.get_registry(caller.tenant) if each.name in offered])
        budget = ToolBudget(self.settings.max_calls, self.settings.max_seconds)
        trusted = frozenset(self.settings.trusted_collections)
        guard = ToolGuard(caller, authorizer, "", content, budget, trusted, report)
        return GuardedTools(kept, documents, guard)

    @property
    def names(self) -> frozenset[str]:
        """The names of all tools, of every tenant: what profiles may list."""
        registries = (self.registry, *self._tenants.values())
        return frozenset({SEARCH_TOOL, *(name for registry in registries for name in registry.names)})

    def list_notices(self) -> dict[str, str]:
        """Return for /ready what runs code, and what is off."""
        states = [state for state in self.describe() if state.problem or state.name == "run_code"]
        return {f"tools.{state.name}": state.problem or state.about for state in states}

    def _open_shared(self) -> ToolRegistry:
        files = ToolFiles(self.settings.files or get_tools_folder())
        self._stack.callback(files.close)
        code = open_code_tool(self.settings.code)
        self._states += [ToolState(each.name, each.origin) for each in (*describe_builtins(), *files.declarations)]
        self._states.append(_describe_code(code))
        found = [code.declaration] if code.declaration is not None else []
        return ToolRegistry([*describe_builtins(), *files.declarations, *found, *self._open_own(self.settings, "")])

    def _open_tenant(self, own: TenantTools, tenant: str) -> ToolRegistry:
        """Return the shared tools and a tenant's; a tool of both (run_sql, fetch_page) has what both allow."""
        shared = self.settings
        fetch = own.fetch
        if own.fetch is not None and shared.fetch is not None:
            fetch = own.fetch.model_copy(update={"allow": [*own.fetch.allow, *shared.fetch.allow]})
        if twice := sorted(own.databases.keys() & shared.databases.keys()):
            raise ValueError(
                f"tools.tenants.{tenant}.databases.{twice[0]} exists twice; found it in tools.databases; rename one."
            )
        databases = {**own.databases, **shared.databases} if own.databases else {}
        opened = self._open_own(TenantTools(databases=databases, fetch=fetch, mcp=own.mcp), tenant)
        names = {each.name for each in opened if each.name in ("run_sql", "fetch_page")}
        return ToolRegistry([*(each for each in self.registry if each.name not in names), *opened])

    def _open_own(self, settings: TenantTools, tenant: str) -> list[ToolDeclaration]:
        """Open the tools of a tenant, or of everybody (the empty name)."""
        declarations: list[ToolDeclaration] = []
        if settings.databases:
            sql = SqlTool(settings.databases)
            self._stack.callback(sql.close)
            declarations.append(sql.declaration)
        if settings.fetch is not None:
            declarations.append(declare_fetch(settings.fetch))
        for name, setting in settings.mcp.items():
            declarations += self._open_server(name, setting, tenant)
        self._states += [ToolState(each.name, each.origin, tenant=tenant) for each in declarations]
        return declarations

    def _open_server(self, name: str, setting: McpSetting, tenant: str) -> list[ToolDeclaration]:
        from service.tooling.protocol.mcp_client import LoopThread, McpConnection  # half a second and 25 MB

        if self._loop is None:
            self._loop = LoopThread()
            self._stack.callback(self._loop.close)
        connection = McpConnection(name, setting, self._approved, self._loop, tenant)
        self.connections.append(connection)
        self._stack.callback(connection.close)
        return connection.declare()


def make_registry(settings: ToolSettings, state: Path | None = None) -> ToolRegistry:
    """Return the tools for everybody, as a process that runs nothing else has them; they live as long as it."""
    return Tooling(settings.model_copy(update={"tenants": {}}), state).registry


def _describe_code(code: CodeTool) -> ToolState:
    if code.declaration is None:
        return ToolState("run_code", "Python in a jail", code.about if code.is_wanted else "")
    return ToolState("run_code", code.about)
