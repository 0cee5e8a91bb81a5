"""Sorting parts one by one sorts everything."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedupe.ranking import Corpus, assign_parts, rank_documents, select_equal_neighbors, view_fixed_bytes
from pipeline.storage.arrow import write_arrow

KEYS = st.lists(st.integers(0, 2**64 - 1), max_size=30)


@given(KEYS, st.sampled_from([1, 2, 8, 512]))
@settings(deadline=None)
def test_parts_by_the_highest_bits_follow_the_order_of_the_keys(keys: list[int], n_parts: int) -> None:
    parts = assign_parts(np.array(sorted(keys), np.uint64), n_parts).tolist()
    assert parts == sorted(parts) == [key * n_parts >> 64 for key in sorted(keys)]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from(["a", "b", "ü", "aa"])), max_size=30),
    st.sampled_from([1, 2_000, 1_000_000]),
)
@settings(deadline=None)
def test_ranks_follow_priority_length_and_id_with_any_memory(
    docs: list[tuple[int, int, str]], memory_bytes: int
) -> None:
    """Documents that agree in all three keep the order of the corpus."""
    with tempfile.TemporaryDirectory() as name:
        shards, firsts = [docs[:7], docs[7:]], np.array([0, len(docs[:7]), len(docs)])
        paths = [Path(name) / f"{number}.arrow" for number in range(2)]
        for path, shard in zip(paths, shards, strict=True):
            columns = [list(column) for column in zip(*shard, strict=True)] or [[], [], []]
            schema = pa.schema([("priority", pa.int64()), ("n_bytes", pa.int64()), ("id", pa.string())])
            write_arrow(path, pa.table(columns, schema=schema))
        corpus = Corpus(paths, firsts, None, np.zeros(0, bool), 0, Path(name), memory_bytes)
        ranks = rank_documents(corpus)
        best = sorted(range(len(docs)), key=lambda position: (docs[position][0], -docs[position][1], docs[position][2]))
        assert ranks.to_position.tolist() == best
        assert ranks.of_position[ranks.to_position].tolist() == list(range(len(docs)))


@given(st.lists(st.integers(0, 6), max_size=20))
@settings(deadline=None)
def test_equal_neighbors_are_all_records_whose_key_is_not_unique(keys: list[int]) -> None:
    records = np.array(list(enumerate(keys)), np.dtype([("row", "<i8"), ("key", "<u8")]))
    found = select_equal_neighbors(records, "key")
    assert sorted(found["row"].tolist()) == [row for row, key in enumerate(keys) if keys.count(key) > 1]
    assert found["key"].tolist() == sorted(found["key"].tolist())


@given(KEYS, st.integers(0, 3))
@settings(deadline=None)
def test_numbers_in_fixed_size_binary_are_read_from_any_slice(numbers: list[int], start: int) -> None:
    pairs = [(a, a ^ 1) for a in numbers]
    column = pa.array([np.array(pair, np.uint64).tobytes() for pair in pairs], pa.binary(16))
    chunks = pa.chunked_array([column.slice(start), column.slice(0, start)], pa.binary(16))
    assert view_fixed_bytes(chunks, np.uint64, 2).tolist() == [list(pair) for pair in pairs[start:] + pairs[:start]]
