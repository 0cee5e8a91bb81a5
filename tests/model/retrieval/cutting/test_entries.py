"""Entries of a field: names, first line and description in three conventions; prose has none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.retrieval.cutting.entries import FieldEntry, list_entries

NUMPY = "Parameters\n----------\nx, y : int, optional\n    Both of\n    them.\n\n    More.\n*args\n    The rest.\n"
GOOGLE = "Args:\n    x (int): One.\n        More: of it.\n    *args: The rest.\n    y: Two.\n"
SPHINX = ":param x: One\n  of them.\n:type x: int\n:param int y: Two.\n:return: Three.\n"


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        (
            NUMPY,
            [
                FieldEntry(("x", "y"), "x, y: int, optional", "Both of them. More."),
                FieldEntry(("args",), "*args", "The rest."),
            ],
        ),
        (
            GOOGLE,
            [
                FieldEntry(("x",), "x (int):", "One. More: of it."),
                FieldEntry(("args",), "*args:", "The rest."),
                FieldEntry(("y",), "y:", "Two."),
            ],
        ),
        (
            SPHINX,
            [FieldEntry(("x",), "x:", "One of them."), FieldEntry(("y",), "y:", "Two."), FieldEntry((), "", "Three.")],
        ),
        ("Raises\n------\nValueError\n    If bad.", [FieldEntry(("ValueError",), "ValueError", "If bad.")]),
        ("Returns\n-------\nint\n    A number.", [FieldEntry(("int",), "int", "A number.")]),
        ("Returns:\n    A callable that does\n    something.", []),
        ("Notes\n-----\nOne line.\nAnother line.", []),
        ("", []),
    ],
)
def test_the_entries_of_a_field(text: str, entries: list[FieldEntry]) -> None:
    assert list_entries(text) == entries


@given(st.text() | st.text(" :-\n\tax=()."))
def test_any_text_gives_entries_whose_words_are_in_it(text: str) -> None:
    for entry in list_entries(text):
        assert all(word in text for word in entry.description.split())
