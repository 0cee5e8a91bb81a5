"""C4's line cleaning removes, keeps and counts every line."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.filter.rules.c4 import CHANGES, Lines, clean_lines

GOOD = "This line says something."
PIECES = [
    GOOD,
    "no end",
    "Two words.",
    "Uses cookies, they say.",
    "See JavaScript for this.",
    "Wait for it...",
    "  padded it is.  ",
    "A claim was made.[12]",
    "See[edit] the other page.",
    "",
    "   ",
    "Lorem ipsum dolor sit.",
    "This is {code}.",
    "x" * 1001 + " a b.",
]
LINES = st.lists(st.sampled_from(PIECES) | st.text(st.characters(codec="utf-8"), max_size=20), max_size=12)


def clean_one(text: str, lines: Lines | None = None) -> dict[str, Any]:
    texts, scores = clean_lines(pa.array([text]), lines or Lines())
    return {"text": texts[0].as_py(), **scores.to_pylist()[0]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a menu of things", "c4_unended_lines"),
        ("to be continued...", "c4_unended_lines"),
        ("Too short.", "c4_short_lines"),
        ("Switch JAVASCRIPT on, please.", "c4_javascript_lines"),
        ("Read our Privacy Policy here.", "c4_policy_lines"),
        ("y" * 1001 + " is long.", "c4_long_word_lines"),
        ("\u3000 ", "c4_blank_lines"),
        ("The mark stays behind. [1]", "c4_unended_lines"),
    ],
)
def test_a_bad_line_is_removed_and_counted(line: str, reason: str) -> None:
    result = clean_one(f"{GOOD}\n{line}\n{GOOD}")
    assert result["text"] == f"{GOOD}\n{GOOD}"
    assert {name: result[f"changed_{name}"] for name in CHANGES if result[f"changed_{name}"]} == {reason: 1}


def test_citations_are_removed_from_surviving_lines() -> None:
    result = clean_one("It was named in 1872.[3][citation needed] It is long.[edit]")
    assert result["text"] == "It was named in 1872. It is long."
    assert result["changed_c4_citations"] == 3
    assert result["sentences"] == 2


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("One. Two! Three?", 3),
        ("Dr. Who met Mr. X.", 1),
        ("He said “Stop.” Then he went.", 2),
        ("Wait... what is it?", 1),
        ("", 0),
        ("Not a sentence\nThis one is.\nAnd this.", 1),
    ],
)
def test_sentences_are_counted_like_spacys(text: str, n: int) -> None:
    assert clean_one(text)["sentences"] == n


def test_every_line_rule_can_be_turned_off() -> None:
    everything = Lines(10_000, 0, False, False, False, False)
    lines = [line.strip() for line in PIECES if line.strip()]
    assert clean_one("\n".join(PIECES), everything)["text"] == "\n".join(lines)


def test_lines_that_decide_on_the_document_are_counted() -> None:
    result = clean_one("Lorem ipsum dolor sit.\nThis is {code} here.\n{ } { }")
    assert (result["lorem_ipsum_lines"], result["curly_bracket_lines"]) == (1, 1)


@given(st.lists(LINES.map("\n".join), min_size=1, max_size=4))
def test_every_line_is_kept_or_counted_and_cleaning_is_idempotent(texts: list[str]) -> None:
    cleaned, scores = clean_lines(pa.array(texts), Lines())
    for text, left, row in zip(texts, cleaned.to_pylist(), scores.to_pylist(), strict=True):
        n_gone = sum(row[f"changed_{name}"] for name in CHANGES if name not in ("c4_trimmed_lines", "c4_citations"))
        assert len(left.splitlines()) + n_gone == len(text.splitlines())
        assert (left != text) == (sum(row[f"changed_{name}"] for name in CHANGES) > 0)
    once = clean_lines(cleaned, Lines(use_citations=False))
    assert once.texts.equals(cleaned)
