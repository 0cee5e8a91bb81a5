"""BM25: scores are the formula's, rankings are stable, statistics add up, damaged files are refused."""

from __future__ import annotations

import math
from collections import Counter
from operator import add
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.retrieval.bm25 import K1, B, Bm25, write_bm25
from model.retrieval.word_stems import split_texts, split_words

WORD = st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"])
TEXT = st.lists(WORD, max_size=12).map(" ".join)
UNITS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8)


def make(folder: Path, units: list[tuple[str, str]], weights: tuple[int, int] = (3, 1)) -> Bm25:
    fields = [split_texts(field) for field in zip(*units, strict=True)]
    write_bm25(folder / "bm25.arrow", list(zip(fields, weights, strict=True)))
    return Bm25.open(folder / "bm25.arrow")


def score_slowly(units: list[tuple[str, str]], words: list[str]) -> dict[int, float]:
    """Compute the formula unit by unit."""
    counts: list[Counter[str]] = []
    for title, text in units:
        counts.append(Counter(split_words(text)))
        for word in split_words(title):
            counts[-1][word] += 3
    mean = sum(count.total() for count in counts) / len(units)
    scores: dict[int, float] = {}
    for word in words:
        n = sum(word in count for count in counts)
        idf = math.log(1 + (len(units) - n + 0.5) / (n + 0.5))
        for row, count in enumerate(counts):
            if count[word]:
                norm = K1 * (1 - B + B * count.total() / mean)
                scores[row] = scores.get(row, 0) + idf * count[word] * (K1 + 1) / (count[word] + norm)
    return scores


@settings(max_examples=60)
@given(units=UNITS, words=st.lists(WORD, min_size=1, max_size=4, unique=True))
def test_scores_are_the_formula(
    tmp_path_factory: pytest.TempPathFactory, units: list[tuple[str, str]], words: list[str]
) -> None:
    index = make(tmp_path_factory.mktemp("bm25"), units)
    words = [split_words(word)[0] for word in words]
    ranked, expected = index.rank(words, 10), score_slowly(units, words)
    assert dict(zip(ranked.rows.tolist(), ranked.scores.tolist(), strict=True)) == pytest.approx(expected, rel=1e-5)
    assert sorted(ranked.scores.tolist(), reverse=True) == ranked.scores.tolist()
    assert index.rank(words, 2).rows.tolist() == ranked.rows[:2].tolist()


def test_equal_scores_are_ordered_by_row(tmp_path: Path) -> None:
    index = make(tmp_path, [("", "same words")] * 50)
    assert index.rank(["same"], 7).rows.tolist() == list(range(7))


def test_statistics_of_two_indexes_rank_as_one(tmp_path: Path) -> None:
    units = [("alpha", "beta " * n + "gamma") for n in range(9)]
    for name in ("a", "b", "all"):
        (tmp_path / name).mkdir()
    parts, whole = [make(tmp_path / "a", units[:4]), make(tmp_path / "b", units[4:])], make(tmp_path / "all", units)
    words = ["beta", "gamma", "omega"]
    statistics = add(*(part.get_statistics(words) for part in parts))
    assert statistics == whole.get_statistics(words)
    scores = np.sort(np.concatenate([part.rank(words, 9, statistics).scores for part in parts]))
    assert scores.tolist() == np.sort(whole.rank(words, 9).scores).tolist()


@pytest.mark.parametrize("words", [[], ["omega"], ["\ud800"], ["a" * 10_000]])
def test_words_that_no_unit_has_find_nothing(tmp_path: Path, words: list[str]) -> None:
    assert not len(make(tmp_path, [("alpha", "beta")]).rank(words, 5).rows)


def test_an_empty_index_finds_nothing(tmp_path: Path) -> None:
    write_bm25(tmp_path / "bm25.arrow", [(split_texts([]), 1)])
    assert not len(Bm25.open(tmp_path / "bm25.arrow").rank(["alpha"], 5).rows)


def test_a_frequency_counts_up_to_255(tmp_path: Path) -> None:
    index = make(tmp_path, [("", "alpha " * 300_000), ("", "alpha " * 255)])
    ranked = index.rank(["alpha"], 5)
    assert ranked.rows.tolist() == [0, 1]
    assert ranked.scores[0] == ranked.scores[1]
