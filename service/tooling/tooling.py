"""All tools of a service: opened from settings, described, given to conversations, closed.

In: `ToolSettings`. Out: `Tooling`: a registry for everybody and one for each tenant that has tools of its own, guarded tools for an
answer, and what is wrong with them. A tool whose setting can't work is an error when the service starts; one whose machine can't
(no jail here, an MCP server that does not answer) is off, with the reason in `describe`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock

from assistant.profiles.profile import Profile
from assistant.tools.tool_declaration import ToolDeclaration
from assistant.tools.tool_files import ToolFiles, get_tools_folder
from assistant.tools.tool_registry import ToolRegistry, describe_builtins
from assistant.tools.toolbox import SEARCH_TOOL, Tools
from service.access.caller import Caller
from service.answers.interfaces import Authorizer, ContentPolicy
from service.tooling.guarded_tools import GuardedTools, ToolBudget, ToolGuard, ToolUse, ignore_use
from service.tooling.jail.code_tool import CodeTool, open_code_tool
from service.tooling.sources.fetch_page import declare_fetch
from service.tooling.sources.sql_tool import SqlTool
from service.tooling.tool_settings import TenantTools, ToolSettings


@dataclass(frozen=True)
class ToolState:
    """One tool or source of tools as people see it: what it is, and why it is off (empty: it is on)."""

    name: str
    about: str
    problem: str = ""
    tenant: str = ""


class Tooling:
    """The tools of a service. Thread-safe. Close it to end their processes. `registry`: where all tools are in another process."""

    def __init__(self, settings: ToolSettings | None = None, registry: ToolRegistry | None = None) -> None:
        self.settings = settings or ToolSettings()
        self._stack, self._lock = ExitStack(), Lock()
        self._states: list[ToolState] = []
        self._tenants: dict[str, ToolRegistry] = {}
        try:
            self.registry = registry or self._open_shared()
            for tenant, own in self.settings.tenants.items():
                self._tenants[tenant] = self._open_tenant(own, tenant)
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
        return list(self._states)

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
        names = (*tools.names, *(profile.tools if profile is not None else ()))
        settings = self.settings
        guard = ToolGuard(
            caller,
            authorizer,
            profile_name,
            content,
            ToolBudget(settings.max_calls, settings.max_seconds),
            frozenset(settings.trusted_collections),
            report,
        )
        kept = ToolRegistry([each for each in registry if each.name in names])
        documents = tools.documents if SEARCH_TOOL in names else None
        return GuardedTools(kept, documents, guard, previous.taint if isinstance(previous, GuardedTools) else None)

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
        self._states += [ToolState(each.name, each.origin, tenant=tenant) for each in declarations]
        return declarations


def make_registry(settings: ToolSettings) -> ToolRegistry:
    """Return the tools for everybody, as a process that runs nothing else has them; they live as long as it."""
    return Tooling(settings.model_copy(update={"tenants": {}})).registry


def _describe_code(code: CodeTool) -> ToolState:
    if code.declaration is None:
        return ToolState("run_code", "Python in a jail", code.about if code.is_wanted else "")
    return ToolState("run_code", code.about)
