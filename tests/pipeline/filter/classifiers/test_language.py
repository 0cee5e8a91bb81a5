"""Prose is extracted from documentation, training lines are built, and a model's probabilities become judgments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.filter.classifiers.language import (
    LABEL,
    Sentence,
    extract_plain_prose,
    extract_prose,
    judge,
    make_training_lines,
    measure_accuracy,
    split_heldout,
)
from pipeline.text.columns import Fractions

DOC = """numpy.linalg.norm(x, ord=None)

Matrix or vector norm of the given array.

Parameters
----------
x : array_like
    Input array. If `axis` is None, `x` must be one or two dimensional.

Examples
--------
>>> a = np.arange(9) - 4
>>> norm(a)
7.745966692414834
array of words that are an output line

```python
import this is code in a fence and no prose
```
The norm is computed by a well-known formula, isn't it?
"""


def extract_one(text: str) -> str:
    return extract_prose(pa.array([text]))[0].as_py()


def test_prose_excludes_code_signatures_and_doctests() -> None:
    assert extract_one(DOC) == (
        "matrix or vector norm of the given array "
        "input array if is none must be one or two dimensional "
        "the norm is computed by a well known formula isn t it"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("f(x) = 2", ""),
        ("norm(x)", ""),
        ("Delete.", "delete"),
        ("x = y  # code\nTidy up the folder", "tidy up the folder"),
        ("这是一个句子。", "这 是 一 个 句 子"),
        ("Grüße aus Köln an alle", "grüße aus köln an alle"),
        ("这是一个句子，用中文写成。", "这 是 一 个 句 子 用 中 文 写 成"),
        ("ＧＲＯＳＳ geschrieben und ﬁx", "gross geschrieben und fix"),
        ("🙂🙂", ""),
        ("ありがとう🙂", "あ り が と う"),
        ("so 🙂 nice🎉", "so nice"),
        ("2024年に3つの値", "年 に つ の 値"),
        ("使用Python3.8，然后运行x=1。", "使 用 python 然 后 运 行 x"),
        ("функция(x)", "функция x"),
        ("naïve(x)=2*é", ""),
        ("𠀋𠀋𠀋", "𠀋 𠀋 𠀋"),
        ("word " * 50_000, ("word " * 801).strip()),
    ],
)
def test_prose(text: str, words: str) -> None:
    assert extract_one(text) == words


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=80), max_size=6))
def test_prose_is_one_line_per_document(texts: list[str]) -> None:
    lines = extract_prose(pa.array(texts, pa.string())).to_pylist()
    assert len(lines) == len(texts)
    assert not any("\n" in line for line in lines)
    assert extract_prose(pa.array(texts, pa.string()).slice(1)).to_pylist() == lines[1:]


def test_plain_prose_keeps_text_as_written() -> None:
    text = "norm(x)\n\nDie Norm einer Matrix, nach Frobenius.\nx = 2 * (a + b)\n"
    assert extract_plain_prose(pa.array([text, "这是一个句子。"])).to_pylist() == [
        "Die Norm einer Matrix nach Frobenius",
        "这是一个句子。",
    ]


@given(st.lists(st.sampled_from(["plain words of a line", "x = 2 ** y", "a b", ""]), max_size=30), st.integers(40, 200))
def test_a_long_text_is_judged_by_the_beginning_of_its_prose(lines: list[str], max_bytes: int) -> None:
    text = "\n".join(lines)
    whole, part = (extract_prose(pa.array([text]), size)[0].as_py() for size in (1 << 40, max_bytes))
    assert whole.startswith(part)
    assert len(part) >= min(len(whole), max_bytes)
    assert len(part) <= 2 * max_bytes + len(" words")


def test_a_long_line_is_cut_between_words() -> None:
    line = "some words without an end and no line break " * 1_000
    assert (
        extract_prose(pa.array([line]), 60)[0].as_py()
        == "some words without an end and no line break some words without"
    )


SENTENCES = [
    Sentence(language, f"{language} sentence with number {i} in it") for language in ("en", "de") for i in range(25)
]


def test_every_tenth_sentence_of_each_language_is_held_out() -> None:
    training, heldout = split_heldout(SENTENCES)
    assert sorted(training + heldout) == sorted(SENTENCES)
    assert [sentence.language for sentence in heldout] == ["en", "en", "de", "de"]


def test_training_lines_are_deterministic_weighted_and_labeled() -> None:
    lines = make_training_lines(SENTENCES, ["en"], n_spans=3, n_mixed=2, keep_weight=4, seed=1)
    assert lines == make_training_lines(SENTENCES, ["en"], n_spans=3, n_mixed=2, keep_weight=4, seed=1)
    assert lines != make_training_lines(SENTENCES, ["en"], n_spans=3, n_mixed=2, keep_weight=4, seed=2)
    wanted = [line for line in lines if line.startswith(f"{LABEL}en ")]
    assert len(wanted) == 25 * 4 * (1 + 3)
    assert len(lines) - len(wanted) == 25 * (1 + 3 + 2)
    assert not any(" de " in line for line in wanted), "a wanted language gets no foreign words"
    assert all("\n" not in line for line in lines)


class FakeModel:
    """Return fixed probabilities for three texts."""

    CHANCES: ClassVar = {
        "good": {"en": 0.9, "de": 0.1},
        "mixed": {"de": 0.6, "en": 0.4},
        "bad": {"de": 0.99, "en": 0.01},
    }

    def judge(self, lines: pa.StringArray, wanted: Sequence[str]) -> tuple[pa.StringArray, Fractions]:
        rows = [{LABEL + name: p for name, p in self.CHANCES.get(line, {}).items()} for line in lines.to_pylist()]
        score = np.array([sum(row.get(label, 0.0) for label in wanted) for row in rows])
        return pa.array([max(row, key=lambda label: row[label]) if row else "" for row in rows]), score


def test_the_score_is_the_probability_of_the_wanted_languages() -> None:
    lines = pa.array(["good", "mixed", "bad", ""])
    judgment = judge(FakeModel(), lines, ["en"])
    assert judgment.language.to_pylist() == ["en", "de", "de", ""]
    assert judgment.score.tolist() == [0.9, 0.4, 0.01, 0.0]
    assert judge(FakeModel(), lines, ["en", "de"]).score.tolist() == [1.0, 1.0, 1.0, 0.0]


def test_measure_counts_foreign_sentences_that_pass() -> None:
    heldout = [Sentence("en", "good"), Sentence("de", "mixed"), Sentence("de", "bad"), Sentence("de", "good")]
    judgment = judge(FakeModel(), pa.array([sentence.text for sentence in heldout]), ["en"])
    assert measure_accuracy(judgment, heldout, ["en"], 0.65) == (0.75, 1 / 3)
