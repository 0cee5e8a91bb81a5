"""C4's lines: what goes, what stays, and that every line is accounted for."""

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


def one(text: str, lines: Lines | None = None) -> dict[str, Any]:
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
def test_a_bad_line_goes_and_is_counted(line: str, reason: str) -> None:
    found = one(f"{GOOD}\n{line}\n{GOOD}")
    assert found["text"] == f"{GOOD}\n{GOOD}"
    assert {name: found[f"changed_{name}"] for name in CHANGES if found[f"changed_{name}"]} == {reason: 1}


def test_citations_go_out_of_lines_that_stay() -> None:
    found = one("It was named in 1872.[3][citation needed] It is long.[edit]")
    assert found["text"] == "It was named in 1872. It is long."
    assert found["changed_c4_citations"] == 3
    assert found["sentences"] == 2


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
def test_sentences(text: str, n: int) -> None:
    assert one(text)["sentences"] == n


def test_switches() -> None:
    everything = Lines(10_000, 0, False, False, False, False)
    lines = [line.strip() for line in PIECES if line.strip()]
    assert one("\n".join(PIECES), everything)["text"] == "\n".join(lines)


def test_what_decides_on_the_document_is_counted() -> None:
    found = one("Lorem ipsum dolor sit.\nThis is {code} here.\n{ } { }")
    assert (found["lorem_ipsum_lines"], found["curly_bracket_lines"]) == (1, 1)


@given(st.lists(LINES.map("\n".join), min_size=1, max_size=4))
def test_every_line_stays_or_is_counted_and_cleaning_twice_changes_nothing(texts: list[str]) -> None:
    cleaned, scores = clean_lines(pa.array(texts), Lines())
    for text, left, row in zip(texts, cleaned.to_pylist(), scores.to_pylist(), strict=True):
        n_gone = sum(row[f"changed_{name}"] for name in CHANGES if name not in ("c4_trimmed_lines", "c4_citations"))
        assert len(left.splitlines()) + n_gone == len(text.splitlines())
        assert (left != text) == (sum(row[f"changed_{name}"] for name in CHANGES) > 0)
    once = clean_lines(cleaned, Lines(use_citations=False))
    assert once.texts.equals(cleaned)
