"""Invisible characters and unusual white space do not distinguish two copies."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dedupe.minhash.signatures import draw_permutations
from pipeline.dedupe.minhash.sketch import sketch
from pipeline.dedupe.minhash.visible import fold_visible
from pipeline.text.normalize import fold

SPACES = re.compile("[\x1c-\x1f\x85\u1680\u2028\u2029]")
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff]"
)
LONG = "Every autumn the water of the river turns brown and carries leaves from the forest down to the mill by the sea."
COPIES = {
    "soft hyphens": lambda text: text.replace("o", "o\u00ad"),
    "zero-width space": lambda text: text.replace("o", "o\u200b"),
    "word joiner": lambda text: text.replace("o", "o\u2060"),
    "byte order mark": lambda text: "\ufeff" + text,
    "line separators": lambda text: text.replace(" ", "\u2028"),
    "next line": lambda text: text.replace(" ", " \x85"),
    "ogham spaces": lambda text: text.replace(" ", "\u1680"),
    "directions": lambda text: f"\u202b{text}\u202c\u200f",
    "a null at the end": lambda text: text + "\x00",
    "control characters": lambda text: text.replace(" ", "\x1f", 1) + "\x07",
    "variation selector": lambda text: text + "\ufe0f",
    "tags": lambda text: text + "\U000e0041",
}


@pytest.mark.parametrize("text", ["Two words", LONG, "Café número"])
@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_an_exact_duplicate(text: str, copy: str) -> None:
    changed = COPIES[copy](text)
    assert changed != text
    sketches = sketch(pa.array(["a", "b"]), pa.array([text, changed]), 5, draw_permutations(16, 1))
    assert sketches.digests[0] == sketches.digests[1]
    first, middle, last = sketches.shingles.offsets.tolist()
    assert sketches.shingles.hashes[first:middle].tolist() == sketches.shingles.hashes[middle:last].tolist()


@pytest.mark.parametrize(
    ("left", "right"), [("x += 1", "x -= 1"), ("می\u200cخواهم", "میخواهم"), ("a b", "ab"), ("C++", "C#")]
)
def test_visible_differences_remain(left: str, right: str) -> None:
    sketches = sketch(pa.array(["a", "b"]), pa.array([left, right]), 5, draw_permutations(16, 1))
    assert sketches.digests[0] != sketches.digests[1]


@given(
    st.lists(
        st.text(st.characters(codec="utf-8") | st.sampled_from("a é\xad\u200b\x00\x1f\U000e0041"), max_size=20),
        max_size=6,
    )
)
def test_the_result_is_the_folded_visible_text(texts: list[str]) -> None:
    column = pa.array(["x", *texts], pa.string()).slice(1)
    plain = [INVISIBLE.sub("", SPACES.sub(" ", text)) for text in texts]
    assert fold_visible(column).to_pylist() == fold(pa.array(plain, pa.string())).to_pylist()
