"""Words are those of spaCy's English tokenizer, which datatrove's filters count."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.filter.words.contractions import list_special_words
from pipeline.filter.words.known_words import MAX_PIECES, MAX_SPECIAL
from pipeline.filter.words.words import tokenize

spacy = pytest.importorskip("spacy")

LINES = (
    "the don't Can't cannot I'm they'll o'clock U.S.A. Mr. e.g. x_y foo.bar end.Start 3.14 1,000 a,b 10km 5% 25°C x=1 f(x)",
    "A.B. USA. 'tis rock'n'roll 9am 12p.m. info@example.org https://example.org/a?b=1 www.example.org/ a/b and/or 1/2 --",
    "well-known re--do 1-2 1-a x—y naïve Straße 你好世界 слово λόγος 🙂 a🙂b ½ x² … .. ... C++ C# :-) 8) '' @name #tag $5 5€ US$5",
)
BODIES = " ".join(LINES).split()
MARKS = [*"()[]{}\"'“”‘’«».,;:!?-–—…*_#&%$/<>=+~`|", "...", "'s", "’s", "'re", "!?", "):", ".)", "”."]
SPACES = [" ", " ", " ", "  ", "\n", "\n\n", "\t", "\u00a0", " \u2003"]


@pytest.fixture(scope="module")
def tokens() -> object:
    tokenizer = spacy.blank("en").tokenizer
    return lambda text: [token.text for token in tokenizer(text) if token.text.strip()]


def chunks(n: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    return [
        "".join(chance.choices(MARKS, k=chance.choice([0, 0, 1, 2])))
        + "".join(chance.choices(BODIES, k=chance.choice([1, 1, 2])))
        + "".join(chance.choices(MARKS, k=chance.choice([0, 1, 1, 2])))
        for _ in range(n)
    ]


def test_all_but_one_in_a_hundred_odd_words_are_cut_alike(tokens: object) -> None:
    assert callable(tokens)
    made = chunks(5_000, 1)
    unlike = [chunk for chunk in made if tokenize(chunk) != tokens(chunk)]
    assert len(unlike) <= len(made) / 100, unlike


def test_what_is_between_words_does_not_matter(tokens: object) -> None:
    assert callable(tokens)
    chance = random.Random(2)
    words = [chunk for chunk in chunks(2_000, 3) if tokenize(chunk) == tokens(chunk)]
    text = "".join(word + chance.choice(SPACES) for word in words)
    assert tokenize(text) == [piece for word in words for piece in tokenize(word)]


def test_known_words_are_spacys(tokens: object) -> None:
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
def test_no_letter_is_lost_or_made(text: str) -> None:
    assert "".join(tokenize(text)) == "".join(text.split())
