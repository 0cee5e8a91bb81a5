"""Words and white space agree with Python's string methods."""

from __future__ import annotations

import re
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.letters import ABOVE, DIGIT, LETTER, build_char_classes
from pipeline.text.normalize import fold, split_words, squeeze

TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=60), max_size=8)


def split_one(text: str) -> str:
    return split_words(fold(pa.array([text])))[0].as_py()


@given(TEXTS)
def test_fold_is_nfkc_and_lower_case(texts: list[str]) -> None:
    expected = [unicodedata.normalize("NFKC", text).lower() for text in texts]
    assert fold(pa.array(texts, pa.string())).to_pylist() == expected


@pytest.mark.slow
def test_fold_of_every_code_point_alone_and_among_others() -> None:
    chars = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    for before, after in (("", ""), ("aÉ", "z"), ("ᄀ", "\u0301"), ("가", "Σ")):
        texts = [f"{before}{char}{after}" for char in chars]
        expected = [unicodedata.normalize("NFKC", text).lower() for text in texts]
        assert fold(pa.array(texts, pa.string())).to_pylist() == expected


@given(
    st.lists(
        st.text(st.sampled_from("aÉ–“😀가각각́̈ΣσςİiŞﬁⅨ½Å한国ไทย\u09c7\u09be\u0dd9\u0dcf𝐀"), max_size=12), max_size=6
    )
)
def test_fold_of_characters_that_combine(texts: list[str]) -> None:
    expected = [unicodedata.normalize("NFKC", text).lower() for text in texts]
    assert fold(pa.array(["x", *texts], pa.string()).slice(1)).to_pylist() == expected


@given(TEXTS)
def test_squeeze_is_split_and_join(texts: list[str]) -> None:
    assert squeeze(pa.array(texts, pa.string())).to_pylist() == [" ".join(re.findall(r"[^ \t-\r]+", t)) for t in texts]


@given(TEXTS)
def test_words_keep_every_letter_and_digit_in_order(texts: list[str]) -> None:
    folded = fold(pa.array(texts, pa.string()))
    for text, words in zip(folded.to_pylist(), split_words(folded).to_pylist(), strict=True):
        kept = [c for c in text if unicodedata.category(c)[0] in "LMN" or c == "_"]
        assert [c for c in words if unicodedata.category(c)[0] in "LMN" or c == "_"] == kept
        assert words == " ".join(words.split(" ")), "one space between two words"
        assert words == words.strip()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World! snake_case x2 3.14", "hello world snake_case x2 3 14"),
        ("你好世界", "你 好 世 界"),
        ("abc你好def", "abc 你 好 def"),
        ("カナ สวัสดี", "カ ナ ส ว ั ส ด ี"),
        ("한국어 문장", "한국어 문장"),
        ("ok🙂🙂go", "ok 🙂 🙂 go"),
        ("naïve café", "naïve café"),
        ("", ""),
        ("... --- !!!", ""),
    ],
)
def test_words(text: str, words: str) -> None:
    assert split_one(text) == words


def split_by_loop(folded: str) -> str:
    """Split into words, one character after the other."""
    classes, made, is_open = build_char_classes(), "", False
    for char in folded:
        kind = int(classes[min(ord(char), ABOVE)])
        continues = kind in (LETTER, DIGIT)
        if continues or kind > DIGIT:
            made += ("" if is_open and continues else " ") + char
        is_open = continues
    return made.strip()


@given(st.lists(st.text(st.sampled_from("ab1_ .é你ไ🙂☀中–"), max_size=14), max_size=6))
def test_words_agree_with_a_plain_loop(texts: list[str]) -> None:
    assert split_words(pa.array(texts, pa.string())).to_pylist() == [split_by_loop(text) for text in texts]


@given(TEXTS, st.integers(0, 8), st.integers(0, 8))
def test_a_slice_of_a_column_gives_the_slice_of_the_result(texts: list[str], start: int, size: int) -> None:
    column = fold(pa.array(texts, pa.string()))
    assert split_words(column.slice(start, size)).to_pylist() == split_words(column).to_pylist()[start : start + size]
    assert squeeze(column.slice(start, size)).to_pylist() == squeeze(column).to_pylist()[start : start + size]
