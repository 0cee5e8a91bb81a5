"""Lookups in sorted keys agree with loops in Python."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dedupe.minhash.matches import (
    Pairs,
    choose_pairs,
    compute_jaccard_between,
    find_meetings,
    make_digest_keys,
    merge_pairs,
    pair_up,
    sort_keys,
    sort_wanted,
    view_digests,
)
from pipeline.dedupe.minhash.shingles import Shingles

KEYS = st.lists(st.integers(0, 6) | st.just(2**64 - 1), max_size=30)


def as_pairs(pairs: Pairs) -> list[tuple[int, int]]:
    return list(zip(pairs.wanted.tolist(), pairs.found.tolist(), strict=True))


@given(KEYS, KEYS, st.data())
def test_every_pair_of_equal_keys_is_found(old: list[int], new: list[int], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.booleans(), min_size=len(new), max_size=len(new)))
    index = sort_keys(np.array(old, np.uint64))
    met = find_meetings(index, sort_wanted(np.array(new, np.uint64)), np.array(chosen, bool))
    expected = [(i, j) for i in range(len(new)) for j in range(len(old)) if chosen[i] and new[i] == old[j]]
    assert sorted(as_pairs(pair_up(index, met))) == sorted(expected)
    assert sum(met.counts) == len(expected)


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=9), max_size=4))
def test_merging_returns_each_pair_once_in_order(parts: list[list[tuple[int, int]]]) -> None:
    columns = [Pairs(*(np.array([pair[i] for pair in part], np.int64) for i in (0, 1))) for part in parts]
    assert as_pairs(merge_pairs(columns, 10)) == sorted({pair for part in parts for pair in part})


SETS = st.lists(st.sets(st.integers(0, 12), max_size=9), min_size=1, max_size=5)


def as_shingles(sets: list[set[int]]) -> Shingles:
    offsets = np.cumsum([0, *(len(one) for one in sets)])
    return Shingles(np.array(list(itertools.chain.from_iterable(sorted(one) for one in sets)), np.uint64), offsets)


@given(SETS, SETS)
def test_jaccard_between_two_tables(new: list[set[int]], old: list[set[int]]) -> None:
    pairs = [(i, j) for i in range(len(new)) for j in range(len(old))]
    got = compute_jaccard_between(as_shingles(new), as_shingles(old), Pairs(*np.array(pairs, np.int64).T.copy()))
    expected = [len(new[i] & old[j]) / len(new[i] | old[j]) if new[i] | old[j] else 0.0 for i, j in pairs]
    assert got.tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans(), st.sampled_from([0.5, 0.9, 1.0]))))
def test_the_earliest_then_exact_then_most_similar_then_smallest_id_is_chosen(
    pairs: list[tuple[int, int, bool, float]],
) -> None:
    rows = [(*pair, f"id{i * 7 % 10}{i}") for i, pair in enumerate(pairs)]
    columns = list(zip(*rows, strict=True)) if rows else [[]] * 5
    wanted, rank = (np.array(column, np.int64) for column in columns[:2])
    is_exact, similarity = np.array(columns[2], bool), np.array(columns[3], np.float64)
    won = choose_pairs(wanted, rank, is_exact, similarity, pa.array(columns[4], pa.string()))
    best: dict[int, tuple[int, bool, float, str]] = {}
    for row, number, exact, value, name in rows:
        best[row] = min(best.get(row, (9, True, 0.0, "")), (number, not exact, -value, name))
    assert {rows[i][0]: rows[i][4] for i in won.tolist()} == {row: item[3] for row, item in best.items()}


def test_digests_of_a_slice_are_viewed_in_place() -> None:
    digests = pa.array([bytes([i]) * 16 for i in range(5)], pa.binary(16))
    assert make_digest_keys(digests[2:]).tolist() == [int.from_bytes(bytes([i]) * 8, "little") for i in (2, 3, 4)]
    assert view_digests(digests[5:]).shape == (0, 2)
