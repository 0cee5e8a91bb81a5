from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.embed.word_counts import Counts, add_rows, count_words, mark_shared, stack_rows, transpose

N = 6
TEXTS = st.lists(st.lists(st.integers(-1, N - 1), max_size=8), min_size=1, max_size=5)


def make(texts: list[list[int]]) -> Counts:
    ends = np.cumsum([len(text) for text in texts])
    return count_words(
        np.array([word for text in texts for word in text], np.int32), np.concatenate([[0], ends[:-1]]), ends
    )


def read(counts: Counts) -> list[dict[int, float]]:
    return [
        dict(zip(counts.ids[a:b].tolist(), counts.counts[a:b].tolist(), strict=True))
        for a, b in zip(counts.starts[:-1], counts.starts[1:], strict=True)
    ]


def count(text: list[int]) -> dict[int, float]:
    return dict(Counter(word for word in text if word >= 0))


@given(TEXTS)
def test_counts_are_those_of_a_counter(texts: list[list[int]]) -> None:
    assert read(make(texts)) == [count(text) for text in texts]


@given(TEXTS)
def test_rows_can_be_taken_stacked_and_added(texts: list[list[int]]) -> None:
    counts = make(texts)
    rows = np.array([len(texts) - 1, 0])
    assert read(counts.take(rows)) == [count(texts[-1]), count(texts[0])]
    assert read(stack_rows([counts, counts])) == [count(text) for text in texts * 2]
    assert read(add_rows(counts, counts, N)) == [count(text * 2) for text in texts]


@given(TEXTS)
def test_the_transpose_has_the_same_entries(texts: list[list[int]]) -> None:
    dense = np.zeros((len(texts), N))
    for row, line in enumerate(read(make(texts))):
        dense[row, list(line)] = list(line.values())
    assert read(transpose(make(texts), N)) == [
        {row: value for row, value in enumerate(column) if value} for column in dense.T
    ]


@given(TEXTS, st.randoms())
def test_shared_words_are_marked(texts: list[list[int]], random: object) -> None:
    other = make([text[::2] for text in texts])
    counts = make(texts)
    kept = counts.keep(~mark_shared(counts, other))
    assert read(kept) == [
        {word: n for word, n in count(text).items() if word not in count(text[::2])} for text in texts
    ]
