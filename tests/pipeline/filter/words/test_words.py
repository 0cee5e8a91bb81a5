"""Words equal those of spaCy's English tokenizer, which datatrove's filters count."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.filter.words.contractions import list_special_words
from pipeline.filter.words.known_words import MAX_PIECES, MAX_SPECIAL
from pipeline.filter.words.words import tokenize

LINES = (
    "the don't Can't cannot I'm they'll o'clock U.S.A. Mr. e.g. x_y foo.bar end.Start 3.14 1,000 a,b 10km 5% 25°C x=1 f(x)",
    "A.B. USA. 'tis rock'n'roll 9am 12p.m. info@example.org https://example.org/a?b=1 www.example.org/ a/b and/or 1/2 --",
    "well-known re--do 1-2 1-a x—y naïve Straße слово λόγος 🙂 a🙂b ½ x² … .. ... C++ C# :-) 8) '' @name #tag $5 5€ US$5",
)
BODIES = " ".join(LINES).split()
MARKS = [*"()[]{}\"'“”‘’«».,;:!?-–—…*_#&%$/<>=+~`|", "...", "'s", "’s", "'re", "!?", "):", ".)", "”."]
SPACES = [" ", " ", " ", "  ", "\n", "\n\n", "\t", "\u00a0", " \u2003"]


@pytest.fixture(scope="module")
def tokens() -> object:
    tokenizer = pytest.importorskip("spacy").blank("en").tokenizer
    return lambda text: [token.text for token in tokenizer(text) if token.text.strip()]


def make_chunks(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [
        "".join(rng.choices(MARKS, k=rng.choice([0, 0, 1, 2])))
        + "".join(rng.choices(BODIES, k=rng.choice([1, 1, 2])))
        + "".join(rng.choices(MARKS, k=rng.choice([0, 1, 1, 2])))
        for _ in range(n)
    ]


def test_at_most_one_in_a_hundred_unusual_words_differs(tokens: object) -> None:
    assert callable(tokens)
    chunks = make_chunks(5_000, 1)
    different = [chunk for chunk in chunks if tokenize(chunk) != tokens(chunk)]
    assert len(different) <= len(chunks) / 100, different


def test_white_space_between_words_does_not_matter(tokens: object) -> None:
    assert callable(tokens)
    rng = random.Random(2)
    words = [chunk for chunk in make_chunks(2_000, 3) if tokenize(chunk) == tokens(chunk)]
    text = "".join(word + rng.choice(SPACES) for word in words)
    assert tokenize(text) == [piece for word in words for piece in tokenize(word)]


def test_special_words_are_split_like_spacys(tokens: object) -> None:
    assert callable(tokens)
    for word, pieces in list_special_words().items():
        assert tokenize(word) == list(pieces) == tokens(word)
        assert len(word.encode()) <= MAX_SPECIAL
        assert len(pieces) <= MAX_PIECES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n\u3000", []),
        ("She said: “don’t!” (twice)", ["She", "said", ":", "“", "do", "n’t", "!", "”", "(", "twice", ")"]),
        ("at 10am, 5km from www.example.org/x.", ["at", "10", "am", ",", "5", "km", "from", "www.example.org/x", "."]),
        ("wait...what", ["wait", "...", "what"]),
        ("(see below):", ["(", "see", "below", "):"]),
    ],
)
def test_examples(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_no_character_is_lost_or_added(text: str) -> None:
    assert "".join(tokenize(text)) == "".join(text.split())
