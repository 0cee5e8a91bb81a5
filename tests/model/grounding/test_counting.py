"""Calls of count_text and spell_text are found where a message asks for them, and nowhere else."""

from __future__ import annotations

import pytest

from assistant.tools.text_counts import count_text, spell_text
from model.grounding.counting import find_text_call

TOOLS = {"count_text": count_text, "spell_text": spell_text}


@pytest.mark.parametrize(
    ("message", "result"),
    [
        ("How many r's are in strawberry?", 'letter "r" in strawberry = 3'),
        ("how many rs in strawberry", 'letter "r" in strawberry = 3'),
        ('How many times does the letter s occur in "Mississippi"?', 'letter "s" in Mississippi = 4'),
        ('how often does the word "the" appear in "the cat and the dog"?', 'word "the" in the cat and the dog = 2'),
        ('How many words are in "how many words are there"?', "words in how many words are there = 5"),
        ("Count the letters in banana", "letters in banana = 6"),
        ("how many vowels does encyclopedia have?", "vowels in encyclopedia = 5"),
        ("how many items are in this list: milk, eggs, bread and tea", "items in milk, eggs, bread and tea = 4"),
        ("How many sentences are in the following text?\nHi. You there! Ok.", "sentences in Hi. You there! Ok. = 3"),
        ("How do you spell necessary?", "n-e-c-e-s-s-a-r-y"),
        ("Spell 'hello' backwards", "olleh"),
        ("reverse the word stressed", "desserts"),
        ('Write "good morning" in capitals', "GOOD MORNING"),
        ("Sort these words alphabetically: pear, apple, fig", "apple, fig, pear"),
    ],
)
def test_counting_and_spelling_are_exact(message: str, result: str) -> None:
    call = find_text_call(message)
    assert call is not None
    assert TOOLS[call.name](call.argument) == result


@pytest.mark.parametrize(
    "message",
    [
        "", "How do I count the words in a string?", "how do I reverse a string", "how many elements are in a list",
        "sort a list", "what is reverse?",
        "How many columns does a DataFrame have?", "how many days are in a year", "how many bits are in a byte?", "str.upper",
        "How do I convert 'abc' to uppercase in Python?", 'Summarize this: "How many letters are in this word?"',
        "x" * 100_000,
    ],
)  # fmt: skip
def test_questions_about_code_and_the_world_are_not_counted(message: str) -> None:
    assert find_text_call(message) is None
