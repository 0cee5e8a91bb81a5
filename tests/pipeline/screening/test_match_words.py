"""Copies of evaluation items are found however they are rewritten, and words of plain text are those of `split_words`."""

from __future__ import annotations

import html
import random
import textwrap
import unicodedata
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.screening.contamination import Leaks, build_leaks, from_table, measure_overlap, to_table
from pipeline.screening.lookalikes import build_lookalikes
from pipeline.screening.match_words import (
    MIN_LETTERS,
    extract_match_words,
    find_spaced_rows,
    join_letters,
    join_spaced_letters,
)
from pipeline.text.normalize import fold, split_words

ITEMS = [
    "A gardener plants nine rows of tulips with fourteen bulbs in each row; how many bulbs does she need if a fifth of them die?",
    "Maria's brother is twice as old as she was when their father turned forty-two, and he is eighteen today. How old is she now?",
    "Which of these explains best why the moon's phases repeat about every 29 days, although the Earth turns once every 24 hours?",
]
AROUND = "The road to the old mill was closed for most of that winter, so nobody came. "
CYRILLIC = dict(zip("aeopcxyisjkmtHBKMTAEOPC", "аеорсхуіѕјкмтНВКМТАЕОРС", strict=True))
GREEK = dict(zip("oavpikuxtABEHIKMNOPTX", "οανρικυχτΑΒΕΗΙΚΜΝΟΡΤΧ", strict=True))


def number_lines(form: str, step: int = 1) -> Callable[[str], str]:
    return lambda text: "\n".join(form.format(step * (at + 1), line) for at, line in enumerate(textwrap.wrap(text, 40)))


def sprinkle(text: str, chars: str) -> str:
    rng = random.Random(1)
    return "".join(char + (rng.choice(chars) if char.isalpha() and rng.random() < 0.3 else "") for char in text)


REWRITES: dict[str, Callable[[str], str]] = {
    "verbatim": str,
    "upper": str.upper,
    "breaks": lambda text: text.replace(" ", "\n"),
    "quoted": lambda text: "> " + text.replace("'", "’"),
    "table": lambda text: "| " + text.replace(" ", " | ") + " |",
    "entities": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "hexadecimal": lambda text: "".join(f"&#x{ord(char):X};" for char in text),
    "named": lambda text: html.escape(text, quote=True).replace(" ", "&nbsp;"),
    "escaped_twice": lambda text: html.escape(html.escape(text.replace(" ", "&nbsp;"))),
    "zero_width": lambda text: sprinkle(text, "\u200b\u200c\u200d\u2060\ufeff"),
    "directions": lambda text: sprinkle(text, "\u200e\u202a\u202c\u2066\U000e0041"),
    "soft_hyphens": lambda text: sprinkle(text, "\u00ad"),
    "cyrillic": lambda text: "".join(CYRILLIC.get(char, char) for char in text),
    "greek": lambda text: "".join(GREEK.get(char, char) for char in text),
    "fullwidth": lambda text: "".join(chr(ord(char) + 0xFEE0) if char.isalnum() else char for char in text),
    "accents": lambda text: "".join(char + "\u0301" if char in "aeiou" else char for char in text),
    "composed": lambda text: text.translate(str.maketrans("aeiouc", "áèîöūç")),
    "spaced": " ".join,
    "spaced_without_gaps": lambda text: " ".join(text.replace(" ", "")),
    "dotted": lambda text: ".".join(text.replace(" ", "")),
    "one_per_line": "\n".join,
    **{
        form: number_lines(form)
        for form in ("{}. {}", "{} {}", "{:>4} | {}", "{}: {}", "{}) {}", "[{}] {}", "{}\t{}", "{:03} {}")
    },
    **{
        form: number_lines(form)
        for form in ("({}) {}", "L{}: {}", "Line {}: {}", "#{} {}", "> {} {}", "{:>3}→{}", "| {} | {} |")
    },
    "by_tens": number_lines("{} {}", 10),
    "words_numbered": lambda text: "\n".join(f"{at}. {word}" for at, word in enumerate(text.split(), 1)),
}


def build(items: list[str]) -> Leaks:
    labels = [f"quiz:{at}" for at in range(len(items))]
    words = extract_match_words(pa.array(items))
    return build_leaks(words, labels, np.zeros(len(items), np.int64), ["quiz"], ngram_words=13, min_words=8)


@pytest.mark.parametrize("name", REWRITES)
def test_rewritten_items_are_found(name: str) -> None:
    leaks = from_table(to_table(build(ITEMS)))
    docs = [
        f"{AROUND}\n\n{REWRITES[name](item)}\n\n{AROUND}"
        for item in [*ITEMS, "Nothing of the kind is asked here. " * 3]
    ]
    found = measure_overlap(extract_match_words(pa.array(docs)), leaks).column("leak_item").to_pylist()
    assert found == ["quiz:0", "quiz:1", "quiz:2", ""]


