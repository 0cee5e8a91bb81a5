"""Counting and spelling: exact by characters, errors as results."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.tools.text_counts import count_text, spell_text

WORDS = st.text(alphabet=st.characters(categories=["Ll", "Lu"]), min_size=1, max_size=20)


@given(WORDS)
def test_vowels_and_consonants_are_the_letters(word: str) -> None:
    n = {
        unit: int(count_text(f"{unit} in {word}").rpartition(" = ")[2]) for unit in ("vowels", "consonants", "letters")
    }
    assert n["vowels"] + n["consonants"] == n["letters"]


@given(st.text(alphabet="abcXYZ", min_size=1, max_size=20))
def test_backwards_twice_is_the_word_and_spelling_loses_nothing(word: str) -> None:
    assert spell_text(f"backwards {spell_text(f'backwards {word}')}") == word
    assert spell_text(f"letters {word}").replace("-", "") == word


def test_accents_belong_to_their_letter() -> None:
    assert count_text("letters in cafe\u0301") == "letters in cafe\u0301 = 4"
    assert spell_text("backwards e\u0301a") == "aé"
    assert count_text('letter "É" in été').endswith("= 2")


def test_lines_and_items() -> None:
    assert count_text("lines in a ⏎ b ⏎ c").endswith("= 3")
    assert count_text("items in salt, oil, and tea").endswith("= 3")


def test_a_long_text_is_counted_in_full_and_shown_in_part() -> None:
    result = count_text(f"words in {'word ' * 5_000}")
    assert result.endswith("… = 5000")
    assert len(result) < 100


@pytest.mark.parametrize("request_", ["", "strawberry", "syllables in banana", "in x", "letters in"])
def test_what_can_not_be_counted_is_an_error_that_names_what_can(request_: str) -> None:
    assert count_text(request_).startswith("error: ")
    assert "letters" in count_text(request_)


@pytest.mark.parametrize("request_", ["", "hello", "rot13 hello"])
def test_an_unknown_change_is_an_error(request_: str) -> None:
    assert spell_text(request_).startswith("error: ")
