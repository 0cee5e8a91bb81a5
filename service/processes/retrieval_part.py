"""The part `retrieval`: the documents of all tenants, for gateways; and those documents as a gateway sees them.

In: questions to a tenant's documents. Out: what model.retrieval's searcher returns, to the byte. Documents are opened once per
tenant and selection of collections; whatever is wrong with them is the error of the search, as in one process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from threading import Lock

from assistant.inference.model_choice import ModelChoice
from assistant.tools.toolbox import Documents, OwnDocuments, Search, make_tools
from service.access.caller import LOCAL_TENANT
from service.access.tenant_files import TenantFiles
from service.inference.part_client import PartClient
from service.processes.part_protocol import SearchCall, decode
from service.processes.part_server import PartRoutes

OpenDocuments = Callable[[str, tuple[str, ...], bool], Documents | None]  # tenant, collections, has_documentation
EMPTY = Search("", ())


@dataclass(frozen=True)
class RetrievalAbout:
    """What the part says about itself: how many sections its index has."""

    n_sections: int


class RetrievalPart:
    """The calls of the part. `open_documents` opens those of a tenant."""

    def __init__(
        self, open_documents: OpenDocuments, workers: Executor, find_version: Callable[[], object] = lambda: None
    ) -> None:
        """`find_version`: names the version of the documents; when it changes, all are opened anew."""
        self._open, self._workers, self._find_version = open_documents, workers, find_version
        self._version: object = None
        self._documents: dict[tuple[str, tuple[str, ...], bool], Documents | None] = {}
        self._lock = Lock()

    def make_routes(self) -> PartRoutes:
        """Return the calls by name."""
        calls = {
            "search": self._make_call(self.search),
            "covers": self._make_call(self.covers),
            "list_answering": self._make_call(self.list_answering),
            "count": self._make_call(self.count),
        }
        return PartRoutes("retrieval", lambda: RetrievalAbout(self.count(SearchCall(LOCAL_TENANT))), {}, calls)

    def search(self, call: SearchCall) -> Search:
        """Search the documents."""
        documents = self._get(call)
        return EMPTY if documents is None else documents.search(call.query, call.limit, call.question)

    def covers(self, call: SearchCall) -> bool:
        """Return whether a question may be about the tenant's own documents."""
        documents = self._get(call)
        return isinstance(documents, OwnDocuments) and documents.covers(call.question)

    def list_answering(self, call: SearchCall) -> tuple[str, ...]:
        """Return the titles of the tenant's own documents that certainly answer."""
        documents = self._get(call)
        if not isinstance(documents, OwnDocuments) or call.found is None:
            return ()
        return documents.list_answering(call.question, call.found)

    def count(self, call: SearchCall) -> int:
        """Return the number of sections; -1: there are no documents at all."""
        documents = self._get(call)
        return -1 if documents is None else len(documents)

    def _get(self, call: SearchCall) -> Documents | None:
        key, version = (call.tenant, call.collections, call.has_documentation), self._find_version()
        with self._lock:
            if version != self._version:
                self._version = version
                self._documents.clear()
            if key not in self._documents:
                self._documents[key] = self._open(*key)
            return self._documents[key]

    def _make_call(self, function: Callable[[SearchCall], object]) -> Callable[[bytes], asyncio.Future[object]]:
        def call(body: bytes) -> asyncio.Future[object]:
            loop = asyncio.get_running_loop()
            return loop.run_in_executor(self._workers, lambda: function(decode(SearchCall, body)))

        return call


class RemoteDocuments:
    """The documents of a tenant in the part `retrieval`. `collection_names` are the user's own among them."""

    def __init__(self, client: PartClient, tenant: str, collections: tuple[str, ...], has_documentation: bool) -> None:
        self._client, self._key = client, (tenant, collections, has_documentation)
        self.collection_names = collections

    def __len__(self) -> int:
        return max(self._client.call("count", SearchCall(*self._key), int), 0)

    def search(self, query: str, limit: int = 3, question: str = "") -> Search:
        """Search. Raises: PartUnavailableError, ServiceError."""
        return self._client.call("search", SearchCall(*self._key, query, limit, question), Search)

    def covers(self, question: str) -> bool:
        """Return whether a question may be about the user's own documents."""
        if not self.collection_names:
            return False
        return self._client.call("covers", SearchCall(*self._key, question=question), bool)

    def list_answering(self, question: str, search: Search) -> tuple[str, ...]:
        """Return the titles of the user's own documents that certainly answer."""
        if not self.collection_names:
            return ()
        call = SearchCall(*self._key, question=question, found=search)
        return self._client.call("list_answering", call, tuple[str, ...])


def open_tenant_documents(choose: Callable[[], ModelChoice], files: TenantFiles) -> OpenDocuments:
    """Return what opens the documents of a tenant in this process, those of the version that `choose` names when it is called.

    Raises: ValueError for damaged ones.
    """

    def open_documents(tenant: str, collections: tuple[str, ...], has_documentation: bool) -> Documents | None:
        choice = choose()
        index, folder = choice.index if has_documentation else None, files.get_collections_folder(tenant)
        return make_tools(index, choice.embed, collections, folder).documents

    return open_documents


def open_remote_documents(client: PartClient) -> OpenDocuments:
    """Return what opens the documents of a tenant in the part; asks once whether there are any."""

    def open_documents(tenant: str, collections: tuple[str, ...], has_documentation: bool) -> Documents | None:
        has_any = client.call("count", SearchCall(tenant, collections, has_documentation), int) >= 0
        return RemoteDocuments(client, tenant, collections, has_documentation) if has_any else None

    return open_documents
