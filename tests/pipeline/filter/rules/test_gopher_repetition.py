"""Gopher's repetition scores equal a naive implementation of their definition."""

from __future__ import annotations

import math
import re
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.filter.rules.gopher import measure_gopher
from pipeline.filter.rules.gopher_quality import SCORES
from pipeline.filter.words.words import tokenize

TOP, DUP = [1, 2, 3, 4], [2, 5]
PIECES = [
    "a ",
    "b ",
    "a b ",
    "same line\n",
    "other line\n",
    "\n",
    "\n\n",
    " \n",
    "né ",
    "你好 ",
    "🙂 ",
    "a b c d e f ",
    "\n\n\n",
    "c d e ",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(st.characters(codec="utf-8"), max_size=40)


def measure_repetition(texts: pa.StringArray, tops: list[int], dups: list[int], from_count: int = 2) -> pa.RecordBatch:
    scores = measure_gopher(texts, tops, dups, from_count)
    return scores.select([name for name in scores.schema.names if name not in SCORES])


def measure_naively(text: str, from_count: int) -> dict[str, float]:
    n_chars = max(len(text), 1)
    scores = {}
    for name, parts in (("line", re.split("\n+", text)), ("paragraph", re.split("\n{2,}", text.strip()))):
        repeated = [part for i, part in enumerate(parts) if part in parts[:i]]
        scores[f"dup_{name}_frac"] = len(repeated) / max(len(parts), 1)
        scores[f"dup_{name}_char_frac"] = sum(map(len, repeated)) / n_chars
    words = tokenize(text)
    for n in TOP:
        grams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        gram, count = Counter(grams).most_common(1)[0] if grams else ("", -1)
        scores[f"top_{n}gram_char_frac"] = min(len(gram) * count / n_chars, 1.0) if count >= from_count else 0.0
    for n in DUP:
        seen, repeated_chars, i = set(), 0, 0
        while i + n <= len(words):
            gram = tuple(words[i : i + n])
            if gram in seen:
                repeated_chars += sum(map(len, gram))
                i += n
            else:
                seen.add(gram)
                i += 1
        scores[f"dup_{n}gram_char_frac"] = repeated_chars / n_chars
    return scores


@given(st.lists(TEXTS, max_size=5), st.sampled_from([[1, 2, 3], [2, 3], [4]]), st.integers(1, 2))
@settings(max_examples=200)
def test_scores_equal_the_naive_implementation(texts: list[str], tops: list[int], from_count: int) -> None:
    got = measure_repetition(pa.array(texts, pa.string()), tops, DUP, from_count)
    for text, row in zip(texts, got.to_pylist(), strict=True):
        expected = measure_naively(text, from_count)
        expected = {name: value for name, value in expected.items() if name[:4] != "top_" or int(name[4]) in tops}
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            assert math.isclose(row[name], value), (name, text)


def measure_one(text: str) -> dict[str, float]:
    return measure_repetition(pa.array([text]), [2], [5]).to_pylist()[0]


def test_a_short_text_without_repeats_scores_zero() -> None:
    assert set(measure_one("Returns the norm.").values()) == {0.0}
    assert set(measure_one("").values()) == {0.0}


def test_a_unique_ngram_is_the_most_frequent_if_one_occurrence_is_enough() -> None:
    scores = measure_repetition(pa.array(["Returns the norm."]), [2], [], 1).to_pylist()[0]
    assert scores["top_2gram_char_frac"] == len("Returns the") / len("Returns the norm.")


def test_a_single_repeated_line_is_all_repetition() -> None:
    scores = measure_one("buy now, pay later today\n" * 100)
    assert scores["dup_line_frac"] == 99 / 101  # the last newline ends with an empty line
    assert scores["dup_5gram_char_frac"] > 0.75


@pytest.mark.parametrize("n_words", [200_000])
def test_a_huge_document_takes_linear_time(n_words: int) -> None:
    scores = measure_one(" ".join(f"w{i}" for i in range(n_words)))
    assert set(scores.values()) == {0.0}


def test_an_empty_column_gives_no_rows() -> None:
    assert measure_repetition(pa.array([], pa.string()), TOP, DUP).num_rows == 0