@pytest.mark.parametrize("name", ["entities", "cyrillic", "soft_hyphens", "{}. {}"])
def test_rewritten_evaluation_sets_match_plain_documents(name: str) -> None:
    leaks = build([REWRITES[name](item) for item in ITEMS])
    found = measure_overlap(extract_match_words(pa.array(ITEMS)), leaks).column("leak_item").to_pylist()
    assert found == ["quiz:0", "quiz:1", "quiz:2"]


def test_joined_items_are_not_counted_as_ngrams() -> None:
    leaks = build(ITEMS)
    plain = [each.split() for each in split_words(fold(pa.array(ITEMS))).to_pylist()]
    assert len(leaks.keys) == sum(len(words) - 12 for words in plain)
    assert leaks.joined is not None
    assert leaks.n_too_short.tolist() == [0]


PLAIN = st.text(st.sampled_from("ab1 .\n;&#(e"), max_size=30)


@given(st.lists(PLAIN, max_size=6))
def test_plain_texts_have_the_words_of_split_words(texts: list[str]) -> None:
    plain = [text.replace("&", "").replace("1", "") for text in texts]
    column = pa.array(plain, pa.string())
    assert extract_match_words(column).equals(split_words(fold(column)))


@given(
    st.lists(st.text(st.sampled_from("ab12 .\n;&#xé\u00adа(éé日𝐀\U000e0041|Ll-"), max_size=30), max_size=6),
    st.integers(0, 6),
    st.integers(0, 6),
)
def test_rows_do_not_affect_each_other(texts: list[str], start: int, size: int) -> None:
    column = pa.array(texts, pa.string())
    whole = extract_match_words(column).to_pylist()
    assert extract_match_words(column.slice(start, size)).to_pylist() == whole[start : start + size]
    assert [extract_match_words(pa.array([text])).to_pylist()[0] for text in texts] == whole


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1. one\n2. two\n\n3. three", "one two three"),
        ("In 1990 it had\n12 apples and\n40 pears\n1.5 kg", "in 1990 it had 12 apples and 40 pears 1 5 kg"),
        ("AT&T &amp; Co &unknown; a && b;", "at t co unknown a b"),
        ("na\u00efve cafe\u0301 \u0441\u0430\u0442", "naive cafe cat"),
        ("\ufeffzero\u200bwidth \U0001f600", "zerowidth \U0001f600"),
        ("", ""),
    ],
)
def test_words(text: str, words: str) -> None:
    assert extract_match_words(pa.array([text]))[0].as_py() == words


@given(st.text(st.characters(max_codepoint=0x5FF, categories=["L", "Zs"]), max_size=20))
def test_case_and_normal_form_make_no_difference(text: str) -> None:
    """Words of every script stay the same in capitals and in decomposed form, as they do without the lookalikes."""
    forms = [text, text.upper(), unicodedata.normalize("NFD", text), unicodedata.normalize("NFC", text)]
    plain = split_words(fold(pa.array(forms))).to_pylist()
    words = extract_match_words(pa.array(forms)).to_pylist()
    assert all(words[at] == words[0] for at in range(4) if plain[at] == plain[0])


def join_by_loop(words: str, least: int) -> str:
    """Join the letters, one word after the other."""
    runs, run = list[str](), ""
    for word in [*words.split(" "), "--"]:
        if word != "--" and (least == 1 or len(word) == 1):
            run += "".join(char for char in word if char.isascii())
        else:
            runs += [run] if len(run) >= least and run else []
            run = ""
    return " ".join(" ".join(run.replace("e", "e ").replace("t", "t ").split()) for run in runs)


LETTERS = st.lists(st.sampled_from(["a", "e", "t", "x", "1", "ab", "é"]), max_size=80).map(" ".join)


@given(st.lists(LETTERS, max_size=4))
def test_joined_letters_agree_with_a_plain_loop(rows: list[str]) -> None:
    words = pa.array(rows, pa.string())
    assert join_letters(words).to_pylist() == [join_by_loop(row, 1) for row in rows]
    joined = join_spaced_letters(words).to_pylist()
    assert joined == [join_by_loop(row, MIN_LETTERS) for row in rows]
    may_have = find_spaced_rows(words).tolist()
    assert all(may for may, each, row in zip(may_have, joined, rows, strict=True) if each and "é" not in row)


def test_the_table_maps_lookalikes_and_leaves_ascii_and_other_scripts() -> None:
    table = build_lookalikes()
    assert (table[:128] == np.arange(128)).all()
    for char, letter in zip("аеорсхɡΑαᴍᏟꓐÉḁ\u00a0Ａ", "aeopcxgaamcbea a", strict=True):
        assert chr(table[ord(char)]).lower() == letter
    for char in "中あ가กبאद":
        assert table[ord(char)] == ord(char)
