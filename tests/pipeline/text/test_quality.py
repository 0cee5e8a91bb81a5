"""Gopher's quality figures against a plain reading of their definition."""

from __future__ import annotations

import math
import string

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.quality import FIGURES, STOP_WORDS, quality

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
    "\n\n",
]
PIECES += [
    "- item\n",
    "* item\n",
    "-----\n",
    "• punkt\n",
    ">>> f(x)\n",
    "...     y\n",
    "...\n",
    "你好世界 ",
    "naïve ",
    "🙂🙂 ",
    "\u3000",
    "\t",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(st.characters(codec="utf-8"), max_size=60)


def naive(text: str) -> dict[str, float]:
    words = text.split()
    if not words:
        return dict.fromkeys(FIGURES, 0.0)
    lines = [line.split() for line in text.split("\n") if line.split()]
    prompts = [bool(line) and line[0] == "..." for line in lines]
    unprompted = [line[1:] if prompt else line for line, prompt in zip(lines, prompts, strict=True)]
    ellipses = sum(word.count("...") + word.count("…") for line in unprompted for word in line)
    ellipses += sum(1 for prompt, line in zip(prompts, lines, strict=True) if prompt and len(line[0]) != 3)
    trailing = sum(1 for line in unprompted if line and line[-1].endswith(("...", "…")))
    plain = {word.strip(string.punctuation).lower() for word in words}
    return {
        "words": len(words),
        "mean_word_chars": sum(map(len, words)) / len(words),
        "symbol_word_frac": max(text.count("#"), ellipses) / len(words),
        "bullet_line_frac": sum(line[0] in "•‣*-" for line in lines) / len(lines),
        "ellipsis_line_frac": trailing / len(lines),
        "alpha_word_frac": sum(any(is_alpha(c) for c in word) for word in words) / len(words),
        "stop_words": len(plain & set(STOP_WORDS)),
    }


def is_alpha(letter: str) -> bool:
    import unicodedata

    return ord(letter) < 0x10000 and unicodedata.category(letter)[0] in "LM"


@given(st.lists(TEXTS, max_size=5))
def test_equals_the_plain_reading(texts: list[str]) -> None:
    got = quality(pa.array(texts, pa.string()))
    assert got.schema.names == list(FIGURES)
    for text, row in zip(texts, got.to_pylist(), strict=True):
        for name, value in naive(text).items():
            assert math.isclose(row[name], value), (name, text)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("", "words", 0),
        ("🙂🙂 🙂", "alpha_word_frac", 0),
        ("没有空格的句子", "words", 1),
        ("The quick THE of, (and)", "stop_words", 3),
        ("=====\n-----\ntext", "bullet_line_frac", 0),
        ("word " * 200_000, "words", 200_000),
    ],
)
def test_figures(text: str, name: str, value: float) -> None:
    assert quality(pa.array([text])).column(name)[0].as_py() == value
