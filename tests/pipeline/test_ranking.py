"""Sorting by parts is sorting."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ranking import cuts_of, equal_neighbours, fixed_bytes, id_keys, parts_by, top_bits

KEYS = st.lists(st.integers(0, 2**64 - 1), max_size=30)


@given(KEYS, st.sampled_from([1, 2, 8, 512]))
@settings(deadline=None)
def test_parts_by_the_highest_bits_follow_the_order_of_the_keys(keys: list[int], n_parts: int) -> None:
    parts = top_bits(np.array(sorted(keys), np.uint64), n_parts).tolist()
    assert parts == sorted(parts) == [key * n_parts >> 64 for key in sorted(keys)]


@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=30), st.sampled_from([1, 2, 8])
)
@settings(deadline=None)
def test_parts_of_ids_follow_the_order_of_the_ids(ids: list[str], n_parts: int) -> None:
    in_order = sorted(ids, key=str.encode)
    keys = id_keys(pa.array(in_order, pa.string()))
    parts = parts_by(cuts_of(keys[::3], n_parts), keys, len(keys)).tolist()
    assert parts == sorted(parts)
    assert 0 <= parts[0] <= parts[-1] < n_parts


@given(st.lists(st.integers(0, 6), max_size=20))
@settings(deadline=None)
def test_equal_neighbours_are_all_that_are_not_alone(keys: list[int]) -> None:
    records = np.array(list(enumerate(keys)), np.dtype([("row", "<i8"), ("key", "<u8")]))
    found = equal_neighbours(records, "key")
    assert sorted(found["row"].tolist()) == [row for row, key in enumerate(keys) if keys.count(key) > 1]
    assert found["key"].tolist() == sorted(found["key"].tolist())


@given(KEYS, st.integers(0, 3))
@settings(deadline=None)
def test_numbers_in_fixed_binary_come_back_from_any_slice(numbers: list[int], start: int) -> None:
    pairs = [(a, a ^ 1) for a in numbers]
    column = pa.array([np.array(pair, np.uint64).tobytes() for pair in pairs], pa.binary(16))
    chunks = pa.chunked_array([column.slice(start), column.slice(0, start)], pa.binary(16))
    assert fixed_bytes(chunks, np.uint64, 2).tolist() == [list(pair) for pair in pairs[start:] + pairs[:start]]
