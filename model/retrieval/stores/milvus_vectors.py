"""Store vectors in a Milvus server, or in a file of Milvus Lite, which is for tests and tries only.

In and out: as every `VectorStore`. One Milvus collection holds the vectors of one segment; a snapshot is a small file that names
server and collection. Every call has a time limit, and a server that is down raises ValueError, upon which a search goes on
without vectors. Deleting the segment drops the collection. pymilvus comes with the extra `retrieval`; docs/stores.md has a
guide.

Covers: requests that fail, answers that come late. Does not cover: a token in the URI is kept in the snapshot; name it by
MILVUS_TOKEN instead.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from model.retrieval.bm25 import Ranked
from model.retrieval.mapped_arrays import describe_foreign
from model.retrieval.stores.vectors import Ids, Vectors

FILE = "milvus.json"
TIMEOUT_SECONDS = 5.0  # of a search: the conversation waits for it
RETRY_SECONDS = 30.0  # between two tries of a server that is down: each takes its time limit
BATCH_ROWS = 5_000  # 5 MB a request, of the 64 MB that a server takes by default
Result = TypeVar("Result")


class MilvusStore:
    """Searches a collection of a Milvus server. `timeout_seconds` bounds each request."""

    def __init__(self, uri: str, name: str, width: int, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.uri, self.name, self.width, self.timeout_seconds = uri, name, width, timeout_seconds
        self._client: Any = None
        self._asked_again_at = 0.0

    @classmethod
    def open(cls, folder: Path, width: int) -> MilvusStore:
        """Open a snapshot; the server is asked with the first search. Raises: ValueError for a file that is missing or foreign."""
        path = folder / FILE
        try:
            about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            uri, name, stored = str(about["uri"]), str(about["collection"]), int(about["width"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(describe_foreign(path, f"{type(error).__name__}: {error}")) from error
        if stored != width:
            raise ValueError(describe_foreign(path, f"vectors of {stored} numbers, expected {width}"))
        return cls(uri, name, width)

    def __len__(self) -> int:
        def count() -> int:
            rows = self._connect().query(
                self.name, filter="id >= 0", output_fields=["count(*)"], timeout=self.timeout_seconds
            )
            return int(rows[0]["count(*)"])

        return self._ask(count)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors of unit length; an id that exists gets the new vector."""
        if vectors.shape != (len(ids), self.width) or not np.isfinite(vectors).all():
            raise ValueError(
                f"vectors must be finite and have the shape ({len(ids)}, {self.width}), got {vectors.shape}"
            )
        for start in range(0, len(ids), BATCH_ROWS):
            pairs = zip(ids[start : start + BATCH_ROWS].tolist(), vectors[start : start + BATCH_ROWS], strict=True)
            rows = [{"id": number, "vector": vector} for number, vector in pairs]
            self._ask(lambda rows=rows: self._connect().upsert(self.name, rows, timeout=10 * self.timeout_seconds))

    def search(self, vector: Vectors, limit: int) -> Ranked:
        """Return at most `limit` ids with their cosines, largest first."""
        if limit < 1 or not np.any(vector):
            return Ranked(np.zeros(0, np.int64), np.zeros(0, np.float32))
        query = [np.asarray(vector, np.float32)]
        hits: Any = self._ask(
            lambda: self._connect().search(
                self.name, query, limit=limit, timeout=self.timeout_seconds, consistency_level="Strong"
            )
        )
        found = [(int(hit["id"]), float(hit["distance"])) for hit in hits[0]]
        return Ranked(np.array([i for i, _ in found], np.int64), np.array([score for _, score in found], np.float32))

    def delete(self, ids: Ids) -> None:
        """Remove vectors; an unknown id has no effect."""
        if len(ids):
            self._ask(lambda: self._connect().delete(self.name, ids=ids.tolist(), timeout=self.timeout_seconds))

    def snapshot(self, folder: Path) -> None:
        """Make the server write what it holds, and note server and collection in the folder."""
        self._ask(lambda: self._connect().flush(self.name, timeout=10 * self.timeout_seconds))
        about = {"uri": self.uri, "collection": self.name, "width": self.width}
        (folder / FILE).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def drop(self) -> None:
        """Delete the collection with everything in it."""
        self._ask(lambda: self._connect(make=False).drop_collection(self.name, timeout=self.timeout_seconds))

    def close(self) -> None:
        """End the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connect(self, *, make: bool = True) -> Any:
        if self._client is None:
            self._client = import_milvus().MilvusClient(
                self.uri, token=os.environ.get("MILVUS_TOKEN", ""), timeout=self.timeout_seconds
            )
        if make and not self._client.has_collection(self.name, timeout=self.timeout_seconds):
            self._client.create_collection(
                self.name,
                dimension=self.width,
                metric_type="COSINE",
                consistency_level="Strong",
                timeout=self.timeout_seconds,
            )
        return self._client

    def _ask(self, request: Callable[[], Result]) -> Result:
        """Run a request. Raises: ValueError that names the server for whatever goes wrong between here and there."""
        milvus = import_milvus()
        if time.monotonic() < self._asked_again_at:
            raise ValueError(
                f"the vector store {self.uri} did not answer a moment ago; it is asked again in {RETRY_SECONDS:.0f} s"
            )
        try:
            return request()
        except (milvus.MilvusException, OSError, TimeoutError) as error:
            self._client, self._asked_again_at = None, time.monotonic() + RETRY_SECONDS
            message = " ".join(str(error).split())[:200]
            raise ValueError(
                f"the vector store {self.uri} does not answer; found {type(error).__name__}: {message}; start it, or rebuild the "
                "collection with --store exact"
            ) from error


def import_milvus() -> Any:
    """Return the module. Raises: ValueError if it is not installed."""
    try:
        import pymilvus
    except ImportError as error:
        raise ValueError(
            "a Milvus store needs the package pymilvus; found none; install the extra retrieval: .venv/bin/uv pip install pymilvus"
        ) from error
    return pymilvus
