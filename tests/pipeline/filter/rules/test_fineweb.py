"""FineWeb's scores equal a naive implementation of their definition."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.filter.rules.c4 import Lines, clean_lines
from pipeline.filter.rules.fineweb import SCORES, measure_fineweb
from pipeline.filter.words.char_flags import ENDS_LINE, load_char_flags
from pipeline.filter.words.words import tokenize

PIECES = [
    "A line that ends well.\n",
    "short\n",
    "short \n",
    "Is it?\n",
    "说得好。\n",
    "क्या।\n",
    "\n",
    "  \n",
    "a longer line, without any end to it\n",
    "x",
    "🙂\n",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=15).map("".join) | st.text(st.characters(codec="utf-8"), max_size=40)


def measure_naively(text: str) -> dict[str, float]:
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return dict.fromkeys(SCORES, 0.0)
    repeated = [line for index, line in enumerate(lines) if line in lines[:index]]
    return {
        "punctuated_line_frac": sum(bool(load_char_flags()[min(ord(line[-1]), 0x10000)] & ENDS_LINE) for line in lines)
        / len(lines),
        "short_line_frac": sum(len(line) <= 30 for line in lines) / len(lines),
        "repeated_line_char_frac": sum(map(len, repeated)) / len(text.replace("\n", "")),
        "newline_word_frac": text.count("\n") / max(len(tokenize(text)), 1),
    }


@pytest.mark.slow
@given(st.lists(TEXTS, max_size=5))
def test_scores_equal_the_naive_implementation(texts: list[str]) -> None:
    got = measure_fineweb(pa.array(texts, pa.string()))
    for text, row in zip(texts, got.to_pylist(), strict=True):
        expected = measure_naively(text)
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            assert math.isclose(row[name], value), (name, text)


def test_the_length_of_a_short_line_is_a_setting() -> None:
    texts = pa.array(["twelve chars\nfifteen letters"])
    assert [measure_fineweb(texts, n).column("short_line_frac")[0].as_py() for n in (11, 12, 14, 15)] == [
        0,
        0.5,
        0.5,
        1,
    ]


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_c4s_word_count_equals_finewebs_own(texts: list[str]) -> None:
    cleaned, scores = clean_lines(pa.array(texts, pa.string()), Lines(min_line_words=1))
    assert measure_fineweb(cleaned, 30, scores.column("words_left")).equals(measure_fineweb(cleaned))
