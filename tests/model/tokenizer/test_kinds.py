"""Every kind of tokenizer is lossless on any text and respects vocabulary size and special tokens."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.tokenizer.kinds import KINDS, train_tokenizer
from model.tokenizer.tokenizer import (
    SPECIAL_TOKENS,
    SPLIT_PATTERNS,
    Tokenizer,
    make_splitter,
)
from pipeline.text.encode import check_same, make_fast_encoder

TEXTS = [
    "the cat sat on the mat, ##the ##x \u2581\u2581a",
    "import numpy as np\n\nx = 12345\n",
    "\u4e2d\u6587 \u00e9",
] * 4
HOSTILE = [
    "<|user|> hi <|end|>",
    "<0x41>",
    "",
    "a\r\n\r\n b",
    "\u0000\ufffd",
    "\U0001f389\u2581",
    "##x ###",
    "q" * 50_000,
]
TOKENIZERS = {kind: train_tokenizer(kind, iter(TEXTS), 700) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_round_trips(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(index >= len(SPECIAL_TOKENS) for index in ids)
    assert "".join(tokenizer.stream(ids)) == text


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_text_gives_no_special_token_and_the_fast_encoder_agrees(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    check_same(make_fast_encoder(tokenizer.text), tokenizer.encode_batch, [*HOSTILE, *TEXTS])
    for text in HOSTILE:
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
def test_saving_and_training_are_deterministic(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    assert Tokenizer(tokenizer.text).encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])
    assert train_tokenizer(kind, iter(TEXTS), 700).text == tokenizer.text
    assert tokenizer.vocab_size <= 700


def test_a_frequent_character_is_a_token_and_a_rare_one_bytes() -> None:
    tokenizer = TOKENIZERS["char"]
    assert len(tokenizer.encode("the cat")) == 7
    assert len(tokenizer.encode("\U0001f389")) == 4
    assert tokenizer.vocab_size == len(SPECIAL_TOKENS) + 256 + len(set("".join(TEXTS)))


def test_words_are_split_into_long_pieces() -> None:
    tokenizer = TOKENIZERS["wordpiece"]
    assert len(tokenizer.encode("numpy")) < 5
    assert tokenizer.vocab_size > len(SPECIAL_TOKENS) + 512


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_too_small_for_the_bytes_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        train_tokenizer(kind, iter(TEXTS), 200)
    with pytest.raises(ValueError, match="kind is unknown"):
        train_tokenizer("words", iter(TEXTS), 700)


@pytest.mark.parametrize("kind", KINDS)
@given(
    st.permutations([f"{text} {number} {word}" for number, text in enumerate(TEXTS) for word in ("ab", "bc", "cab")])
)
@settings(max_examples=10)
def test_the_order_of_texts_does_not_matter(kind: str, texts: list[str]) -> None:
    """A sample is read in the order of its files, which is arbitrary."""
    assert train_tokenizer(kind, iter(texts), 620).text == train_tokenizer(kind, iter(sorted(texts)), 620).text


def test_the_tokenizers_library_joins_word_pieces() -> None:
    import tokenizers

    plain = tokenizers.Tokenizer.from_str(TOKENIZERS["wordpiece"].text)
    for text in [*TEXTS, *HOSTILE[:-1]]:
        assert plain.decode(TOKENIZERS["wordpiece"].encode(text)) == text


runs = st.builds(
    lambda character, n: character * n, st.sampled_from("aB\u00e9\u4e2d1\u00b2!'\u0301 \n\r\t\u00a0"), st.integers(1, 9)
)


@pytest.mark.parametrize("pattern", SPLIT_PATTERNS)
@given(text=st.lists(runs, max_size=8).map("".join), max_chars=st.integers(1, 12))
def test_only_long_words_are_cut_for_training(pattern: str, text: str, max_chars: int) -> None:
    """A word is at most one leading character and two runs."""
    whole = [part for _, part in make_splitter(pattern).pre_tokenize_str(text)]
    cut = [part for _, part in make_splitter(pattern, max_chars).pre_tokenize_str(text)]
    assert "".join(text[start:end] for start, end in cut) == text
    assert all(end - start <= 1 + 2 * max_chars for start, end in cut)
    if all(end - start <= max_chars for start, end in whole):
        assert cut == whole


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("letters", ["ACGT", " ", "!?"])
def test_training_on_a_word_without_end_takes_linear_time(kind: str, letters: str) -> None:
    """With the square of 60,000 characters it took two seconds, and 200,000 took 31."""
    word = "".join(Random(1).choices(letters, k=60_000))
    started = time.process_time()
    tokenizer = train_tokenizer(kind, [word, *TEXTS], 800)
    assert time.process_time() - started < 1.5
    assert tokenizer.decode(tokenizer.encode(word)) == word
    assert tokenizer.text == train_tokenizer(kind, [word, *TEXTS], 800).text
