"""Reciprocal rank fusion: the sum of the formula, and what each ranking knew."""

from __future__ import annotations

import numpy as np
import pytest

from model.retrieval.bm25 import Ranked
from model.retrieval.fusion import NO_RANK, OFFSET, fuse


def rank(*rows: int) -> Ranked:
    return Ranked(np.array(rows, np.int64), np.linspace(1, 0.5, len(rows), dtype=np.float32))


def test_scores_are_the_sum_of_reciprocal_ranks() -> None:
    fused, places = fuse({"a": rank(5, 3, 9), "b": rank(9, 5)}, 10)
    expected = {5: 1 / (OFFSET + 1) + 1 / (OFFSET + 2), 9: 1 / (OFFSET + 3) + 1 / (OFFSET + 1), 3: 1 / (OFFSET + 2)}
    assert dict(zip(fused.rows.tolist(), fused.scores.tolist(), strict=True)) == pytest.approx(expected)
    assert fused.rows.tolist() == [5, 9, 3]
    assert places["a"].rows.tolist() == [0, 2, 1]
    assert places["b"].rows.tolist() == [1, 0, NO_RANK]
    assert places["b"].scores[2] == 0
    assert fuse({"a": rank(5, 3, 9), "b": rank(9, 5)}, 1)[0].rows.tolist() == [5]


def test_equal_scores_are_ordered_by_row_and_nothing_gives_nothing() -> None:
    assert fuse({"a": rank(7), "b": rank(2)}, 5)[0].rows.tolist() == [2, 7]
    assert not len(fuse({"a": rank(), "b": rank()}, 5)[0].rows)
    assert not len(fuse({}, 5)[0].rows)
