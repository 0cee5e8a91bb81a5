"""Thresholds become rules, and rules become decisions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.filter.decisions import PASSES, Rule, find_first_broken, make_rule


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_the_first_broken_rule_is_the_reason(rows: list[tuple[float, float]], least: float, most: float) -> None:
    scores = pa.table({"a": np.array([a for a, _ in rows], float), "b": np.array([b for _, b in rows], float)})
    expected = [0 if a < least else 1 if b > most else PASSES for a, b in rows]
    assert find_first_broken(scores, [make_rule("min_a", least), make_rule("max_b", most)]).tolist() == expected


def test_a_threshold_names_its_score_and_the_side_that_is_kept() -> None:
    assert make_rule("min_words", 12) == Rule("min_words", "words", "min", 12.0)
    assert make_rule("max_top_2gram_char_frac", 0.2).score == "top_2gram_char_frac"
    with pytest.raises(AssertionError):
        make_rule("words", 12)
