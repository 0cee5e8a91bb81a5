"""Sentences: nothing is lost, none is split, code and lists are not prose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.retrieval.cutting.sentences import extract_paragraphs, has_full_stop, split_sentences


@given(st.text(alphabet="ab .!?e.g)\"'A1\n", max_size=80))
def test_joined_sentences_are_the_paragraph(text: str) -> None:
    paragraph = " ".join(text.split())
    assert " ".join(split_sentences(paragraph)) == paragraph


@pytest.mark.parametrize(
    ("paragraph", "first"),
    [
        ("Matrix or vector norm. This function is able.", "Matrix or vector norm."),
        ("Works with lists, e.g. of numbers. Not with others.", "Works with lists, e.g. of numbers."),
        ("See numpy.linalg.norm for more. Or not.", "See numpy.linalg.norm for more."),
        ("Like J. Smith et al. Nature said. Second.", "Like J. Smith et al. Nature said."),
        ("Is it so? Yes.", "Is it so?"),
        ('Say "stop." Then go.', 'Say "stop."'),
        ("No full stop here", "No full stop here"),
        ("Reads file.txt. and more", "Reads file.txt. and more"),
        ("", ""),
    ],
)
def test_the_first_sentence(paragraph: str, first: str) -> None:
    assert (split_sentences(paragraph) or [""])[0] == first


def test_prose_ends_at_the_first_heading_and_excludes_code() -> None:
    text = "First line\nof two.\n\n>>> code\n\n.. note:: x\n\nSecond part.\n- a list\n\nParameters\n----------\nx : int\n\nThird."
    assert list(extract_paragraphs(text)) == ["First line of two.", "Second part."]
    assert list(extract_paragraphs("Title\n=====\n\nText.\n\nArgs:\n    x: y")) == ["Title", "Text."]
    assert list(extract_paragraphs("Returns:\n    nothing")) == []


@pytest.mark.parametrize(("text", "expected"), [("a.", True), ('a."', True), ("a", False), ("", False)])
def test_full_stop(text: str, expected: bool) -> None:
    assert has_full_stop(text) is expected
