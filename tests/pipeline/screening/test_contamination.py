"""Overlap with evaluation sets equals a naive implementation."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.screening.contamination import Leaks, build_leaks, from_table, measure_overlap, to_table
from pipeline.text.normalize import fold, split_words

N, SHORTEST = 4, 2
ITEMS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "dd", "1", "22"]), max_size=9).map(" ".join), max_size=6)


def extract_words(texts: list[str]) -> pa.StringArray:
    return split_words(fold(pa.array(texts, pa.string())))


def build_test_leaks(texts: list[str], sets: list[int] | None = None, n: int = N, shortest: int = SHORTEST) -> Leaks:
    indices = np.array(sets or [0] * len(texts), np.int64)
    names = [f"set{i}" for i in range(int(indices.max(initial=0)) + 1)]
    labels = [f"{names[index]}:{row}" for row, index in enumerate(indices)]
    return build_leaks(extract_words(texts), labels, indices, names, ngram_words=n, min_words=shortest)


def list_ngrams(item: str) -> set[tuple[str, ...]]:
    parts = item.split()
    if len(parts) < N:
        grams = {tuple(parts)} if len(parts) >= SHORTEST else set()
    else:
        grams = {tuple(parts[i : i + N]) for i in range(len(parts) - N + 1)}
    return {gram for gram in grams if 2 * sum(word.isdigit() for word in gram) <= len(gram)}


def measure_naively(text: str, items: list[str]) -> tuple[int, float, str]:
    parts = text.split()
    known = [list_ngrams(item) for item in items]
    n, first, leaked = 0, "", set[int]()
    for stop in range(1, len(parts) + 1):
        for size in range(1, N + 1):
            gram = tuple(parts[stop - size : stop]) if size <= stop else ()
            owners = [row for row, grams in enumerate(known) if gram in grams]
            if owners:
                n += 1
                first = first or f"set0:{owners[0]}"
                leaked |= set(range(stop - size, stop))
    return n, len(leaked) / max(len(parts), 1), first


@given(ITEMS, ITEMS)
@settings(max_examples=150)
def test_overlap_equals_the_naive_implementation(items: list[str], texts: list[str]) -> None:
    leaks = build_test_leaks(items)
    got = measure_overlap(extract_words(texts), leaks)
    for text, row in zip(texts, got.to_pylist(), strict=True):
        n, frac, first = measure_naively(text, items)
        assert (row["leak_ngrams"], row["leak_item"]) == (n, first)
        assert abs(row["leak_word_frac"] - frac) < 1e-12
    assert leaks.n_too_short.tolist() == [sum(not list_ngrams(item) for item in items)]


@pytest.mark.slow
@given(ITEMS, ITEMS, st.data())
@settings(max_examples=25)
def test_leaks_survive_a_round_trip_through_a_table(items: list[str], texts: list[str], data: st.DataObject) -> None:
    sets = data.draw(st.lists(st.integers(0, 2), min_size=len(items), max_size=len(items)))
    leaks = build_test_leaks(items, sorted(sets))
    read = from_table(to_table(leaks))
    assert measure_overlap(extract_words(texts), read).equals(measure_overlap(extract_words(texts), leaks))
    assert (read.sets, read.n_too_short.tolist()) == (leaks.sets, leaks.n_too_short.tolist())
    assert to_table(read).equals(to_table(leaks))


QUESTION = "A train leaves Springfield at 9 o'clock and travels 60 miles an hour; how far is it from home by noon?"
SHORT = "No student who likes cats ever eats any fish."


def test_a_planted_leak_is_found_in_any_case_and_spacing() -> None:
    leaks = build_test_leaks([QUESTION, SHORT], [0, 1], n=13, shortest=8)
    planted = f"Homework:\n{QUESTION.upper().replace(' ', chr(10))} Show your work."
    texts = [planted, f"She said: “{SHORT}”", "A train leaves Springfield and nobody is on it.", ""]
    got = measure_overlap(extract_words(texts), leaks).to_pylist()
    assert [row["leak_item"] for row in got] == ["set0:0", "set1:1", "", ""]
    assert [row["leak_ngrams_set0"] > 0 for row in got] == [True, False, False, False]
    assert [row["leak_ngrams_set1"] for row in got] == [0, 1, 0, 0]
    assert all(row["leak_ngrams"] == row["leak_ngrams_set0"] + row["leak_ngrams_set1"] for row in got)


def test_an_ngram_is_attributed_to_the_first_set_that_contains_it() -> None:
    leaks = build_test_leaks([QUESTION, QUESTION], [0, 1], n=13, shortest=8)
    row = measure_overlap(extract_words([QUESTION]), leaks).to_pylist()[0]
    assert row["leak_ngrams_set0"] > 0
    assert row["leak_ngrams_set1"] == 0


def test_numbers_are_no_evidence() -> None:
    numbers = "Thus 1 2 2 2 2 2 2 2 2 2 2 2 2 2 cells"
    leaks = build_test_leaks([numbers], n=13, shortest=8)
    assert leaks.n_too_short.tolist() == [1]
    assert measure_overlap(extract_words([numbers]), leaks).to_pylist()[0]["leak_ngrams"] == 0


def test_twelve_words_in_a_row_are_no_leak_and_thirteen_are() -> None:
    item = " ".join(f"w{chr(97 + i)}" for i in range(20))
    leaks = build_test_leaks([item], n=13, shortest=8)
    texts = [" ".join(item.split()[3:15]), " ".join(item.split()[3:16])]
    assert measure_overlap(extract_words(texts), leaks).column("leak_ngrams").to_pylist() == [0, 1]


def test_tens_of_thousands_of_ngrams_match_exactly() -> None:
    rng = np.random.default_rng(1)
    items = [" ".join(f"x{value}" for value in row) for row in rng.integers(0, 5_000, (2_000, 40)).tolist()]
    leaks = build_test_leaks(items, n=13, shortest=8)
    assert measure_overlap(extract_words(items), leaks).column("leak_word_frac").to_pylist() == [1.0] * len(items)
    other = [" ".join(f"x{value}" for value in row) for row in rng.integers(0, 5_000, (2_000, 40)).tolist()]
    assert sum(measure_overlap(extract_words(other), leaks).column("leak_ngrams").to_pylist()) == 0
