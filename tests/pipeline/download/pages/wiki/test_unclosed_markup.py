"""Test counting unclosed markup: none in well-formed wikitext, every opening that never closes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.download.pages.wiki.unclosed_markup import count_unclosed

PAIRS = [("[[", "]]"), ("{{", "}}"), ("{|", "|}"), ("<ref>", "</ref>"), ("[http://a ", "]"), ("<!-- x ", "-->")]

trees = st.recursive(
    st.sampled_from(["a", "b c", "\n", "é", "<br>", "<ref name='x' />", "<li>"]),
    lambda inner: st.tuples(st.sampled_from(PAIRS[:5]), st.lists(inner, max_size=3)).map(
        lambda tree: f"{tree[0][0]} {''.join(tree[1])} {tree[0][1]}"
    ),
    max_leaves=12,
)


@given(trees)
def test_well_formed_markup_counts_zero(wikitext: str) -> None:
    assert count_unclosed(wikitext) == 0


@pytest.mark.parametrize("pair", PAIRS)
@given(st.integers(0, 9_000), st.booleans())
def test_unclosed_openings_are_counted(pair: tuple[str, str], n: int, is_closed_before: bool) -> None:
    before = pair[1] * n if is_closed_before else ""
    assert count_unclosed(before + (pair[0] + " ") * n) == n


def test_crossed_pairs_leave_one_unclosed_each() -> None:
    assert count_unclosed("[[a{{b]]}}" * 50) == 50


def test_an_unterminated_tag_is_counted() -> None:
    assert count_unclosed('<a b="' * 100) == 100
