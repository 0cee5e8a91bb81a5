"""Prose out of documentation, and what a language model says about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.language import LABEL, Sentence, judge, measure, prose, split_heldout, training_lines

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


def one(text: str) -> str:
    return prose(pa.array([text]))[0].as_py()


def test_prose_is_what_a_person_wrote_for_people() -> None:
    assert one(DOC) == (
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
        ("🙂🙂", "🙂 🙂"),
        ("word " * 50_000, ("word " * 50_000).strip()),
    ],
)
def test_prose(text: str, words: str) -> None:
    assert one(text) == words


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=80), max_size=6))
def test_prose_is_one_line_a_document(texts: list[str]) -> None:
    lines = prose(pa.array(texts, pa.string())).to_pylist()
    assert len(lines) == len(texts)
    assert not any("\n" in line for line in lines)
    assert prose(pa.array(texts, pa.string()).slice(1)).to_pylist() == lines[1:]


SENTENCES = [
    Sentence(language, f"{language} sentence with number {i} in it") for language in ("en", "de") for i in range(25)
]


def test_every_tenth_sentence_of_each_language_is_held_out() -> None:
    learn, heldout = split_heldout(SENTENCES)
    assert sorted(learn + heldout) == sorted(SENTENCES)
    assert [sentence.language for sentence in heldout] == ["en", "en", "de", "de"]


def test_training_lines() -> None:
    lines = training_lines(SENTENCES, ["en"], n_spans=3, n_mixed=2, keep_weight=4, seed=1)
    assert lines == training_lines(SENTENCES, ["en"], n_spans=3, n_mixed=2, keep_weight=4, seed=1)
    assert lines != training_lines(SENTENCES, ["en"], n_spans=3, n_mixed=2, keep_weight=4, seed=2)
    wanted = [line for line in lines if line.startswith(f"{LABEL}en ")]
    assert len(wanted) == 25 * 4 * (1 + 3)
    assert len(lines) - len(wanted) == 25 * (1 + 3 + 2)
    assert not any(" de " in line for line in wanted), "a wanted language gets no foreign words"
    assert all("\n" not in line for line in lines)


class Guesser:
    """A fastText model that knows three texts."""

    CHANCES: ClassVar = {
        "good": {"en": 0.9, "de": 0.1},
        "mixed": {"de": 0.6, "en": 0.4},
        "bad": {"de": 0.99, "en": 0.01},
    }

    def predict(self, text: Sequence[str], k: int = 1) -> Any:
        found = [list(self.CHANCES.get(line, {}).items())[: k if k > 0 else None] for line in text]
        return [[LABEL + name for name, _ in row] for row in found], [np.array([p for _, p in row]) for row in found]


def test_the_score_is_the_probability_of_the_wanted_languages() -> None:
    lines = pa.array(["good", "mixed", "bad", ""])
    found = judge(Guesser(), lines, ["en"])
    assert found.language.to_pylist() == ["en", "de", "de", ""]
    assert found.score.tolist() == [0.9, 0.4, 0.01, 0.0]
    assert judge(Guesser(), lines, ["en", "de"]).score.tolist() == [1.0, 1.0, 1.0, 0.0]


def test_measure_counts_foreign_sentences_that_pass() -> None:
    heldout = [Sentence("en", "good"), Sentence("de", "mixed"), Sentence("de", "bad"), Sentence("de", "good")]
    assert measure(Guesser(), heldout, ["en"], 0.65) == (0.75, 1 / 3)
