"""Make the tools that an MCP client of a caller may call, with search over the documentation and the caller's collections."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

from assistant.knowledge.collection import list_collections
from assistant.tools.toolbox import Documents
from service.access.caller import Caller
from service.access.tenant_files import TenantFiles
from service.answers.assistants import OpenDocuments
from service.answers.interfaces import Authorizer, ContentPolicy
from service.tooling.guarded_tools import GuardedTools
from service.tooling.tooling import Tooling


@dataclass(frozen=True)
class ExposedTools:
    """The tools for MCP clients. Collections are searched that the caller may read (action read_collection)."""

    tooling: Tooling
    authorizer: Authorizer
    content: ContentPolicy | None
    files: TenantFiles
    open_documents: OpenDocuments
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
        return self.tooling.make_exposed_tools(documents, caller, self.authorizer, self.content)

    def _may_read(self, caller: Caller, collection: str) -> bool:
        return self.authorizer.authorize(caller, "read_collection", collection, {"collection": collection}).is_allowed
