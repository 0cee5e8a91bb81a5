"""Exact search: nearly the cosines of float32, the same after a snapshot; what was deleted is gone from the bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.retrieval.stores.vectors import MAX_WIDTH, ExactStore, Vectors


def draw(n: int, width: int = 64, seed: int = 1) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_results_are_those_of_float32(tmp_path: Path) -> None:
    vectors, queries = draw(500), draw(50, seed=2)
    store = ExactStore(64)
    store.add(np.arange(500) + 1_000, vectors)
    store.snapshot(tmp_path)
    n_same = 0
    for query in queries:
        ranked, again = store.search(query, 10), ExactStore.open(tmp_path, 64).search(query, 10)
        assert ranked.rows.tolist() == again.rows.tolist()
        assert ranked.scores.tolist() == again.scores.tolist() == sorted(ranked.scores, reverse=True)
        cosines = vectors @ query
        assert np.abs(cosines[ranked.rows - 1_000] - ranked.scores).max() < 0.01
        n_same += len(set(np.argsort(-cosines)[:10] + 1_000) & set(ranked.rows.tolist()))
    assert n_same >= 480


def test_all_vectors_are_returned_where_the_limit_allows_it() -> None:
    store = ExactStore(64)
    store.add(np.arange(5), draw(5))
    assert sorted(store.search(-draw(1)[0], 99).rows.tolist()) == [0, 1, 2, 3, 4]
    assert not len(store.search(np.zeros(64, np.float32), 5).rows)
    assert not len(ExactStore(64).search(draw(1)[0], 5).rows)


def test_a_vector_that_is_added_again_replaces_the_first() -> None:
    store, vectors = ExactStore(64), draw(2)
    store.add(np.array([7]), vectors[:1])
    store.add(np.array([7]), vectors[1:])
    assert len(store) == 1
    assert store.search(vectors[1], 1).scores[0] == pytest.approx(1.0, abs=0.01)


def test_what_was_deleted_is_gone_from_the_file(tmp_path: Path) -> None:
    store, vectors = ExactStore(64), draw(20)
    store.add(np.arange(20), vectors)
    (tmp_path / "before").mkdir()
    store.snapshot(tmp_path / "before")
    secret = np.rint(vectors[7] / np.abs(vectors[7]).max() * 127).astype(np.int8).tobytes()
    assert secret in (tmp_path / "before/vectors.arrow").read_bytes()
    opened = ExactStore.open(tmp_path / "before", 64)
    opened.delete(np.array([7, 99]))
    (tmp_path / "after").mkdir()
    opened.snapshot(tmp_path / "after")
    assert secret not in (tmp_path / "after/vectors.arrow").read_bytes()
    assert 7 not in ExactStore.open(tmp_path / "after", 64).search(vectors[7], 20).rows
    assert len(ExactStore.open(tmp_path / "after", 64)) == 19


def test_what_is_no_vector_is_refused(tmp_path: Path) -> None:
    store = ExactStore(64)
    for vectors in (draw(2, 32), np.full((2, 64), np.nan, np.float32)):
        with pytest.raises(ValueError, match=r"vectors must be finite and have the shape \(2, 64\)"):
            store.add(np.arange(2), vectors)
    with pytest.raises(ValueError, match=f"must be 1 to {MAX_WIDTH} numbers wide, got 1000"):
        ExactStore(1_000)
    store.snapshot(tmp_path)
    with pytest.raises(ValueError, match="is not a readable file of a search index"):
        ExactStore.open(tmp_path / "nowhere", 64)
    store.add(np.arange(3), draw(3))
    store.snapshot(tmp_path)
    with pytest.raises(ValueError, match="192 numbers of 3 vectors, which should have 32 each"):
        ExactStore.open(tmp_path, 32)
