"""Buckets, verified pairs, clusters and survivors agree with brute force."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedupe.minhash.clusters import (
    MAX_CENTERS,
    NearDecisions,
    compute_jaccard,
    decide_survivors,
    group_equal,
    verify,
)
from pipeline.dedupe.minhash.shingles import Shingles, make_sets
from pipeline.text.columns import Hashes

SETS = st.lists(st.lists(st.integers(0, 12), max_size=8), min_size=1, max_size=14)
THRESHOLDS = st.sampled_from([0.3, 0.5, 0.8, 1.0])


def shingles(sets: list[list[int]]) -> Shingles:
    flat = [value for row in sets for value in row]
    return make_sets(Shingles(np.array(flat, np.uint64), np.cumsum([0, *(len(row) for row in sets)])))


def true_jaccard(left: list[int], right: list[int]) -> float:
    union = set(left) | set(right)
    return len(set(left) & set(right)) / len(union) if union else 0.0


def one_bucket(n: int) -> Hashes:
    return np.zeros((n, 1), np.uint64)


def run(sets: list[list[int]], keys: Hashes, threshold: float) -> NearDecisions:
    held = shingles(sets)
    has_shingles = np.array([bool(row) for row in sets])
    return decide_survivors(len(sets), verify(group_equal(keys, has_shingles), held, threshold), held, threshold)


@given(SETS)
def test_jaccard_against_sets_of_python(sets: list[list[int]]) -> None:
    left, right = (part.ravel() for part in np.meshgrid(np.arange(len(sets)), np.arange(len(sets))))
    expected = [true_jaccard(sets[i], sets[j]) for i, j in zip(left, right, strict=True)]
    assert compute_jaccard(shingles(sets), left, right).tolist() == expected


@given(st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), max_size=12), st.data())
def test_buckets_are_the_equal_keys_of_each_band(keys: list[list[int]], data: st.DataObject) -> None:
    eligible = data.draw(st.lists(st.booleans(), min_size=len(keys), max_size=len(keys)))
    found = group_equal(np.array(keys, np.uint64).reshape(-1, 3), np.array(eligible, bool))
    bounds = found.offsets.tolist()
    got = sorted(found.members[a:b].tolist() for a, b in itertools.pairwise(bounds))
    expected = []
    for band in range(3):
        for value in range(3):
            bucket = [i for i, row in enumerate(keys) if eligible[i] and row[band] == value]
            expected += [bucket] if len(bucket) > 1 else []
    assert got == sorted(expected)


@given(SETS, THRESHOLDS)
@settings(max_examples=200)
def test_dropped_documents_are_similar_to_their_survivors_and_survivors_of_a_cluster_are_not_similar(
    sets: list[list[int]], threshold: float
) -> None:
    found = run(sets, one_bucket(len(sets)), threshold)
    for row, survivor in enumerate(found.survivor.tolist()):
        assert survivor <= row, "the better document survives"
        assert found.survivor[survivor] == survivor, "a survivor survives itself"
        if survivor != row:
            assert found.similarity[row] == true_jaccard(sets[row], sets[survivor]) >= threshold
    survivors = [row for row, survivor in enumerate(found.survivor.tolist()) if survivor == row]
    for i in survivors:
        for j in survivors:
            if i < j and found.cluster[i] == found.cluster[j]:
                assert true_jaccard(sets[i], sets[j]) < threshold


@given(SETS, THRESHOLDS)
def test_clusters_are_the_connected_components_of_verified_pairs(sets: list[list[int]], threshold: float) -> None:
    held = shingles(sets)
    pairs = verify(group_equal(one_bucket(len(sets)), np.array([bool(row) for row in sets])), held, threshold)
    assert (pairs.left < pairs.right).all()
    neighbors: dict[int, set[int]] = {i: {i} for i in range(len(sets))}
    for i, j in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True):
        assert true_jaccard(sets[i], sets[j]) >= threshold
        joined = neighbors[i] | neighbors[j]
        for member in joined:
            neighbors[member] = joined
    assert decide_survivors(len(sets), pairs, held, threshold).cluster.tolist() == [
        min(neighbors[i]) for i in range(len(sets))
    ]


@given(SETS, THRESHOLDS)
def test_a_bucket_of_at_most_max_centers_documents_misses_no_duplicate(sets: list[list[int]], threshold: float) -> None:
    assert len(sets) <= MAX_CENTERS
    found = run(sets, one_bucket(len(sets)), threshold)
    for j, right in enumerate(sets):
        similar = [i for i in range(j) if true_jaccard(sets[i], right) >= threshold]
        if similar and all(found.survivor[i] == i for i in similar):
            assert found.survivor[j] != j


@given(SETS, THRESHOLDS)
def test_nothing_depends_on_the_order_of_the_bands(sets: list[list[int]], threshold: float) -> None:
    keys = np.array([[sum(row) % 3, len(row) % 2, min(row, default=0)] for row in sets], np.uint64)
    forward, backward = run(sets, keys, threshold), run(sets, np.ascontiguousarray(keys[:, ::-1]), threshold)
    assert forward.survivor.tolist() == backward.survivor.tolist()
    assert forward.cluster.tolist() == backward.cluster.tolist()


def test_a_chain_drops_no_document_that_is_not_similar_to_its_survivor() -> None:
    a, b, c = list(range(10)), list(range(1, 11)), list(range(2, 12))
    found = run([a, b, c], np.array([[0, 0], [0, 1], [2, 1]], np.uint64), 0.8)  # a and b share a band, b and c another
    assert found.cluster.tolist() == [0, 0, 0]
    assert found.survivor.tolist() == [0, 0, 2], "a and c share only 8 of 12 shingles"


def test_the_number_of_edges_is_linear_in_the_size_of_a_bucket() -> None:
    n = 2_000
    sets = [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(n)]  # all in one bucket, none similar
    pairs = verify(group_equal(one_bucket(n), np.ones(n, bool)), shingles(sets), 0.8)
    assert len(pairs.left) == 0
    assert pairs.n_candidates <= MAX_CENTERS * n


def test_no_documents() -> None:
    found = run([], np.zeros((0, 4), np.uint64), 0.8)
    assert found.survivor.tolist() == []
