"""The order of documents, and documents with equal texts."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dedupe.minhash.survivors import compute_digests, compute_priorities, find_first_equal, order_documents

ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.text("abc", min_size=2, max_size=2)), max_size=12)


@given(ROWS)
def test_order_is_priority_then_length_then_id(rows: list[tuple[int, int, str]]) -> None:
    columns = ["priority", "n_bytes", "id"]
    table = pa.table(
        {
            name: pa.array([row[i] for row in rows], pa.string() if name == "id" else pa.int64())
            for i, name in enumerate(columns)
        }
    )
    expected = sorted(range(len(rows)), key=lambda i: (rows[i][0], -rows[i][1], rows[i][2], i))
    assert order_documents(table).tolist() == expected


def test_the_first_matching_prefix_counts() -> None:
    sources = pa.array(["docs/numpy", "docs/torch", "wiki", "docs/numpy"])
    assert compute_priorities(sources, ["docs/torch", "docs/"]).to_pylist() == [1, 0, 2, 1]
    assert compute_priorities(pa.array([], pa.string()), ["docs/"]).to_pylist() == []


@given(st.lists(st.sampled_from(["a", "b", "c", "", "🙂"]), max_size=12))
def test_equal_texts_map_to_the_first_of_them(texts: list[str]) -> None:
    assert find_first_equal(compute_digests(pa.array(texts, pa.string()))).tolist() == [
        texts.index(text) for text in texts
    ]
