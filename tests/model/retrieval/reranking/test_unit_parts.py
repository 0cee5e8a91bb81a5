from __future__ import annotations

import pytest

from model.retrieval.reranking.unit_parts import split_first_sentence, strip_head


@pytest.mark.parametrize(
    ("text", "first", "rest"),
    [
        ("Return the sum. Of all\nelements.", "Return the sum.", "Of all\nelements."),
        ("Return the\n    sum of an array.\n\nMore.", "Return the sum of an array.", "More."),
        ("One line without an end", "One line without an end", ""),
        ("Parameters\n----------\na : array", "", "Parameters\n----------\na : array"),
        ("", "", ""),
    ],
)
def test_the_first_sentence_leaves_the_rest_as_it_is(text: str, first: str, rest: str) -> None:
    assert split_first_sentence(text) == (first, rest)


def test_no_word_is_lost() -> None:
    text = "A title\n=======\n\nThe first one. The second, e.g. this.\n\n>>> f(1)\n"
    first, rest = split_first_sentence(text)
    assert sorted(f"{first} {rest}".split()) == sorted(text.split())


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("numpy.sum(a, axis=None)\n\nSum it.\n\nMore.", "Sum it.\n\nMore."),
        ("numpy.sum(a)", ""),
        ("Sum it.\n\nMore.", "Sum it.\n\nMore."),
    ],
)
def test_the_head_of_a_symbol_is_no_text(text: str, body: str) -> None:
    assert strip_head(text, "numpy.sum") == body
