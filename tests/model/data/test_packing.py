from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data import packing
from model.data.packing import pack, pack_documents


@given(st.lists(st.integers(1, 20), max_size=60))
def test_packing_loses_nothing_and_overfills_nothing(lengths: list[int]) -> None:
    rows = pack(lengths, 20)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= 20 for row in rows)
    assert len(rows) <= 2 * sum(lengths) / 20 + 1  # no two rows are half empty


@given(st.lists(st.integers(0, 12), max_size=50))
def test_packing_equals_a_plain_best_fit_search(lengths: list[int]) -> None:
    """The reference searches all rows for each piece."""
    rows: list[list[int]] = []
    spaces: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        fitting = [row for row, space in enumerate(spaces) if space >= lengths[index]]
        if not fitting:
            rows, spaces, fitting = [*rows, []], [*spaces, 12], [len(rows)]
        row = min(fitting, key=lambda each: (spaces[each], each))
        rows[row].append(index)
        spaces[row] -= lengths[index]
    assert pack(lengths, 12) == rows


@given(
    lengths=st.lists(st.integers(0, 90) | st.integers(1, 3), max_size=40),
    capacity=st.integers(1, 30),
    block=st.sampled_from([1, 7, 1 << 16]),
)
def test_every_position_of_every_document_is_in_one_piece(lengths: list[int], capacity: int, block: int) -> None:
    """Also for documents of one token, and for those longer than many rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "BLOCK_PIECES", block)
        sizes = np.array(lengths, dtype=np.int64)
        starts = np.cumsum(sizes + 5) - sizes  # with gaps between documents
        pieces = pack_documents(starts, sizes, capacity)
    covered = [
        position
        for start, length in zip(pieces.starts, pieces.lengths, strict=True)
        for position in range(start, start + length)
    ]
    expected = [start + at for start, length in zip(starts.tolist(), lengths, strict=True) for at in range(length)]
    assert sorted(covered) == expected
    ends = [start + length for start, length in zip(starts.tolist(), lengths, strict=True) if length]
    assert sorted((pieces.starts + pieces.lengths)[pieces.is_end].tolist()) == ends
    filled = [int(pieces.lengths[a:b].sum()) for a, b in zip(pieces.first, pieces.first[1:], strict=False)]
    assert all(0 < size <= capacity for size in filled)
    assert pieces.n_rows == len(filled)


def test_a_corpus_of_short_documents_fills_the_rows() -> None:
    """Lengths as in documentation: most documents are short, some span many rows."""
    lengths = np.random.default_rng(0).lognormal(4.5, 1.1, 51_000).astype(np.int64) + 1
    pieces = pack_documents(np.cumsum(lengths) - lengths, lengths, 384)
    assert lengths.sum() / (pieces.n_rows * 384) > 0.999
