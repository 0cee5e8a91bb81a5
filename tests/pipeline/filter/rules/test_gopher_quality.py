"""Gopher's quality scores equal a naive implementation of their definition."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.filter.rules.gopher import measure_gopher
from pipeline.filter.rules.gopher_quality import CUT_CHARS, SCORES, STOP_WORDS
from pipeline.filter.words.char_flags import SYMBOL, UNSPACED, load_char_flags
from pipeline.filter.words.words import tokenize

PIECES = [
    "the ",
    "The, ",
    "(of) ",
    "be\n",
    "word ",
    "1,000 ",
    "# ",
    "#tag ",
    "... ",
    "and so on...\n",
    "wait… ",
    "\n",
    "\r\n",
    "- item\n",
    "* item\n",
    "-----\n",
    "• punkt\n",
    ">>> f(x)\n",
    "...     y\n",
    "....\n",
    "\u2028",
    "\x1c",
    "  • a",
    *("don't ", "你好世界 ", "naïve ", "🙂🙂 ", "\u3000", "\t", " - b…  \n", ".. .", "\x85"),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(st.characters(codec="utf-8"), max_size=60)


def is_cut(word: str) -> bool:
    return bool(load_char_flags()[min(ord(word[0]), 0x10000)] & UNSPACED)


def measure_naively(text: str) -> dict[str, float]:
    words, lines = tokenize(text), text.splitlines()
    wordy = [
        word for word in words if any(not load_char_flags()[min(ord(letter), 0x10000)] & SYMBOL for letter in word)
    ]
    ellipses = text.count("...") + text.count("…")
    n_words, n_lines = max(len(words), 1), max(len(lines), 1)
    return {
        "words": len(wordy),
        "mean_word_chars": sum(CUT_CHARS if is_cut(word) else len(word) for word in wordy) / max(len(wordy), 1),
        "symbol_word_frac": max(text.count("#"), ellipses) / n_words,
        "bullet_line_frac": sum(line.lstrip().startswith(("•", "-")) for line in lines) / n_lines,
        "ellipsis_line_frac": sum(line.rstrip().endswith(("...", "…")) for line in lines) / n_lines,
        "alpha_word_frac": sum(any(c.isalpha() for c in word if ord(c) < 0x10000) for word in words) / n_words,
        "stop_words": len(set(STOP_WORDS) & set(words)),
    }


@given(st.lists(TEXTS, max_size=5))
def test_scores_equal_the_naive_implementation(texts: list[str]) -> None:
    got = measure_gopher(pa.array(texts, pa.string())).select(list(SCORES))
    for text, row in zip(texts, got.to_pylist(), strict=True):
        for name, value in measure_naively(text).items():
            assert math.isclose(row[name], value), (name, text)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("", "words", 0),
        ("🙂🙂 🙂", "alpha_word_frac", 0),
        ("The quick the of, (and)", "stop_words", 3),
        ("=====\n-----\ntext", "bullet_line_frac", 1 / 3),
        ("a , b !", "alpha_word_frac", 0.5),
        ("word " * 200_000, "words", 200_000),
    ],
)
def test_examples(text: str, name: str, value: float) -> None:
    assert measure_gopher(pa.array([text])).column(name)[0].as_py() == value
