"""Make the tools that an MCP client of a caller may call, with search over the documentation and the caller's collections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from assistant.knowledge.collection import list_collections
from assistant.tools.toolbox import Documents
from service.access.caller import Caller
from service.access.tenant_files import TenantFiles
from service.answers.assistants import OpenDocuments
from service.answers.interfaces import Authorizer, ContentPolicy
from service.tooling.guarded_tools import GuardedTools, ToolUse
from service.tooling.tooling import Tooling

Record = Callable[[Caller, str, str, str, Mapping[str, Any]], object]  # caller, event, subject, about whom, details


def ignore_record(caller: Caller, what: str, subject: str, about: str, details: Mapping[str, Any]) -> None:
    """Record nothing."""


@dataclass(frozen=True)
class ExposedTools:
    """The tools for MCP clients. Collections are searched that the caller may read (action read_collection)."""

    tooling: Tooling
    authorizer: Authorizer
    content: ContentPolicy | None
    files: TenantFiles
    open_documents: OpenDocuments
    record: Record = ignore_record
    _lock: Lock = field(default_factory=Lock)
    _documents: dict[tuple[str, tuple[str, ...]], Documents | None] = field(
        default_factory=dict[tuple[str, tuple[str, ...]], Documents | None]
    )

    def get_tools(self, caller: Caller) -> GuardedTools:
        """Return the guarded tools of a caller."""
        names = list_collections(self.files.get_collections_folder(caller.tenant))
        readable = tuple(name for name in names if self._may_read(caller, name))
        with self._lock:
            if (caller.tenant, readable) not in self._documents:
                self._documents[caller.tenant, readable] = self.open_documents(caller.tenant, readable, True)
            documents = self._documents[caller.tenant, readable]
        return self.tooling.make_exposed_tools(documents, caller, self.authorizer, self.content, self._record)

    def _record(self, use: ToolUse) -> None:
        """Put a call into the audit log; its text stays with the caller."""
        details = {"verdict": use.verdict, "decided_by": list(use.decided_by)}
        self.record(use.caller, "mcp.use_tool", use.tool, "", details)

    def _may_read(self, caller: Caller, collection: str) -> bool:
        return self.authorizer.authorize(caller, "read_collection", collection, {"collection": collection}).is_allowed
