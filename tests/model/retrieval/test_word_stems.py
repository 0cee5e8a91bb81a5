from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.retrieval.word_stems import MAX_WORD_CHARS, STOP_WORDS, split_content_words, split_texts, split_words

TEXTS = st.lists(st.text(st.characters(), max_size=60), max_size=8)  # with surrogates and control characters


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pd.read_csv", ["pd.read_csv", "pd", "read_csv", "read", "csv"]),
        ("DataFrame", ["datafram", "data", "frame"]),
        ("HTTPServer", ["httpserver", "http", "server"]),
        ("KMeans", ["kmean", "k", "mean"]),
        ("log10(x)", ["log10", "log", "10", "x"]),
        ("Computing the norms", ["comput", "the", "norm"]),
        ("__init__", ["__init__", "init"]),
        ("json.dumps???", ["json.dump", "json", "dump"]),
        ("the array's", ["the", "array"]),
        ("naïve Café", ["naiv", "cafe"]),
        ("ﬁle", ["file"]),
        ("日本語", ["日本", "本語"]),
        ("שלום עולם", ["שלום", "עולם"]),
        ("!?%* \x1b \ud800", []),
        ("", []),
    ],
)
def test_names_are_split_and_kept_whole(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("computes", "Computing"),
        ("dataframes", "DataFrame"),
        ("READ_CSV", "read_csv"),
        ("naive", "naïve"),
        ("norms", "numpy.linalg.norm"),
    ],
)
def test_spellings_of_one_word_meet(query: str, wanted: str) -> None:
    assert set(split_words(query)) & set(split_words(wanted))


@given(TEXTS)
def test_a_batch_equals_its_texts(texts: list[str]) -> None:
    ids, offsets, words = split_texts(texts)
    assert len(set(words)) == len(words)
    assert [[words[i] for i in ids[a:b]] for a, b in itertools.pairwise(offsets)] == [
        split_words(text) for text in texts
    ]


@given(st.text(st.characters(), max_size=300))
def test_words_are_lower_case_and_bounded(text: str) -> None:
    for word in split_words(text):
        assert word
        assert word == word.lower()
        assert len(word) <= MAX_WORD_CHARS


def test_encoded_data_is_no_word() -> None:
    assert split_words("A" * 1_000_000) == []
    assert split_words("x." * 300 + "end")[-1] == "end"


def test_stop_words_leave_a_query_unless_it_has_no_others() -> None:
    assert split_content_words("How do I invert a matrix?") == ["invert", "matrix"]
    assert split_content_words("what is it") == ["is"]
    assert split_content_words("which to do") == ["which", "to", "do"]
    assert "not" not in STOP_WORDS
