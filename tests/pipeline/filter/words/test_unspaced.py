"""Scripts without spaces between words are cut into words of the usual length; a repeated phrase is cut the same way each time."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.filter.rules.c4 import Lines, clean_lines
from pipeline.filter.rules.fineweb import measure_fineweb
from pipeline.filter.rules.gopher import measure_gopher
from pipeline.filter.words.words import tokenize
from pipeline.text.letters import UNSPACED_SCRIPTS
from tests.conftest import ROOT

JAPANESE = "この関数は行列の各行を順に読み、値が欠けている列を平均で補ってから、結果を新しい配列として返します。"
THAI = "ฟังก์ชันนี้อ่านแถวของเมทริกซ์ตามลำดับและเติมค่าที่ขาดหายด้วยค่าเฉลี่ยก่อนส่งคืนผลลัพธ์เป็นอาร์เรย์ใหม่"
# Mean word length by ICU 78 in these files, in code points.
ICU_MEANS = {"zh": 1.65, "ja": 1.71, "th": 3.95, "lo": 4.00}


def is_unspaced(char: str) -> bool:
    in_script = any(first <= ord(char) <= last for first, last, _ in UNSPACED_SCRIPTS)
    return in_script and unicodedata.category(char)[0] in "LM"


@pytest.mark.parametrize("language", ICU_MEANS)
def test_words_are_as_long_as_a_dictionarys(language: str) -> None:
    text = (ROOT / "data" / "seed" / "languages" / f"{language}.txt").read_text(encoding="utf-8")
    lengths = [len(word) for word in tokenize(text) if is_unspaced(word[0])]
    assert sum(lengths) / len(lengths) == pytest.approx(ICU_MEANS[language], rel=0.25)


@pytest.mark.parametrize("text", [JAPANESE, THAI])
@pytest.mark.parametrize("n", range(1, 9))
def test_a_phrase_is_cut_the_same_way_at_any_offset(text: str, n: int) -> None:
    before = text[-1 - n : -1] + text
    assert tokenize(before)[-len(tokenize(text)) + 4 :] == tokenize(text)[4:]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Python3.8で", ["Python3.8", "で"]),
        ("東(Tokyo)は3.5倍、", ["東", "(", "Tokyo", ")", "は", "3.5", "倍", "、"]),
        ("。」「", ["。", "」", "「"]),
        ("らーめんカ", [*tokenize("らーめん"), "カ"]),
        ("ខ្ញុំ\u200bស", ["ខ្ញុំ\u200b", "ស"]),
        ("བོད་སྐད་ཡིན།", ["བོད་", "སྐད་", "ཡིན", "།"]),
        ("한국어 문장 nice", ["한국어", "문장", "nice"]),
        ("don't是", ["do", "n't", "是"]),
    ],
)
def test_mixed_text(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


@given(st.text(st.sampled_from("เแกขคำุ้ๆ\u200bខ្មែរမြန်မာのリーグ東京ab.1 \n。"), max_size=60))
def test_no_word_starts_with_a_mark_or_ends_with_a_leading_vowel(text: str) -> None:
    words = tokenize(text)
    assert "".join(words) == "".join(text.split())
    position = 0
    squeezed = "".join(text.split())
    for word in words:
        is_inside = position > 0 and is_unspaced(squeezed[position - 1]) and is_unspaced(word[0])
        if is_inside and not any(char.isspace() for char in text):
            assert unicodedata.category(word[0])[0] != "M"
            assert squeezed[position - 1] not in "เแ"
        position += len(word)


def test_a_word_has_at_most_16_letters() -> None:
    assert max(map(len, tokenize("哈" * 1_000))) <= 16
    assert max(map(len, tokenize("ก" * 1_000))) <= 16


@pytest.mark.parametrize(("text", "low", "high"), [(JAPANESE, 20, 45), (THAI, 12, 40)])
def test_gopher_counts_words_of_one_long_line(text: str, low: int, high: int) -> None:
    row = measure_gopher(pa.array([text]), [2], [5]).to_pylist()[0]
    assert low <= row["words"] <= high
    assert row["mean_word_chars"] == 5
    assert row["dup_5gram_char_frac"] == 0


def test_the_mean_word_length_is_that_of_the_words_which_the_text_separates() -> None:
    mixed = measure_gopher(pa.array([f"averages {JAPANESE[:2]}"])).to_pylist()[0]
    n = len(tokenize(JAPANESE[:2]))
    assert mixed["mean_word_chars"] == (len("averages") + 5 * n) / (1 + n)


@pytest.mark.parametrize("text", [JAPANESE.rstrip("。"), THAI])
def test_repetition_is_found_without_spaces(text: str) -> None:
    repeated = "".join(text + "กคข東西北"[n] for n in range(6))
    assert measure_gopher(pa.array([repeated]), [2], [5]).to_pylist()[0]["dup_5gram_char_frac"] > 0.5


@pytest.mark.parametrize("text", [JAPANESE, THAI, THAI * 12])
def test_c4_keeps_lines_without_spaces(text: str) -> None:
    cleaned = clean_lines(pa.array([f"{text}\n東京"]), Lines(use_terminal_punctuation=False, max_word_chars=100))
    assert cleaned.texts.to_pylist() == [text]
    assert cleaned.scores.to_pylist()[0]["words_left"] == len(tokenize(text))
    assert cleaned.scores.to_pylist()[0]["changed_c4_short_lines"] == 1


def test_fineweb_counts_their_words_too() -> None:
    text = "\n".join([JAPANESE] * 5)
    assert measure_fineweb(pa.array([text])).to_pylist()[0]["newline_word_frac"] < 0.05
