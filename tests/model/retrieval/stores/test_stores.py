"""Every store behind the seam gives the results of comparing with every vector: add, search, delete, snapshot.

Milvus is tested with Milvus Lite, which takes seconds to start.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.retrieval.stores.faiss_vectors import GRAPH, FaissStore
from model.retrieval.stores.milvus_vectors import MilvusStore
from model.retrieval.stores.vectors import ExactStore

WIDTH = 32
Vectors = NDArray[np.float32]
has_faiss = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None, reason="faiss-cpu is not installed (extra retrieval)"
)
has_milvus = pytest.mark.skipif(
    importlib.util.find_spec("milvus_lite") is None, reason="milvus-lite is not installed (extra servers)"
)
STORES = [
    pytest.param("exact", id="exact"),
    pytest.param("faiss", id="faiss", marks=has_faiss),
    pytest.param("milvus", id="milvus", marks=[has_milvus, pytest.mark.slow]),
]


def make_vectors(n: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((n, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Opened:
    """A store of one kind, and how to open its snapshot."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.folder.mkdir(exist_ok=True)
        makers: dict[str, Callable[[], Any]] = {
            "exact": lambda: ExactStore(WIDTH),
            "faiss": lambda: FaissStore(WIDTH),
            "milvus": lambda: MilvusStore(str(folder / "lite.db"), "segment_1", WIDTH, timeout_seconds=30),
        }
        self.store: Any = makers[kind]()

    def reopen(self) -> Any:
        self.store.snapshot(self.folder)
        if self.kind == "milvus":
            self.store.close()  # Milvus Lite admits one client
        self.store = type(self.store).open(self.folder, WIDTH)
        return self.store

    def close(self) -> None:
        if self.kind == "milvus":
            self.store.close()


@pytest.fixture(params=STORES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    opened = Opened(request.param, tmp_path / "store")
    yield opened
    opened.close()


def measure_overlap(store: Any, vectors: Vectors, ids: NDArray[np.int64], limit: int = 10) -> float:
    """Return the share of the true nearest that the store returns."""
    queries = make_vectors(30, seed=7)
    hits = 0
    for query in queries:
        true = set(ids[np.argsort(-(vectors @ query), kind="stable")[:limit]].tolist())
        hits += len(true & set(store.search(query, limit).rows.tolist()))
    return hits / (limit * len(queries))


def test_results_are_those_of_comparing_with_every_vector(opened: Opened) -> None:
    vectors, ids = make_vectors(1_500), np.arange(1_500) * 3
    opened.store.add(ids[:700], vectors[:700])
    opened.store.add(ids[700:], vectors[700:])
    assert len(opened.store) == 1_500
    assert measure_overlap(opened.store, vectors, ids) > 0.97
    found = opened.store.search(vectors[4], 3)
    assert found.rows[0] == 12
    assert found.scores[0] == pytest.approx(1.0, abs=0.01)
    assert list(found.scores) == sorted(found.scores, reverse=True)
    assert measure_overlap(opened.reopen(), vectors, ids) > 0.97


def test_what_is_deleted_is_never_returned_again(opened: Opened) -> None:
    vectors, ids = make_vectors(600), np.arange(600)
    opened.store.add(ids, vectors)
    deleted = ids[::2]
    opened.store.delete(np.concatenate([deleted, [99_999]]))
    for store in (opened.store, opened.reopen()):
        assert len(store) == 300
        assert measure_overlap(store, vectors[1::2], ids[1::2]) > 0.95
        returned = {row for vector in vectors[:20] for row in store.search(vector, 50).rows.tolist()}
        assert returned.isdisjoint(deleted.tolist())


def test_an_id_that_exists_gets_the_new_vector(opened: Opened) -> None:
    vectors = make_vectors(50)
    opened.store.add(np.arange(40), vectors[:40])
    opened.store.add(np.array([7]), vectors[45:46])
    assert len(opened.store) == 40
    assert opened.store.search(vectors[45], 1).rows.tolist() == [7]
    assert opened.store.search(vectors[7], 1).rows.tolist() != [7]


def test_nothing_is_found_in_an_empty_store_or_for_a_query_without_direction(opened: Opened) -> None:
    opened.store.add(np.arange(5), make_vectors(5))
    assert len(opened.store.search(np.zeros(WIDTH, np.float32), 3).rows) == 0
    assert len(opened.store.search(make_vectors(1)[0], 0).rows) == 0
    opened.store.delete(np.arange(5))
    assert len(opened.store.search(make_vectors(1)[0], 3).rows) == 0


@pytest.mark.parametrize("vectors", [np.zeros((2, WIDTH + 1), np.float32), np.full((2, WIDTH), np.nan, np.float32)])
def test_wrong_vectors_are_refused(opened: Opened, vectors: Vectors) -> None:
    with pytest.raises(ValueError, match="vectors must be finite"):
        opened.store.add(np.arange(2), vectors)


@has_faiss
def test_a_deleted_vector_is_in_no_file_of_faiss(tmp_path: Path) -> None:
    vectors = make_vectors(20)
    store = FaissStore(WIDTH)
    store.add(np.arange(20), vectors)
    store.snapshot(tmp_path)
    assert vectors[3].astype(np.float16).tobytes() in (tmp_path / GRAPH).read_bytes()
    store.delete(np.array([3]))
    store.snapshot(tmp_path)
    assert vectors[3].astype(np.float16).tobytes() not in (tmp_path / GRAPH).read_bytes()


@has_faiss
@pytest.mark.parametrize("cut", [0, 10, 200])
def test_a_truncated_graph_is_named(tmp_path: Path, cut: int) -> None:
    store = FaissStore(WIDTH)
    store.add(np.arange(20), make_vectors(20))
    store.snapshot(tmp_path)
    (tmp_path / GRAPH).write_bytes((tmp_path / GRAPH).read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"vectors\.faiss is not a readable file"):
        FaissStore.open(tmp_path, WIDTH)


@pytest.mark.slow
@has_milvus
def test_a_server_that_is_down_is_named_and_not_asked_again_at_once() -> None:
    store = MilvusStore("http://127.0.0.1:1", "segment_1", WIDTH, timeout_seconds=1.0)
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:1 does not answer"):
        store.search(make_vectors(1)[0], 3)
    first = time.monotonic() - started
    assert first < 10
    with pytest.raises(ValueError, match="a moment ago"):
        store.search(make_vectors(1)[0], 3)
    assert time.monotonic() - started - first < 0.1
